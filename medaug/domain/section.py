"""What a lesion shows in one axial slice: where it lies, how far it spans, how long it is.

Slices are the volume's own (no resampling between slices), across the array axis that runs most
nearly head to foot. Within a slice, positions are millimetres ``(back, left)``: rows of a patch run
to the patient's back and its columns to the patient's left, whatever the order and the direction
of the volume's axes.

The centre of a lesion is the centre of its bounding box in the slice, not its centre of mass:
the box needs the smallest patch when the patch is centred on it, so that "fits with margin" and
"is centred" mean the same, also for crescents and lobes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medaug.domain.geometry import Geometry
from medaug.domain.lesion import Lesion


@dataclass(frozen=True, eq=False)
class View:
    """The axial slices of a grid as radiologists look at them.

    Attributes:
        axes: array axes that are (slice, row, column).
        to_mm: (2, 2) float64, index (row, column) → mm (back, left).
    """

    axes: tuple[int, int, int]
    to_mm: NDArray[np.float64]

    @classmethod
    def of(cls, geometry: Geometry) -> View:
        """The view of a grid; in-plane axes are told apart by direction, obliques by the nearer."""
        axial = geometry.axial_axis
        first, second = (axis for axis in range(3) if axis != axial)
        toward = np.abs(geometry.directions)
        as_is = toward[1, first] + toward[0, second]
        row, column = (
            (first, second) if as_is >= toward[1, second] + toward[0, first] else (second, first)
        )
        row_step, column_step = geometry.affine[:3, row], geometry.affine[:3, column]
        left = column_step / np.linalg.norm(column_step) * (-1 if column_step[0] > 0 else 1)
        # On a sheared grid the rows of the patch stay perpendicular to its columns.
        back = row_step - (row_step @ left) * left
        back *= (-1 if back[1] > 0 else 1) / np.linalg.norm(back)
        to_mm = np.array(
            [[row_step @ back, column_step @ back], [row_step @ left, column_step @ left]]
        )
        return cls((axial, row, column), to_mm)

    @cached_property
    def to_index(self) -> NDArray[np.float64]:
        """(2, 2): mm (back, left) → index (row, column)."""
        return np.asarray(np.linalg.inv(self.to_mm), dtype=np.float64)

    def array_index(self, at: int, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Index (i, j, k) of a position in mm (back, left) in slice ``at``."""
        index = np.empty(3)
        index[list(self.axes)] = [at, *(self.to_index @ position)]
        return index


@dataclass(frozen=True, eq=False)
class Section:
    """A lesion in one slice.

    Attributes:
        view: of the volume's grid.
        at: index of the slice along ``view.axes[0]``.
        start: index (row, column) of the outline's first pixel.
        outline: (row, column) bool, at least one pixel; all True where only a box is known.
    """

    view: View
    at: int
    start: tuple[int, int]
    outline: NDArray[np.bool_]

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.outline.sum())

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(pixel, 2): pixel centres in mm (back, left)."""
        return np.asarray((np.argwhere(self.outline) + self.start) @ self.view.to_mm.T)

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the bounding box in mm (back, left)."""
        return np.asarray((self.points.min(axis=0) + self.points.max(axis=0)) / 2)

    @cached_property
    def span(self) -> NDArray[np.float64]:
        """Height and width in mm of the bounding box, from pixel edge to pixel edge."""
        pixel = np.abs(self.view.to_mm).sum(axis=1)
        return np.asarray(self.points.max(axis=0) - self.points.min(axis=0) + pixel)

    @cached_property
    def diameter(self) -> float:
        """Longest diameter in mm (Feret), between the middles of pixel edges.

        Edge middles lie on the true outline on average: pixel centres would measure a disc about
        one pixel short, pixel corners up to one pixel long.
        """
        # Whatever lies between the first and the last pixel of a row cannot be an end of it.
        rows = np.flatnonzero(self.outline.any(axis=1))
        first = self.outline[rows].argmax(axis=1)
        last = self.outline.shape[1] - 1 - self.outline[rows, ::-1].argmax(axis=1)
        ends = np.concatenate(
            [_lower_hull(rows, first), _lower_hull(rows, -last) * np.array([1, -1])]
        )
        halves = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
        edges = (ends[:, None] + halves).reshape(-1, 2) @ self.view.to_mm.T
        return max(float(np.hypot(*(edges - one).T).max()) for one in edges)


def _lower_hull(rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.int64]:
    """Corners (row, column) of the convex outline on its side of low columns; rows ascend.

    A farthest pair lies on the convex hull. Andrew's monotone chain [1]_, exact in integers.

    .. [1] Andrew 1979, doi:10.1016/0020-0190(79)90072-3
    """
    chain: list[tuple[int, int]] = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        while len(chain) > 1:
            (r0, c0), (r1, c1) = chain[-2:]
            if (r1 - r0) * (column - c0) > (c1 - c0) * (row - r0):
                break
            chain.pop()
        chain.append((row, column))
    return np.array(chain, dtype=np.int64)


def sections(lesion: Lesion, geometry: Geometry) -> list[Section]:
    """The slices in which the lesion has a pixel, from foot to head."""
    view = View.of(geometry)
    slices, rows, columns = (lesion.box[axis] for axis in view.axes)
    outline = np.ones([part.stop - part.start for part in lesion.box], np.bool_)
    if lesion.mask is not None:
        outline = lesion.mask
    found = [
        Section(view, slices.start + step, (rows.start, columns.start), picture)
        for step, picture in enumerate(outline.transpose(view.axes))
        if picture.any()
    ]
    return found if geometry.affine[2, view.axes[0]] > 0 else found[::-1]


def largest(candidates: list[Section]) -> int:
    """Position of the section of largest area; of equals, the one nearest the lesion's middle."""
    middle = (len(candidates) - 1) / 2
    return max(range(len(candidates)), key=lambda at: (candidates[at].area, -abs(at - middle), -at))


def longest_diameter(lesion: Lesion, geometry: Geometry) -> float:
    """Longest diameter in mm in any axial slice (RECIST 1.1); 0 where it is not known.

    That of the mask, or else what the source states of a lesion it gives as a point.
    """
    if lesion.mask is None:
        return lesion.diameter_mm or 0.0
    return max(section.diameter for section in sections(lesion, geometry))
