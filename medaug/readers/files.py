"""The files of a source, in an order that depends on their names alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medaug.errors import Fault, ReaderError

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


@dataclass(frozen=True)
class SourceFile:
    """One file.

    Attributes:
        path: where it lies.
        inside: its path relative to the source; patterns are searched in it.
        name: its path relative to the data root; messages and the inventory show it.
        size: bytes when it was listed; only progress is counted by it.
    """

    path: Path
    inside: str
    name: str
    size: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why one file is not used.

    ``stray`` says that the file is merely of another kind, so that another source's reason for
    the same file tells more.
    """

    name: str
    reason: str
    stray: bool = False


def source_folder(root: Path, path: str) -> Path:
    """The folder of a source.

    Raises:
        ReaderError: if there is no such folder.
    """
    folder = root / path
    shown = root.name if path == "." else path
    if folder.is_file():
        raise ReaderError(Fault(shown, "a file", "a folder", "give the folder it lies in"))
    if not folder.is_dir():
        raise ReaderError(Fault(shown, "no such folder", action="check the path to the data"))
    return folder


def list_files(folder: Path, root: Path) -> tuple[list[SourceFile], list[Refusal]]:
    """Every file below ``folder``, links followed, sorted by relative path.

    Returns:
        the files, and the folders that were not looked into: those that may not be read, and
        those of earlier runs (they hold a ``run.json``), because a synthetic patch must not be
        read back as a patient's.
    """
    refused: list[Refusal] = []

    def walk(at: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, int]]:
        real = os.path.realpath(at)
        if real in above:
            return  # a link to a folder that holds it
        if (at / "run.json").is_file():
            refused.append(Refusal(_shown(at, root), "the folder of a medaug run"))
            return
        try:
            with os.scandir(at) as entries:
                listed = list(entries)
        except PermissionError:
            refused.append(Refusal(_shown(at, root), "a folder that may not be read"))
            return
        for entry in listed:
            if entry.is_dir():
                yield from walk(Path(entry.path), (*above, real))
            elif entry.is_file():
                yield Path(entry.path), entry.stat().st_size
            elif entry.is_symlink():
                yield Path(entry.path), 0  # it leads nowhere; who opens it says so

    files = (
        SourceFile(path, _shown(path, folder), _shown(path, root), size)
        for path, size in walk(folder, ())
    )
    return sorted(files, key=lambda file: file.inside), refused


def _shown(path: Path, start: Path) -> str:
    """Relative path with ``/``; bytes that are no UTF-8 are replaced, so that JSON can hold it."""
    return os.fsencode(path.relative_to(start).as_posix()).decode("utf-8", "replace")


def is_archive(name: str) -> bool:
    """Whether the name is that of a packed archive (a ``.nii.gz`` is not)."""
    return name.lower().endswith(ARCHIVES)


def stray(file: SourceFile, otherwise: str) -> Refusal:
    """The refusal of a file that is not of the kind looked for."""
    reason = "an archive is not read: unpack it" if is_archive(file.name) else otherwise
    return Refusal(file.name, reason, stray=True)


def search(pattern: re.Pattern[str], file: SourceFile) -> dict[str, str] | None:
    """The named groups that took part, or None where the pattern does not match."""
    found = pattern.search(file.inside)
    if found is None:
        return None
    return {name: text for name, text in found.groupdict().items() if text is not None}
