"""Folders of ready-made pictures → cases of one picture each, with one lesion or those marked.

A picture carries no spacing and no outline: its lesion is a box over the whole of it, and its
values are in arbitrary units, however the picture was made. Where masks lie beside the pictures,
or a table names boxes, the lesions are those instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Case, Geometry, Lesion, PatientKey, Region, Unit, Volume
from medaug.errors import ReaderError
from medaug.progress import Progress
from medaug.readers.files import Refusal, SourceFile, search, stray
from medaug.readers.found import Found, Kind, Opened
from medaug.readers.identity import case_token, patient_key, picture_key
from medaug.readers.lesions import Marking, lesions_of
from medaug.readers.patients import Patients
from medaug.readers.pictures.file import NAMES, decode_picture
from medaug.readers.pictures.marks import MarksOfSource, PictureMarks
from medaug.readers.points import in_one_sentence
from medaug.readers.rules import PatientRule, Per
from medaug.readers.settings import ImagesSource
from medaug.readers.tables import read_labels

__all__ = ["NAMES", "PictureCase", "decode_picture", "find_images"]


class PictureCase:
    """One picture; ``patient`` is None where the source does not tell patients apart."""

    kind: Kind = "images"

    def __init__(
        self,
        file: SourceFile,
        label: str,
        patient: str | None,
        modality: str,
        site_key: bytes,
        marks: PictureMarks | None = None,
    ) -> None:
        self._file = file
        self._marks = marks
        self._label = label
        self._patient = patient
        self._modality = modality
        self._site_key = site_key
        self.name = file.name
        masks = () if marks is None else marks.masks
        self.files = (file.name, *(mask.name for mask in masks))
        self.patient_known = patient is not None

    def open(self) -> Opened:
        """Decode the picture once, to know that it is whole and grey."""
        file, decoder = self._file, lru_cache(1)(decode_picture)
        try:
            columns, rows, _ = decoder(file).shape
        except ReaderError as error:
            return Opened(None, (Refusal(file.name, error.faults[0].came),))
        if self._patient is None:
            patient = picture_key(self._site_key, file.name)
        else:
            patient = patient_key(self._site_key, self._patient)

        def decode(region: Region) -> NDArray[np.float32]:
            return decoder(file)[region]

        geometry = Geometry.of_pixels(columns, rows)
        try:
            lesions = self._lesions(geometry, patient)
        except ReaderError as error:
            where = error.faults[0].where
            name = where if where in self.files else file.name
            other = [file.name] if name != file.name else []
            reason = error.faults[0].came if other else in_one_sentence(error)
            left = [Refusal(one, f"its mask cannot be used ({name})") for one in other]
            return Opened(None, (Refusal(name, reason), *left))
        case = Case(
            key=case_token(self._site_key, file.name),
            patient=patient,
            volume=Volume(geometry, self._modality, Unit.ARBITRARY, decode),
            lesions=tuple(lesions),
        )
        return Opened(case)

    def _lesions(self, geometry: Geometry, patient: PatientKey) -> list[Lesion]:
        per: Per = "segment"
        if self._marks is None:
            i, j, k = geometry.shape
            whole = (slice(0, i), slice(0, j), slice(0, k))
            found = [Marking(self._label, f"picture\0{self._file.name}", whole, None)]
        else:
            found, per = self._marks.read(geometry), self._marks.per
        return [
            lesion
            for marking in found
            for lesion in lesions_of(marking, per, patient, self._site_key)
        ]


def find_images(
    settings: ImagesSource,
    folder: Path,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    """Give every picture its label and patient; nothing is decoded.

    Raises:
        ReaderError: if a table of labels or patients is wrong; see `read_labels` and
            `read_patients`.
    """
    pictures = {file.inside for file in files if file.name.lower().endswith(NAMES)}
    raw_labels = None
    patients = None
    tables: set[str] = set()
    if settings.table is not None:
        raw_labels = read_labels(settings.table, folder, pictures)
        tables |= set(settings.table.files)
    if settings.patient_table is not None:
        patients = Patients(PatientRule(table=settings.patient_table), folder)
        tables.add(settings.patient_table.file)
    if settings.boxes is not None:
        tables |= set(settings.boxes.files)
    marks = MarksOfSource(settings, folder, [file for file in files if file.inside in pictures])
    found = Found()
    for file in files:
        progress.advance(file.size)
        if file.inside in tables:
            found.used.append(file.name)
        elif file.inside not in pictures:
            found.refused.append(stray(file, "not a PNG, JPEG or TIFF picture"))
        elif file.inside not in marks.masks:
            groups = search(settings.pattern, file)
            label, patient, reason = _read_path(settings, folder, file, groups, raw_labels)
            if patients is not None and not reason:
                patient, reason = patients.of(file)
                found.unnamed += bool(reason)
            on_it, unmarked = (None, "") if reason else marks.of(file, groups or {}, label)
            if reason or unmarked:
                found.refused.append(Refusal(file.name, reason or unmarked))
                continue
            found.cases.append(
                PictureCase(file, label, patient, settings.modality, site_key, on_it)
            )
    marks.left(found)
    return found


def _read_path(
    settings: ImagesSource,
    folder: Path,
    file: SourceFile,
    groups: dict[str, str] | None,
    raw_labels: dict[str, str] | None,
) -> tuple[str, str | None, str]:
    """(class, patient or None, why not): the last is empty where the first two hold."""
    if groups is None:
        return "", None, "the pattern for the pictures does not match its path"
    if settings.label is not None or settings.boxes is not None:
        label = settings.label or ""
    else:
        raw = groups.get("label") if raw_labels is None else raw_labels.get(file.inside)
        if raw is None:
            missing = "the label tables do not name it"
            if raw_labels is None:
                missing = "the pattern's group `label` took no part in the match"
            return "", None, missing
        if settings.labels and raw not in settings.labels:
            return "", None, f"its label {raw!r} is not among those asked for"
        label = settings.labels.get(raw, raw)
    if settings.patient_identity == "none":
        return label, None, ""
    # As in every source: a group that took no part makes the folder one patient.
    return label, groups.get("patient") or folder.resolve().name, ""
