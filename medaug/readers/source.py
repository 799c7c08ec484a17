"""All sources of a study as one: an inventory first, then the cases one at a time.

`scan` opens every case once, with its masks, to know that it can be used and to count. It keeps
the counts and lets the masks go; `Source.cases` opens them again, so that memory does not grow
with the cohort. Both can be spread over processes: what travels there is a case's headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from medaug.domain import Case
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress, Silent
from medaug.readers.dicom.cases import find_dicom
from medaug.readers.examine import examine, not_examined
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
from medaug.readers.inventory import CaseEntry, Inventory, RefusedEntry, group_refusals
from medaug.readers.pictures.cases import find_images
from medaug.readers.settings import DicomSource, MsdSource, SourceSettings, VolumesSource
from medaug.readers.stock import candidates_of, take_stock
from medaug.readers.volumes.cases import find_volumes
from medaug.readers.volumes.msd import find_msd
from medaug.spread import Result, Spread, in_turn

__all__ = ["Source", "guess_sources", "scan", "survey"]

_FAULTS_SHOWN = 50

Listed = tuple[SourceSettings, Path, list[SourceFile]]


class Source:
    """Cases that can be used, and what was found around them."""

    def __init__(
        self, inventory: Inventory, files: Sequence[CaseFiles], sizes: Mapping[str, int]
    ) -> None:
        self.inventory = inventory
        self._files = files
        self._sizes = sizes

    @property
    def names(self) -> set[str]:
        """Every file that was seen, relative to the data root."""
        return set(self._sizes)

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

    def each(
        self,
        work: Callable[[Case], Result],
        spread: Spread = in_turn,
        progress: Progress | None = None,
    ) -> Iterator[tuple[CaseEntry, Result | Refusal]]:
        """What ``work`` makes of every case, in the order of the inventory.

        A case that cannot be opened any more, or whose worker dies over it, yields the reason;
        the others go on.

        Args:
            work: can be pickled where ``spread`` leads to other processes.
            spread: where the work is done.
            progress: advanced by the bytes of each case's files.
        """
        progress = progress or Silent()
        results = spread(partial(_on_case, work), self._files, _lost_case)
        for entry, files, result in zip(self.inventory.cases, self._files, results, strict=True):
            progress.advance(_bytes_of(files, self._sizes))
            yield entry, result

    @property
    def size(self) -> int:
        """Bytes of the files of all cases."""
        return sum(_bytes_of(files, self._sizes) for files in self._files)


_SINCE = "since it was inspected: "


def _reopen(files: CaseFiles) -> Case:
    opened = files.open()
    if opened.case is None:
        reasons = opened.refused[:_FAULTS_SHOWN]
        raise ReaderError(*(Fault(one.name, _SINCE + one.reason) for one in reasons))
    return opened.case


def _on_case(work: Callable[[Case], Result], files: CaseFiles) -> Result | Refusal:
    opened = files.open()
    if opened.case is None:
        first = opened.refused[0]
        return Refusal(first.name, _SINCE + first.reason)
    return work(opened.case)


def _lost_case(files: CaseFiles, reason: str) -> Refusal:
    return Refusal(files.name, reason)


def _bytes_of(files: CaseFiles, sizes: Mapping[str, int]) -> int:
    return sum(sizes[name] for name in files.files)


def scan(
    sources: Sequence[SourceSettings],
    root: Path,
    site_key: bytes,
    progress: Progress | None = None,
    spread: Spread = in_turn,
) -> Source:
    """Find every case in the sources, and the reason for every file that is not used.

    Args:
        sources: what lies where; each `path` is relative to ``root``.
        root: the data root.
        site_key: 32 bytes, see `identity.load_site_key`.
        progress: told about headers first, then about masks; counts the bytes of their files.
        spread: where the masks are read.

    Raises:
        ReaderError: as `survey` does, and if no lesion can be used; it lists every reason.
    """
    source = survey(sources, root, site_key, progress, spread)
    if not len(source):
        raise _nothing(root, source.names, source.inventory.refused)
    return source


def survey(
    sources: Sequence[SourceSettings],
    root: Path,
    site_key: bytes,
    progress: Progress | None = None,
    spread: Spread = in_turn,
    measure: bool = False,
) -> Source:
    """As `scan`, to look at what is there: a source without any case is an answer too.

    Args:
        sources: as in `scan`.
        root: as in `scan`.
        site_key: as in `scan`.
        progress: as in `scan`.
        spread: as in `scan`.
        measure: decode the voxels of every lesion, to know their mean.

    Raises:
        ReaderError: if there is nothing to look at: no such folder, an empty folder, no file of
            a known kind, archives only; or if a table is wrong. It lists every fault.
    """
    progress = progress or Silent()
    if not sources:
        raise _unknown_kinds(root)
    listed, refusals, faults = _list_sources(sources, root)
    found: list[tuple[SourceSettings, Found]] = []
    for settings, folder, files in listed:
        progress.start("Reading headers", sum(file.size for file in files), "B")
        try:
            found.append((settings, _find(settings, folder, files, site_key, progress)))
        except ReaderError as error:
            faults += error.faults
    if faults:
        raise ReaderError(*faults)
    sizes = {file.name: file.size for _, _, files in listed for file in files}
    if not sizes or all(map(is_archive, sizes)):
        raise _nothing(root, set(sizes), ())
    candidates = candidates_of(found)
    progress.start("Reading masks", sum(_bytes_of(one.files, sizes) for one in candidates), "B")
    looks = spread(
        partial(examine, measure=measure), [one.files for one in candidates], not_examined
    )
    examined = []
    for candidate, look in zip(candidates, looks, strict=True):
        progress.advance(_bytes_of(candidate.files, sizes))
        examined.append(look)
    usable, inventory = take_stock(found, candidates, examined, refusals, sizes)
    return Source(inventory, usable, sizes)


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
    if isinstance(settings, VolumesSource):
        return find_volumes(settings, folder, files, site_key, progress)
    if isinstance(settings, MsdSource):
        return find_msd(settings, files, site_key, progress)
    return find_images(settings, folder, files, site_key, progress)


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
