"""A lesion in three dimensions, as `medaug.domain.section` describes it in one slice.

Positions are millimetres ``(head, back, left)`` from voxel (0, 0, 0): along the patient's own axes,
not those of the file. A cube therefore looks the same way whatever the order, the direction and
the tilt of the volume's axes; on an oblique volume its slices are cut through the volume's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry, Lesion

_FROM_RAS = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
"""RAS mm → mm (head, back, left)."""


@dataclass(frozen=True, eq=False)
class Body:
    """A lesion on the grid of its volume.

    Attributes:
        geometry: of the volume.
        start: index (i, j, k) of the outline's first voxel.
        outline: (i, j, k) bool, at least one voxel; all True where only a box is known.
    """

    geometry: Geometry
    start: tuple[int, int, int]
    outline: NDArray[np.bool_]

    @classmethod
    def of(cls, lesion: Lesion, geometry: Geometry) -> Body:
        """The whole lesion."""
        i, j, k = (part.start for part in lesion.box)
        outline = lesion.mask
        if outline is None:
            outline = np.ones([part.stop - part.start for part in lesion.box], np.bool_)
        return cls(geometry, (i, j, k), outline)

    @cached_property
    def to_mm(self) -> NDArray[np.float64]:
        """(3, 3): index (i, j, k) → mm (head, back, left)."""
        return np.asarray(_FROM_RAS @ self.geometry.affine[:3, :3])

    @cached_property
    def to_index(self) -> NDArray[np.float64]:
        """(3, 3): mm (head, back, left) → index (i, j, k)."""
        return np.asarray(np.linalg.inv(self.to_mm))

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(voxel, 3): voxel centres in mm."""
        return np.asarray((np.argwhere(self.outline) + self.start) @ self.to_mm.T)

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the bounding box in mm."""
        return np.asarray((self.points.min(axis=0) + self.points.max(axis=0)) / 2)

    @cached_property
    def span(self) -> NDArray[np.float64]:
        """Extent of the bounding box in mm, from voxel edge to voxel edge."""
        voxel = np.abs(self.to_mm).sum(axis=1)
        return np.asarray(self.points.max(axis=0) - self.points.min(axis=0) + voxel)
