"""Voxels that lie in a file one after another, plain or packed, and are read by region.

NIfTI, NRRD, MetaImage and NumPy files end in the same thing: numbers of one type in one order,
from some byte on, perhaps packed with deflate. Their headers are read elsewhere; here is the one
place that believes no header: before anything is allocated the file is asked whether it can hold
what its header claims, and a packed file grows in memory only as far as its content goes.
"""

from __future__ import annotations

import bz2
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Region
from medaug.errors import Fault, ReaderError
from medaug.readers.oddities import UNREADABLE

_BLOCK = 1 << 20
_MOST_DEFLATED = 1032
"""Deflate packs at most 1032 bytes into one (zlib's technical details)."""
_SPARE = 1 << 24
"""How far a packed file is read on behind its last voxel to come to its checksum."""

Packing = Literal["", "deflate", "bzip2", "zip"]


@dataclass(frozen=True)
class RawVoxels:
    """Where the voxels of one volume lie.

    Attributes:
        path: the file.
        name: what messages call it.
        shape: (i, j, k).
        dtype: of a stored value, with its byte order.
        begins: byte of the file where the content begins; packed content is unpacked from there.
        offset: byte of the content where the first voxel of this volume lies.
        content: bytes of the content that the header claims, all volumes together.
        packing: how the content is packed; ``deflate`` is gzip or zlib.
        member: name inside a zip file.
        slowest: the array axis along which neighbours lie furthest apart: 2 where i runs
            fastest, 0 where k does.
        lanes: values stored for every voxel, side by side; one of them is read.
        lane: which.
        slope: a value is ``slope * stored + intercept``.
        intercept: in the unit of the value.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    begins: int = 0
    offset: int = 0
    content: int = 0
    packing: Packing = ""
    member: str = ""
    slowest: Literal[0, 2] = 2
    lanes: int = 1
    lane: int = 0
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def packed(self) -> bool:
        """Whether reading any voxel means unpacking."""
        return self.packing != ""

    @property
    def _plane(self) -> int:
        others = [size for axis, size in enumerate(self.shape) if axis != self.slowest]
        return self.lanes * others[0] * others[1] * self.dtype.itemsize

    @property
    def _size(self) -> int:
        return self._plane * self.shape[self.slowest]

    def check(self) -> None:
        """Make sure that every voxel is there, in constant memory.

        A gzip file ends with the length of its content modulo 2**32 [1]_. Where that is the
        expected one nothing is unpacked; otherwise the content is counted.

        .. [1] RFC 1952 section 2.3.1

        Raises:
            ReaderError: if the file ends early.
        """
        needed = max(self.offset + self._size, self.content)
        try:
            complete = self._holds(needed)
        except UNREADABLE:
            complete = False
        if not complete:
            raise ReaderError(
                Fault(self.name, "a damaged file: it ends before its last voxel",
                      action="copy it again from its source")
            )  # fmt: skip

    def _holds(self, needed: int) -> bool:
        there = self.path.stat().st_size - self.begins
        if self.packing == "":
            return there >= needed
        if self.packing == "zip":
            try:
                with zipfile.ZipFile(self.path) as archive:
                    member = archive.getinfo(self.member)
            except zipfile.BadZipFile:
                return False
            there = max(member.compress_size, 1)
            return member.file_size >= needed and there * _MOST_DEFLATED >= needed
        if self.packing == "deflate":
            if there * _MOST_DEFLATED < needed:
                return False
            if needed < 2**32 and self.path.suffix == ".gz" and self._stated() == needed:
                return True
        counted = 0
        for block in self._blocks():
            counted += len(block)
            if counted >= needed:
                return True
        return False

    def _stated(self) -> int:
        with self.path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return int.from_bytes(stream.read(4), "little")

    def read(self, region: Region) -> NDArray[Any]:
        """Stored values of a region of a plain file; only its planes are read.

        Raises:
            OSError: or another of `UNREADABLE`, if the file is damaged.
        """
        part = region[self.slowest]
        count = part.stop - part.start
        with self.path.open("rb") as stream:
            stream.seek(self.begins + self.offset + part.start * self._plane)
            data = stream.read(count * self._plane)
        planes = self._shaped(data, count)
        inner = [slice(0, count) if axis == self.slowest else region[axis] for axis in range(3)]
        return planes[tuple(inner)]

    def unpack(self) -> NDArray[Any]:
        """Every stored value (i, j, k); a packed file is read to its end, where its checksum is.

        Raises:
            OSError: or another of `UNREADABLE`, if the file is damaged.
        """
        if not self.packed:
            i, j, k = self.shape
            return self.read((slice(0, i), slice(0, j), slice(0, k)))
        end = self.offset + self._size
        kept = bytearray()
        at = 0
        for block in self._blocks():
            if at < end and at + len(block) > self.offset:
                kept += block[max(self.offset - at, 0) : end - at]
            at += len(block)
            if at > max(end, self.content) + _SPARE:
                break
        return self._shaped(kept, self.shape[self.slowest])

    def _shaped(self, data: bytes | bytearray, count: int) -> NDArray[Any]:
        if len(data) != count * self._plane:
            raise EOFError
        sizes = [count if axis == self.slowest else n for axis, n in enumerate(self.shape)]
        values = np.frombuffer(data, self.dtype)
        if self.slowest == 0:
            return values.reshape(sizes)
        lanes: NDArray[Any] = values.reshape((self.lanes, *sizes), order="F")
        return np.asarray(lanes[self.lane])

    def _blocks(self) -> Iterator[bytes]:
        """The unpacked content, in pieces."""
        if self.packing == "zip":
            try:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield from iter(lambda: stream.read(_BLOCK), b"")
            except zipfile.BadZipFile:
                raise EOFError from None
            return
        with self.path.open("rb") as file:
            file.seek(self.begins)
            if self.packing == "bzip2":
                with bz2.BZ2File(file) as stream:
                    yield from iter(lambda: stream.read(_BLOCK), b"")
            else:
                yield from _inflated(iter(lambda: file.read(_BLOCK), b""))


def _inflated(packed: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack gzip (of any number of members) or zlib; each ends with a checksum."""
    inflate = zlib.decompressobj(wbits=47)  # 32: tell gzip and zlib apart; 15: any window
    for block in packed:
        rest = block
        while rest:
            if inflate.eof:
                rest = rest.lstrip(b"\0")
                if not rest.startswith(b"\x1f"):
                    return  # what follows is no further member
                inflate = zlib.decompressobj(wbits=47)
            yield inflate.decompress(rest, _BLOCK)
            rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    while not inflate.eof:
        more = inflate.decompress(inflate.unconsumed_tail, _BLOCK)
        if not more:
            raise EOFError
        yield more
