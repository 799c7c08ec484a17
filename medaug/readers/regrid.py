"""A mask drawn on another grid than its image: carried over by nearest neighbour.

A voxel of the image belongs to the lesion when the mask's voxel nearest to its centre does; a
centre just between two takes the one of the higher index, as ITK does [1]_. That is right only
where both grids are in one frame of reference, which the caller vouches for. What a grid alone
can tell is told here: how much of the mask falls into the image, how far off it lies, and whether
it would fit if it were mirrored.

One mistake no grid can show: a grid that is its own mirror image, such as one centred on the
origin, looks the same stored from the left as stored from the right.

.. [1] itk::Math::RoundHalfIntegerUp, as in itk::NearestNeighborInterpolateImageFunction
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medaug.domain import Geometry, Region
from medaug.readers.found import GRID_MM
from medaug.readers.lesions import tight

_TIE = 1e-6
"""Voxels by which a centre is moved up, so that rounding errors do not decide ties."""

_MIRRORS = (
    ("left and right", (-1.0, 1.0, 1.0)),
    ("front and back", (1.0, -1.0, 1.0)),
    ("head and foot", (1.0, 1.0, -1.0)),
    ("left and right, front and back (LPS taken for RAS)", (-1.0, -1.0, 1.0)),
)


def onto(
    mask: NDArray[np.bool_], source: Geometry, target: Geometry
) -> tuple[Region, NDArray[np.bool_]] | None:
    """A mask on the grid ``source`` → its box on the grid ``target`` and the mask inside it.

    Needs memory for the marked part of both grids only.

    Args:
        mask: bool (i, j, k) of the source's shape; `cropped` gives the grid of a box.
        source: the grid the mask was drawn on.
        target: the grid of the image, in the same world.

    Returns:
        box (i, j, k) and mask, tight; None if no voxel of the target belongs to it.
    """
    marked = tight(mask)
    if marked is None:
        return None
    box, inner = marked
    source = cropped(source, box)
    reach = _reach(source, target)
    if reach is None:
        return None
    # Target index inside the reach → source index; the mask is padded by one voxel.
    start = np.array([part.start for part in reach], dtype=np.float64)
    inverse = np.linalg.inv(source.affine)
    matrix = (inverse @ target.affine)[:3, :3]
    offset = source.index(target.world(start)) + 1 + _TIE
    moved = ndimage.affine_transform(
        np.pad(inner, 1).view(np.uint8),
        matrix,
        offset,
        output_shape=tuple(part.stop - part.start for part in reach),
        order=0,
    ).view(np.bool_)
    found = tight(moved)
    if found is None:
        return None
    small, result = found
    i, j, k = (
        slice(whole.start + part.start, whole.start + part.stop)
        for whole, part in zip(reach, small, strict=True)
    )
    return (i, j, k), result


def cropped(geometry: Geometry, box: Region) -> Geometry:
    """The grid of a box of voxels (i, j, k) of a grid."""
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.world([part.start for part in box])
    i, j, k = (part.stop - part.start for part in box)
    return Geometry((i, j, k), affine, geometry.in_millimetres)


def inside(mask: NDArray[np.bool_], source: Geometry, target: Geometry) -> float:
    """Fraction of the marked voxels whose centres lie in a voxel of ``target``; 0 if none is."""
    marked = tight(mask)
    if marked is None:
        return 0.0
    box, inner = marked
    source = cropped(source, box)
    found = 0
    for k in range(inner.shape[2]):  # one plane at a time: memory for a plane only
        plane = np.argwhere(inner[:, :, k])
        at = target.index(source.world(np.column_stack([plane, np.full(len(plane), k)])))
        within = (at > -0.5 - _TIE) & (at < np.array(target.shape) - 0.5 + _TIE)
        found += int(within.all(axis=1).sum())
    return found / int(inner.sum())


def apart_mm(source: Geometry, target: Geometry) -> float:
    """Distance in mm from the centre of one grid to the bounding box of the other; 0 inside."""
    low, high = _bounds(target)
    centre = source.world((np.array(source.shape) - 1) / 2)
    return float(np.linalg.norm(centre - np.clip(centre, low, high)))


def differs(source: Geometry, target: Geometry) -> str:
    """What sets two grids apart, in words with figures; "" if nothing does."""
    parts = []
    if source.shape != target.shape:
        parts.append(f"{_times(source.shape)} voxels instead of {_times(target.shape)}")
    if not np.allclose(source.spacing, target.spacing, rtol=1e-3):
        parts.append(f"spacing {_mm(source.spacing)} mm instead of {_mm(target.spacing)} mm")
    if not np.allclose(source.directions, target.directions, atol=1e-3):
        parts.append("other directions of its axes")
    away = float(np.linalg.norm(source.world((0, 0, 0)) - target.world((0, 0, 0))))
    if away > GRID_MM:
        parts.append(f"its first voxel {away:.3g} mm away")
    return ", ".join(parts)


def same_extent(source: Geometry, target: Geometry) -> bool:
    """Whether the voxels of both lie at the same places, whatever order they are stored in."""
    spacing = np.abs(source.affine[:3, :3]).sum(axis=1)
    other = np.abs(target.affine[:3, :3]).sum(axis=1)
    ends = np.abs(np.array(_bounds(source)) - np.array(_bounds(target))).max()
    return bool(ends <= GRID_MM and np.allclose(spacing, other, atol=GRID_MM))


def mirrored(source: Geometry, target: Geometry) -> str:
    """Which sides of a grid are swapped, if it is the mirror image of the other; or "".

    A grid counts as mirrored if it does not cover the target, and covers it exactly, voxel for
    voxel, once the world or its own axis is mirrored: the sign of a coordinate was lost.
    """
    if source.shape != target.shape or same_extent(source, target):
        return ""
    for words, signs in _MIRRORS:
        flip = np.diag([*signs, 1.0])
        # The sign of the coordinate, with or without that of the origin.
        kept = source.affine.copy()
        kept[:3, :3] = flip[:3, :3] @ kept[:3, :3]
        for affine in (flip @ source.affine, kept):
            if Geometry(source.shape, affine, source.in_millimetres).same_grid(target, GRID_MM):
                return words
    return ""


def _reach(source: Geometry, target: Geometry) -> Region | None:
    """The box of target voxels that the source's voxels can touch; None if there are none."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in source.shape])).reshape(3, -1).T
    at = target.index(source.world(ends))
    low = np.maximum(np.ceil(at.min(axis=0) - 1e-3), 0)
    high = np.minimum(np.floor(at.max(axis=0) + 1e-3) + 1, target.shape)
    if (low >= high).any():
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _bounds(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest RAS coordinates (3,) of the voxels, their edges included."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in geometry.shape])).reshape(3, -1).T
    at = geometry.world(ends)
    return at.min(axis=0), at.max(axis=0)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _mm(spacing: tuple[float, ...]) -> str:
    return "x".join(f"{size:.3g}" for size in spacing)
