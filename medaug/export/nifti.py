"""NIfTI-1 with a fresh header: one file per sample, (column, row, slice).

NIfTI-1 [1]_ keeps its scale factors in 32 bits. Where those carry the rescale without loss
(HU always), voxels are int16 with ``scl_slope`` and ``scl_inter``; otherwise they are float32
values in the unit itself. Either way every reader gives back the release's very values.

A patch lies as in the radiological view: columns run to the patient's left, rows to the back,
slices to the head. Adjacent slices that are channels of a sample are slices here. Its place in the
patient is not known to a release; the first pixel stands at the origin. The mask of adjacent slices
is of the middle one alone: its file has one slice, placed where that one is.

``descrip`` says that the image is synthetic, of which release, and under which licence. A licence
that does not fit in there stands in ``release.json`` alone.

.. [1] https://nifti.nimh.nih.gov/nifti-1
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release
from medaug.export.layout import masked_slices, sample_name
from medaug.export.manifest import MANIFEST, Manifest
from medaug.export.words import NOTICE
from medaug.progress import Progress

Scalar = TypeVar("Scalar", bound=np.generic)

_ALIGNED = 2  # NIFTI_XFORM_ALIGNED_ANAT: orientation means something, the origin nothing
_NO_EXTENSION = bytes(4)
_DESCRIP = 79  # characters of ``descrip``, and a zero at the end


def write_nifti(release: Release, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """Write ``<class>/<number>.nii.gz`` into ``folder``."""
    for entry in manifest.classes:
        (folder / entry.folder).mkdir(parents=True)
    for number, (sample, label) in enumerate(zip(release.pixels, release.labels, strict=True)):
        path = folder / manifest.classes[label].folder / f"{sample_name(number)}.nii.gz"
        save_image(path, volume_of(sample), release, manifest)
        progress.advance()


def write_nifti_masks(
    release: Release, masks: NDArray[np.bool_], manifest: Manifest, folder: Path
) -> None:
    """Write label maps ``<class>/<number>.nii.gz``: uint8, 1 in the lesion, placed as the image."""
    for entry in manifest.classes:
        (folder / entry.folder).mkdir(parents=True)
    first = masked_slices(manifest.image.shape).start
    for number, (mask, label) in enumerate(zip(masks, release.labels, strict=True)):
        path = folder / manifest.classes[label].folder / f"{sample_name(number)}.nii.gz"
        save_labels(path, volume_of(mask.astype(np.uint8)), manifest, first=first)


def volume_of(sample: NDArray[Scalar]) -> NDArray[Scalar]:
    """([1, slice,] row, column) → (column, row, slice); without slices, one."""
    return sample.reshape(-1, *sample.shape[-2:]).transpose(2, 1, 0)


def save_image(path: Path, voxels: NDArray[np.int16], release: Release, manifest: Manifest) -> None:
    """Write stored values (column, row, slice[, channel]) as an image of that release."""
    scaled = _fits_single_precision(release)
    values = voxels if scaled else release.rescale.restore(voxels)
    header = _header(values, manifest, scaled, first=0)
    _write(path, header, values)


def save_labels(
    path: Path, voxels: NDArray[np.uint8], manifest: Manifest, first: int = 0, highest: int = 1
) -> None:
    """Write labels 0 to ``highest`` (column, row, slice), from slice ``first`` of the sample on."""
    header = _header(voxels, manifest, scaled=False, first=first)
    header.set_intent("label", name="lesion")
    header["cal_min"], header["cal_max"] = 0, highest
    _write(path, header, voxels)


def _write(path: Path, header: Any, voxels: NDArray[np.generic]) -> None:
    little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    # No name and no time in the gzip header (RFC 1952 2.3.1).
    with (
        path.open("wb") as handle,
        gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0) as packed,
    ):
        packed.write(bytes(header.binaryblock) + _NO_EXTENSION + little.tobytes(order="F"))


def _fits_single_precision(release: Release) -> bool:
    numbers = (release.rescale.slope, release.rescale.intercept)
    return all(float(np.float32(number)) == number for number in numbers)


def _described(manifest: Manifest) -> bytes:
    """Notice, release and licence, as far as `_DESCRIP` characters of ASCII go."""
    start = f"{NOTICE}; {manifest.pixels_digest[:16]}"
    if not manifest.licence:
        return start.encode("ascii")
    whole = f"{start}; {manifest.licence}"
    if len(whole) > _DESCRIP or not whole.isascii():
        whole = f"{start}; licence: {MANIFEST}"
    return whole.encode("ascii")


def _header(voxels: NDArray[np.generic], manifest: Manifest, scaled: bool, first: int) -> Any:
    """The header of ``voxels`` whose slice 0 is slice ``first`` of the sample."""
    image = manifest.image
    # nibabel types its classes only in part; a header field is read back in the tests.
    header: Any = nib.Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    # Without a known spacing the unit stays "unknown" and a pixel counts as 1.
    size = image.mm_per_pixel or 1.0
    apart = image.slice_mm or size
    affine = np.diag([-size, -size, apart, 1.0])
    affine[2, 3] = first * apart
    header.set_qform(affine, code=_ALIGNED)
    header.set_sform(affine, code=_ALIGNED)
    header.set_xyzt_units("mm" if image.mm_per_pixel else "unknown")
    slope, intercept = (image.slope, image.intercept) if scaled else (1.0, 0.0)
    header.set_slope_inter(slope, intercept)
    header["cal_min"], header["cal_max"] = image.window
    header["descrip"] = _described(manifest)
    header["vox_offset"] = header.sizeof_hdr + len(_NO_EXTENSION)
    return header
