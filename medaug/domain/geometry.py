"""Where a voxel lies in the patient, in millimetres.

Arrays are indexed ``(i, j, k)``. An affine takes an index to RAS+ millimetres: +x to the
patient's right, +y to the front (anterior), +z to the head (superior), as in nibabel [1]_
and MONAI. DICOM [2]_ and ITK count +x to the left and +y to the back (LPS); `lps_to_ras`
is the one place where the two meet.

>>> g = Geometry.from_spacing((4, 4, 2), spacing=(0.5, 0.5, 3.0))
>>> g.spacing
(0.5, 0.5, 3.0)
>>> g.world((2, 2, 1)).tolist()
[1.0, 1.0, 3.0]

.. [1] https://nipy.org/nibabel/coordinate_systems.html
.. [2] DICOM PS3.3 C.7.6.2.1.1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lps_to_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn an index → LPS affine (4, 4) into index → RAS; its own inverse."""
    return np.asarray(_LPS_RAS @ affine, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Geometry:
    """A grid of voxels with a place in the patient.

    Attributes:
        shape: number of voxels along (i, j, k).
        affine: (4, 4) float64, voxel index → RAS+ mm; read-only.
        in_millimetres: False for pictures that carry no spacing (a PNG patch); their
            affine counts pixels, and one "millimetre" is one pixel.
        flat: True for a single picture, whose thickness nobody knows: its third spacing is 1
            and means nothing, and its voxels have an area but no volume.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    in_millimetres: bool = True
    flat: bool = False

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"an affine is 4x4 and finite, got {affine.tolist()}")
        if not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise ValueError(f"the last row of an affine is 0 0 0 1, got {affine[3].tolist()}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid has three positive sizes, got {self.shape}")
        if self.flat and self.shape[2] != 1:
            raise ValueError(f"a flat grid has one slice, got {self.shape}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError("the affine is singular: two axes coincide or a spacing is zero")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @classmethod
    def from_spacing(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        origin: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Geometry:
        """A grid whose axes run along +x, +y, +z; ``spacing`` and ``origin`` in mm."""
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = origin
        return cls((shape[0], shape[1], shape[2]), affine)

    @classmethod
    def of_pixels(cls, width: int, height: int, aspect: Sequence[float] = (1.0, 1.0)) -> Geometry:
        """A single picture without spacing.

        The array is (column, row, 1); as an axial picture in the usual radiological view,
        columns run to the patient's left and rows to the back, so that `patching`'s display
        orientation leaves it as it is.

        Args:
            width: columns.
            height: rows.
            aspect: how far columns, and rows, lie apart compared with each other.
        """
        affine = np.diag([-aspect[0], -aspect[1], 1.0, 1.0])
        return cls((width, height, 1), affine, in_millimetres=False, flat=True)

    @classmethod
    def of_picture(cls, width: int, height: int, spacing: Sequence[float]) -> Geometry:
        """A single picture with spacing and without a place in the patient (a mammogram).

        Laid out as `of_pixels`; distances within the picture are true, positions are not.

        Args:
            width: columns.
            height: rows.
            spacing: mm between neighbouring columns, mm between neighbouring rows.
        """
        affine = np.diag([-spacing[0], -spacing[1], 1.0, 1.0])
        return cls((width, height, 1), affine, flat=True)

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxel centres along (i, j, k)."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def directions(self) -> NDArray[np.float64]:
        """(3, 3): column a is the unit vector in RAS along which array axis a runs."""
        return np.asarray(self.affine[:3, :3] / np.asarray(self.spacing), dtype=np.float64)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in mm³ (sheared grids included); of a `flat` one its area in mm²."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """Voxel indices (..., 3) → RAS mm (..., 3)."""
        at = np.asarray(index, dtype=np.float64)
        return np.asarray(at @ self.affine[:3, :3].T + self.affine[:3, 3])

    def index(self, world: ArrayLike) -> NDArray[np.float64]:
        """RAS mm (..., 3) → voxel indices (..., 3), not rounded."""
        inverse = self._inverse
        at = np.asarray(world, dtype=np.float64)
        return np.asarray(at @ inverse[:3, :3].T + inverse[:3, 3])

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self.affine))

    def same_grid(self, other: Geometry, tolerance_mm: float = 0.01) -> bool:
        """Whether every voxel of both grids lies at the same place, within ``tolerance_mm``."""
        if (self.shape, self.in_millimetres, self.flat) != (
            other.shape,
            other.in_millimetres,
            other.flat,
        ):
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        return bool(np.abs(self.world(corners) - other.world(corners)).max() <= tolerance_mm)

    @property
    def axial_axis(self) -> int:
        """The array axis (0, 1 or 2) that runs most nearly head-to-foot."""
        return int(np.argmax(np.abs(self.directions[2])))
