"""Many needles, one stream, whatever the pieces it comes in.

The first eight bytes at every place, or three for short needles, are looked up in a table of 2²²
marks; only where a needle could begin is it compared. Time hardly grows with the number of needles,
and memory not with the length of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.scan.needles import Needle

_WHITE = b" \t\r\n"
_SHORT, _LONG = 3, 8  # bytes looked up
_BITS = 22
_SHIFT = np.uint32(32 - _BITS)
_BESIDE = 64  # bytes kept on either side of a number: leading zeros, and the digit before them


class _Beginnings:
    """Needles by their first so many bytes."""

    def __init__(self, needles: Iterable[Needle], length: int) -> None:
        self._length = length
        self._needles: dict[bytes, list[Needle]] = {}
        for needle in needles:
            self._needles.setdefault(needle.content[:length], []).append(needle)
        self._marks: NDArray[np.bool_] = np.zeros(1 << _BITS, bool)
        for beginning in self._needles:
            self._marks[self._hashes(beginning)] = True

    def at(self, seen: bytes) -> Iterator[tuple[int, Needle]]:
        """(place, needle) wherever one begins."""
        if not self._needles or len(seen) < self._length:
            return
        for start in np.flatnonzero(self._marks[self._hashes(seen)]).tolist():
            for needle in self._needles.get(seen[start : start + self._length], ()):
                if seen.startswith(needle.content, start):
                    yield start, needle

    def _hashes(self, seen: bytes) -> NDArray[np.integer[Any]]:
        """`_BITS` bits for every place where so many bytes begin (multiplicative hashing)."""
        at = np.frombuffer(seen, np.uint8).astype(np.uint32)
        three = at[:-2] << 16 | at[1:-1] << 8 | at[2:]
        if self._length == _SHORT:
            return (three * np.uint32(2654435761)) >> _SHIFT
        mixed = (three[:-5] * np.uint32(2654435761)) ^ (three[3:-2] * np.uint32(2246822519))
        mixed ^= three[5:] * np.uint32(3266489917)
        return mixed >> _SHIFT


class _Table:
    """Needles that are sought in the same view of a stream."""

    def __init__(self, needles: Iterable[Needle], *, folded: bool, squeezed: bool) -> None:
        self._folded, self._squeezed = folded, squeezed
        every = list(needles)
        self._beginnings = (
            _Beginnings((n for n in every if len(n.content) < _LONG), _SHORT),
            _Beginnings((n for n in every if len(n.content) >= _LONG), _LONG),
        )
        self.longest = max((len(needle.content) for needle in every), default=0)

    def view(self, piece: bytes) -> bytes:
        """A piece of the stream as these needles see it."""
        if self._squeezed:
            piece = piece.translate(None, _WHITE)
        return piece.lower() if self._folded else piece

    def found(self, seen: bytes, *, first: bool, last: bool) -> set[Needle]:
        """The needles in some bytes, which hold the beginning or the end of a stream, or neither.

        Where something may not stand beside a needle, what stands there must be among the bytes.
        """
        return {
            needle
            for beginnings in self._beginnings
            for start, needle in beginnings.at(seen)
            if (first or start >= needle.alone)
            and (last or start + len(needle.content) + needle.alone <= len(seen))
            and needle.stands(seen, start)
        }


class Matcher:
    """Finds needles in streams."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        every = tuple(needles)
        self._tables = [
            _Table(
                (n for n in every if n.folded == folded and (n.squeezed or not squeezed)),
                folded=folded,
                squeezed=squeezed,
            )
            for folded in (True, False)
            for squeezed in (False, True)
        ]

    def found(self, pieces: Iterable[bytes]) -> set[Needle]:
        """The needles in a stream that comes in pieces."""
        tails = [b""] * len(self._tables)
        whole = [True] * len(self._tables)
        found: set[Needle] = set()
        for piece, last in _with_end(pieces):
            for at, table in enumerate(self._tables):
                seen = tails[at] + table.view(piece)
                found |= table.found(seen, first=whole[at], last=last)
                # A needle may go on in the next piece, and so may the digits beside it.
                tails[at] = seen[-(table.longest + _BESIDE) :]
                whole[at] &= len(tails[at]) == len(seen)
        return found


def _with_end(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each piece, and whether it is the last."""
    held = None
    for piece in pieces:
        if held is not None:
            yield held, False
        held = piece
    if held is not None:
        yield held, True
