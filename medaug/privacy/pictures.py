"""Patches as the copy check looks at them: 64x64, two scales, a circular field of view.

Every patch is resampled to 64x64 and looked at twice: through a low-pass (Gaussian, 2 px), where
anatomy shows and noise does not, and through a band-pass (Gaussian 0.6 px minus Gaussian 2 px), where
a noise pattern or a texture is as good as a fingerprint. A circular mask of radius 30 px makes
all orientations equal.

>>> views = Views.of(np.random.default_rng(0).normal(size=(3, 50, 50)).astype(np.float32))
>>> views.low.shape, views.band.shape
((3, 64, 64), (3, 64, 64))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]

SIDE = 64
RADIUS = 30.0
LOW_SIGMA = 2.0
BAND_SIGMA = 0.6

# Below this share of a patch's own range, what is left after filtering is rounding error.
FLAT = 1e-5


@dataclass(frozen=True, eq=False)
class Views:
    """Both views of a stack of pictures, each (picture, 64, 64) float32.

    Intensities are shifted and scaled per picture to mean 0 and standard deviation 1, which no
    correlation notices, so that float32 suffices whatever the unit. A constant picture is all 0.
    """

    low: Floats
    band: Floats

    @classmethod
    def of(cls, pictures: Floats) -> Views:
        """The views of ``pictures`` (picture, row, column), of any size."""
        plain = resized(pictures, SIDE)
        mean = plain.mean(axis=(1, 2), keepdims=True)
        deviation = plain.std(axis=(1, 2), keepdims=True)
        flat = deviation <= FLAT * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
        plain = np.where(flat, 0.0, (plain - mean) / np.where(flat, 1.0, deviation))
        low = _smooth(plain, LOW_SIGMA)
        return cls(low, _smooth(plain, BAND_SIGMA) - low)


def resized(pictures: Floats, side: int) -> Floats:
    """Pictures (picture, row, column) on a ``side`` x ``side`` grid over the same field.

    Linear interpolation, widened to a triangle over the source pixels where the picture
    shrinks, so that nothing aliases.
    """
    rows, columns = (_resampling(size, side) for size in pictures.shape[1:])
    return np.asarray(rows @ pictures.astype(np.float32) @ columns.T, dtype=np.float32)


def disc(side: int, radius: float) -> NDArray[np.bool_]:
    """The circular mask: pixels whose centre lies within ``radius`` of the patch's centre."""
    at = np.arange(side) - (side - 1) / 2
    return np.hypot(at[:, None], at[None, :]) < radius


def standardised(vectors: Floats, axis: int) -> Floats:
    """Mean 0 and length 1 along ``axis``; a vector without contrast becomes 0, like to nothing."""
    centred = vectors - vectors.mean(axis=axis, keepdims=True)
    length = np.sqrt(np.square(centred).sum(axis=axis, keepdims=True))
    enough = length > FLAT * np.sqrt(vectors.shape[axis])
    return np.asarray(centred * np.where(enough, 1 / np.where(enough, length, 1), 0), np.float32)


@cache
def _resampling(size: int, side: int) -> Floats:
    """The (side, size) matrix of a triangle filter, rows summing to one."""
    step = size / side
    centres = (np.arange(side) + 0.5) * step - 0.5
    distance = np.abs(np.arange(size)[None, :] - np.clip(centres, 0, size - 1)[:, None])
    weights = np.clip(1 - distance / max(step, 1.0), 0, None)
    matrix = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def _smooth(pictures: Floats, sigma: float) -> Floats:
    return np.asarray(
        gaussian_filter(pictures, (0.0, sigma, sigma), mode="nearest"), dtype=np.float32
    )
