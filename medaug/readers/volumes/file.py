"""One volume as a file holds it: the common shape of NIfTI, NRRD, MetaImage, NumPy and TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry, Region, Unit, lps_to_ras
from medaug.errors import Fault, ReaderError
from medaug.readers.files import SourceFile

AFFINE_UNUSABLE = "its header gives no usable affine (singular or not finite)"
NOT_NUMBERS = "its voxels are not plain numbers (colour, complex or vectors)"
HEADER_DAMAGED = "a damaged {} file: its header cannot be read"
LARGEST = 1 << 20
"""Bytes that a text header may have."""


class Voxels(Protocol):
    """Stored values, read from the file when they are asked for."""

    @property
    def packed(self) -> bool:
        """Whether any region means unpacking the whole."""

    @property
    def slope(self) -> float:
        """A value is ``slope * stored + intercept``."""

    @property
    def intercept(self) -> float:
        """See `slope`."""

    def check(self) -> None:
        """Raise `ReaderError` if voxels are missing."""

    def read(self, region: Region) -> NDArray[Any]:
        """Stored values of a region."""

    def unpack(self) -> NDArray[Any]:
        """Every stored value (i, j, k)."""


@dataclass(frozen=True)
class Segment:
    """One segment of a 3D Slicer segmentation: a value in a layer, under a free-text name."""

    name: str
    layer: int
    value: int


@dataclass(frozen=True, eq=False, repr=False)
class VolumeFile:
    """A header that was understood, and the voxels behind it.

    Attributes:
        file: the file, or its header where the two are apart.
        geometry: where the voxels lie.
        voxels: one entry; several where a segmentation has layers.
        oriented: False where the file states no orientation and voxel sizes alone were used.
        modality: where the file says.
        unit: where the file says.
        segments: of a 3D Slicer segmentation.
    """

    file: SourceFile
    geometry: Geometry
    voxels: tuple[Voxels, ...]
    oriented: bool = True
    modality: str | None = None
    unit: Unit | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What the settings say about a file that does not say it all.

    Attributes:
        volume: which of several volumes in one file, from 0.
        spacing_mm: of (i, j, k), for files that carry none.
    """

    volume: int | None = None
    spacing_mm: tuple[float, float, float] | None = None


def fault(file: SourceFile, came: str, action: str = "") -> ReaderError:
    """The error of a file that cannot be used."""
    return ReaderError(Fault(file.name, came, action=action))


def grid(
    file: SourceFile, shape: tuple[int, ...], affine: NDArray[np.float64], lps: bool = False
) -> Geometry:
    """The grid of a file, from its index → RAS affine, or index → LPS where ``lps`` says so.

    Raises:
        ReaderError: if the affine cannot be one.
    """
    if lps and np.isfinite(affine).all():
        affine = lps_to_ras(affine)
    try:
        return Geometry((shape[0], shape[1], shape[2]), affine)
    except ValueError:
        raise fault(file, AFFINE_UNUSABLE) from None


def chosen(file: SourceFile, shape: tuple[int, ...], volume: int | None) -> int:
    """Which volume of a file of ``shape`` (i, j, k, volume) is read; (i, j, k) is one volume.

    Raises:
        ReaderError: if there are several and none is chosen, or if there is no such volume.
    """
    sizes = "x".join(map(str, shape))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise fault(file, f"it has {len(shape)} dimensions ({sizes}): one volume is needed")
    count = shape[3] if len(shape) == 4 else 1
    if count > 1 and volume is None:
        reason = f"it has 4 dimensions ({sizes}): one volume is needed"
        raise fault(file, f"{reason}; choose one of {count} by the setting `volume`")
    if count > 1 and volume is not None and volume >= count:
        raise fault(file, f"it holds {count} volumes, there is no number {volume} from 0")
    return volume if count > 1 and volume is not None else 0


def neighbour(file: SourceFile, name: str) -> SourceFile:
    """A file that ``file`` names.

    Raises:
        ReaderError: if the name leads out of the folder of ``file`` or is no plain name.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    plain = name.isprintable() and ":" not in name and name not in ("", ".")
    if not plain or parts.is_absolute() or ".." in parts.parts:
        raise fault(file, "it names a data file outside of its folder", "keep both in one folder")
    path = file.path.parent / Path(*parts.parts)
    if not path.is_file():
        raise fault(file, "the data file that it names is not there", "keep both in one folder")

    def beside(at: str) -> str:
        return str(PurePosixPath(at).parent / parts)

    return SourceFile(path, beside(file.inside), beside(file.name))
