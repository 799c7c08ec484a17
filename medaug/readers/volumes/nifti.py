"""NIfTI-1 and NIfTI-2: one file (.nii, .nii.gz) or a header with its data (.hdr, .img).

The place of the voxels is what nibabel makes of the header: the sform where its code is not 0,
else the qform, else voxel sizes alone [1]_. Stored values take part as ``scl_slope * value +
scl_inter``. Free text of the header (descrip, aux_file, extensions) is never looked at.

.. [1] https://nipy.org/nibabel/nifti_images.html
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
import numpy as np

from medaug.readers.files import SourceFile
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.volumes.file import (
    AFFINE_UNUSABLE,
    HEADER_DAMAGED,
    NOT_NUMBERS,
    VolumeFile,
    Wanted,
    chosen,
    fault,
    grid,
)
from medaug.readers.volumes.raw_voxels import RawVoxels

NAMES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")


def read_nifti(file: SourceFile, wanted: Wanted) -> VolumeFile:
    """The header of a NIfTI file.

    Raises:
        ReaderError: if it is not one volume of numbers with a place in millimetres.
    """
    image = _load(file)
    header = image.header
    volume = chosen(file, image.shape, wanted.volume)
    shape = image.shape[:3]
    if image.get_data_dtype().kind not in "iuf":
        raise fault(file, NOT_NUMBERS)
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise fault(file, f"its coordinates are in {header.get_xyzt_units()[0]}, not in mm")
    try:
        with withheld():
            affine = np.asarray(image.affine, dtype=np.float64)
    except UNREADABLE:
        raise fault(file, AFFINE_UNUSABLE) from None
    proxy = image.dataobj
    dtype = image.get_data_dtype()
    one = int(np.prod(shape, dtype=object)) * dtype.itemsize
    path = Path(image.file_map["image"].filename)
    voxels = RawVoxels(
        path,
        file.name,
        shape,
        dtype,
        offset=int(proxy.offset) + volume * one,
        content=int(proxy.offset) + int(np.prod(image.shape, dtype=object)) * dtype.itemsize,
        packing="deflate" if path.suffix == ".gz" else "",
        slope=float(proxy.slope),
        intercept=float(proxy.inter),
    )
    oriented = bool(header["sform_code"] or header["qform_code"])
    return VolumeFile(file, grid(file, shape, affine), (voxels,), oriented)


def other_half(file: SourceFile) -> str:
    """Path inside the source of the data of a header, or of the header of data; "" if single."""
    path = PurePosixPath(file.inside)
    packed = path.suffix == ".gz"
    stem = path.with_suffix("") if packed else path
    other = {".hdr": ".img", ".img": ".hdr"}.get(stem.suffix)
    return "" if other is None else str(stem.with_suffix(other)) + (".gz" if packed else "")


def _load(file: SourceFile) -> Any:
    """The nibabel image, voxels not read."""
    try:
        with withheld():
            loaded = nib.load(file.path)
            image: Any = loaded if isinstance(loaded, nib.nifti1.Nifti1Pair) else None
            if image is not None:
                image.header.get_xyzt_units()  # a code that is none raises
    except PermissionError:
        raise fault(file, "it cannot be opened: permission denied") from None
    except (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError):
        raise fault(file, HEADER_DAMAGED.format("NIfTI")) from None
    if image is None:
        raise fault(file, "not a NIfTI file")
    return image
