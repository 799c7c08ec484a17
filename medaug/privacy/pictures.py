"""Patches as the copy check looks at them: 64x64, two scales, local contrast.

Every patch is resampled to 64x64 and looked at four times: as differences of Gaussians, ``low``
(2 − 4 px), where anatomy shows and noise hardly does, ``band`` (1 − 2 px), where a texture or a
noise pattern is as good as a fingerprint, and ``fine`` (0.5 − 1 px), where hardly anything is
alike by nature, each divided by its local standard deviation; and ``wide``, a Gaussian of 2 px
alone, in which a copy survives strong noise, a mixture and bending.

The first two are there because of real patches. The wide view (Gaussian 2 px) shows the blob
that every lesion patch has in its middle: fresh mammography masses reach a correlation of 0.98
with some training patch, as high as a shifted or noisy copy. And without the local contrast a
few sharp edges (film borders, pleura) decide the correlation; two unrelated patches
with the same edge then look like copies, and the limit calibrated on them lets copies pass.

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
LOW_SIGMAS = (2.0, 4.0)
BAND_SIGMAS = (1.0, 2.0)
FINE_SIGMAS = (0.5, 1.0)
WIDE_SIGMA = 2.0
LOW_NEIGHBOURHOOD = 8.0
BAND_NEIGHBOURHOOD = 6.0
FINE_NEIGHBOURHOOD = 5.0

# Share of the picture's mean energy added to the local energy, so that empty regions stay quiet.
QUIET = 0.1
# What is smaller than this, relative to the picture's own level, is rounding error.
FLAT = 1e-5


@dataclass(frozen=True, eq=False)
class Views:
    """The views of a stack of pictures, each (picture, 64, 64) float32; a constant one is 0."""

    low: Floats
    band: Floats
    wide: Floats
    fine: Floats

    @classmethod
    def of(cls, pictures: Floats) -> Views:
        """The views of ``pictures`` (picture, row, column), of any size and unit."""
        plain = unit_contrast(resized(pictures, SIDE))
        return cls(
            _local_contrast(_between(plain, *LOW_SIGMAS), LOW_NEIGHBOURHOOD),
            _local_contrast(_between(plain, *BAND_SIGMAS), BAND_NEIGHBOURHOOD),
            smooth(plain, WIDE_SIGMA),
            _local_contrast(_between(plain, *FINE_SIGMAS), FINE_NEIGHBOURHOOD),
        )

    def of_one(self, at: int = 0) -> Floats:
        """(4, 64, 64): low, band, wide and fine of one picture."""
        return np.stack([self.low[at], self.band[at], self.wide[at], self.fine[at]])


def planes(images: Floats) -> Floats:
    """What is compared of patches: (patch, plane, row, column).

    Flat patches (patch, channel, row, column) are compared channel by channel. Of cubes
    (patch, 1, slice, row, column) the three slices through the middle are taken: axial, coronal,
    sagittal. A copy that is moved along an axis by more than a lesion's own thickness shows in one
    of
    them only.
    """
    if images.ndim == 4:
        return images
    slices, rows, columns = (size // 2 for size in images.shape[2:])
    cubes = images[:, 0]
    return np.stack([cubes[:, slices], cubes[:, :, rows], cubes[:, :, :, columns]], axis=1)


def unit_contrast(pictures: Floats) -> Floats:
    """Each picture with mean 0 and standard deviation 1; a constant one becomes 0."""
    mean = pictures.mean(axis=(1, 2), keepdims=True)
    deviation = pictures.std(axis=(1, 2), keepdims=True)
    flat = deviation <= FLAT * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
    scaled = (pictures - mean) / np.where(flat, 1, deviation)
    return np.asarray(np.where(flat, 0, scaled), dtype=np.float32)


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
    return np.asarray(np.hypot(at[:, None], at[None, :]) < radius)


def standardised(vectors: Floats, axis: int) -> Floats:
    """Mean 0 and length 1 along ``axis``; a vector without contrast becomes 0, like to nothing."""
    centred = vectors - vectors.mean(axis=axis, keepdims=True)
    length = np.sqrt(np.square(centred).sum(axis=axis, keepdims=True))
    enough = length > FLAT * np.sqrt(vectors.shape[axis])
    return np.asarray(centred * np.where(enough, 1 / np.where(enough, length, 1), 0), np.float32)


def smooth(pictures: Floats, sigma: float) -> Floats:
    """Gaussian filter of each picture (picture, row, column); borders are repeated."""
    blurred = gaussian_filter(pictures, (0.0, sigma, sigma), mode="nearest")
    return np.asarray(blurred, dtype=np.float32)


@cache
def _resampling(size: int, side: int) -> Floats:
    """The (side, size) matrix of a triangle filter, rows summing to one."""
    step = size / side
    centres = (np.arange(side) + 0.5) * step - 0.5
    distance = np.abs(np.arange(size)[None, :] - np.clip(centres, 0, size - 1)[:, None])
    weights = np.clip(1 - distance / max(step, 1.0), 0, None)
    matrix: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def _between(pictures: Floats, fine: float, coarse: float) -> Floats:
    return np.asarray(smooth(pictures, fine) - smooth(pictures, coarse), dtype=np.float32)


def _local_contrast(view: Floats, neighbourhood: float) -> Floats:
    energy = np.square(view)
    quiet = QUIET * energy.mean(axis=(1, 2), keepdims=True)
    local = np.sqrt(np.maximum(smooth(energy, neighbourhood), 0) + quiet)
    empty = local <= FLAT
    return np.asarray(np.where(empty, 0, view / np.where(empty, 1, local)), dtype=np.float32)
