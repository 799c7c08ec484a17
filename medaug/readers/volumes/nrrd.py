"""NRRD: a text header with its data behind it (.nrrd) or in another file (.nhdr) [1]_.

The header is read here and not by ITK: a damaged one must end in a sentence, not in native code,
and what it says of patient, name or history is not to be printed. Of the key/value pairs only the
segments of a 3D Slicer segmentation [2]_ are looked at.

.. [1] https://teem.sourceforge.net/nrrd/format.html
.. [2] https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.errors import ReaderError
from medaug.readers.files import SourceFile
from medaug.readers.oddities import UNREADABLE
from medaug.readers.volumes.file import (
    HEADER_DAMAGED,
    LARGEST,
    NOT_NUMBERS,
    Segment,
    VolumeFile,
    Wanted,
    chosen,
    fault,
    grid,
    neighbour,
)
from medaug.readers.volumes.raw_voxels import Packing, RawVoxels

NAMES = (".nrrd", ".nhdr")

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPE_OF = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
_PACKING: dict[str, Packing] = {
    "raw": "",
    "gzip": "deflate",
    "gz": "deflate",
    "bzip2": "bzip2",
    "bz2": "bzip2",
}
_LPS_TO = {
    "left-posterior-superior": (1, 1),
    "lps": (1, 1),
    "right-anterior-superior": (-1, -1),
    "ras": (-1, -1),
    "left-anterior-superior": (1, -1),
    "las": (1, -1),
}
"""Signs of x and y that turn a space into LPS. With -time the space has a fourth axis."""

Header = Mapping[str, str]


def read_nrrd(file: SourceFile, wanted: Wanted) -> VolumeFile:
    """The header of an NRRD file.

    Raises:
        ReaderError: if it is not one volume of numbers with a place in millimetres in the patient.
    """
    try:
        fields, pairs, begins = _header(file)
        if fields.get("type", "").lower() == "block":
            raise fault(file, NOT_NUMBERS)
        sizes = tuple(int(one) for one in fields["sizes"].split())
        if len(sizes) != int(fields["dimension"]) or min(sizes) < 1:
            raise ValueError
        space = _space(file, fields, len(sizes))
        spatial, other = space[0], space[1]
        segments = _segments(pairs) if other in (None, 0) else ()
        voxels = _voxels(file, fields, sizes, begins)
        shape = tuple(sizes[axis] for axis in spatial)
        geometry = grid(file, shape, space[2], lps=True)
        layers = _layers(file, fields, sizes, other, voxels, segments, wanted)
    except ReaderError:
        raise
    except PermissionError:
        raise fault(file, "it cannot be opened: permission denied") from None
    except UNREADABLE:
        raise fault(file, HEADER_DAMAGED.format("NRRD")) from None
    return VolumeFile(file, geometry, layers, space[3], segments=segments)


def data_of(file: SourceFile) -> SourceFile | None:
    """The data file that a header names, or None."""
    try:
        fields, _, _ = _header(file)
        return neighbour(file, fields["data file"]) if "data file" in fields else None
    except (*UNREADABLE, ReaderError):
        return None


def _header(file: SourceFile) -> tuple[Header, Header, int]:
    """Fields (names in lower case), key/value pairs, and where the data begin."""
    with file.path.open("rb") as stream:
        start = stream.read(LARGEST)
    if not re.match(rb"NRRD000[1-5]\r?\n", start):
        raise fault(file, "not an NRRD file")
    end = re.search(rb"\r?\n\r?\n", start)
    if end is None and len(start) == LARGEST:
        raise ValueError
    text = start[: end.start() if end else None].decode("utf-8", "replace")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("#") or not line.strip():
            continue
        key, colon, value = line.partition(":")
        if value.startswith("="):
            pairs[key] = value[1:]
        elif colon:
            name = key.strip().lower()
            name = {"datafile": "data file", "byteskip": "byte skip"}.get(name, name)
            name = {"lineskip": "line skip"}.get(name, name)
            if name in fields:
                raise ValueError
            fields[name] = value.strip()
    return fields, pairs, end.end() if end else len(start)


def _vector(text: str) -> list[float]:
    return [float(one) for one in text.strip().strip("()").split(",")]


def _space(
    file: SourceFile, fields: Header, dimension: int
) -> tuple[list[int], int | None, NDArray[np.float64], bool]:
    """(spatial axes, the other axis or None, index → LPS affine, whether it is oriented)."""
    if "space directions" not in fields:
        return _unoriented(file, fields, dimension)
    space = fields.get("space", "").lower().removesuffix("-time")
    if space not in _LPS_TO:
        came = "a space of the scanner" if space else "directions, but not in which space"
        raise fault(
            file,
            f"it states {came}: left and right of the patient are not known",
            "save it with `space: left-posterior-superior` or another space of the patient",
        )
    units = {unit.strip('" ') for unit in re.findall(r'"[^"]*"', fields.get("space units", ""))}
    if units - {"mm", ""}:
        raise fault(file, "its space is not in mm")
    parts = re.findall(r"none|\([^)]*\)", fields["space directions"].lower())
    if len(parts) != dimension:
        raise ValueError
    spatial = [axis for axis, part in enumerate(parts) if part != "none"]
    others = [axis for axis, part in enumerate(parts) if part == "none"]
    if len(spatial) != 3 or len(others) > 1 or (others and others[0] not in (0, 3)):
        raise fault(file, f"it has {len(spatial)} axes in space and {len(others)} others: one "
                    "volume is needed")  # fmt: skip
    affine = np.eye(4)
    for column, axis in enumerate(spatial):
        affine[:3, column] = _three(_vector(parts[axis]))
    affine[:3, 3] = _three(_vector(fields.get("space origin", "")))
    for row, sign in enumerate(_LPS_TO[space]):
        affine[row] *= sign
    return spatial, (others[0] if others else None), affine, True


def _three(vector: list[float]) -> list[float]:
    if len(vector) != 3:
        raise ValueError
    return vector


def _unoriented(
    file: SourceFile, fields: Header, dimension: int
) -> tuple[list[int], int | None, NDArray[np.float64], bool]:
    if "spacings" not in fields:
        raise fault(file, "it states no spacing")
    spacing = [float(one) for one in fields["spacings"].split()]
    if dimension not in (3, 4) or len(spacing) != dimension:
        raise fault(file, f"it has {dimension} dimensions: one volume is needed")
    kinds = fields.get("kinds", "").lower().split()
    if any(one <= 0 for one in spacing):
        raise ValueError
    listed = dimension == 4 and (not np.isfinite(spacing[0]) or kinds[:1] in (["list"], ["vector"]))
    spatial = [1, 2, 3] if listed else [0, 1, 2]
    other = (0 if listed else 3) if dimension == 4 else None
    affine = np.diag([*(spacing[axis] for axis in spatial), 1.0])
    return spatial, other, affine, False


def _voxels(file: SourceFile, fields: Header, sizes: tuple[int, ...], begins: int) -> RawVoxels:
    """All of the data, as if the three slowest axes were a volume."""
    code = _TYPE_OF[" ".join(fields["type"].lower().split())]
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and code[1] != "1":
        raise ValueError
    dtype: np.dtype[Any] = np.dtype((">" if endian == "big" else "<") + code)
    encoding = fields.get("encoding", "").lower()
    if encoding in ("ascii", "text", "txt", "hex"):
        raise fault(file, f"its voxels are written as text ({encoding})", "save it as raw or gzip")
    packing = _PACKING[encoding]
    skip = int(fields.get("byte skip", 0))
    lines = int(fields.get("line skip", 0))
    if lines or skip < -1 or (skip and packing):
        raise fault(file, "it skips part of its data file", "save it as one file")
    total = dtype.itemsize * int(np.prod(sizes, dtype=object))
    data = file
    if "data file" in fields:
        named = fields["data file"]
        if named.upper().startswith("LIST") or re.search(r"%[0-9]*d", named):
            raise fault(file, "its voxels lie in a list of files", "save it as one file")
        data, begins = neighbour(file, named), 0
    if skip == -1:
        begins = data.path.stat().st_size - total
        if begins < 0:
            raise fault(file, "a damaged file: it ends before its last voxel")
    begins += max(skip, 0)
    return RawVoxels(data.path, file.name, (1, 1, 1), dtype, begins, content=total, packing=packing)


def _layers(
    file: SourceFile,
    fields: Header,
    sizes: tuple[int, ...],
    other: int | None,
    voxels: RawVoxels,
    segments: tuple[Segment, ...],
    wanted: Wanted,
) -> tuple[RawVoxels, ...]:
    """The volume that is wanted, or every layer of a segmentation."""
    if other == 0:
        count = sizes[0]
        i, j, k = sizes[1:]
        one = replace(voxels, shape=(i, j, k), lanes=count)
        if segments:
            return tuple(replace(one, lane=lane) for lane in range(count))
        kind = (fields.get("kinds", "").lower().split() or ["list"])[0]
        if count > 1 and kind != "list":
            raise fault(file, NOT_NUMBERS)
        return (replace(one, lane=chosen(file, (i, j, k, count), wanted.volume)),)
    number = chosen(file, sizes, wanted.volume)
    i, j, k = sizes[:3]
    return (replace(voxels, shape=(i, j, k), offset=number * i * j * k * voxels.dtype.itemsize),)


def _segments(pairs: Header) -> tuple[Segment, ...]:
    numbers = sorted(
        int(found.group(1))
        for key in pairs
        if (found := re.fullmatch(r"Segment([0-9]{1,4})_LabelValue", key))
    )
    return tuple(
        Segment(
            pairs.get(f"Segment{at}_Name", ""),
            int(pairs.get(f"Segment{at}_Layer", 0)),
            int(pairs[f"Segment{at}_LabelValue"]),
        )
        for at in numbers
    )
