"""A release as one HDF5 file that is larger than memory: written in pieces, mapped when read.

The datasets ``pixels``, ``labels`` and ``masks`` are the arrays of `medaug.export.arrays` under the
same names; what is one value there is an attribute of the file here, the marks among them. ::

    with h5py.File("hdf5/release.h5") as file:
        value = file["pixels"][17] * file.attrs["slope"] + file.attrs["intercept"]

Datasets are contiguous, neither chunked nor compressed. Their bytes can then be mapped into memory
where they lie, so that ``pixels`` of a loaded `Release` is an array like any other of which the
operating system holds what is being looked at: a million patches are verified and trained on in the
memory of a few. The price is room: compressed sample by sample, drawn CT patches take about half
of it (45 % for one release of 64 x 64 pixels), as in an NPZ.

The library that reads HDF5 can hang or crash on a damaged file. `verify_release` compares digests
before it opens one; without it, load what you trust.

HDF5 [1]_ writes no date where times are not tracked, and no name of a host, user or path.

.. [1] https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release
from medaug.errors import Fault, ReaderError
from medaug.export.arrays import ARRAYS, arrays_of
from medaug.export.manifest import Manifest
from medaug.export.marks import MARKS, marks_of
from medaug.progress import Progress

HDF5 = "hdf5/release.h5"
PIECE_BYTES = 1 << 20
_STREAMED = {"pixels": "<i2", "labels": "<i8", "masks": "|u1"}
_DAMAGED = (AttributeError, KeyError, OSError, OverflowError, RuntimeError, TypeError, ValueError)


def write_hdf5(release: Release, manifest: Manifest, path: Path, progress: Progress) -> None:
    """Write the release's arrays and marks to ``path``, about a megabyte at a time."""
    import h5py

    path.parent.mkdir(parents=True)
    arrays = arrays_of(release)
    with h5py.File(path, "w") as file:
        for name, text in marks_of(manifest).items():
            file.attrs[name] = text
        for name, array in arrays.items():
            if name not in _STREAMED:
                file.attrs[name] = array.tolist()
        for name in (name for name in _STREAMED if name in arrays):
            array = arrays[name]
            dataset = file.create_dataset(name, array.shape, array.dtype, track_times=False)
            for piece in pieces(array):
                dataset[piece] = array[piece]
                if name == "pixels":
                    progress.advance(piece.stop - piece.start)


def read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of `ARRAYS`, and ``masks`` where there are any; pixels and masks are mapped.

    They can be written to in memory, which never reaches the file.

    Raises:
        ReaderError: if the file is missing, damaged, lacks an array, or lays one out otherwise.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            arrays = {
                name: _mapped(path, name, file[name])
                if name in _STREAMED
                else np.array(file.attrs[name])
                for name in (*ARRAYS, *(name for name in file if name == "masks"))
            }
    except _DAMAGED as error:
        raise ReaderError(
            Fault(path.name, f"cannot be read: {error}", "an HDF5 file that medaug wrote")
        ) from error
    arrays["labels"] = np.array(arrays["labels"])
    return arrays


def hdf5_marks(path: Path) -> dict[str, str]:
    """The marks that stand in the file.

    Raises:
        ReaderError: if the file is missing or damaged.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {name: str(file.attrs[name]) for name in MARKS if name in file.attrs}
    except _DAMAGED as error:
        raise ReaderError(Fault(path.name, f"cannot be read: {error}")) from error


def pieces(array: NDArray[np.generic]) -> Iterator[slice]:
    """Slices along the first axis of about `PIECE_BYTES` each.

    >>> [(each.start, each.stop) for each in pieces(np.zeros((2, 1 << 20), np.int16))]
    [(0, 1), (1, 2)]
    """
    rows = max(1, PIECE_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield slice(start, min(start + rows, len(array)))


def _mapped(path: Path, name: str, dataset: Any) -> NDArray[Any]:
    """The bytes of a dataset where they lie in the file."""
    offset = dataset.id.get_offset()
    if dataset.dtype.str != _STREAMED[name] or offset is None:
        raise ValueError(f"{name} is {dataset.dtype}, not {_STREAMED[name]} in one piece")
    # Copy on write: torch and others ask for arrays that can be written to.
    return np.memmap(path, dataset.dtype, "c", offset, dataset.shape)
