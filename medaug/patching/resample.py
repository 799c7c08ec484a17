"""From the pixels of a slice to the pixels of a patch, and from voxels to the voxels of a cube.

Both are one and the same, with two axes or three. Images are interpolated by cubic B-splines.
Linear interpolation lets the noise of the picture depend on where a pixel falls between its
neighbours: white noise of 1 HU at 0.8 mm, read at 1 mm, keeps 0.5-0.9 HU in a regular pattern over
the patch, with cubic splines 0.7-1.0 HU. Splines overshoot at sharp edges, so the result is clipped
to the range of what was read.

Where a patch pixel is larger than a slice pixel, the slice is smoothed first with the Gaussian that
turns a point spread one slice pixel wide into one that is one patch pixel wide:
σ² = (f² − 1) / (8 ln 2), in slice pixels, for a factor f > 1 (Cardoso et al. [1]_). In 3-D the same
holds along every axis of the volume on its own, so that thin slices are averaged and thick ones
interpolated. Masks go the same way as coverage in 0..1, interpolated linearly, and are cut at one
half.

Outside of the volume its edge is repeated: the one rule that holds for HU, SUV and the
arbitrary values of MR alike, and it brings in no value that the scanner did not measure. A mask
has no pixel outside.

.. [1] Cardoso et al. 2015, doi:10.1007/978-3-319-24571-3_81
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

_TRUNCATE = 4.0
_SPLINE_REACH = 10
"""Slice pixels beyond which a cubic spline no longer depends on a value: 0.27¹⁰ < 1e-5."""


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Where the pixels of a patch lie in a slice, or its voxels in a volume.

    Attributes:
        to_index: (n, n), mm along the patch's axes → index along the n axes of what is read. The
            patch's axes are perpendicular: (back, left), or (head, back, left).
        centre: (n,) mm along the patch's axes from index 0, between the middle pixels of the patch.
        mm_per_pixel: distance of neighbouring patch pixels, the same along every axis.
        size: of the patch, along every axis.
    """

    to_index: NDArray[np.float64]
    centre: NDArray[np.float64]
    mm_per_pixel: float
    size: int

    @cached_property
    def step(self) -> NDArray[np.float64]:
        """(n, n): patch pixel → index, less the origin."""
        return np.asarray(self.to_index * self.mm_per_pixel)

    @cached_property
    def origin(self) -> NDArray[np.float64]:
        """(n,): index of the first patch pixel."""
        middle = np.full(len(self.centre), (self.size - 1) / 2)
        return np.asarray(self.to_index @ self.centre - self.step @ middle)

    @cached_property
    def sigma(self) -> NDArray[np.float64]:
        """(n,): standard deviation of the smoothing, in pixels of what is read; 0 for none."""
        factor = self.mm_per_pixel / np.linalg.norm(np.linalg.inv(self.to_index), axis=0)
        return np.asarray(np.sqrt(np.maximum(factor**2 - 1, 0) / (8 * np.log(2))))

    def reach(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """The part of a slice, or volume, of this shape that the patch depends on.

        Where the patch lies beyond the edge, it is the edge that the patch repeats.
        """
        middle = np.full(len(self.centre), (self.size - 1) / 2)
        centre, half = self.origin + self.step @ middle, np.abs(self.step) @ middle
        smoothing = np.ceil(_TRUNCATE * self.sigma) + _SPLINE_REACH
        low = np.floor(centre - half - smoothing).astype(int)
        high = np.ceil(centre + half + smoothing).astype(int) + 1
        last = np.asarray(shape) - 1
        start, stop = np.clip(low, 0, last), np.clip(high, 1, last + 1)
        return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))

    def image(self, pixels: NDArray[np.float32], region: tuple[slice, ...]) -> NDArray[np.float32]:
        """(size, …) float32 from the pixels in `reach`."""
        picture = self._sample(pixels, region, order=3, mode="nearest")
        return np.clip(picture, pixels.min(), pixels.max())

    def mask(
        self, start: Sequence[int], outline: NDArray[np.bool_], region: tuple[slice, ...]
    ) -> NDArray[np.bool_]:
        """(size, …) bool; never empty: of an outline thinner than a pixel the fullest remain."""
        coverage = np.zeros([part.stop - part.start for part in region], np.float32)
        inside, outside = [], []
        for part, first, length in zip(region, start, outline.shape, strict=True):
            low, high = max(part.start, first), min(part.stop, first + length)
            inside.append(slice(low - part.start, high - part.start))
            outside.append(slice(low - first, high - first))
        coverage[tuple(inside)] = outline[tuple(outside)]
        share = self._sample(coverage, region, order=1, mode="grid-constant")
        return np.asarray(share > min(0.5, float(share.max()) * 0.999))

    def _sample(
        self, pixels: NDArray[np.float32], region: tuple[slice, ...], order: int, mode: str
    ) -> NDArray[np.float32]:
        smooth = gaussian_filter(pixels, self.sigma, mode=mode, truncate=_TRUNCATE)
        origin = self.origin - [part.start for part in region]
        shape = (self.size,) * len(origin)
        picture = affine_transform(smooth, self.step, origin, shape, order=order, mode=mode)
        return np.asarray(picture, dtype=np.float32)
