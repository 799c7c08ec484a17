"""What is there, what is refused and why: the content of ``inventory.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from medaug.domain import Case
from medaug.readers.files import Refusal
from medaug.readers.found import Kind


@dataclass(frozen=True)
class LesionEntry:
    """One lesion; ``volume_mm3`` is None where the source has no spacing."""

    label: str
    voxels: int
    volume_mm3: float | None
    tracking_uid: str


@dataclass(frozen=True)
class CaseEntry:
    """One case: tokens and figures, no text of a file."""

    case: str
    source: Kind
    modality: str
    unit: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    patient: str
    files: int
    lesions: tuple[LesionEntry, ...]

    @classmethod
    def of(cls, case: Case, source: Kind, files: int) -> CaseEntry:
        """Summarise a case and forget its masks."""
        geometry = case.volume.geometry
        measured = geometry.in_millimetres
        lesions = (
            LesionEntry(
                lesion.label,
                lesion.voxels,
                round(lesion.volume_mm3(geometry), 3) if measured else None,
                lesion.tracking_uid,
            )
            for lesion in case.lesions
        )
        return cls(
            case=case.key,
            source=source,
            modality=case.volume.modality,
            unit=case.volume.unit.value,
            shape=geometry.shape,
            spacing_mm=geometry.spacing if measured else None,
            patient=case.patient.token,
            files=files,
            lesions=tuple(lesions),
        )


@dataclass(frozen=True)
class RefusedEntry:
    """Files that one reason keeps out: a file, or a folder and how many of its files."""

    path: str
    reason: str
    files: int


def group_refusals(refused: Iterable[Refusal]) -> tuple[RefusedEntry, ...]:
    """One entry per folder and reason; a single file keeps its name."""
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for refusal in refused:
        parent = PurePosixPath(refusal.name).parent.as_posix()
        together[parent, refusal.reason].append(refusal.name)
    return tuple(
        RefusedEntry(names[0] if len(names) == 1 else folder, reason, len(names))
        for (folder, reason), names in sorted(together.items(), key=lambda item: min(item[1]))
    )


@dataclass(frozen=True)
class Inventory:
    """The whole of it, in the order of the cases.

    Attributes:
        cases: what can be used.
        refused: what cannot, and why.
        notes: sentences for the reader.
        patients_known: False as soon as one source does not tell patients apart.
        files_seen: files in all sources; every one is used or refused.
        files_used: files of the cases.
    """

    cases: tuple[CaseEntry, ...]
    refused: tuple[RefusedEntry, ...]
    notes: tuple[str, ...]
    patients_known: bool
    files_seen: int
    files_used: int

    @property
    def classes(self) -> dict[str, dict[str, int]]:
        """Per class: how many lesions, how many patients show it.

        A lesion marked once and seen in two images of a patient counts once.
        """
        lesions: dict[str, set[str]] = defaultdict(set)
        patients: dict[str, set[str]] = defaultdict(set)
        for case in self.cases:
            for lesion in case.lesions:
                lesions[lesion.label].add(lesion.tracking_uid)
                patients[lesion.label].add(case.patient)
        return {
            label: {"lesions": len(lesions[label]), "patients": len(patients[label])}
            for label in sorted(lesions)
        }

    def document(self) -> dict[str, Any]:
        """As JSON; paths are relative to the data root."""
        return {
            "patients": len({case.patient for case in self.cases}),
            "patients_known": self.patients_known,
            "files": {"seen": self.files_seen, "used": self.files_used},
            "classes": self.classes,
            "cases": [
                {
                    "case": case.case,
                    "source": case.source,
                    "modality": case.modality,
                    "unit": case.unit,
                    "shape": list(case.shape),
                    "spacing_mm": None if case.spacing_mm is None else list(case.spacing_mm),
                    "patient": case.patient,
                    "files": case.files,
                    "lesions": [asdict(lesion) for lesion in case.lesions],
                }
                for case in self.cases
            ],
            "refused": [asdict(entry) for entry in self.refused],
            "notes": list(self.notes),
        }
