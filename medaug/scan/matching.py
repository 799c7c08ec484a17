"""Many needles, one stream, whatever the pieces it comes in.

The first three bytes at every place are looked up in a table of 2²⁴ marks; only where a needle
could begin is it compared. Time hardly grows with the number of needles, and memory not with the
length of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from medaug.scan.needles import Needle

_WHITE = b" \t\r\n"
_PREFIX = 3


class _Table:
    """Needles that are sought in the same view of a stream."""

    def __init__(self, needles: Iterable[Needle], *, folded: bool, squeezed: bool) -> None:
        self._folded, self._squeezed = folded, squeezed
        self._by_prefix: dict[bytes, list[Needle]] = {}
        self._marks: NDArray[np.bool_] = np.zeros(1 << 24, bool)
        self.longest = 0
        for needle in needles:
            prefix = needle.content[:_PREFIX]
            self._by_prefix.setdefault(prefix, []).append(needle)
            self._marks[int.from_bytes(prefix, "big")] = True
            self.longest = max(self.longest, len(needle.content))

    def view(self, piece: bytes) -> bytes:
        """A piece of the stream as these needles see it."""
        if self._squeezed:
            piece = piece.translate(None, _WHITE)
        return piece.lower() if self._folded else piece

    def found(self, seen: bytes) -> set[Needle]:
        """The needles in some bytes."""
        if len(seen) < _PREFIX:
            return set()
        at = np.frombuffer(seen, np.uint8).astype(np.uint32)
        starts = np.flatnonzero(self._marks[at[:-2] << 16 | at[1:-1] << 8 | at[2:]])
        return {
            needle
            for start in starts.tolist()
            for needle in self._by_prefix[seen[start : start + _PREFIX]]
            if seen.startswith(needle.content, start)
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
        found: set[Needle] = set()
        for piece in pieces:
            for at, table in enumerate(self._tables):
                seen = tails[at] + table.view(piece)
                found |= table.found(seen)
                # A needle may go on in the next piece.
                tails[at] = seen[-table.longest :]
        return found
