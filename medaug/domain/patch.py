"""Lesion patches: small pictures or cubes of one size, in the unit of the volume.

There are two layouts. Rows always run to the patient's back and columns to the patient's left: the
radiological view.

- Flat: images (patch, channel, row, column), masks (patch, row, column). More than one channel is
  an odd number of adjacent axial slices ("2.5-D"), from feet to head, with the lesion's slice in
  the middle; the mask is of the middle slice.
- 3-D: images (patch, 1, slice, row, column), masks (patch, slice, row, column). Slices run from
  feet to head, and voxels are cubes.

>>> central(np.zeros((5, 3, 32, 32))).shape, central(np.zeros((5, 1, 32, 32, 32))).shape
((5, 1, 32, 32), (5, 1, 32, 32))
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medaug.domain.digest import digest_of
from medaug.domain.lesion import PatientKey
from medaug.domain.volume import Unit

Scalar = TypeVar("Scalar", bound=np.generic)


def central(images: NDArray[Scalar]) -> NDArray[Scalar]:
    """The middle slice of every patch: (patch, 1, row, column), a view.

    Args:
        images: (patch, channel, row, column), where the middle channel is taken, or
            (patch, 1, slice, row, column), where the middle slice is.

    Raises:
        ValueError: for any other number of axes.
    """
    if images.ndim == 5:
        at = images.shape[2] // 2
        return images[:, :1, at]
    if images.ndim == 4:
        at = images.shape[1] // 2
        return images[:, at : at + 1]
    raise ValueError(f"images are (patch, channel, [slice,] row, column), got {images.shape}")


@dataclass(frozen=True)
class PatchLocation:
    """Where a patch was taken.

    Attributes:
        case: token of the volume (`Case.key`).
        lesion: tracking UID of the lesion.
        slice_index: index along the volume's axial axis, of a 3-D patch that of the slice nearest
            to its centre; -1 for a picture without volume.
        centre_mm: RAS position of the patch centre.
        mm_per_pixel: size of a pixel, or edge of a voxel, after resampling; 0 where the source
            has no spacing.
        scale: 1, or how much a lesion larger than the patch was shrunk (< 1) to fit.
        diameter_mm: longest in-plane diameter of the lesion in this slice, of a 3-D patch that in
            any axial slice; 0 if unknown.
    """

    case: str
    lesion: str
    slice_index: int
    centre_mm: tuple[float, float, float]
    mm_per_pixel: float
    scale: float = 1.0
    diameter_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class LesionPatch:
    """One patch: image (channel, row, column) float32 in `unit`, mask (row, column) or None.

    In 3-D the image is (1, slice, row, column) and the mask (slice, row, column).
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    label: str
    patient: PatientKey
    location: PatchLocation
    unit: Unit
    modality: str


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Real patches of real patients, in order, in columns.

    Synthetic patches are never a `PatchSet`: they are `Candidates` or a `Release`. What takes a
    `PatchSet` as its reference therefore cannot be handed anything synthetic.

    Attributes:
        images: (patch, channel, row, column) float32, in `unit`; or, in 3-D,
            (patch, 1, slice, row, column).
        masks: (patch, row, column) bool, in 3-D (patch, slice, row, column), or None where the
            source marks no outline.
        labels: (patch,) int64, index into `classes`.
        classes: names, sorted.
        patients: one key per patch.
        locations: one per patch.
        patients_known: False where the source says nothing about patients; each patch then
            counts as a patient of its own and no statement about patients can be made.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_] | None
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    patients: tuple[PatientKey, ...]
    locations: tuple[PatchLocation, ...]
    unit: Unit
    modality: str
    patients_known: bool = True

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.ndim not in (4, 5) or self.images.dtype != np.float32:
            raise ValueError("images are float32 (patch, channel, [slice,] row, column)")
        lengths = {len(self.labels), len(self.patients), len(self.locations)}
        if lengths != {count} or (self.masks is not None and len(self.masks) != count):
            raise ValueError("every column of a PatchSet has one entry per patch")
        if self.masks is not None and self.masks.shape[1:] != self.images.shape[2:]:
            raise ValueError("masks are (patch, [slice,] row, column), of the images' size")
        if list(self.classes) != sorted(set(self.classes)):
            raise ValueError(f"classes are sorted and each stands once, got {self.classes}")
        if count and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError("a label has no class")

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over pixels, masks, labels, patients and places."""
        places = [[getattr(at, f.name) for f in fields(at)] for at in self.locations]
        tokens = [patient.token for patient in self.patients]
        meaning = [list(self.classes), self.unit.value, self.modality, self.patients_known]
        masks = np.zeros(0, np.bool_) if self.masks is None else self.masks
        return digest_of(self.images, masks, self.labels, [tokens, places, meaning])

    @cached_property
    def patient_order(self) -> tuple[PatientKey, ...]:
        """Each patient once, in order of first appearance."""
        return tuple(dict.fromkeys(self.patients))

    @cached_property
    def patient_index(self) -> NDArray[np.int64]:
        """(patch,) position of the patch's patient in `patient_order`."""
        position = {patient: at for at, patient in enumerate(self.patient_order)}
        return np.array([position[patient] for patient in self.patients], dtype=np.int64)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> PatchSet:
        """The patches at ``rows``, in that order; classes stay as they are."""
        at = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            images=self.images[at],
            masks=None if self.masks is None else self.masks[at],
            labels=self.labels[at],
            patients=tuple(self.patients[row] for row in at),
            locations=tuple(self.locations[row] for row in at),
        )

    def of_patients(self, patients: Collection[PatientKey]) -> PatchSet:
        """The patches of these patients, in order."""
        wanted = frozenset(patients)
        return self.select([row for row, key in enumerate(self.patients) if key in wanted])

    def of_class(self, label: str) -> PatchSet:
        """The patches of one class, in order."""
        return self.select(np.flatnonzero(self.labels == self.classes.index(label)))

    def patients_per_class(self) -> dict[str, int]:
        """How many patients show each class."""
        counts = {name: set[PatientKey]() for name in self.classes}
        for label, patient in zip(self.labels, self.patients, strict=True):
            counts[self.classes[label]].add(patient)
        return {name: len(patients) for name, patients in counts.items()}
