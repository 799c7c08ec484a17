"""NumPy arrays (.npy, .npz) with a sidecar: a JSON file of the same stem that says where they lie.

An array (i, j, k) carries no place. The sidecar gives it, in RAS mm as everything inside medaug::

    {"affine": [[-0.7, 0, 0, 90], [0, -0.7, 0, 120], [0, 0, 2.5, -300], [0, 0, 0, 1]],
     "unit": "HU", "modality": "CT"}

or, instead of ``affine``, ``spacing_mm`` (3 numbers), ``origin_mm`` (RAS of voxel 0, 0, 0) and
``directions`` (3 unit vectors in RAS, one per array axis). ``array`` names the array of an .npz
that holds several. Pickled objects are never loaded.
"""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
from typing import IO, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from medaug.domain import Geometry, Unit
from medaug.errors import ReaderError
from medaug.readers.files import SourceFile
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.volumes.file import (
    HEADER_DAMAGED,
    LARGEST,
    NOT_NUMBERS,
    VolumeFile,
    Wanted,
    chosen,
    fault,
    grid,
)
from medaug.readers.volumes.raw_voxels import RawVoxels

NAMES = (".npy", ".npz")

_LONGEST = 1 << 16
"""Bytes of a file in which its header ends."""
_MAGIC = 12
"""Bytes before the text of a header, or a little more."""

_Three = tuple[float, float, float]
_Four = tuple[float, float, float, float]


class Sidecar(BaseModel):
    """What the JSON file beside an array may say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spacing_mm: _Three | None = None
    origin_mm: _Three | None = None
    directions: tuple[_Three, _Three, _Three] | None = None
    affine: tuple[_Four, _Four, _Four, _Four] | None = None
    unit: Unit | None = None
    modality: str | None = None
    array: str | None = None


def read_numpy(file: SourceFile, wanted: Wanted) -> VolumeFile:
    """The header of an array and its sidecar.

    Raises:
        ReaderError: if it is not one volume of numbers, or if nothing says where it lies.
    """
    sidecar = _sidecar(file, wanted)
    try:
        with withheld():
            voxels, shape = _array(file, sidecar.array)
    except ReaderError:
        raise
    except PermissionError:
        raise fault(file, "it cannot be opened: permission denied") from None
    except (*UNREADABLE, zipfile.BadZipFile, tokenize.TokenError):
        raise fault(file, HEADER_DAMAGED.format("NumPy")) from None
    geometry, oriented = _place(file, sidecar, wanted, shape)
    return VolumeFile(file, geometry, (voxels,), oriented, sidecar.modality, sidecar.unit)


def sidecar_of(file: SourceFile) -> SourceFile:
    """The JSON file of the same stem, there or not."""

    def beside(name: str) -> str:
        return f"{name.rpartition('.')[0]}.json"

    return SourceFile(file.path.with_suffix(".json"), beside(file.inside), beside(file.name))


def _sidecar(file: SourceFile, wanted: Wanted) -> Sidecar:
    sidecar = sidecar_of(file)
    if not sidecar.path.is_file():
        if wanted.spacing_mm is not None:
            return Sidecar()
        raise fault(
            file,
            "nothing says where its voxels lie",
            f"put {sidecar.name} beside it, with spacing_mm or affine, or set `spacing_mm`",
        )
    try:
        with sidecar.path.open("rb") as stream:
            return Sidecar.model_validate(json.loads(stream.read(LARGEST)))
    except ValidationError as error:
        keys = sorted({str(one["loc"][0]) for one in error.errors() if one["loc"]})
        known = [key for key in keys if key in Sidecar.model_fields]
        what = f"wrong at {', '.join(known)}" if known else "an unknown key"
        came = f"its sidecar cannot be used: {what} (allowed: {', '.join(Sidecar.model_fields)})"
        raise fault(file, came) from None
    except (*UNREADABLE, RecursionError):
        raise fault(file, "its sidecar is no JSON document") from None


def _place(
    file: SourceFile, sidecar: Sidecar, wanted: Wanted, shape: tuple[int, ...]
) -> tuple[Geometry, bool]:
    parts = (sidecar.spacing_mm, sidecar.origin_mm, sidecar.directions)
    if sidecar.affine is not None:
        if any(part is not None for part in parts):
            raise fault(file, "its sidecar gives `affine` and other keys of the place: give one")
        return grid(file, shape, np.array(sidecar.affine)), True
    spacing = sidecar.spacing_mm or wanted.spacing_mm
    if spacing is None or min(spacing) <= 0:
        raise fault(file, "its sidecar gives no spacing_mm of three positive numbers, nor affine")
    affine = np.eye(4)
    if sidecar.directions is not None:
        axes = np.array(sidecar.directions)
        if not np.allclose(np.linalg.norm(axes, axis=1), 1, atol=1e-3):
            raise fault(file, "the `directions` of its sidecar are not three vectors of length 1")
        affine[:3, :3] = axes.T
    affine[:3, :3] *= spacing
    affine[:3, 3] = sidecar.origin_mm or (0, 0, 0)
    return grid(file, shape, affine), sidecar.directions is not None


def _array(file: SourceFile, name: str | None) -> tuple[RawVoxels, tuple[int, ...]]:
    if not file.inside.lower().endswith(".npz"):
        with file.path.open("rb") as stream:
            shape, fortran, dtype, offset = _npy_header(stream)
            return _voxels(file, shape, fortran, dtype, offset), shape
    with zipfile.ZipFile(file.path) as archive:
        names = [one for one in archive.namelist() if one.endswith(".npy")]
        asked = names if name is None else [one for one in names if one == f"{name}.npy"]
        if len(asked) != 1:
            came = (
                f"it holds {len(names)} arrays" if name is None else "it has no array of the name"
            )
            raise fault(file, f"{came}: name one by `array` in the sidecar")
        with archive.open(asked[0]) as stream:
            shape, fortran, dtype, offset = _npy_header(stream)
            return _voxels(file, shape, fortran, dtype, offset, asked[0]), shape


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """(shape, whether i runs fastest, type, where the values begin)."""
    stream = io.BytesIO(stream.read(_LONGEST))
    if b"\\" in stream.getvalue().partition(b"}")[0][_MAGIC:]:
        raise ValueError  # an escape sequence; Python would warn and quote it
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError
    return shape, fortran, dtype, stream.tell()


def _voxels(
    file: SourceFile,
    shape: tuple[int, ...],
    fortran: bool,
    dtype: np.dtype[Any],
    offset: int,
    member: str = "",
) -> RawVoxels:
    if dtype.kind not in "iufb" or dtype.hasobject:
        raise fault(file, NOT_NUMBERS)
    chosen(file, shape, None)
    i, j, k = shape[:3]
    slowest: Literal[0, 2] = 2 if fortran else 0
    return RawVoxels(
        file.path,
        file.name,
        (i, j, k),
        np.dtype("u1") if dtype.kind == "b" else dtype,
        offset=offset,
        packing="zip" if member else "",
        member=member,
        slowest=slowest,
    )
