"""All sources of a study as one: an inventory first, then the cases one at a time.

`scan` opens every case once, with its masks, to know that it can be used and to count. It keeps
the counts and lets the masks go; `Source.cases` opens them again, so that memory does not grow
with the cohort.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from medaug.domain import Case
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress, Silent
from medaug.readers.dicom import find_dicom
from medaug.readers.files import (
    Refusal,
    SourceFile,
    is_archive,
    list_files,
    source_folder,
    stray,
)
from medaug.readers.found import CaseFiles, Found
from medaug.readers.guess import guess_sources
from medaug.readers.images import find_images
from medaug.readers.inventory import CaseEntry, Inventory, RefusedEntry, group_refusals
from medaug.readers.nifti import find_nifti
from medaug.readers.settings import DicomSource, NiftiSource, SourceSettings

__all__ = ["Source", "guess_sources", "scan"]

_FAULTS_SHOWN = 50

Listed = tuple[SourceSettings, Path, list[SourceFile]]

_NO_PATIENTS = (
    "{} pictures carry no patient identity: each counts as a patient of its own, and no statement "
    "about patients can be made"
)


class Source:
    """Cases that can be used, and what was found around them."""

    def __init__(self, inventory: Inventory, files: Sequence[CaseFiles]) -> None:
        self.inventory = inventory
        self._files = files

    @property
    def patients_known(self) -> bool:
        """False as soon as one source does not tell patients apart."""
        return self.inventory.patients_known

    def __len__(self) -> int:
        return len(self._files)

    def cases(self) -> Iterator[Case]:
        """Every case of the inventory, in its order; pixels stay in the files.

        Raises:
            ReaderError: if a file has changed since `scan` and cannot be used any more.
        """
        for files in self._files:
            yield _reopen(files)


def _reopen(files: CaseFiles) -> Case:
    opened = files.open()
    if opened.case is None:
        reasons = opened.refused[:_FAULTS_SHOWN]
        raise ReaderError(
            *(Fault(one.name, f"since it was inspected: {one.reason}") for one in reasons)
        )
    return opened.case


def scan(
    sources: Sequence[SourceSettings],
    root: Path,
    site_key: bytes,
    progress: Progress | None = None,
) -> Source:
    """Find every case in the sources, and the reason for every file that is not used.

    Args:
        sources: what lies where; each `path` is relative to ``root``.
        root: the data root.
        site_key: 32 bytes, see `identity.load_site_key`.
        progress: told about headers first, then about masks.

    Raises:
        ReaderError: if nothing at all can be used: no such folder, an empty folder, archives
            only, no lesion anywhere; or if a label table is wrong. It lists every fault.
    """
    progress = progress or Silent()
    if not sources:
        raise _unknown_kinds(root)
    listed, refusals, faults = _list_sources(sources, root)
    found: list[Found] = []
    for settings, folder, files in listed:
        progress.start("Reading headers", len(files))
        try:
            found.append(_find(settings, folder, files, site_key, progress))
        except ReaderError as error:
            faults += error.faults
    if faults:
        raise ReaderError(*faults)
    candidates = sorted((case for one in found for case in one.cases), key=lambda case: case.name)
    refusals += [refusal for one in found for refusal in one.refused]
    oddities = sum((one.oddities for one in found), Counter[str]())
    used = {name for one in found for name in one.used}

    progress.start("Reading masks", len(candidates))
    usable: list[CaseFiles] = []
    entries: list[CaseEntry] = []
    for case_files in candidates:
        opened = case_files.open()
        progress.advance()
        refusals += opened.refused
        oddities.update(opened.oddities)
        if opened.case is not None:
            contributing = set(case_files.files) - {refusal.name for refusal in opened.refused}
            used |= contributing
            usable.append(case_files)
            entries.append(CaseEntry.of(opened.case, case_files.kind, len(contributing)))

    seen = {file.name for _, _, files in listed for file in files}
    refused = group_refusals(_one_reason_each(refusals, used))
    if not usable:
        raise _nothing(root, seen, refused)
    unknown = sum(not files.patient_known for files in usable)
    notes = [f"{count} file(s) {what}" for what, count in sorted(oddities.items())]
    if unknown:
        notes.insert(0, _NO_PATIENTS.format(unknown))
    inventory = Inventory(
        cases=tuple(entries),
        refused=refused,
        notes=tuple(notes),
        patients_known=not unknown,
        files_seen=len(seen),
        files_used=len(used),
    )
    return Source(inventory, usable)


def _list_sources(
    sources: Sequence[SourceSettings], root: Path
) -> tuple[list[Listed], list[Refusal], list[Fault]]:
    listed: list[Listed] = []
    refused: list[Refusal] = []
    faults: list[Fault] = []
    for settings in sources:
        try:
            folder = source_folder(root, settings.path)
            files, unseen = list_files(folder, root)
            listed.append((settings, folder, files))
            refused += unseen
        except ReaderError as error:
            faults += error.faults
    return listed, refused, faults


def _find(
    settings: SourceSettings,
    folder: Path,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    if isinstance(settings, DicomSource):
        return find_dicom(settings, folder, files, site_key, progress)
    if isinstance(settings, NiftiSource):
        return find_nifti(settings, folder, files, site_key, progress)
    return find_images(settings, folder, files, site_key, progress)


def _one_reason_each(refusals: Sequence[Refusal], used: set[str]) -> list[Refusal]:
    """One reason per file that no source uses; a stray's reason gives way to any other."""
    reasons: dict[str, Refusal] = {}
    for refusal in sorted(refusals, key=lambda refusal: refusal.stray):
        if refusal.name not in used:
            reasons.setdefault(refusal.name, refusal)
    return list(reasons.values())


def _unknown_kinds(root: Path) -> ReaderError:
    files, _ = list_files(source_folder(root, "."), root)
    strays = [stray(file, "neither DICOM nor NIfTI nor a picture") for file in files]
    return _nothing(root, {file.name for file in files}, group_refusals(strays))


def _nothing(root: Path, seen: set[str], refused: Sequence[RefusedEntry]) -> ReaderError:
    if not seen:
        return ReaderError(
            Fault(root.name, "an empty folder", "DICOM, NIfTI or picture files", "check the path")
        )
    archives = sorted(name for name in seen if is_archive(name))
    if archives and all(is_archive(name) or name.lower().endswith(".txt") for name in seen):
        names = ", ".join(archives[:5]) + (" and more" if len(archives) > 5 else "")
        return ReaderError(
            Fault(root.name, f"only archives: {names}", "the files in them", "unpack them first")
        )
    faults = [
        Fault(entry.path, entry.reason + (f" ({entry.files} files)" if entry.files > 1 else ""))
        for entry in refused
    ]
    more = len(faults) - _FAULTS_SHOWN
    if more > 0:
        faults[_FAULTS_SHOWN:] = [Fault("", f"and {more} more reasons")]
    head = Fault(
        root.name,
        f"no lesion can be used; {len(seen)} files were looked at",
        action="see the reasons below, one per file or folder",
    )
    return ReaderError(head, *faults)
