"""Millimetres on the phantom's axial grid, and painting with partial volume.

The grid runs as CT is stored: i to the patient's left, j to the back, k to the head. Shapes are
functions of RAS millimetres; they are evaluated only in their own box, on several planes per
slice that are then averaged, which gives the partial volume of a thick slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medaug.domain import Geometry, Region

Field = NDArray[np.float32]
Axes = tuple[Field, Field, Field]
PLANES = 3  # per slice, for the partial volume along z


def axial_geometry(
    size: int, slices: int, pixel_mm: float, slice_mm: float, centre: Sequence[float]
) -> Geometry:
    """A grid (size, size, slices) around ``centre`` (RAS mm), columns to the left, rows back."""
    affine = np.diag([-pixel_mm, -pixel_mm, slice_mm, 1.0])
    half = np.array([size - 1, size - 1, slices - 1]) / 2
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ half
    return Geometry((size, size, slices), affine)


def millimetres(geometry: Geometry, region: Region | None = None, planes: int = 1) -> Axes:
    """RAS coordinates (i, 1, 1), (1, j, 1), (1, 1, k * planes) of a region's voxel centres.

    With several ``planes``, each slice is cut into that many equally thick sheets.
    """
    axes = []
    for axis in range(3):
        part = region[axis] if region else slice(0, geometry.shape[axis])
        index = np.arange(part.start, part.stop, dtype=np.float64)
        if axis == 2 and planes > 1:
            inside = (np.arange(planes) + 0.5) / planes - 0.5
            index = (index[:, None] + inside).ravel()
        along = geometry.affine[axis, axis] * index + geometry.affine[axis, 3]
        shape = [1, 1, 1]
        shape[axis] = -1
        axes.append(along.astype(np.float32).reshape(shape))
    return axes[0], axes[1], axes[2]


def box_around(geometry: Geometry, centre: ArrayLike, reach_mm: ArrayLike) -> Region | None:
    """The voxels within ``reach_mm`` (one number, or one per axis) of ``centre``; None if none."""
    reach = np.broadcast_to(np.asarray(reach_mm, dtype=np.float64), (3,))
    at = geometry.index(centre)
    low = np.maximum(np.floor(at - reach / geometry.spacing), 0).astype(int)
    high = np.minimum(np.ceil(at + reach / geometry.spacing) + 1, geometry.shape).astype(int)
    if (low >= high).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def fold(sheets: Field, planes: int = PLANES) -> Field:
    """Average the sheets (i, j, k * planes) of each slice: (i, j, k)."""
    columns, rows, depth = sheets.shape
    split = sheets.reshape(columns, rows, depth // planes, planes)
    return np.asarray(split.mean(axis=3, dtype=np.float32))


def step(depth_mm: Field, softness_mm: float) -> Field:
    """Share of the shape at a signed depth (mm, positive inside): 0 to 1 over ``softness_mm``."""
    return np.asarray(np.clip(depth_mm / np.float32(softness_mm) + np.float32(0.5), 0, 1))


def blend(voxels: Field, region: Region | None, share: Field, hu: Field | float) -> None:
    """Paint ``hu`` over ``voxels[region]`` in place, as far as ``share`` (0..1) says."""
    if region is not None:
        under = voxels[region]
        under += share * (np.asarray(hu, dtype=np.float32) - under)


def ellipsoid_depth(axes: Axes, centre: Sequence[float], radii: Sequence[float]) -> Field:
    """Depth (mm, positive inside; exact on the surface, approximate off it) of an ellipsoid."""
    squares = [
        ((a - np.float32(c)) / np.float32(r)) ** 2
        for a, c, r in zip(axes, centre, radii, strict=True)
    ]
    reach = np.sqrt(squares[0] + squares[1] + squares[2])
    return np.asarray((1 - reach) * np.float32(min(radii)))


def waves(
    rng: np.random.Generator,
    axes: Axes,
    wavelength_mm: tuple[float, float],
    count: int = 12,
) -> Field:
    """A smooth random field of about unit variance: a sum of plane waves of random direction.

    Each wave is a product of one factor per axis, so that the field costs no transform.
    """
    total = np.zeros(np.broadcast_shapes(*(a.shape for a in axes)), dtype=np.float32)
    for _ in range(count):
        direction = rng.standard_normal(3)
        direction *= 2 * np.pi / (np.linalg.norm(direction) * rng.uniform(*wavelength_mm))
        phase = rng.uniform(0, 2 * np.pi)
        x, y, z = (
            np.exp(1j * (k * a)).astype(np.complex64) for k, a in zip(direction, axes, strict=True)
        )
        plane = x * y * np.complex64(np.exp(1j * phase))
        total += plane.real * z.real - plane.imag * z.imag
    return total * np.float32(np.sqrt(2 / count))
