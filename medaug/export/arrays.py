"""A release as one NPZ: ``numpy.load(path)`` gives it back, without pickle.

================  =======================================  =============================
``pixels``        int16 (sample, channel, row, column),    stored values
                  or (sample, 1, slice, row, column)
``labels``        int64 (sample,)                          index into ``classes``
``classes``       text (class,)
``slope``         float64                                  value = pixels * slope + intercept
``intercept``     float64
``unit``          text                                     HU, SUV or arbitrary
``modality``      text                                     DICOM's word
``mm_per_pixel``  float64                                  0 where unknown
``notice``        text                                     says that the pixels are synthetic
``release``       text                                     SHA-256 over pixels and masks
``licence``       text                                     empty where none was stated
``masks``         uint8 (sample, row, column),             1 in the lesion; absent if none
                  or (sample, slice, row, column)          drawn
================  =======================================  =============================

The second layout is that of 3-D patches. More than one channel are adjacent slices, and the mask is
then of the middle one. Slices and such channels run from feet to head, rows to the back, columns to
the left.

An NPZ is a zip file, and a zip member carries a date and a system: both are fixed here, so
that two builds are the same byte for byte. It is written in pieces but read whole; for more than
memory holds there is `medaug.export.hdf5`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release
from medaug.errors import Fault, ReaderError
from medaug.export.manifest import Manifest
from medaug.export.marks import MARKS, marks_of

NPZ = "npz/release.npz"
ARRAYS = ("pixels", "labels", "classes", "slope", "intercept", "unit", "modality", "mm_per_pixel")
"""What a `Release` is made of; ``masks`` comes to it where there are any."""

_EARLIEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_DAMAGED = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


def arrays_of(release: Release) -> dict[str, NDArray[np.generic]]:
    """The arrays of the table above without the marks; those of the release are not copied."""
    arrays: dict[str, NDArray[np.generic]] = {
        "classes": np.array(release.classes, np.str_),
        "intercept": np.array(release.rescale.intercept, "<f8"),
        "labels": release.labels.astype("<i8", copy=False),
        "mm_per_pixel": np.array(release.mm_per_pixel, "<f8"),
        "modality": np.array(release.modality, np.str_),
        "pixels": release.pixels.astype("<i2", copy=False),
        "slope": np.array(release.rescale.slope, "<f8"),
        "unit": np.array(release.unit.value, np.str_),
    }
    if release.masks is not None:
        arrays["masks"] = release.masks.view(np.uint8)
    return arrays


def write_npz(release: Release, manifest: Manifest, path: Path) -> None:
    """Write the release's arrays and marks to ``path``."""
    marks = {name: np.array(value, np.str_) for name, value in marks_of(manifest).items()}
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in sorted({**arrays_of(release), **marks}.items()):
            info = zipfile.ZipInfo(f"{name}.npy", _EARLIEST_ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = _UNIX
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of `ARRAYS`, and ``masks`` where there are any.

    Raises:
        ReaderError: if the file is missing, damaged or lacks an array.
    """
    return _read(path, lambda names: [*ARRAYS, *(name for name in names if name == "masks")])


def npz_marks(path: Path) -> dict[str, str]:
    """The marks that stand in the file; errors as in `read_npz`."""
    found = _read(path, lambda names: [name for name in names if name in MARKS])
    return {name: str(value) for name, value in found.items()}


def _read(path: Path, wanted: Callable[[list[str]], list[str]]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in wanted(archive.files)}
    except _DAMAGED as error:
        raise ReaderError(
            Fault(path.name, f"cannot be read: {error}", "an NPZ that medaug wrote")
        ) from error
