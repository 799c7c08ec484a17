"""Do synthetic patches have the intensities and the lesion sizes of real ones, in their units?

Both are distributions on a line, so that the Wasserstein distance is a length in HU or mm: how far,
on average, one would have to move what is there to get the other.

>>> distance(cumulative(np.full((1, 1, 8, 8), -0.5)), cumulative(np.full((1, 1, 8, 8), 0.5)), 2.0)
1.0
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from medaug.domain import central

Floats = NDArray[np.float64]

BINS = 512
"""Over the window: a Wasserstein distance is exact to its 512th part."""


def cumulative(images: NDArray[np.floating], masks: NDArray[np.bool_] | None = None) -> Floats:
    """(patch, bin) share of each patch's pixels up to the end of each bin of [-1, 1].

    Args:
        images: (patch, channel, ..., row, column) on [-1, 1].
        masks: (patch, ..., row, column); only pixels inside count. A mask of adjacent slices is
            of the middle one, so that only this slice is looked at. A patch whose mask is empty
            gives NaN: it has no intensity inside.
    """
    if masks is not None and images.ndim == 4:
        images = central(images)
    bins = np.floor((images.astype(np.float64) + 1) * (BINS / 2)).astype(np.int64)
    bins = np.clip(bins, 0, BINS - 1)
    inside = np.ones(bins.shape, dtype=bool)
    if masks is not None:
        inside &= masks[:, None]
    patch = np.arange(len(images)).reshape(-1, *[1] * (images.ndim - 1))
    counts = np.bincount((patch * BINS + bins)[inside], minlength=len(images) * BINS)
    counts = counts.reshape(-1, BINS)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts.cumsum(axis=1), total, out=shares, where=total > 0)
    return shares


def distance(a: Floats, b: Floats, width: float) -> float:
    """Wasserstein distance of the pixels of two sets, each patch with equal weight.

    Args:
        a: (patch, bin) from `cumulative`.
        b: (patch, bin) from `cumulative`.
        width: of the window, in the unit wanted.
    """
    apart = np.abs(np.nanmean(a, axis=0) - np.nanmean(b, axis=0))
    return float(apart.sum() * width / BINS)


def diameters(masks: NDArray[np.bool_]) -> Floats:
    """(patch,) longest distance between two pixel centres of each mask (patch, ..., row, column).

    In pixels and within an axial slice, as radiologists measure; of several slices the longest. An
    empty mask has 0.
    """
    planes = masks.reshape(len(masks), -1, *masks.shape[-2:])
    return np.array([max(_diameter(plane) for plane in patch) for patch in planes])


def _diameter(mask: NDArray[np.bool_]) -> float:
    points = np.argwhere(mask).astype(np.float64)
    if len(points) < 2:
        return 0.0
    # Without a hull all lie on one line, whose ends are among the points as they are.
    with suppress(QhullError):
        points = points[ConvexHull(points).vertices]
    return float(pdist(points).max())
