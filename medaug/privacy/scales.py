"""Patches at the four scales at which an audit looks at them.

An overfitted generator need not repeat a pixel: the noise of CT hides what it has learnt by heart,
and a low-pass shows it. So every attack runs four times.

- ``raw``: the patch on a 64x64 grid.
- ``low``: Gaussian, 2 px.
- ``mean``: means of 8x8 blocks.
- ``band``: Gaussian 0.6 px minus Gaussian 2 px.

At each scale the pixels within 30 px of the middle are taken, with mean 0 and length 1, so that
the scalar product of two patches is their correlation. A sample is compared in the eight poses of
the square: a generator that was trained on mirrored patches leaks mirrored ones. Of a
patch with several slices the middle one is looked at (`medaug.domain.central`).

>>> views = at_scales(np.random.default_rng(0).normal(size=(3, 1, 50, 50)).astype(np.float32))
>>> {name: view.shape[0] for name, view in views.items()}
{'raw': 3, 'low': 3, 'mean': 3, 'band': 3}
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet, central
from medaug.privacy.pictures import RADIUS, SIDE, Floats, disc, resized, smooth, standardised

Scalar = TypeVar("Scalar", np.float16, np.float32)

SCALES = ("raw", "low", "mean", "band")
BLOCKS = 8  # along a side
# Of pictures that are looked at together: what is between takes six times what is kept.
_AT_ONCE = 128
_POINTS = int(3 * disc(SIDE, RADIUS).sum() + disc(BLOCKS, RADIUS * BLOCKS / SIDE).sum())
# What the pictures of 64 samples take in all poses, see `medaug.privacy.nearness.correlations`.
_POSED_MB = 64


def at_scales(images: Floats) -> dict[str, Floats]:
    """Scale → (patch, pixel) float32 vectors of length 1; a constant patch is all 0.

    Args:
        images: (patch, channel, row, column) or (patch, 1, slice, row, column), of any size.
    """
    return _vectors(images, np.float32)


def kept_at_scales(images: Floats) -> dict[str, NDArray[np.float16]]:
    """The same in half precision, for patches that many samples are compared with; 17 kB each.

    A correlation is off by a hundred-thousandth.
    """
    return _vectors(images, np.float16)


def _vectors(images: Floats, kept: type[Scalar]) -> dict[str, NDArray[Scalar]]:
    found = {
        name: np.empty((len(images), int(_inside(BLOCKS if name == "mean" else SIDE).sum())), kept)
        for name in SCALES
    }
    for start in range(0, len(images), _AT_ONCE):
        few = slice(start, start + _AT_ONCE)
        for name, vectors in _few_at_scales(images[few]).items():
            found[name][few] = vectors
    return found


def _few_at_scales(images: Floats) -> dict[str, Floats]:
    pictures = resized(central(images)[:, 0], SIDE)
    blurred = smooth(pictures, 2.0)
    squares = {
        "raw": pictures,
        "low": blurred,
        "mean": resized(pictures, BLOCKS),
        "band": smooth(pictures, 0.6) - blurred,
    }
    return {
        name: standardised(square[:, _inside(square.shape[1])], axis=1)
        for name, square in squares.items()
    }


def in_poses(images: Floats) -> list[dict[str, Floats]]:
    """The same for each of the eight poses of the square, the pose as it is first."""
    views = at_scales(images)
    orders = {name: _pose_orders(BLOCKS if name == "mean" else SIDE) for name in SCALES}
    return [{name: views[name][:, orders[name][pose]] for name in SCALES} for pose in range(8)]


def chunks(count: int, patches: int, memory_mb: int) -> Iterator[slice]:
    """Runs of samples such that what is found of them fits into ``memory_mb``.

    Beside the ``patches`` that they are held against (`kept_at_scales`).
    """
    left = memory_mb - _POSED_MB - patches * 2 * _POINTS // 1_000_000
    # At four scales, the likeness and two tables made of it; in double precision.
    per_sample = 4 * 3 * 8 * patches
    size = max(1, left * 1_000_000 // per_sample)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def highest_per_patient(patches: PatchSet, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(…, patient): of values (…, patch), the highest over each patient's patches."""
    order = np.argsort(patches.patient_index, kind="stable")
    starts = np.searchsorted(patches.patient_index[order], np.arange(len(patches.patient_order)))
    highest: NDArray[np.float32] = np.maximum.reduceat(values[..., order], starts, axis=-1)
    return highest


def _inside(side: int) -> NDArray[np.bool_]:
    return disc(side, RADIUS * side / SIDE)


@cache
def _pose_orders(side: int) -> tuple[NDArray[np.int64], ...]:
    """Of each pose, where in the vector its pixels come from: the disc turns into itself."""
    inside = _inside(side)
    number = np.zeros((side, side), np.int64)
    number[inside] = np.arange(inside.sum())
    return tuple(
        turned[:, ::step][inside]
        for quarter in range(4)
        for turned in [np.rot90(number, quarter)]
        for step in (1, -1)
    )
