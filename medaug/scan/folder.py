"""A folder, searched whole: names, contents, and what is packed inside."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from medaug.errors import Fault, ReaderError
from medaug.progress import Progress, Silent
from medaug.scan.matching import Matcher
from medaug.scan.needles import needles_of
from medaug.scan.unpacking import UNREADABLE, ClosedError, parts_of, pieces_of

_IN_MEMORY = 16 << 20


@dataclass(frozen=True)
class Limits:
    """What is unpacked at most of one file, so that a bomb is refused.

    Attributes:
        unpacked_mb: over all that it holds, at any depth.
        depth: packings inside one another.
        parts: members, chunks, attributes.
    """

    unpacked_mb: int = 4096
    depth: int = 6
    parts: int = 1_000_000


@dataclass(frozen=True)
class Finding:
    """A marker was found.

    Attributes:
        file: relative to the folder.
        place: "name", "content", or the way to a part inside: ``gzip``, ``a.zip > x.txt``.
        form: how it was written: text, UTF-16, base64, hex, MD5 hex…
        marker: its number in the list, from 1.
    """

    file: str
    place: str
    form: str
    marker: int


@dataclass(frozen=True)
class Unsearched:
    """Something that could not be searched, and why."""

    file: str
    place: str
    reason: str


@dataclass
class Found:
    """The end of a search."""

    markers: int
    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    unsearched: list[Unsearched] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """JSON; markers by number, never by name."""
        return {"clean": not self.findings and not self.unsearched, **asdict(self)}


class _Spent(Exception):  # noqa: N818 - it ends a search, nothing failed
    """A limit is reached."""


class _Search:
    """One file and all that it holds."""

    def __init__(self, matcher: Matcher, limits: Limits, found: Found, file: str) -> None:
        self._matcher, self._limits, self._found, self._file = matcher, limits, found, file
        self._bytes = self._parts = 0

    def look(self, content: BinaryIO, way: tuple[str, ...] = ()) -> None:
        content.seek(0)
        place = " > ".join(way)
        self.match(pieces_of(content), place or "content")
        try:
            for name, pieces in parts_of(content):
                self._parts += 1
                if self._parts > self._limits.parts:
                    raise _Spent(f"holds more than {self._limits.parts} parts")
                if len(way) >= self._limits.depth:
                    raise _Spent(f"packed more than {self._limits.depth} times")
                inner = (*way, name)
                self.match(iter([name.encode("utf-8", "replace")]), " > ".join(inner))
                with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as unpacked:
                    failure = self._copy(pieces, unpacked)
                    self.look(cast("BinaryIO", unpacked), inner)
                if failure:
                    raise failure
        except ClosedError as error:
            self.leave(place, str(error))
        except UNREADABLE as error:
            self.leave(place, f"damaged, or not what it seems: {type(error).__name__}")

    def match(self, pieces: Iterator[bytes], place: str) -> None:
        self._found.findings += {
            Finding(self._file, place, needle.form, needle.marker)
            for needle in self._matcher.found(pieces)
        }

    def leave(self, place: str, reason: str) -> None:
        self._found.unsearched.append(Unsearched(self._file, place or "content", reason))

    def _copy(self, pieces: Iterator[bytes], target: IO[bytes]) -> Exception | None:
        """Unpack; what comes before a fault or a limit is searched before it is told of."""
        try:
            for piece in pieces:
                self._bytes += len(piece)
                if self._bytes > self._limits.unpacked_mb << 20:
                    return _Spent(f"unpacks to more than {self._limits.unpacked_mb} MB")
                target.write(piece)
        except UNREADABLE as error:
            return error
        return None


def scan(
    folder: Path,
    markers: list[str],
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Found:
    """Search a folder, or one file, for markers in every form of `needles_of`.

    Args:
        folder: what is searched; links are not followed, and reported.
        markers: names and numbers, see `needles.read_markers`.
        limits: of unpacking.
        progress: told of every byte of the files.

    Raises:
        ReaderError: if there is nothing at ``folder``.
    """
    if not folder.exists():
        raise ReaderError(Fault(str(folder), "no such folder", "a folder or a file"))
    matcher, found, ticker = Matcher(needles_of(markers)), Found(len(markers)), progress or Silent()
    paths = sorted(_everything(folder))
    sizes = {path: path.lstat().st_size for path in paths if path.is_file()}
    ticker.start("searching", sum(sizes.values()), "B")
    for path in paths:
        name = path.relative_to(folder).as_posix() if path != folder else path.name
        search = _Search(matcher, limits or Limits(), found, name)
        search.match(iter([os.fsencode(name)]), "name")
        if path.is_symlink():
            search.match(iter([os.fsencode(path.readlink())]), "link")
            search.leave("link", "a link is not followed")
        elif path.is_file():
            found.files += 1
            found.bytes += sizes[path]
            try:
                with path.open("rb") as content:
                    search.look(content)
            except _Spent as spent:
                search.leave("content", f"{spent}: what is inside was not searched to the end")
            except OSError as error:
                search.leave("content", f"cannot be read: {error.strerror}")
            ticker.advance(sizes[path])
        elif not path.is_dir():
            search.leave("content", "neither a file nor a folder")
    unique = set(found.findings)
    found.findings = sorted(unique, key=lambda at: (at.file, at.place, at.marker, at.form))
    return found


def _everything(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        yield folder
        return

    def refuse(error: OSError) -> None:
        raise ReaderError(Fault(str(error.filename), f"cannot be read: {error.strerror}"))

    for root, folders, files in os.walk(folder, onerror=refuse):
        for name in (*folders, *files):
            yield Path(root) / name
