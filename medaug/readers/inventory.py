"""What is there, what is refused and why: the content of ``inventory.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from medaug.domain import Case, Lesion, Volume
from medaug.domain.section import longest_diameter
from medaug.readers.files import Refusal
from medaug.readers.found import Kind, PatientsFound


@dataclass(frozen=True)
class LesionEntry:
    """One lesion.

    Attributes:
        voxels: of its mask, or of its box where it has none.
        volume_mm3: None where the source has no spacing or no thickness.
        diameter_mm: the longest in an axial slice, of the mask or as the source states it; None
            where nothing tells.
        mean: of the image's values inside the mask, or the box, in the unit of the case; None
            where it was not measured.
    """

    label: str
    voxels: int
    volume_mm3: float | None
    tracking_uid: str
    diameter_mm: float | None = None
    mean: float | None = None

    @classmethod
    def of(cls, lesion: Lesion, volume: Volume, measure: bool) -> LesionEntry:
        """Summarise a lesion; to ``measure`` decodes the voxels of its box.

        Raises:
            ReaderError: if they cannot be decoded.
        """
        geometry = volume.geometry
        measured = geometry.in_millimetres
        drawn = lesion.mask is not None or lesion.diameter_mm is not None
        diameter, mean = None, None
        if measure:
            values = volume.read(lesion.box)
            inside = values if lesion.mask is None else values[lesion.mask]
            mean = round(float(inside.mean(dtype=np.float64)), 3)
        if drawn and measured:
            diameter = round(longest_diameter(lesion, geometry), 3)
        return cls(
            label=lesion.label,
            voxels=lesion.voxels,
            volume_mm3=(
                round(lesion.volume_mm3(geometry), 3) if measured and not geometry.flat else None
            ),
            tracking_uid=lesion.tracking_uid,
            diameter_mm=diameter,
            mean=mean,
        )


@dataclass(frozen=True)
class CaseEntry:
    """One case: tokens and figures, no text of a file.

    ``spacing_mm`` is of (i, j, k), of (i, j) for a single picture, None without spacing.
    ``maybe_text`` says that something like letters stands near an edge of the picture.
    """

    case: str
    source: Kind
    modality: str
    unit: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, ...] | None
    patient: str
    files: int
    lesions: tuple[LesionEntry, ...]
    maybe_text: bool = False

    @classmethod
    def of(
        cls,
        case: Case,
        source: Kind,
        files: int,
        *,
        maybe_text: bool = False,
        measure: bool = False,
    ) -> CaseEntry:
        """Summarise a case and forget its masks; `LesionEntry.of` tells what to ``measure`` is."""
        geometry = case.volume.geometry
        measured, flat = geometry.in_millimetres, geometry.flat
        return cls(
            case=case.key,
            source=source,
            modality=case.volume.modality,
            unit=case.volume.unit.value,
            shape=geometry.shape,
            spacing_mm=geometry.spacing[: 2 if flat else 3] if measured else None,
            patient=case.patient.token,
            files=files,
            lesions=tuple(LesionEntry.of(one, case.volume, measure) for one in case.lesions),
            maybe_text=maybe_text,
        )


@dataclass(frozen=True)
class RefusedEntry:
    """Files that one reason keeps out: a file, or a folder and how many of its files."""

    path: str
    reason: str
    files: int


@dataclass(frozen=True)
class FileRow:
    """What became of some files of one folder.

    Attributes:
        folder: relative to the data root.
        files: how many.
        names: which; None for every file of the folder.
        cases: tokens of the cases they are used in.
        reason: why they are not used; "" where they are. A file that is used and belongs to no
            case is a table.
    """

    folder: str
    files: int
    names: tuple[str, ...] | None
    cases: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ConflictRow:
    """Cases that contradict each other, by the paths of their first files."""

    kind: str
    paths: tuple[str, ...]
    allowed: bool


def fates_of_files(
    seen: Iterable[str], cases_of: Mapping[str, Sequence[str]], refused: Mapping[str, str]
) -> tuple[FileRow, ...]:
    """What became of every file, in the order of their paths.

    Args:
        seen: every file, relative to the data root.
        cases_of: the cases that each used file is in.
        refused: the reason of each file that is not used.
    """
    in_folder: dict[str, int] = defaultdict(int)
    together: dict[tuple[str, tuple[str, ...], str], list[str]] = defaultdict(list)
    for name in sorted(seen):
        path = PurePosixPath(name)
        folder = path.parent.as_posix()
        in_folder[folder] += 1
        together[folder, tuple(cases_of.get(name, ())), refused.get(name, "")].append(path.name)
    return tuple(
        FileRow(
            folder,
            len(names),
            None if len(names) == in_folder[folder] > 1 else tuple(names),
            cases,
            reason,
        )
        for (folder, cases, reason), names in together.items()
    )


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
        patients: what tells patients apart in each source.
        conflicts: what contradicts what.
        fates: what became of every file.
    """

    cases: tuple[CaseEntry, ...]
    refused: tuple[RefusedEntry, ...]
    notes: tuple[str, ...]
    patients_known: bool
    files_seen: int
    files_used: int
    patients: tuple[PatientsFound, ...] = ()
    conflicts: tuple[ConflictRow, ...] = ()
    fates: tuple[FileRow, ...] = ()

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
            "patient_rules": [asdict(one) for one in self.patients],
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
                    "maybe_text": case.maybe_text,
                    "lesions": [asdict(lesion) for lesion in case.lesions],
                }
                for case in self.cases
            ],
            "refused": [asdict(entry) for entry in self.refused],
            "conflicts": [asdict(one) for one in self.conflicts],
            "notes": list(self.notes),
            "fates": [_fate(one) for one in self.fates],
        }


def _fate(row: FileRow) -> dict[str, Any]:
    became: dict[str, Any] = {"cases": list(row.cases)} if row.cases else {"use": "a table"}
    return {
        "folder": row.folder,
        "files": row.files,
        "names": "all" if row.names is None else list(row.names),
        **({"refused": row.reason} if row.reason else became),
    }
