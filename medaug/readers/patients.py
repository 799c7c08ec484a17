"""Whose a file is, by the rule of the settings; and what that rule makes of the files.

A rule that is wrong does not fail by itself: it gives too few patients where an anonymised set has
one Patient ID for all, and too many where every examination has one of its own. In the first case
nobody can be held out, in the second one patient lands on both sides of the split. So `Patients`
counts what the rule found and compares it with what the files say of studies and instances, which
belong to one person each (PS3.3 A.1.2). It compares texts and shows none.

Example::

    patients = Patients(settings.patient, folder)
    text, why_nobody = patients.of(file, attribute="4711", series="1.2.3")
    patients.note(replace(one, patient=text))
    patients.found(settings).patients
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from medaug.readers.dicom.header import Slice
from medaug.readers.files import SourceFile
from medaug.readers.found import PatientsFound
from medaug.readers.patient_table import read_patients
from medaug.readers.rules import PatientRule
from medaug.readers.settings import DicomSource, ImagesSource, SourceSettings

_FILLERS = {
    *("0", "id", "na", "none", "null", "nil", "no", "noid", "nobody", "unknown", "undefined"),
    *("anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "removed"),
    *("patient", "patientid", "subject", "person", "name", "default", "empty", "blank", "test"),
}

_EXAMINATIONS = {
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
    *("AccessionNumber", "StudyID", "SeriesNumber", "StudyDate", "StudyTime"),
}
"""Attributes that tell examinations apart, not people."""

_CHANGE = "set `patient` to a pattern on the path, or to a table"
_SPLIT_STUDY = (
    "{} study/studies hold images of more than one patient by this rule, yet a study is of one "
    "person, who would land on both sides of a split"
)
_OF_EXAMINATIONS = (
    "{} tells examinations apart, not people: somebody examined twice counts as two patients, and "
    "can land on both sides of a split"
)
_FILLED = "{} holds a filler, as anonymised sets do, in {} study/studies: if of several people, "
_SHARED = "one {} covers all {} studies: if they are of several people, "
_MERGED = (
    "{} patient(s) by this rule have images of several Patient IDs: check that each is one person"
)
_SPLIT_ID = (
    "{} Patient ID(s) stand under several patients by this rule: one person could land on both "
    "sides of a split"
)
_BY_NAME = (
    "the name of the source's folder stands for the patient: renamed, it gives another patient; "
    "set `patient.name` to fix it"
)


class Patients:
    """The rule of one source.

    Raises:
        ReaderError: if the rule names a table that is wrong, with every fault in it.
    """

    def __init__(self, rule: PatientRule, folder: Path) -> None:
        self._rule = rule
        self._whole = rule.name or folder.resolve().name
        self._by_folder = False
        self._table: Mapping[str, str] = {}
        if rule.table is not None:
            self._table = read_patients(rule.table, folder)
        self._without = 0
        self._studies: dict[str, set[str]] = defaultdict(set)
        self._stated: dict[str, set[str]] = defaultdict(set)
        self._first: dict[int, tuple[str, str]] = {}
        self._twins: list[tuple[str, str]] = []

    def of(self, file: SourceFile, attribute: str = "", series: str = "") -> tuple[str, str]:
        """(what names the patient, why nobody is named): exactly one of them is empty.

        Args:
            file: one file of the patient.
            attribute: value of the attribute the rule names, if it names one.
            series: Series Instance UID, where the rule may be a table of series.
        """
        rule = self._rule
        if rule.attribute is not None:
            missing = (
                f"{rule.attribute} is empty, so its patient is not known: "
                "set `patient` to a pattern on the path, or to a table"
            )
            return attribute.strip(), "" if attribute.strip() else missing
        if rule.table is not None:
            return self._listed(file, series)
        if rule.path is not None:
            found = rule.path.search(file.inside)
            if found is None:
                return "", "the pattern for the patient does not match its path"
            if named := found.group("patient"):
                return named, ""
        self._by_folder = True
        return self._whole, ""

    def _listed(self, file: SourceFile, series: str) -> tuple[str, str]:
        table = self._rule.table
        if table is None:
            raise ValueError("the rule is no table")
        what = "its path nor a folder above it"
        keys = [str(at) for at in (PurePosixPath(file.inside), *PurePosixPath(file.inside).parents)]
        if table.key == "series":
            what, keys = "its series", [series]
        elif table.pattern is not None:
            found = table.pattern.search(file.inside)
            what, keys = "its key", [(found and found.group("key")) or ""]
        for key in keys:
            if key and key in self._table:
                return self._table[key], ""
        neither = "neither" if " nor " in what else "not"
        return "", f"its patient is not known: the patient table names {neither} {what}"

    def nobody(self) -> None:
        """Count a file that the rule gives no patient."""
        self._without += 1

    def is_table(self, file: SourceFile) -> bool:
        """Whether a file is the table of the rule."""
        return self._rule.table is not None and file.inside == self._rule.table.file

    def note(self, image: Slice) -> None:
        """Remember an image whose ``patient`` is the text by the rule, for `found`."""
        self._studies[image.patient].add(image.study)
        if image.stated and not _is_filler(image.stated):
            self._stated[image.patient].add(image.stated)
        if image.instance:
            patient, name = self._first.setdefault(
                hash(image.instance), (image.patient, image.file.name)
            )
            if patient != image.patient:
                self._twins.append((name, image.file.name))

    @property
    def twins(self) -> tuple[tuple[str, str], ...]:
        """Pairs of files with one SOP Instance UID under two patients."""
        return tuple(self._twins)

    def found(self, settings: SourceSettings) -> PatientsFound:
        """What the rule has made of the images so far."""
        return PatientsFound(
            source=settings.path,
            rule=rule_in_words(settings),
            patients=len(self._studies),
            without=self._without,
            remarks=tuple(self._remarks()),
        )

    def _remarks(self) -> list[str]:
        rule, remarks = self._rule, []
        owners = _owners(self._studies)
        if several := sum(len(patients) > 1 for patients in owners.values()):
            remarks.append(_SPLIT_STUDY.format(several))
        if rule.attribute is not None:
            remarks += self._remarks_on_attribute(rule.attribute, len(owners))
        else:
            # Does Patient ID, if there is one, disagree?
            if merged := sum(len(ids) > 1 for ids in self._stated.values()):
                remarks.append(_MERGED.format(merged))
            if split := sum(len(patients) > 1 for patients in _owners(self._stated).values()):
                remarks.append(_SPLIT_ID.format(split))
        if self._by_folder and not rule.name:
            remarks.append(_BY_NAME)
        return remarks

    def _remarks_on_attribute(self, keyword: str, studies: int) -> list[str]:
        if keyword in _EXAMINATIONS:
            return [_OF_EXAMINATIONS.format(keyword)]
        fillers = [text for text in self._studies if _is_filler(text)]
        if fillers:
            covered = sum(len(self._studies[text]) for text in fillers)
            return [_FILLED.format(keyword, covered) + _CHANGE]
        if len(self._studies) == 1 and studies > 1:
            return [_SHARED.format(keyword, studies) + _CHANGE]
        return []


def _owners(held: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The patients of each thing, from the things of each patient; "" is no thing."""
    owners: dict[str, set[str]] = defaultdict(set)
    for patient, things in held.items():
        for thing in things - {""}:
            owners[thing].add(patient)
    return owners


def _is_filler(text: str) -> bool:
    """Whether a Patient ID is a word that anonymising tools write into every file."""
    plain = re.sub(r"[\W_]+", "", text.casefold())
    return plain in _FILLERS or (len(plain) != 1 and len(set(plain)) < 2)  # "", "000", "xxxx"


def rule_in_words(settings: SourceSettings) -> str:
    """What tells the patients of a source apart, for a person to read."""
    if isinstance(settings, ImagesSource) and settings.patient_identity == "none":
        return "nothing: each picture counts as a patient of its own"
    if isinstance(settings, ImagesSource) and settings.patient_table is not None:
        return f"the table {settings.patient_table.file}"
    if not isinstance(settings, DicomSource):
        return "the path"
    rule = settings.patient
    if rule.attribute is not None:
        return f"the DICOM attribute {rule.attribute}"
    if rule.table is not None:
        return f"the table {rule.table.file}"
    return "the path" if rule.path is not None else "nothing: the whole folder is one patient"
