"""One DICOM file: what it says about itself, checked; or the reason why it is not used.

Only the attributes listed here are read, and pixels are not. Texts that could name a person stop
in this module: series and instance UIDs are kept to group and hash, the patient's text to hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

from pydicom import Dataset, uid
from pydicom.datadict import tag_for_keyword

from medaug.domain import Unit
from medaug.readers.bounded import File
from medaug.readers.burned_in import declared
from medaug.readers.dicom.attributes import Said, integer, number, numbers, tag_of, text
from medaug.readers.dicom.codecs import LOSSY_CAPABLE, no_codec
from medaug.readers.dicom.file import Written, open_data_set
from medaug.readers.dicom.frames import frames_of
from medaug.readers.dicom.pixel_data import PixelData, damage, pixel_data
from medaug.readers.dicom.plane import Plane, picture_plane, plane_of, probe_plane
from medaug.readers.dicom.values import Meaning, meaning_of
from medaug.readers.files import Refusal, SourceFile, is_archive, stray
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.rules import Colour

__all__ = [
    "ODD",
    "MarkFile",
    "MarkKind",
    "Plane",
    "Slice",
    "known_keyword",
    "number",
    "numbers",
    "plane_of",
    "read_header",
]

ODD = "made the DICOM library warn (the texts are withheld: they may quote the file)"
LOST = "were compressed with loss, and their values are no longer those of the scanner"
LUMINANCE_ONLY = "are colour images, read as their luminance"
OF_THE_PROBE = "lie in the frame of an ultrasound probe: left and right are not the patient's"

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
ENHANCED_US_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
MarkKind = Literal["seg", "rtstruct", "sr"]

_MARKS: dict[str, MarkKind] = {
    uid.SegmentationStorage: "seg",
    LABEL_MAP_SEGMENTATION: "seg",
}
"""The SOP classes that mark lesions, by the reader that reads the rest."""

_IMAGE_MODALITIES = ("CT", "MR", "PT", "NM", "US", "MG", "CR", "DX", "XA", "RF")

_SLICED = ("CT", "MR", "PT")
"""Modalities whose images lie in the patient, or cannot be used."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_DRAWN: dict[str, MarkKind] = {"RTSTRUCT": "rtstruct", "SR": "sr"}
"""Modalities of objects that mark lesions without pixels."""

_WITHOUT_IMAGE = {
    "RTPLAN": "a radiotherapy plan holds no image",
    "RTDOSE": "a radiotherapy dose is no image",
    "PR": "a presentation state holds no image",
    "KO": "a key object selection holds no image",
    "REG": "a registration holds no image",
}

_LOCALISER = "a localiser, not a slice of a volume"

_APART = (
    ("image type", ("FrameType", "ImageType")),
    ("stack", ("StackID",)),
    ("echo time", ("EffectiveEchoTime", "EchoTime")),
    ("echo", ("EchoNumbers",)),
    ("b-value", ("DiffusionBValue",)),
    ("gradient", ("DiffusionGradientOrientation",)),
    ("inversion time", ("InversionTime",)),
    ("flip angle", ("FlipAngle",)),
    ("energy", ("KVP",)),
    ("kernel", ("ConvolutionKernel",)),
    ("temporal position", ("TemporalPositionIndex", "TemporalPositionIdentifier")),
    ("trigger time", ("NominalCardiacTriggerDelayTime", "TriggerTime")),
    ("acquisition", ("FrameAcquisitionNumber", "AcquisitionNumber")),
    ("acquisition time", ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime")),
    ("content time", ("ContentTime",)),
)
"""What can tell apart images that share a place, from the most to the least meaningful."""

_KEYWORDS = """
    SOPClassUID SOPInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality ImageType
    StudyInstanceUID PatientID BurnedInAnnotation ConversionType
    VolumeFrameOfReferenceUID SyntheticData
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation PlanarConfiguration
    BitsAllocated BitsStored HighBit PixelRepresentation LossyImageCompression
    PixelSpacing ImageOrientationPatient ImagePositionPatient ImagerPixelSpacing PixelAspectRatio
    NominalScannedPixelSpacing EstimatedRadiographicMagnificationFactor
    SequenceOfUltrasoundRegions SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence
    PixelPaddingValue PixelPaddingRangeLimit FloatPixelPaddingValue FloatPixelPaddingRangeLimit
    DoubleFloatPixelPaddingValue DoubleFloatPixelPaddingRangeLimit
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
    GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData
    Units SUVType CorrectedImage DecayCorrection PatientWeight
    RadiopharmaceuticalInformationSequence SeriesDate SeriesTime AcquisitionDate AcquisitionTime
""".split()  # noqa: SIM905 # sixty words in quotes are no easier to read

_TAGS = sorted(map(tag_of, {*_KEYWORDS, *(word for _, words in _APART for word in words)}))


@dataclass(frozen=True)
class Allowed:
    """Images that are read only where the settings say so.

    Attributes:
        lossy: images whose compression lost something.
        colour: which colour images are read, as their luminance.
    """

    lossy: bool = False
    colour: Colour = "ultrasound"


@dataclass(frozen=True, eq=False, repr=False)
class Slice:
    """One image, a file or a frame of one, that can take part in a volume.

    Attributes:
        frame: number of the frame from 0; None where the file is one image.
        patient: text of the attribute that names the patient, or "".
        modality: one of DICOM's image modalities; "OT" for anything else.
        values: how its stored values become measured ones.
        unit: HU for a CT slice whose rescaled values say so; SUV for a PET slice that says enough.
        apart: (what, value) of everything that can tell volumes apart which share positions: the
            acquisition, the echo, the b-value, the moment; the most meaningful first.
        damage: why its pixels cannot all be there, or "".
        pixels: how the pixels of its file are written.
        study: Study Instance UID; with `stated`, to check the rule for patients.
        stated: Patient ID, whatever the rule for patients is.
        printed: why text is to be expected in its pixels, or "".
    """

    file: SourceFile
    frame: int | None
    plane: Plane
    series: str
    instance: str
    frame_of_reference: str
    patient: str
    modality: str
    values: Meaning
    unit: Unit
    apart: tuple[tuple[str, str], ...]
    damage: str
    pixels: PixelData
    study: str = ""
    stated: str = ""
    printed: str = ""


@dataclass(frozen=True, repr=False)
class MarkFile:
    """A DICOM object that marks lesions; the reader of its kind reads the rest of it."""

    file: SourceFile
    patient: str
    kind: MarkKind


def read_header(
    file: SourceFile,
    patient_attribute: str,
    oddities: Counter[str] | None = None,
    allowed: Allowed = Allowed(),
) -> tuple[Slice, ...] | MarkFile | Refusal:
    """Read one file's header: the images in it, or the reason why it cannot be used.

    Args:
        file: the file; any name, with or without the Part 10 header.
        patient_attribute: keyword of the attribute that names the patient.
        oddities: counts the remarks about the file.
        allowed: what is read only by leave of the settings.
    """
    if is_archive(file.name):
        return stray(file, "")
    try:
        with File(file.path) as stream:
            return _read(file, stream, patient_attribute, oddities, allowed)
    except PermissionError:
        return Refusal(file.name, "it cannot be opened: permission denied")
    except OSError:
        return Refusal(file.name, "it cannot be read")


def _read(
    file: SourceFile,
    stream: BinaryIO,
    patient_attribute: str,
    oddities: Counter[str] | None,
    allowed: Allowed,
) -> tuple[Slice, ...] | MarkFile | Refusal:
    head = stream.read(132)
    if not head:
        return Refusal(file.name, "an empty file")
    part10 = head[128:] == b"DICM"
    stream.seek(0)
    try:
        with withheld(oddities, ODD):
            written = open_data_set(stream, [*_TAGS, tag_of(patient_attribute)])
            if written is None or not (part10 or text(written.dataset, "SOPClassUID")):
                return stray(file, "not a DICOM file")
            return _judge(file, written, stream, patient_attribute, allowed, oddities)
    except UNREADABLE:
        if part10:
            return Refusal(file.name, "a damaged DICOM file: its header cannot be read")
        return stray(file, "not a DICOM file")


def known_keyword(keyword: str) -> bool:
    """Whether DICOM's dictionary has an attribute of this name."""
    return tag_for_keyword(keyword) is not None


def _judge(
    file: SourceFile,
    written: Written,
    stream: BinaryIO,
    patient_attribute: str,
    allowed: Allowed,
    oddities: Counter[str] | None,
) -> tuple[Slice, ...] | MarkFile | Refusal:
    dataset = written.dataset
    patient = text(dataset, patient_attribute)
    if text(dataset, "SyntheticData") == "YES":
        return Refusal(file.name, "it is marked as synthetic (0008,001C)")
    marks = _MARKS.get(text(dataset, "SOPClassUID")) or _DRAWN.get(text(dataset, "Modality"))
    if marks and marks != "seg":
        return MarkFile(file, patient, marks)
    if reason := _not_an_image(dataset):
        return Refusal(file.name, reason)
    pixels = pixel_data(written)
    if isinstance(pixels, str):
        return Refusal(file.name, pixels)
    harm = damage(pixels, stream)
    if marks:
        return (
            Refusal(file.name, f"a damaged segmentation: {harm}")
            if harm
            else MarkFile(file, patient, marks)
        )
    remarks: set[str] = set()
    images = _not_wanted(dataset, pixels, allowed, remarks) or _images(
        file, dataset, pixels, patient, harm, remarks
    )
    if isinstance(images, str):
        return Refusal(file.name, images)
    if oddities is not None:
        oddities.update(remarks)
    return images


def _not_an_image(dataset: Dataset) -> str:
    if text(dataset, "SOPClassUID") == uid.MediaStorageDirectoryStorage:
        return "an index (DICOMDIR), not an image"
    modality = text(dataset, "Modality")
    if modality in _WITHOUT_IMAGE:
        return _WITHOUT_IMAGE[modality]
    if not integer(dataset, "Rows") or not integer(dataset, "Columns"):
        return "a DICOM object without an image, or cut off within its header"
    return ""


def _not_wanted(dataset: Dataset, pixels: PixelData, allowed: Allowed, remarks: set[str]) -> str:
    if "LOCALIZER" in text(dataset, "ImageType"):
        return _LOCALISER
    if pixels.samples > 1 or pixels.photometric == "PALETTE COLOR":
        ultrasound = text(dataset, "Modality") == "US"
        if not (allowed.colour == "luminance" or (allowed.colour == "ultrasound" and ultrasound)):
            return (
                "a colour image: intensities in one channel are needed, or set `colour: luminance`"
            )
        if pixels.samples > 1 and not pixels.photometric.startswith(("RGB", "YBR_")):
            return "a colour image in a colour space that is not read: export it as RGB"
        remarks.add(LUMINANCE_ONLY)
    elif not pixels.photometric.startswith("MONOCHROME"):
        return "its Photometric Interpretation is no word for grey values"
    lossy = text(dataset, "LossyImageCompression")
    if lossy == "01" or (pixels.syntax in LOSSY_CAPABLE and lossy != "00"):
        if not allowed.lossy:
            return (
                "lossy compression has changed its values: export it without loss, or set "
                "`lossy: true`"
            )
        remarks.add(LOST)
    if pixels.syntax == uid.JPEGExtended12Bit and pixels.stored > 8:
        return "12-bit lossy JPEG is not read: export it without loss"
    return no_codec(pixels.syntax)


def _images(
    file: SourceFile,
    dataset: Dataset,
    pixels: PixelData,
    patient: str,
    harm: str,
    remarks: set[str],
) -> tuple[Slice, ...] | str:
    grouped = pixels.frames > 1 or "PerFrameFunctionalGroupsSequence" in dataset
    views: Sequence[Said] | str = [dataset]
    if grouped:
        views = frames_of(dataset, pixels.frames, pixels.left)
    if isinstance(views, str):
        return views
    sop_class = text(dataset, "SOPClassUID")
    captured = f"{sop_class}.".startswith(f"{_SECONDARY_CAPTURE}.")
    modality = text(dataset, "Modality")
    modality = modality if modality in _IMAGE_MODALITIES else "OT"
    if sop_class == ENHANCED_US_VOLUME:
        remarks.add(OF_THE_PROBE)
    about_file: dict[str, Any] = {
        "file": file,
        "series": text(dataset, "SeriesInstanceUID"),
        "instance": text(dataset, "SOPInstanceUID"),
        "frame_of_reference": text(dataset, "FrameOfReferenceUID")
        or text(dataset, "VolumeFrameOfReferenceUID"),
        "patient": patient,
        "modality": modality,
        "damage": harm,
        "pixels": pixels,
        "study": text(dataset, "StudyInstanceUID"),
        "stated": text(dataset, "PatientID"),
        "printed": declared(dataset),
    }
    slices: list[Slice] = []
    for index, said in enumerate(views):
        if slices and said is views[0]:
            slices.append(replace(slices[0], frame=index))  # nothing tells the frames apart
            continue
        plane = _plane(said, sop_class, modality in _SLICED and not captured)
        # What a screen showed is no measurement, whatever the modality.
        meaning = meaning_of(said, dataset, pixels, "OT" if captured else modality)
        if isinstance(plane, str) or isinstance(meaning, str):
            return plane if isinstance(plane, str) else str(meaning)
        if "LOCALIZER" in text(said, "FrameType"):
            return _LOCALISER
        values, unit, remark = meaning
        remarks.update({remark} - {""})
        one = Slice(
            frame=index if grouped else None,
            plane=plane,
            values=values,
            unit=unit,
            apart=_apart(said),
            **about_file,
        )
        slices.append(one)
    return tuple(slices)


def _plane(said: Said, sop_class: str, sliced: bool) -> Plane | str:
    if sop_class == ENHANCED_US_VOLUME:
        return probe_plane(said)
    if sliced or said.get("ImagePositionPatient") is not None:
        return plane_of(said, said, said, said)
    return picture_plane(said)


def _apart(said: Said) -> tuple[tuple[str, str], ...]:
    found = []
    for what, keywords in _APART:
        value = next(filter(None, (text(said, keyword) for keyword in keywords)), "")
        if value:
            found.append((what, value))
    return tuple(found)
