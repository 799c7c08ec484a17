"""A lesion in a volume, and the patient it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medaug.domain.geometry import Geometry
from medaug.domain.volume import Region, Volume


@dataclass(frozen=True, order=True)
class PatientKey:
    """An opaque name for one patient. Only readers make one (see ``readers/identity.py``)."""

    token: str

    def __post_init__(self) -> None:
        if len(self.token) != 32 or set(self.token) - set("0123456789abcdef"):
            raise ValueError("a patient key is 32 hexadecimal digits made by a reader")


@dataclass(frozen=True)
class CodedConcept:
    """A term of a terminology: value, coding scheme and meaning (DICOM PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion over files and time.

    Attributes:
        tracking_uid: DICOM Tracking UID (0062,0021), or one derived from a keyed hash.
        label: the class it is trained and scored under.
        patient: whose it is.
        box: half-open voxel bounds (i, j, k) in the volume's grid.
        mask: bool (i, j, k) of the box's shape; None where only a box is known, as for a folder
            of ready-made patches, or for a point of a table.
        finding: the coded term, where the source gives one.
        diameter_mm: what the source states where it draws no mask; None if it states nothing.
    """

    tracking_uid: str
    label: str
    patient: PatientKey
    box: Region
    mask: NDArray[np.bool_] | None = None
    finding: CodedConcept | None = None
    diameter_mm: float | None = None

    def __post_init__(self) -> None:
        size = tuple(part.stop - part.start for part in self.box)
        if min(size) < 1:
            raise ValueError(f"a lesion's box has three positive sizes, got {size}")
        if self.mask is not None and (self.mask.shape != size or not self.mask.any()):
            raise ValueError(f"a lesion's mask fills its box {size}, got {self.mask.shape}")
        if self.diameter_mm is not None and not 0 < self.diameter_mm < np.inf:
            raise ValueError(f"a diameter is a positive number of mm, got {self.diameter_mm}")

    @cached_property
    def voxels(self) -> int:
        """Number of voxels in the mask, or in the box where there is no mask."""
        if self.mask is not None:
            return int(self.mask.sum())
        return int(np.prod([part.stop - part.start for part in self.box]))

    def volume_mm3(self, geometry: Geometry) -> float:
        """Volume in mm³ on the given grid."""
        return self.voxels * geometry.voxel_mm3


@dataclass(frozen=True, eq=False)
class Case:
    """What a reader yields: one volume of one patient, with the lesions marked in it.

    ``key`` is an opaque token of the series, stable over runs at one site.
    """

    key: str
    patient: PatientKey
    volume: Volume
    lesions: tuple[Lesion, ...]

    def __post_init__(self) -> None:
        for lesion in self.lesions:
            if lesion.patient != self.patient:
                raise ValueError("a lesion belongs to another patient than its volume")
            bounds = zip(lesion.box, self.volume.geometry.shape, strict=True)
            if any(part.start < 0 or part.stop > size for part, size in bounds):
                raise ValueError(f"lesion box {lesion.box} lies outside the volume")
