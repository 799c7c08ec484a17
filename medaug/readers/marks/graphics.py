"""Graphics of structured reports → voxels: on an image in pixels, or in the patient in mm.

Graphic Data on an image are (column, row) counted from the corner of the first pixel, whose centre
is at (0.5, 0.5) [1]_; indices here count from its centre. A pixel or voxel belongs to a closed
shape if its centre does. A point, several points, and an open line enclose nothing: they give the
box that they span.

.. [1] DICOM PS3.3 C.18.6.1.2 and C.10.5.1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry, Region
from medaug.readers.dicom.plane import Plane
from medaug.readers.lesions import tight
from medaug.readers.marks.contours import Contour, Piece, polygons

_ROUND = np.linspace(0, 2 * np.pi, 720, endpoint=False)
"""An ellipse in the patient is drawn with so many points: 4e-5 of its area are lost."""


@dataclass(frozen=True, eq=False)
class Graphic:
    """One shape of a report.

    Attributes:
        kind: DICOM's Graphic Type.
        points: (point, 2) Graphic Data as they are on an image, or (point, 3) LPS mm.
        instance, frame: the image, its frame counted from 0; "" and None for a shape in mm.
        frame_of_reference: of a shape in mm.
    """

    kind: str
    points: NDArray[np.float64]
    instance: str = ""
    frame: int | None = None
    frame_of_reference: str = ""

    @property
    def in_patient(self) -> bool:
        """Whether it is drawn in mm."""
        return bool(self.points.shape[1] == 3)

    @property
    def closed(self) -> bool:
        """Whether it encloses anything."""
        if self.kind == "POLYLINE":
            return len(self.points) > 3 and bool(np.allclose(self.points[0], self.points[-1]))
        return self.kind in ("CIRCLE", "ELLIPSE", "POLYGON", "ELLIPSOID")

    @property
    def broken(self) -> str:
        """What is wrong with it, or ""."""
        count = len(self.points)
        needed = {"POINT": 1, "CIRCLE": 2, "ELLIPSE": 4, "ELLIPSOID": 6}.get(self.kind)
        if self.kind not in ("MULTIPOINT", "POLYLINE", "POLYGON") and needed is None:
            return "a graphic of an unknown type"
        if (needed is not None and count != needed) or count < 1:
            return f"a {self.kind} of {count} points"
        return ""


def enclosed(graphic: Graphic, plane: Plane) -> NDArray[np.bool_] | str:
    """Pixels (column, row) of an image that a closed shape encloses, or why that is not known."""
    shape = (plane.columns, plane.rows)
    at = graphic.points - 0.5
    if graphic.kind == "POLYLINE":
        return polygons([at], shape)
    if graphic.kind == "CIRCLE":
        if not np.isclose(plane.spacing[0], plane.spacing[1]):
            return "a circle on pixels that are not square"
        centre, radius = at[0], float(np.linalg.norm(at[1] - at[0]))
        axes = np.eye(2) * radius
    else:
        centre = at[:2].mean(axis=0)
        axes = np.column_stack([(at[1] - at[0]) / 2, (at[3] - at[2]) / 2])
    if abs(np.linalg.det(axes)) < 1e-9:
        return f"a {graphic.kind} without an area"
    mask = np.zeros(shape, dtype=bool)
    reach = np.sqrt((axes**2).sum(axis=1))
    low = np.clip(np.ceil(centre - reach), 0, shape).astype(int)
    high = np.clip(np.floor(centre + reach) + 1, 0, shape).astype(int)
    if (low < high).all():
        grid = _grid(low, high) - centre
        unit = grid @ np.linalg.inv(axes).T
        mask[low[0] : high[0], low[1] : high[1]] = (unit**2).sum(axis=-1) <= 1 + 1e-9
    return mask


def outline(graphic: Graphic) -> Contour:
    """A closed flat shape in the patient as a contour."""
    points = graphic.points
    if graphic.kind == "ELLIPSE":
        centre = points[:2].mean(axis=0)
        a, b = (points[1] - points[0]) / 2, (points[3] - points[2]) / 2
        points = centre + np.outer(np.cos(_ROUND), a) + np.outer(np.sin(_ROUND), b)
    return Contour(points)


def ellipsoid(graphic: Graphic, geometry: Geometry) -> Piece | None:
    """Box and mask of the voxels whose centres an ellipsoid holds; None if there are none."""
    ends = _ras(graphic.points).reshape(3, 2, 3)
    centre = ends.mean(axis=(0, 1))
    axes = ((ends[:, 1] - ends[:, 0]) / 2).T
    if abs(np.linalg.det(axes)) < 1e-9:
        return None
    # In indices: the half axes, and how far the ellipsoid reaches along each array axis.
    half = np.linalg.inv(geometry.affine)[:3, :3] @ axes
    at = geometry.index(centre)
    reach = np.sqrt((half**2).sum(axis=1))
    low = np.clip(np.ceil(at - reach), 0, geometry.shape).astype(int)
    high = np.clip(np.floor(at + reach) + 1, 0, geometry.shape).astype(int)
    if (low >= high).any():
        return None
    mask = np.zeros(high - low, dtype=bool)
    inverse = np.linalg.inv(half)
    for k in range(mask.shape[2]):
        plane = _grid(low[:2], high[:2], int(low[2]) + k) - at
        mask[:, :, k] = ((plane @ inverse.T) ** 2).sum(axis=-1) <= 1 + 1e-9
    found = tight(mask)
    if found is None:
        return None
    i, j, k_box = (
        slice(int(a) + part.start, int(a) + part.stop)
        for a, part in zip(low, found[0], strict=True)
    )
    return (i, j, k_box), found[1]


def spanned(points: NDArray[np.float64], shape: Sequence[int]) -> Region | None:
    """The box of the voxels that hold the points, given as indices (point, 3); None if outside."""
    nearest = np.floor(points + 0.5).astype(int)
    low, high = nearest.min(axis=0), nearest.max(axis=0)
    if (low < 0).any() or (high >= np.array(shape)).any():
        return None
    i, j, k = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    return i, j, k


def in_patient(graphic: Graphic, geometry: Geometry) -> NDArray[np.float64]:
    """Points of a shape in the patient as indices (point, 3)."""
    return geometry.index(_ras(graphic.points))


def _grid(low: NDArray[np.intp], high: NDArray[np.intp], *further: int) -> NDArray[np.float64]:
    """Indices (i, j, axis) of a box of pixels, of the slice ``further`` if one is given."""
    i, j = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
    parts = [i, j, *(np.full_like(i, k) for k in further)]
    return np.stack(parts, axis=-1).astype(np.float64)


def _ras(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points * [-1.0, -1.0, 1.0])
