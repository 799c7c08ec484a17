"""What a file holds inside: told by its first bytes, never by its name.

Opened: zip (and what is one: npz, docx), tar, gzip, bzip2, xz, the chunks of PNG, HDF5 datasets and
attributes, SQLite tables, DICOM attributes (deflated ones too), and base64 data in web pages. Other
packings are named as not searched; nothing is passed over in silence.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import re
import sqlite3
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medaug.errors import MedaugError

PIECE = 1 << 20
_PAGE_BYTES = 64 << 20
_URI = re.compile(rb"data:[^,;\"'\s]*(?:;[^,;\"'\s]*)*;base64,([A-Za-z0-9+/=\s]+)")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_CLOSED = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"PAR1": "Parquet",
    b"%PDF": "a PDF, whose streams are compressed",
}

Part = tuple[str, Iterator[bytes]]

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    sqlite3.Error,
)
"""What the libraries below raise for damaged content."""


class ClosedError(MedaugError):
    """Something inside cannot be opened; the message says what."""


def parts_of(file: BinaryIO) -> Iterator[Part]:
    """(name, pieces) of everything inside a file; nothing if it is no container.

    Each part is read before the next is asked for.

    Raises:
        ClosedError: for content that nothing here can open.
        UNREADABLE: for damaged content.
    """
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    for magic, name in _CLOSED.items():
        if head.startswith(magic):
            raise ClosedError(f"{name}: what is inside was not searched")
    opener = _opener(head)
    if opener is None and zipfile.is_zipfile(file):
        opener = _zip  # Behind a prefix, as programs that unpack themselves have it.
    file.seek(0)
    if opener is not None:
        yield from opener(file)


def _opener(head: bytes) -> Callable[[BinaryIO], Iterator[Part]] | None:
    if head[128:132] == b"DICM":
        return _dicom
    if head[257:262] == b"ustar":
        return _tar
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return _page
    openers: dict[bytes, Callable[[BinaryIO], Iterator[Part]]] = {
        b"\x1f\x8b": _stream("gzip", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
        b"BZh": _stream("bzip2", bz2.BZ2File),
        b"\xfd7zXZ\x00": _stream("xz", lzma.LZMAFile),
        b"PK\x03\x04": _zip,
        b"PK\x05\x06": _zip,
        b"\x89PNG\r\n\x1a\n": _png,
        b"\x89HDF\r\n\x1a\n": _hdf5,
        b"SQLite format 3\x00": _sqlite,
    }
    return next((opener for magic, opener in openers.items() if head.startswith(magic)), None)


def pieces_of(file: Any) -> Iterator[bytes]:
    """A readable file in pieces."""
    return iter(lambda: file.read(PIECE), b"")


def _stream(name: str, opened: Callable[[Any], Any]) -> Callable[[BinaryIO], Iterator[Part]]:
    def parts(file: BinaryIO) -> Iterator[Part]:
        with opened(file) as inner:
            yield name, pieces_of(inner)

    return parts


def _zip(file: BinaryIO) -> Iterator[Part]:
    with zipfile.ZipFile(file) as archive:
        closed = [info.filename for info in archive.infolist() if info.flag_bits & 1]
        for info in archive.infolist():
            if info.filename not in closed:
                with archive.open(info) as member:
                    yield info.filename, pieces_of(member)
        if closed:
            raise ClosedError(f"encrypted: {', '.join(closed)}")


def _tar(file: BinaryIO) -> Iterator[Part]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            member = archive.extractfile(info) if info.isfile() else None
            yield info.name, iter(()) if member is None else pieces_of(member)


def _png(file: BinaryIO) -> Iterator[Part]:
    """Compressed chunks, unpacked; the plain ones were searched with the file itself."""
    file.seek(8)
    pixels: list[tuple[int, int]] = []
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        name, at = kind.decode("latin-1"), file.tell()
        if kind == b"IDAT":
            pixels.append((at, length))
        elif kind in (b"zTXt", b"iCCP", b"iTXt"):
            if length > _PAGE_BYTES:
                raise ClosedError(f"a chunk {name} of {length} bytes")
            yield name, _text_of(kind, b"".join(_exactly(file, at, length)))
        file.seek(at + length + 4)
    if pixels:
        # One stream, wherever it was cut.
        pieces = (piece for at, length in pixels for piece in _exactly(file, at, length))
        yield "IDAT", _inflated(zlib.decompressobj(), pieces)


def _text_of(kind: bytes, content: bytes) -> Iterator[bytes]:
    """The text of a chunk that may be compressed (PNG specification, 11.3.3)."""
    _, _, rest = content.partition(b"\0")
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        return _inflated(zlib.decompressobj(), iter([rest])) if compressed else iter([rest])
    return _inflated(zlib.decompressobj(), iter([rest[1:]]))


def _exactly(file: BinaryIO, at: int, length: int) -> Iterator[bytes]:
    file.seek(at)
    while length and (piece := file.read(min(length, PIECE))):
        length -= len(piece)
        yield piece


def _inflated(engine: Any, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Unpacked a piece at a time: a small bomb does not become a large string."""
    for piece in pieces:
        left = piece
        while left and not engine.eof:
            yield engine.decompress(left, PIECE)
            left = engine.unconsumed_tail


def _hdf5(file: BinaryIO) -> Iterator[Part]:
    import h5py

    with h5py.File(file, "r") as store:
        names: list[str] = []
        store.visit(names.append)
        for name in ["/", *names]:
            node = store[name]
            for key, value in node.attrs.items():
                yield f"{name} {key}", iter([_plain(value)])
            if isinstance(node, h5py.Dataset) and node.shape is not None:
                yield name, _values(node)


def _values(dataset: Any) -> Iterator[bytes]:
    if dataset.shape == ():
        blocks: Any = iter([()])
    elif dataset.chunks:
        blocks = dataset.iter_chunks()
    else:
        width = max(1, dataset.dtype.itemsize * dataset.size // max(1, dataset.shape[0]))
        rows = max(1, PIECE // width)
        blocks = (slice(at, at + rows) for at in range(0, dataset.shape[0], rows))
    for block in blocks:
        yield _plain(dataset[block])


def _plain(values: Any) -> bytes:
    """Arrays as they lie in memory; texts of any length one after the other."""
    array = np.asarray(values)
    return b"".join(map(_bytes, array.ravel())) if array.dtype.hasobject else array.tobytes()


def _sqlite(file: BinaryIO) -> Iterator[Part]:
    """Long values, which the file keeps in pieces of a page."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        with copy.open("wb") as target:
            target.writelines(pieces_of(file))
        with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as connection:
            connection.text_factory = bytes
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                quoted = table.decode("utf-8", "replace").replace('"', '""')
                rows = connection.execute(f'SELECT * FROM "{quoted}"')
                yield quoted, (_bytes(value) for row in rows for value in row)


def _bytes(value: object) -> bytes:
    return value + b"\0" if isinstance(value, bytes) else f"{value}\0".encode()


def _dicom(file: BinaryIO) -> Iterator[Part]:
    """Every attribute by its keyword; a deflated data set is unpacked in pieces first."""
    import pydicom
    from pydicom.filereader import read_partial

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = read_partial(file, lambda tag, *_: tag.group > 2)
        if meta.file_meta.get("TransferSyntaxUID") == _DEFLATED:
            file.seek(0)
            prefix = 128 + 4 + 12 + int(meta.file_meta.FileMetaInformationGroupLength)
            file.seek(prefix)
            yield "deflated data set", _inflated(zlib.decompressobj(-15), pieces_of(file))
            return
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        for element in (*dataset.file_meta, *dataset.iterall()):
            if element.VR != "SQ":
                value = element.value
                content = value if isinstance(value, bytes) else str(value).encode()
                yield element.keyword or str(element.tag), iter([content])


def _page(file: BinaryIO) -> Iterator[Part]:
    content = file.read(_PAGE_BYTES + 1)
    for number, found in enumerate(_URI.finditer(content), start=1):
        digits = found.group(1).translate(None, b" \t\r\n=")
        yield (
            f"embedded data {number}",
            iter([base64.b64decode(digits + b"=" * (-len(digits) % 4))]),
        )
    if len(content) > _PAGE_BYTES:
        raise ClosedError(f"embedded data beyond {_PAGE_BYTES >> 20} MB of a page")
