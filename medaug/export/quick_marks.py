"""Whether a DICOM file says that it is synthetic, without a DICOM library: some 30 µs a file.

It answers for Secondary Captures and their masks as medaug writes them, explicit little endian
(PS3.5 section 7.1.2): each mark must stand in the header as the very bytes of its element. Where it
does not find them all it says no, and the file deserves a proper look
(`medaug.export.dicom.missing_marks`).
"""

from __future__ import annotations

import struct
from pathlib import Path

from medaug.export.layout import MASKS
from medaug.export.words import NOTICE

_HEADER = 8192
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def _element(tag: int, kind: str, value: str) -> bytes:
    """An element of a short value, padded to an even length; a UID with NUL, text with a space."""
    padded = value.encode() + (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, kind.encode(), len(padded)) + padded


_COMMON = (
    _element(0x0008001C, "CS", "YES"),
    _element(0x0008103E, "LO", NOTICE),
    _element(0x00204000, "LT", NOTICE),
)
"""Synthetic Data, Series Description, Image Comments."""
_IMAGE = (_element(0x00080016, "UI", _SECONDARY_CAPTURE), _element(0x00080064, "CS", "SYN"))
"""SOP Class UID, Conversion Type."""
_MASK = (_element(0x00080016, "UI", _SEGMENTATION),)


def bears_marks(path: Path) -> bool:
    """Whether the marks were found; False where the file needs a proper look."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return False
    kind = _MASK if path.parts[-3] == MASKS["dicom"] else _IMAGE
    return header[128:132] == b"DICM" and all(mark in header for mark in (*_COMMON, *kind))
