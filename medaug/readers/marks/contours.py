"""Closed planar contours in the patient → voxels of a stack of slices.

A contour belongs to the slice whose plane holds it, or else to the nearest one, if that is no
further than half the distance between slices. Inside a plane the even-odd rule holds over all
its contours: a contour inside another cuts a hole, and one that runs in and out along a keyhole
does the same [1]_. A pixel belongs to the region if its centre does; a centre on the line counts.
The line is taken to `GRAIN` of a pixel, so that contours which a program drew through pixel
centres are not decided by the rounding of their decimals.

.. [1] DICOM PS3.3 C.8.8.6.3
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Region
from medaug.readers.dicom.plane import Plane
from medaug.readers.dicom.stack import Stack
from medaug.readers.lesions import gather

GRAIN = 0.01
FURTHEST_MM = 1e6
"""No coordinate of a patient is larger."""

LONE_SLICE_MM = 0.5
"""How far off a contour may lie where one slice has no neighbour to measure against."""

Piece = tuple[Region, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed line.

    Attributes:
        points: (point, 3) LPS mm.
        instance: SOP Instance UID of the image it was drawn on, or "".
        frame: number of the frame from 0; None where the file names none.
    """

    points: NDArray[np.float64]
    instance: str = ""
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Filled:
    """What contours enclose in a stack.

    Attributes:
        marked: box and mask, slices counted as `Stack.locate` does; None if no pixel is inside.
        off: contours that lie on no slice.
        off_mm: how far the furthest of them is from a slice.
        elsewhere: contours that lie on another slice than the image they name.
        outside: contours that lie outside the picture; `mirror` says if they would lie inside
            it with left and right exchanged.
        gaps: slices without a contour between slices with one.
    """

    marked: Piece | None
    off: int
    off_mm: float
    elsewhere: int
    outside: int
    mirror: bool
    gaps: int


def fill(contours: Sequence[Contour], stack: Stack) -> Filled:
    """Rasterise the contours of one region."""
    normal, heights, half = _slices(stack)
    of_slice: dict[int, dict[float, list[NDArray[np.float64]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    off, off_mm, elsewhere, outside, mirror = 0, 0.0, 0, 0, False
    for contour in contours:
        along = contour.points @ normal
        height = float(along.mean())
        k = int(np.argmin(np.abs(heights - height)))
        away = float(np.abs(along - heights[k]).max())
        if away > half[k]:
            off, off_mm = off + 1, max(off_mm, away)
            continue
        named = stack.locate_instance(contour.instance, contour.frame)
        if named is not None and named != k:
            elsewhere += 1
            continue
        plane = stack.slices[k].plane
        index = in_plane(contour.points, plane)
        if not _touches(index, plane):
            outside += 1
            mirrored = contour.points * [-1.0, 1.0, 1.0]
            mirror |= _touches(in_plane(mirrored, plane), plane)
            continue
        of_slice[k][round(height - heights[k], 2)].append(index)
    planes = []
    for k, by_height in of_slice.items():
        plane = stack.slices[k].plane
        nearest = min(by_height, key=abs)  # several planes of contours on one slice
        planes.append((k, polygons(by_height[nearest], (plane.columns, plane.rows))))
    gaps = max(of_slice) - min(of_slice) + 1 - len(of_slice) if of_slice else 0
    return Filled(gather(planes), off, off_mm, elsewhere, outside, mirror, gaps)


def polygons(lines: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centres lie inside closed lines by the even-odd rule, or on one of them.

    Args:
        lines: each (point, 2), (column, row), where (0, 0) is the centre of the first pixel.
        shape: (columns, rows).

    Returns:
        bool (column, row).
    """
    from skimage.measure import grid_points_in_poly  # only where there are contours

    inside = np.zeros(shape, dtype=bool)
    on_line = np.zeros(shape, dtype=bool)
    for line in lines:
        at = np.round(line / GRAIN) * GRAIN
        low = np.clip(np.floor(at.min(axis=0)), 0, shape).astype(int)
        high = np.clip(np.floor(at.max(axis=0)) + 1, 0, shape).astype(int)
        if (low >= high).any():
            continue
        # 0 outside, 1 inside, 2 at a vertex, 3 on an edge.
        where = grid_points_in_poly(  # type: ignore[no-untyped-call]  # skimage is untyped
            tuple(high - low), np.round((at - low) / GRAIN) * GRAIN, binarize=False
        )
        part = (slice(low[0], high[0]), slice(low[1], high[1]))
        inside[part] ^= where == 1
        on_line[part] |= where > 1
    return inside | on_line


def in_plane(points: NDArray[np.float64], plane: Plane) -> NDArray[np.float64]:
    """LPS mm (point, 3) → (column, row) (point, 2), dropping the height above the plane."""
    axes = np.reshape(plane.orientation, (2, 3))
    at = (points - np.array(plane.position)) @ axes.T
    return np.asarray(at / [plane.spacing[1], plane.spacing[0]])


def point_box(point: Contour, stack: Stack) -> Region | None:
    """The box of the one voxel that holds a point; None if none does."""
    normal, heights, half = _slices(stack)
    away = np.abs(heights - float(point.points[0] @ normal))
    k = int(np.argmin(away))
    plane = stack.slices[k].plane
    column, row = np.floor(in_plane(point.points, plane)[0] + 0.5).astype(int).tolist()
    if away[k] > half[k] or not (0 <= column < plane.columns and 0 <= row < plane.rows):
        return None
    return slice(column, column + 1), slice(row, row + 1), slice(k, k + 1)


def _slices(
    stack: Stack,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(normal, height of each slice above the origin, how far off a contour may lie)."""
    normal = np.cross(*np.reshape(stack.slices[0].plane.orientation, (2, 3)))
    heights = np.array([one.plane.position for one in stack.slices]) @ normal
    if len(heights) == 1:
        return normal, heights, np.array([LONE_SLICE_MM])
    gaps = np.abs(np.diff(heights))
    nearer = np.minimum(np.append(gaps, gaps[-1]), np.insert(gaps, 0, gaps[0]))
    return normal, heights, nearer / 2 + 1e-3


def _touches(index: NDArray[np.float64], plane: Plane) -> bool:
    low, high = index.min(axis=0), index.max(axis=0)
    return bool((high > -0.5).all() and (low < np.array([plane.columns, plane.rows]) - 0.5).all())
