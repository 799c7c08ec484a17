"""The mark that travels in the pixels' own file, so that it is there when a file goes on alone.

``notice``, ``release`` and ``licence`` stand in every file: as text chunks of a PNG, in the
``descrip`` of a NIfTI, as attributes of DICOM and HDF5, as arrays of an NPZ, in the JSON of a
sample in a shard, and in a ``dataset.json``. Nothing says when, where or by whom it was written.
"""

from __future__ import annotations

from collections.abc import Mapping

from medaug.export.manifest import Manifest
from medaug.export.words import NOTICE

MARKS = ("notice", "release", "licence")


def marks_of(manifest: Manifest) -> dict[str, str]:
    """What a file says of itself; ``licence`` is empty where none was stated."""
    return {
        "notice": NOTICE,
        "release": manifest.pixels_digest,
        "licence": manifest.licence,
    }


def wrong_marks(found: Mapping[str, str], manifest: Manifest) -> list[str]:
    """What a file should say and does not, as sentences."""
    return [
        f"{name} is {found.get(name, '')!r}, not {wanted!r}"
        for name, wanted in marks_of(manifest).items()
        if found.get(name) != wanted
    ]
