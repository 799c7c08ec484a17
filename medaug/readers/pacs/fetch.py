"""From an archive into an ordinary folder, which every other reader then takes as it is.

Studies are asked for first, then the series of each, then the instances of each series; one
instance after the other goes to disk, under names made from hashes of its UIDs. An instance is
whole or absent, and one that is there is not fetched again: a fetch that was stopped goes on
where it stood. Needs the extra ``[pacs]``.

Credentials come from the environment and are told to the archive only; the errors of the
libraries, which quote addresses with Patient IDs in them, are replaced by sentences.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, Protocol

from pydicom import dcmread

from medaug.atomic import remove_partials, replacing
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress, Silent
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.pacs.address import (
    SERIES_FILTERS,
    STUDY_FILTERS,
    Address,
    is_address,
    is_uid,
    parse,
)

__all__ = ["connected", "fetch", "fetched", "is_address"]

Level = Literal["STUDY", "SERIES", "IMAGE"]
Keep = Callable[[str, bytes], str]
"""(SOP Instance UID, a whole DICOM file) → why it is not wanted, or ""."""


@dataclass(frozen=True, repr=False)
class Series:
    """A series by its UIDs, and how many instances the archive says it has, 0 if it does not."""

    study: str
    series: str
    instances: int


@dataclass(frozen=True, repr=False)
class Instance:
    """An instance by its UIDs; ``kind`` is its SOP Class UID, or "" where nobody said."""

    uid: str
    kind: str


class Archive(Protocol):
    """What DICOMweb and DIMSE have in common. Errors of the network are `ReaderError`."""

    def find(self, level: Level, keys: Mapping[str, str]) -> Iterable[Mapping[str, str]]:
        """Answers to a question; ``keys`` are values to match, or "" for values to return."""

    def retrieve(
        self, series: Series, instances: Sequence[Instance], whole: bool, keep: Keep
    ) -> str:
        """Bring instances, and say why some may be missing; ``whole``: it is all of the series."""

    def store(self, files: Sequence[Path]) -> dict[Path, str]:
        """Send instances, and say why those that were not taken were not."""


def fetch(address: str, folder: Path, progress: Progress | None = None) -> None:
    """Bring the instances that ``address`` asks for into ``folder``, made if it is not there.

    Raises:
        SettingsError: if the address is wrong.
        ReaderError: if the archive cannot be reached or refuses, if nothing matches, or if
            instances are missing at the end. What has arrived stays.
    """
    wanted = parse(address)
    progress = progress or Silent()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_partials(folder)
    with withheld(), connected(wanted) as archive:
        everything = _find_series(archive, wanted, progress)
        progress.start("Fetching instances", sum(series.instances or 1 for series in everything))
        lost = 0
        why = ""
        for series in everything:
            missing, reason = _fetch_series(archive, series, folder, progress)
            lost, why = lost + missing, why or reason
    if lost:
        raise ReaderError(
            Fault(
                wanted.shown,
                f"{lost} instance(s) did not arrive" + (f": {why}" if why else ""),
                action="run the same 'medaug fetch' again; what has arrived is kept and not "
                "fetched twice",
            )
        )


@contextmanager
def fetched(address: str, progress: Progress | None = None) -> Iterator[Path]:
    """A folder with what ``address`` asks for, open to its owner only, and deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="medaug-") as private:
        folder = Path(private) / "pacs"
        fetch(address, folder, progress)
        yield folder


def connected(wanted: Address) -> AbstractContextManager[Archive]:
    """The archive of an address, as long as it is needed."""
    try:
        if wanted.web:
            from medaug.readers.pacs.dicomweb import open_dicomweb

            return open_dicomweb(wanted)
        from medaug.readers.pacs.dimse import open_dimse

        return open_dimse(wanted)
    except ModuleNotFoundError as error:
        raise ReaderError(
            Fault(
                wanted.shown,
                f"the package {error.name} is not installed",
                action='pip install "medaug[pacs]"',
            )
        ) from None


def _find_series(archive: Archive, wanted: Address, progress: Progress) -> list[Series]:
    """The series that pass every filter, study by study."""
    questions = list(wanted.questions())
    progress.start("Asking for studies", len(questions))
    studies: dict[str, None] = {}
    answered = 0
    filtered = [key for key in wanted.filters if key in STUDY_FILTERS]
    returned = dict.fromkeys(("StudyInstanceUID", *filtered), "")
    for question in questions:
        for answer in archive.find("STUDY", {**returned, **question}):
            answered += 1
            if wanted.accepts(answer):
                studies[_uid(answer, "StudyInstanceUID", wanted)] = None
        progress.advance()
    progress.start("Asking for series", len(studies))
    found: dict[tuple[str, str], Series] = {}
    for study in studies:
        asked = {"StudyInstanceUID": study, "NumberOfSeriesRelatedInstances": ""}
        for answer in archive.find("SERIES", {**asked, **dict.fromkeys(SERIES_FILTERS, "")}):
            answered += 1
            own = {key: answer[key] for key in SERIES_FILTERS}
            if wanted.accepts(own):
                uid = _uid(answer, "SeriesInstanceUID", wanted)
                number = answer["NumberOfSeriesRelatedInstances"]
                count = int(number) if number.isdecimal() and len(number) < 7 else 0
                found[study, uid] = Series(study, uid, count)
        progress.advance()
    if not found:
        raise _nothing(wanted, answered)
    return list(found.values())


def _fetch_series(
    archive: Archive, series: Series, folder: Path, progress: Progress
) -> tuple[int, str]:
    """(how many instances are missing afterwards, why)."""
    into = folder / _name(series.study) / _name(series.series)
    asked = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.series}
    answers = archive.find("IMAGE", {**asked, "SOPInstanceUID": "", "SOPClassUID": ""})
    listed = {one["SOPInstanceUID"]: one["SOPClassUID"] for one in answers}
    if not listed or not all(map(is_uid, listed)):
        progress.advance(series.instances or 1)
        return max(1, series.instances), "the archive does not list the instances of a series"
    missing = {uid: kind for uid, kind in listed.items() if not _path(into, uid).is_file()}
    progress.advance(len(listed) - len(missing) + (series.instances or 1) - len(listed))
    if not missing:
        return 0, ""
    doubts: list[str] = []

    def keep(uid: str, content: bytes) -> str:
        if uid not in missing or _path(into, uid).is_file():
            return "an instance that was not asked for"
        if not _is_instance(content, uid, series):
            doubts.append("what came under its UID is not the instance")
            return doubts[-1]
        with replacing(_path(into, uid)) as temporary:
            temporary.write_bytes(content)
        progress.advance()
        return ""

    wanted = [Instance(uid, kind) for uid, kind in missing.items()]
    why = archive.retrieve(series, wanted, len(missing) == len(listed), keep)
    lost = sum(not _path(into, uid).is_file() for uid in missing)
    return lost, next(iter(doubts), why) if lost else ""


def _is_instance(content: bytes, uid: str, series: Series) -> bool:
    """Whether a file is DICOM and says itself that it is this instance of this series."""
    tags = ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"]
    try:
        header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=list(tags))
        return [str(header.get(tag, "")) for tag in tags] == [uid, series.series, series.study]
    except UNREADABLE:
        return False


def _uid(answer: Mapping[str, str], key: str, wanted: Address) -> str:
    uid = answer[key]
    if not is_uid(uid):
        raise ReaderError(
            Fault(
                wanted.shown,
                f"the archive's answer has no usable {key}",
                action="ask its administrator: this attribute is required of it (PS3.4 C.6)",
            )
        )
    return uid


def _nothing(wanted: Address, answered: int) -> ReaderError:
    came = "nothing in the archive matches"
    if answered:
        came = f"none of the {answered} studies and series the archive answered pass the filters"
    return ReaderError(
        Fault(
            wanted.shown,
            came,
            action="check the filters (the archive may hold the value in another spelling, or "
            "show this user less)",
        )
    )


def _path(folder: Path, uid: str) -> Path:
    return folder / f"{_name(uid)}.dcm"


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode("ascii")).hexdigest()[:32]
