"""MetaImage: a text header with its data behind it (.mha) or in another file (.mhd) [1]_.

Offsets and directions are LPS, as in ITK; each row of TransformMatrix is the direction of one
array axis. The header is read here and not by ITK: a damaged one must end in a sentence, not in
native code.

.. [1] https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medaug.errors import ReaderError
from medaug.readers.files import SourceFile
from medaug.readers.oddities import UNREADABLE
from medaug.readers.volumes.file import (
    HEADER_DAMAGED,
    LARGEST,
    NOT_NUMBERS,
    VolumeFile,
    Wanted,
    chosen,
    fault,
    grid,
    neighbour,
)
from medaug.readers.volumes.raw_voxels import RawVoxels

NAMES = (".mha", ".mhd")

_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4",
    "LONG": "i4", "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4",
    "DOUBLE": "f8",
}  # fmt: skip
_OTHER_NAMES = {
    "Position": "Offset",
    "Origin": "Offset",
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}

Header = Mapping[str, str]


def read_metaimage(file: SourceFile, wanted: Wanted) -> VolumeFile:
    """The header of a MetaImage file.

    Raises:
        ReaderError: if it is not one volume of numbers with a place in millimetres.
    """
    try:
        fields, begins = _header(file)
        count = int(fields["NDims"])
        sizes = tuple(int(one) for one in fields["DimSize"].split())
        if len(sizes) != count or min(sizes) < 1:
            raise ValueError
        channels = int(fields.get("ElementNumberOfChannels", 1))
        element = fields["ElementType"].upper()
        if channels != 1 or element.endswith("_ARRAY"):
            raise fault(file, NOT_NUMBERS)
        number = chosen(file, sizes, wanted.volume)
        if "ElementSpacing" not in fields:
            raise fault(file, "it states no spacing")
        affine = _affine(fields, count)
        voxels = _voxels(file, fields, sizes, begins, number)
    except ReaderError:
        raise
    except PermissionError:
        raise fault(file, "it cannot be opened: permission denied") from None
    except UNREADABLE:
        raise fault(file, HEADER_DAMAGED.format("MetaImage")) from None
    geometry = grid(file, sizes, affine, lps=True)
    return VolumeFile(file, geometry, (voxels,), oriented="TransformMatrix" in fields)


def data_of(file: SourceFile) -> SourceFile | None:
    """The data file that a header names, or None."""
    try:
        fields, _ = _header(file)
        named = fields["ElementDataFile"]
        return None if named.upper() == "LOCAL" else neighbour(file, named)
    except (*UNREADABLE, ReaderError):
        return None


def _header(file: SourceFile) -> tuple[Header, int]:
    """Fields, and where the data begin if they follow."""
    fields: dict[str, str] = {}
    with file.path.open("rb") as stream:
        while stream.tell() < LARGEST:
            line = stream.readline(LARGEST)
            name, equals, value = line.decode("utf-8", "replace").partition("=")
            if not equals:
                break
            name = _OTHER_NAMES.get(name.strip(), name.strip())
            if not fields and name not in ("ObjectType", "NDims", "Comment"):
                break
            if name in fields:
                raise ValueError
            fields[name] = value.strip()
            if name == "ElementDataFile":
                return fields, stream.tell()
    if not fields:
        raise fault(file, "not a MetaImage file")
    raise ValueError


def _numbers(text: str, count: int) -> list[float]:
    numbers = [float(one) for one in text.split()]
    if len(numbers) != count:
        raise ValueError
    return numbers


def _affine(fields: Header, count: int) -> Any:
    spacing = _numbers(fields["ElementSpacing"], count)
    if min(spacing[:3]) <= 0:
        raise ValueError
    affine = np.eye(4)
    affine[:3, :3] *= spacing[:3]
    if "TransformMatrix" in fields:
        rows = np.reshape(_numbers(fields["TransformMatrix"], count**2), (count, count))[:3, :3]
        affine[:3, :3] = rows.T * spacing[:3]
    if "Offset" in fields:
        affine[:3, 3] = _numbers(fields["Offset"], count)[:3]
    return affine


def _voxels(
    file: SourceFile, fields: Header, sizes: tuple[int, ...], begins: int, number: int
) -> RawVoxels:
    if fields.get("BinaryData", "True").lower() not in ("true", "1"):
        raise fault(file, "its voxels are written as text", "save it as binary data")
    order = fields.get("BinaryDataByteOrderMSB", "False").lower()
    big = {"true": True, "1": True, "false": False, "0": False}[order]
    code = _TYPES[fields["ElementType"].upper().removeprefix("MET_")]
    dtype: np.dtype[Any] = np.dtype((">" if big else "<") + code)
    total = dtype.itemsize * int(np.prod(sizes, dtype=object))
    named = fields["ElementDataFile"]
    data = file
    if named.upper().startswith("LIST") or "%" in named:
        raise fault(file, "its voxels lie in a list of files", "save it as one file")
    if named.upper() != "LOCAL":
        data, begins = neighbour(file, named), 0
    packed = fields.get("CompressedData", "False").lower() in ("true", "1")
    skip = int(fields.get("HeaderSize", 0))
    if skip < -1 or (skip and packed):
        raise fault(file, "it skips part of its data file", "save it as one file")
    if skip == -1:
        begins = data.path.stat().st_size - total
        if begins < 0:
            raise fault(file, "a damaged file: it ends before its last voxel")
    i, j, k = sizes[:3]
    return RawVoxels(
        data.path,
        file.name,
        (i, j, k),
        dtype,
        begins + max(skip, 0),
        offset=number * i * j * k * dtype.itemsize,
        content=total,
        packing="deflate" if packed else "",
    )
