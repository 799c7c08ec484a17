"""A release as one NPZ: ``numpy.load(path)`` gives it back, without pickle.

==============  =======================================  ==============================
``pixels``      int16 (sample, channel, row, column),    stored values
                or (sample, 1, slice, row, column)
``labels``      int64 (sample,)                          index into ``classes``
``classes``     text (class,)
``slope``       float64                                  value = pixels * slope + intercept
``intercept``   float64
``unit``        text                                     HU, SUV or arbitrary
``modality``    text                                     DICOM's word
``mm_per_pixel``  float64                                0 where unknown
``notice``      text                                     says that the pixels are synthetic
``masks``       uint8 (sample, row, column),             1 in the lesion; absent if none drawn
                or (sample, slice, row, column)
==============  =======================================  ==============================

The second layout is that of 3-D patches. More than one channel are adjacent slices, and the mask is
then of the middle one. Slices and such channels run from feet to head, rows to the back, columns to
the left.

An NPZ is a zip file, and a zip member carries a date and a system: both are fixed here, so
that two builds are the same byte for byte.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release
from medaug.errors import Fault, ReaderError
from medaug.export.words import NOTICE

NPZ = "npz/release.npz"
_EARLIEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def write_npz(release: Release, path: Path) -> None:
    """Write the release's arrays to ``path``."""
    members: dict[str, NDArray[np.generic]] = {
        "classes": np.array(release.classes, np.str_),
        "intercept": np.array(release.rescale.intercept, "<f8"),
        "labels": release.labels.astype("<i8"),
        "mm_per_pixel": np.array(release.mm_per_pixel, "<f8"),
        "modality": np.array(release.modality, np.str_),
        "notice": np.array(NOTICE, np.str_),
        "pixels": release.pixels.astype("<i2"),
        "slope": np.array(release.rescale.slope, "<f8"),
        "unit": np.array(release.unit.value, np.str_),
    }
    if release.masks is not None:
        members["masks"] = release.masks.astype(np.uint8)
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in sorted(members.items()):
            info = zipfile.ZipInfo(f"{name}.npy", _EARLIEST_ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = _UNIX
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of `write_npz`; ``masks`` only where there are any.

    Raises:
        ReaderError: if the file is missing, damaged or lacks an array.
    """
    names = ["pixels", "labels", "classes", "slope", "intercept", "unit", "modality"]
    names += ["mm_per_pixel", "notice"]
    try:
        with np.load(path, allow_pickle=False) as archive:
            names += ["masks"] if "masks" in archive else []
            return {name: archive[name] for name in names}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ReaderError(
            Fault(path.name, f"cannot be read: {error}", "an NPZ that medaug wrote")
        ) from error
