"""DICOM Secondary Capture, built from nothing but an allow-list.

No dataset is ever copied and cleaned: every attribute below is written out here, and a test
holds the list. The images form one study of one made-up patient, with a series per class.

A sample of several slices (3-D, or adjacent slices as channels) is a series of its own: one
instance for each slice, with position and orientation, which the general rule for extending an IOD
allows [6]_. Every reader of series then gives back the volume with its millimetres. Multi-frame
Grayscale Word Secondary Capture would need one file, but it takes unsigned pixels only, and carries
a place for its frames in functional groups alone, whose module asks for a date and a time of the
content (PS3.3 C.7.6.16); without them readers stack the frames at a distance that they make up.

Secondary Capture [1]_ with Conversion Type ``SYN`` keeps a PACS from taking a sample for an
acquisition. Intensities go through the Modality LUT [2]_, so that a reader sees HU. The class
stands in the Acquisition Context Sequence [3]_ as a Finding (121071, DCM): the general place
for a coded name and value of a single image; the IOD allows it as a standard extension.

A drawn mask is an overlay plane of type ROI [5]_ in the image's own file, which the IOD allows. A
Segmentation would be the more usual place, but it asks for a date and a time of its content
(PS3.3 C.7.6.16), and a release has none that would be true.

UIDs are random [4]_, from a generator seeded with the release's pixels and the caller's seed:
a build repeats them, two releases never share them, and no UID of a source enters.

.. [1] DICOM PS3.3 A.8.1 and C.8.6
.. [2] DICOM PS3.3 C.11.1
.. [3] DICOM PS3.3 C.7.6.14
.. [4] DICOM PS3.5 B.2
.. [5] DICOM PS3.3 A.8.1.3 and C.9.2
.. [6] DICOM PS3.2 3.11.4, Standard Extended SOP Class; PS3.3 C.7.6.2 and C.7.4.1
"""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from medaug.domain import Release
from medaug.errors import Fault, SettingsError
from medaug.export.layout import depth_of, planes, sample_name
from medaug.export.manifest import ClassEntry, ImageEntry, Manifest
from medaug.export.words import NOTICE
from medaug.progress import Progress

IMPLEMENTATION = UID("2.25.236977800000656955179002445566371577322")

# "US" is DICOM's word for unspecified (PS3.3 C.11.1.1.2).
_RESCALE_TYPE = {"HU": "HU", "SUV": "SUV", "arbitrary": "US"}


def write_dicom(
    release: Release, manifest: Manifest, folder: Path, seed: int, progress: Progress
) -> None:
    """Write ``<class>/<number>.dcm``, or ``<class>/<number>/<slice>.dcm``, into ``folder``."""
    # With the seed alone, two sites that both use seed 0 would share their UIDs.
    rng = np.random.default_rng([seed, int(manifest.pixels_digest, 16)])
    common = _common(manifest, rng)
    series = []
    for number, entry in enumerate(manifest.classes, start=1):
        (folder / entry.folder).mkdir(parents=True)
        series.append(_series(common, entry, number, _uid(rng)))
    deep = depth_of(manifest.image.shape) > 1
    for instance, plane in enumerate(planes(release), start=1):
        entry = manifest.classes[plane.label]
        path = folder / entry.folder / f"{plane.name}.dcm"
        dataset = Dataset()
        dataset.update(series[plane.label])
        dataset.InstanceNumber = instance
        if deep:
            path = folder / entry.folder / sample_name(plane.number) / f"{plane.slice:03d}.dcm"
            if plane.slice == 0:
                path.parent.mkdir()
                volume = _volume(plane.number, manifest, rng)
            dataset.update(volume)
            _add_place(dataset, plane.slice, manifest.image)
        dataset.SOPInstanceUID = _uid(rng)
        dataset.PixelData = plane.pixels.astype("<i2").tobytes()
        dataset["PixelData"].VR = "OW"
        if plane.mask is not None:
            _add_mask(dataset, plane.mask)
        dataset.file_meta = _file_meta(dataset.SOPInstanceUID, manifest.medaug)
        dcmwrite(path, dataset, enforce_file_format=True)
        progress.advance()


def missing_marks(path: Path) -> list[str]:
    """What a DICOM file of a release should say and does not, as sentences."""
    tags = ["SyntheticData", "ConversionType", "SeriesDescription", "ImageComments"]
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=[*tags])
        found = {tag: str(dataset.get(tag, "")) for tag in tags}
    except (InvalidDicomError, OSError, EOFError, ValueError, struct.error) as error:
        return [f"cannot be read as DICOM: {error}"]
    wanted = dict(zip(tags, ("YES", "SYN", NOTICE, NOTICE), strict=True))
    return [
        f"{tag} is '{found[tag]}', not '{wanted[tag]}'" for tag in tags if found[tag] != wanted[tag]
    ]


def _common(manifest: Manifest, rng: np.random.Generator) -> Dataset:
    """What all images of the release share."""
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    common.SOPClassUID = SecondaryCaptureImageStorage
    common.SyntheticData = "YES"
    _add_patient_and_study(common, rng)
    _add_equipment(common, manifest.medaug)
    common.Modality = manifest.image.modality
    common.ConversionType = "SYN"
    common.ImageType = ["DERIVED", "SECONDARY"]
    common.BurnedInAnnotation = "NO"
    common.RecognizableVisualFeatures = "NO"
    common.PatientOrientation = None
    common.ImageComments = NOTICE
    licence = f" Licence: {manifest.licence}." if manifest.licence else ""
    common.DerivationDescription = (
        f"{NOTICE}. Drawn by a generative model; shows no patient. "
        f"Release {manifest.pixels_digest[:16]}.{licence}"
    )
    if manifest.body_part:
        common.BodyPartExamined = manifest.body_part
    _add_pixel_meaning(common, manifest)
    return common


def _add_patient_and_study(common: Dataset, rng: np.random.Generator) -> None:
    common.PatientName = "SYNTHETIC^MEDAUG"
    common.PatientID = f"MEDAUG-{rng.bytes(8).hex().upper()}"
    common.PatientIdentityRemoved = "YES"
    common.DeidentificationMethod = [
        "Pixels drawn by a generative model",
        "Header built from an allow-list, nothing copied from a source",
    ]
    common.StudyInstanceUID = _uid(rng)
    common.StudyDescription = NOTICE
    common.SeriesDescription = NOTICE
    # These must be there, and nobody has a value for them. Image Laterality stands for the
    # series' Laterality, which would depend on whether the body part is paired (C.7.3.1).
    for keyword in (
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
        "ImageLaterality",
    ):
        setattr(common, keyword, None)


def _add_equipment(common: Dataset, version: str) -> None:
    common.Manufacturer = "medaug"
    common.ManufacturerModelName = "medaug"
    common.SoftwareVersions = version
    synthesiser = Dataset()
    synthesiser.PurposeOfReferenceCodeSequence = [_code("109100", "DCM", "Synthesizing Equipment")]
    synthesiser.Manufacturer = "medaug"
    synthesiser.ManufacturerModelName = "medaug"
    synthesiser.SoftwareVersions = version
    common.ContributingEquipmentSequence = [synthesiser]


def _add_pixel_meaning(common: Dataset, manifest: Manifest) -> None:
    image = manifest.image
    common.Rows, common.Columns = image.shape[-2:]
    common.SamplesPerPixel = 1
    common.PhotometricInterpretation = "MONOCHROME2"
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit = 15
    common.PixelRepresentation = 1
    common.RescaleSlope = _decimal(image.slope)
    common.RescaleIntercept = _decimal(image.intercept)
    common.RescaleType = _RESCALE_TYPE[image.unit]
    low, high = image.window
    common.WindowCenter = f"{(low + high) / 2:.9g}"
    common.WindowWidth = f"{high - low:.9g}"
    # The default function asks for a width of 1 or more (PS3.3 C.11.2.1.2.1); ours may be 0..1.
    common.VOILUTFunction = "LINEAR_EXACT"
    if image.mm_per_pixel:
        spacing = f"{image.mm_per_pixel:.9g}"
        common.NominalScannedPixelSpacing = [spacing, spacing]
        common.PixelSpacing = [spacing, spacing]


def _volume(number: int, manifest: Manifest, rng: np.random.Generator) -> Dataset:
    """What the slices of a sample share."""
    volume = Dataset()
    volume.SeriesInstanceUID = _uid(rng)
    volume.SeriesNumber = number + 1
    if manifest.image.slice_mm:
        # The place of a slice means something beside the others of its series and nowhere else.
        volume.FrameOfReferenceUID = _uid(rng)
        volume.PositionReferenceIndicator = None
    return volume


def _add_place(dataset: Dataset, at: int, image: ImageEntry) -> None:
    """Number and, where millimetres are known, place of slice ``at``.

    Columns run to the left (+x), rows to the back (+y), slices to the head (+z); the first pixel
    is at the origin.
    """
    dataset.InstanceNumber = at + 1
    if image.slice_mm:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, f"{at * image.slice_mm:.9g}"]
        dataset.SpacingBetweenSlices = f"{image.slice_mm:.9g}"


def _add_mask(dataset: Dataset, mask: NDArray[np.bool_]) -> None:
    """The mask (row, column) as an overlay plane, one bit per pixel."""
    packed = np.packbits(mask.ravel(), bitorder="little").tobytes()  # PS3.5 8.1.2
    for element, representation, value in (
        (0x0010, "US", mask.shape[0]),
        (0x0011, "US", mask.shape[1]),
        (0x0022, "LO", "Lesion, drawn with the image"),
        (0x0040, "CS", "R"),  # region of interest
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x1301, "IS", int(mask.sum())),  # ROI Area, in pixels
        (0x3000, "OW", packed + bytes(len(packed) % 2)),
    ):
        dataset.add_new((0x6000, element), representation, value)


def _series(common: Dataset, entry: ClassEntry, number: int, uid: UID) -> Dataset:
    """What all images of a class share."""
    series = Dataset()
    series.update(common)
    series.SeriesInstanceUID = uid
    series.SeriesNumber = number
    finding = Dataset()
    finding.ConceptNameCodeSequence = [_code("121071", "DCM", "Finding")]
    if entry.finding:
        finding.ValueType = "CODE"
        code = entry.finding
        finding.ConceptCodeSequence = [_code(code.value, code.scheme, code.meaning)]
    else:
        finding.ValueType = "TEXT"
        finding.TextValue = entry.name
    series.AcquisitionContextSequence = [finding]
    return series


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _file_meta(instance: UID, version: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = f"MEDAUG {version}"[:16]
    return meta


def _uid(rng: np.random.Generator) -> UID:
    return UID(f"2.25.{uuid.UUID(bytes=rng.bytes(16), version=4).int}")


def _decimal(number: float) -> str:
    """A decimal string (DS, at most 16 characters) that gives back exactly ``number``."""
    text = repr(number)
    if len(text) > 16:
        raise SettingsError(
            Fault(
                "export.formats: dicom",
                f"the rescale needs {len(text)} characters: {text}",
                "16, DICOM's decimal string",
                "make the rescale with Rescale.of, which rounds to what fits",
            )
        )
    return text
