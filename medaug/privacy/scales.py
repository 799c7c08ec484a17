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

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet, central
from medaug.privacy.pictures import RADIUS, SIDE, Floats, disc, resized, smooth, standardised

SCALES = ("raw", "low", "mean", "band")
BLOCKS = 8  # along a side


def at_scales(images: Floats) -> dict[str, Floats]:
    """Scale → (patch, pixel) float32 vectors of length 1; a constant patch is all 0.

    Args:
        images: (patch, channel, row, column) or (patch, 1, slice, row, column), of any size.
    """
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
    """Runs of samples such that all poses against ``patches`` fit into ``memory_mb``."""
    # Eight poses at four scales, each with its intermediate pictures, and four rows of products.
    per_sample = 8 * (4 * 3 * SIDE * SIDE + 4 * patches) * 4
    size = max(1, memory_mb * 1_000_000 // per_sample)
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
