"""The whole data set of an object that marks lesions, read within bounds."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmread

from medaug.readers.bounded import File
from medaug.readers.dicom.attributes import tag_of
from medaug.readers.dicom.file import inflate, open_data_set

MOST_INFLATED = 1 << 29
"""Bytes that a deflated object may unpack to: a few kilobytes of it can stand for gigabytes."""


def read_object(path: Path, *, pixels: bool = True) -> Dataset:
    """Every attribute, with the pixel data or without.

    Raises:
        ValueError: if it is no DICOM, or unpacks beyond `MOST_INFLATED`; pydicom raises any of
            `oddities.UNREADABLE` for what is damaged.
    """
    with File(path) as stream:
        written = open_data_set(stream, [tag_of("SOPClassUID")])
        if written is None:
            raise ValueError("not a DICOM file")
        if written.deflated_at is not None:
            stream.seek(written.deflated_at)
            unpacked = 0
            for part in inflate(stream):
                unpacked += len(part)
                if unpacked > MOST_INFLATED:
                    raise ValueError("a deflated data set that unpacks beyond all bounds")
    with File(path) as stream:
        return dcmread(stream, stop_before_pixels=not pixels, force=True)
