"""The bytes of one DICOM file: where its data set begins, how it is written, where its pixels lie.

Files without the 128 bytes of preamble, or without the whole File Meta Information, are read
where the first element can be nothing but DICOM. A deflated data set is unpacked only as far as
somebody reads, and never beyond a bound: a few bytes of it can stand for gigabytes.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from pydicom import Dataset, uid
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

DEFLATED_HEADER = 1 << 22
"""Most bytes that the header of a deflated file may unpack to."""

UNDEFINED = 0xFFFFFFFF

_PIXELS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN", b"SV", b"UV")
_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False, repr=False)
class Written:
    """A data set up to its pixels.

    Attributes:
        syntax: the transfer syntax; "" where it is not known.
        dataset: the attributes asked for.
        keyword: of the element that holds the pixels; "" if there is none.
        vr: of that element; "" in an implicit data set.
        at: where its value begins, counted in the unpacked data set if that is deflated.
        length: of its value, as the file says; `UNDEFINED` for compressed pixels.
        left: bytes from `at` to the end of the file; for a deflated one, of deflated data.
        deflated_at: where deflated data begin in the file, or None.
    """

    syntax: uid.UID
    dataset: Dataset
    keyword: str
    vr: str
    at: int
    length: int
    left: int
    deflated_at: int | None


def starts_like_dicom(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes may hold a DICOM data set."""
    return head[128:132] == b"DICM" or _first_element(head) is not None


def open_data_set(stream: BinaryIO, tags: list[BaseTag | int]) -> Written | None:
    """Read the attributes ``tags`` up to the pixels; None if the file is no DICOM."""
    head = stream.read(132)
    part10 = head[128:] == b"DICM"
    if not part10 and _first_element(head) is None:
        return None
    stream.seek(132 if part10 else 0)
    meta = read_dataset(stream, False, True, stop_when=_after_meta)
    syntax = meta.get("TransferSyntaxUID") or _guessed(stream)
    if not syntax:
        return None
    size = os.fstat(stream.fileno()).st_size
    source: BinaryIO = stream
    deflated_at = None
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        deflated_at = stream.tell()
        source = cast(BinaryIO, _Inflated(stream, DEFLATED_HEADER))
    implicit, little = syntax == uid.ImplicitVRLittleEndian, syntax != uid.ExplicitVRBigEndian
    dataset = read_dataset(
        source,
        implicit,
        little,
        stop_when=_at_pixels,
        specific_tags=tags,
    )
    if "MediaStorageSOPClassUID" in meta and "SOPClassUID" not in dataset:
        dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    keyword, vr, length = _pixel_element(source, bool(dataset.original_encoding[0]), little)
    at = source.tell()
    left = size - (at if deflated_at is None else deflated_at)
    return Written(uid.UID(syntax), dataset, keyword, vr, at, length, left, deflated_at)


def _after_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int.__rshift__(tag, 16) != 2


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int.__ge__(tag, 0x7FE00008)  # a BaseTag compares ten times slower


def _pixel_element(source: BinaryIO, implicit: bool, little: bool) -> tuple[str, str, int]:
    """(keyword, VR, length) of the element that `source` stands before; it then stands behind."""
    order = "<" if little else ">"
    head = source.read(8)
    if len(head) < 8:
        return "", "", 0
    group, element = struct.unpack(f"{order}HH", head[:4])
    keyword = _PIXELS.get(group << 16 | element, "")
    if implicit:
        return keyword, "", int(struct.unpack(f"{order}L", head[4:])[0])
    vr = head[4:6]
    if vr not in _LONG:
        return keyword, vr.decode("latin-1"), int(struct.unpack(f"{order}H", head[6:])[0])
    long = source.read(4)
    length = int(struct.unpack(f"{order}L", long)[0]) if len(long) == 4 else 0
    return keyword, vr.decode("latin-1"), length


def _first_element(head: bytes) -> str | None:
    """The transfer syntax that a first element of group 0002 or 0008 shows, or None."""
    if len(head) < 8:
        return None
    named = head[4:6].isalpha() and head[4:6].isupper()
    if head[1] == 0 and head[0] in (2, 8) and head[3] == 0:
        if named:
            return str(uid.ExplicitVRLittleEndian)
        length = int.from_bytes(head[4:8], "little")
        return str(uid.ImplicitVRLittleEndian) if length < 256 else None
    if head[0] == 0 and head[1] == 8 and head[2] == 0 and named:
        return str(uid.ExplicitVRBigEndian)
    return None


def _guessed(stream: BinaryIO) -> str:
    """The transfer syntax of a data set whose meta information does not say."""
    at = stream.tell()
    head = stream.read(8)
    stream.seek(at)
    return _first_element(head) or ""


class _Inflated(io.RawIOBase):
    """Deflated data as a stream that unpacks what is read of it, at most ``most`` bytes."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._chunks = inflate(stream)
        self._unpacked = bytearray()
        self._most = most
        self._at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        end = self._most if size is None or size < 0 else self._at + size
        while len(self._unpacked) < end:
            if len(self._unpacked) > self._most:
                raise EOFError("a header of more than it may unpack to")
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._unpacked += chunk
        found = bytes(self._unpacked[self._at : end])
        self._at += len(found)
        return found


def inflate(stream: BinaryIO) -> Iterator[bytes]:
    """Unpack from where ``stream`` stands, in pieces of at most 64 KiB."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = stream.read(_CHUNK)
    while packed and not unpacker.eof:
        if piece := unpacker.decompress(packed, _CHUNK):
            yield piece
        packed = unpacker.unconsumed_tail or stream.read(_CHUNK)


def inflated_part(stream: BinaryIO, start: int, length: int) -> bytes:
    """Unpacked bytes ``start`` to ``start + length``; fewer if they are not there."""
    wanted = bytearray()
    at = 0
    for piece in inflate(stream):
        wanted += piece[max(0, start - at) : max(0, start + length - at)]
        at += len(piece)
        if at >= start + length:
            break
    return bytes(wanted)
