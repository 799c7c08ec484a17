"""One DICOM file: what it says about itself, checked; or the reason why it is not used.

Only the attributes listed here are read, and pixels are not. Texts that could name a person stop
in this module: series and instance UIDs are kept to group and hash, the patient's text to hash.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.datadict import tag_for_keyword
from pydicom.pixels.decoders.base import get_decoder

from medaug.domain import Unit
from medaug.readers.files import Refusal, SourceFile, is_archive, stray
from medaug.readers.oddities import UNREADABLE, withheld

ODD = "made the DICOM library warn (the texts are withheld: they may quote the file)"

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATIONS = {uid.SegmentationStorage, LABEL_MAP_SEGMENTATION}

MarkKind = Literal["seg", "rtstruct", "sr"]

_IMAGE_MODALITIES = ("CT", "MR", "PT", "NM", "US", "MG", "CR", "DX", "XA", "RF")

_LOSSY_CAPABLE = {
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEG2000,
    uid.JPEGLSNearLossless,
    uid.HTJ2K,
}

_WITHOUT_IMAGE = {
    "RTSTRUCT": "contours (RTSTRUCT) are not read in this version",
    "RTPLAN": "a radiotherapy plan holds no image",
    "SR": "a structured report holds no image",
    "PR": "a presentation state holds no image",
    "KO": "a key object selection holds no image",
    "REG": "a registration holds no image",
}

_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "LossyImageCompression",
    "SyntheticData",
)


@dataclass(frozen=True)
class Plane:
    """The grid of one slice, in LPS mm.

    Attributes:
        rows, columns: size of the picture.
        spacing: mm between rows, mm between columns (PS3.3 10.7.1.3: in this order).
        orientation: unit vectors along increasing column index, then along increasing row index.
        position: centre of the first pixel.
        placed: False for a picture that states no place in the patient (a mammogram, an
            ultrasound frame); it lies at the origin then, and no plane is parallel to it.
        measured: False where the file gives no distance between pixels either.
    """

    rows: int
    columns: int
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    placed: bool = True
    measured: bool = True

    def parallel_to(self, other: Plane) -> bool:
        """Whether both have the same size, spacing and orientation, up to rounding in the file."""
        return (
            self.placed
            and other.placed
            and (self.rows, self.columns) == (other.rows, other.columns)
            and np.allclose(self.spacing, other.spacing, rtol=1e-4)
            and np.allclose(self.orientation, other.orientation, atol=1e-4)
        )


@dataclass(frozen=True, eq=False, repr=False)
class Slice:
    """One image, a file or a frame of one, that can take part in a volume.

    Attributes:
        frame: number of the frame from 0; None where the file is one image.
        patient: text of the attribute that names the patient, or "".
        modality: one of DICOM's image modalities; "OT" for anything else.
        unit: HU for a CT slice whose rescaled values say so.
        apart: (what, value) of everything that can tell volumes apart which share positions: the
            acquisition, the echo, the b-value, the moment.
        damage: why its pixels cannot all be there, or "".
    """

    file: SourceFile
    frame: int | None
    plane: Plane
    series: str
    instance: str
    frame_of_reference: str
    patient: str
    modality: str
    slope: float
    intercept: float
    unit: Unit
    apart: tuple[tuple[str, str], ...]
    damage: str


@dataclass(frozen=True, repr=False)
class MarkFile:
    """A DICOM object that marks lesions; the reader of its kind reads the rest of it."""

    file: SourceFile
    patient: str
    kind: MarkKind


def read_header(
    file: SourceFile, patient_attribute: str, oddities: Counter[str] | None = None
) -> tuple[Slice, ...] | MarkFile | Refusal:
    """Read one file's header: the images in it, or the reason why it cannot be used."""
    if is_archive(file.name):
        return stray(file, "")
    try:
        with file.path.open("rb") as stream:
            head = stream.read(132)
            if head[128:] != b"DICM":
                return _no_dicom(file, head)
            stream.seek(0)
            with withheld(oddities, ODD):
                dataset = dcmread(
                    stream, stop_before_pixels=True, specific_tags=[*_TAGS, patient_attribute]
                )
                return _judge(file, dataset, stream, patient_attribute)
    except PermissionError:
        return Refusal(file.name, "it cannot be opened: permission denied")
    except UNREADABLE:
        return Refusal(file.name, "a damaged DICOM file: its header cannot be read")


def known_keyword(keyword: str) -> bool:
    """Whether DICOM's dictionary has an attribute of this name."""
    return tag_for_keyword(keyword) is not None


def _no_dicom(file: SourceFile, head: bytes) -> Refusal:
    if not head:
        return Refusal(file.name, "an empty file")
    if head[:2] in (b"\x08\x00", b"\x02\x00") and head[3:4] == b"\x00":
        return Refusal(
            file.name, "a DICOM data set without the Part 10 header: convert it to a DICOM file"
        )
    return stray(file, "not a DICOM file")


def _judge(
    file: SourceFile, dataset: Dataset, stream: BinaryIO, patient_attribute: str
) -> tuple[Slice, ...] | MarkFile | Refusal:
    patient = _text(dataset, patient_attribute)
    if _text(dataset, "SyntheticData") == "YES":
        return Refusal(file.name, "it is marked as synthetic (0008,001C)")
    if dataset.get("SOPClassUID") in SEGMENTATIONS:
        if damage := _damage(dataset, stream):
            return Refusal(file.name, f"a damaged segmentation: {damage}")
        return MarkFile(file, patient, "seg")
    reason = _not_an_image(dataset) or _not_a_slice(dataset) or _not_decodable(dataset)
    if reason:
        return Refusal(file.name, reason)
    plane = plane_of(dataset, dataset, dataset, dataset)
    if isinstance(plane, str):
        return Refusal(file.name, plane)
    rescale = _rescale(dataset)
    if isinstance(rescale, str):
        return Refusal(file.name, rescale)
    modality = _text(dataset, "Modality")
    slope, intercept, hounsfield = rescale
    one = Slice(
        file=file,
        frame=None,
        plane=plane,
        series=_text(dataset, "SeriesInstanceUID"),
        instance=_text(dataset, "SOPInstanceUID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        patient=patient,
        modality=modality if modality in _IMAGE_MODALITIES else "OT",
        slope=slope,
        intercept=intercept,
        unit=Unit.HOUNSFIELD if hounsfield and modality == "CT" else Unit.ARBITRARY,
        apart=(),
        damage=_damage(dataset, stream),
    )
    return (one,)


def _not_an_image(dataset: Dataset) -> str:
    if dataset.file_meta.get("MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
        return "an index (DICOMDIR), not an image"
    modality = _text(dataset, "Modality")
    if modality in _WITHOUT_IMAGE:
        return _WITHOUT_IMAGE[modality]
    if not dataset.get("Rows") or not dataset.get("Columns"):
        return "a DICOM object without an image, or cut off within its header"
    return ""


def _not_a_slice(dataset: Dataset) -> str:
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        return "several frames in one file (enhanced or multi-frame) are not read in this version"
    if "LOCALIZER" in (dataset.get("ImageType") or ()):
        return "a localiser, not a slice of a volume"
    kind = _text(dataset, "PhotometricInterpretation")
    if dataset.get("SamplesPerPixel", 1) != 1 or not kind.startswith("MONOCHROME"):
        return "a colour image: intensities in one channel are needed"
    if kind != "MONOCHROME2":
        return "inverted grey values (MONOCHROME1) are not read in this version"
    if dataset.get("ModalityLUTSequence"):
        return "a Modality LUT instead of slope and intercept is not read in this version"
    return ""


def _not_decodable(dataset: Dataset) -> str:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    lossy = _text(dataset, "LossyImageCompression")
    if lossy == "01" or (syntax in _LOSSY_CAPABLE and lossy != "00"):
        return "lossy compression has changed its values: export it without loss"
    try:
        available = get_decoder(syntax).is_available
    except (NotImplementedError, AttributeError):
        return "an unknown transfer syntax: export it as Explicit VR Little Endian"
    if not available:
        return f'its pixels are compressed ({syntax.name}): pip install "medaug[codecs]" reads them'
    return ""


def plane_of(
    size: Dataset, measures: Dataset, orientation: Dataset, position: Dataset
) -> Plane | str:
    """The grid of a slice or a frame, or the reason why it has none.

    The four parts stand in one data set for a slice, and in four functional groups for a frame.
    """
    spacing = numbers(measures, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        return "it has no usable Pixel Spacing"
    directions = numbers(orientation, "ImageOrientationPatient", 6)
    origin = numbers(position, "ImagePositionPatient", 3)
    if directions is None or origin is None:
        return "it has no place in the patient (Image Position and Orientation)"
    axes = np.reshape(directions, (2, 3))
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3):
        return "its row and column directions are not perpendicular unit vectors"
    return Plane(int(size.Rows), int(size.Columns), spacing, directions, origin)


def _rescale(dataset: Dataset) -> tuple[float, float, bool] | str:
    """(slope, intercept, whether the result is HU), PS3.3 C.11.1.1.2; or a reason.

    A file without rescale holds its stored values, and those are not HU.
    """
    slope = numbers(dataset, "RescaleSlope", 1)
    intercept = numbers(dataset, "RescaleIntercept", 1)
    if "RescaleSlope" not in dataset and "RescaleIntercept" not in dataset:
        return 1.0, 0.0, False
    if slope is None or intercept is None or slope[0] == 0:
        return "its Rescale Slope and Intercept are not two usable numbers"
    return slope[0], intercept[0], _text(dataset, "RescaleType") in ("", "HU")


def _damage(dataset: Dataset, stream: BinaryIO) -> str:
    """Whether the pixel data that follow the header are there to their end.

    ``stream`` stands where pydicom stopped, before the tag of the pixel data.
    """
    if dataset.file_meta.TransferSyntaxUID.is_deflated:
        stream.seek(0)
        present = len(dcmread(stream).get("PixelData", b""))
        return "" if present >= _native_bytes(dataset) else "its pixel data are cut off"
    tag = stream.read(4)
    if tag == b"":
        return "it ends before its pixel data"
    if tag not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        return "its pixels are not integers (no Pixel Data element)"
    stream.read(4 if dataset.original_encoding[0] else 8)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return "" if _reaches_delimiter(stream) else "its compressed pixel data are cut off"
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    return "" if left >= _native_bytes(dataset) else "its pixel data are cut off"


def _native_bytes(dataset: Dataset) -> int:
    pixels = int(dataset.get("NumberOfFrames") or 1) * int(dataset.Rows) * int(dataset.Columns)
    return -(-pixels * int(dataset.BitsAllocated) // 8)


def _reaches_delimiter(stream: BinaryIO) -> bool:
    """Step over the fragments to the Sequence Delimitation Item (PS3.5 A.4)."""
    size = os.fstat(stream.fileno()).st_size
    while len(item := stream.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            return True
        if (group, element) != (0xFFFE, 0xE000) or stream.tell() + length > size:
            return False
        stream.seek(length, os.SEEK_CUR)
    return False


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly ``count`` finite numbers, or None."""
    try:
        value = dataset.get(keyword)
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (ValueError, TypeError):
        return None
    if value is None or values.shape != (count,) or not np.isfinite(values).all():
        return None
    return tuple(float(number) for number in values)
