"""DICOM images, built from nothing but an allow-list.

No dataset is ever copied and cleaned: every attribute is written out here and in `dicom_kinds` and
`dicom_masks`, and a test holds the list. The images form one study of one made-up patient.

Every sample is a series of its own, with an instance for each slice. Where millimetres are known it
has position and orientation, which the general rule for extending an IOD allows [5]_: every reader
then gives back a volume, or a picture, in millimetres, and none stacks two samples. Multi-frame
Grayscale Word Secondary Capture would need one file, but it takes unsigned pixels only, and carries
a place for its frames in functional groups alone, whose module asks for a date and a time of the
content (PS3.3 C.7.6.16); without them readers stack the frames at a distance that they make up.

Intensities go through the Modality LUT [1]_, so that a reader sees HU. The class stands in the
Acquisition Context Sequence [2]_ as a Finding (121071, DCM): the general place for a coded name and
value of a single image; the IOD allows it as a standard extension.

The only date is the day of release, where it is given: as Study Date, and of a mask Content Date.

UIDs are random [3]_, from a generator seeded with what the release says of itself and the
caller's seed: a build repeats them, two releases never share them, and no UID of a source enters.
The purpose of reference "Synthesizing Equipment" [4]_ names product and version, the release and
the entry of the site's ledger.

.. [1] DICOM PS3.3 C.11.1
.. [2] DICOM PS3.3 C.7.6.14
.. [3] DICOM PS3.5 B.2
.. [4] DICOM PS3.16 CID 7005
.. [5] DICOM PS3.2 3.11.4, Standard Extended SOP Class; PS3.3 C.7.6.2 and C.7.4.1
"""

from __future__ import annotations

import struct
import uuid
from itertools import groupby
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from medaug.domain import Release, digest_of
from medaug.export.dicom_kinds import add_kind, coded, placed, to_store
from medaug.export.dicom_masks import Drawn, segmentation
from medaug.export.layout import MASKS, Plane, depth_of, planes, sample_name
from medaug.export.manifest import ClassEntry, Manifest
from medaug.export.settings import ExportSettings, Finding
from medaug.export.words import NOTICE
from medaug.progress import Progress

IMPLEMENTATION = UID("2.25.236977800000656955179002445566371577322")

_SYNTHESISER = Finding(value="109100", scheme="DCM", meaning="Synthesizing Equipment")
_FINDING = Finding(value="121071", scheme="DCM", meaning="Finding")


def write_dicom(
    release: Release,
    manifest: Manifest,
    settings: ExportSettings,
    folder: Path,
    seed: int,
    progress: Progress,
) -> None:
    """Write ``<class>/<number>.dcm``, or ``<class>/<number>/<slice>.dcm``, into ``folder``.

    Masks go into the folder of `layout.MASKS` beside it, a file for each sample.

    Raises:
        SettingsError: if the settings ask for a kind of image that this release cannot be.
    """
    # With the seed alone, two sites that both use seed 0 would share their UIDs; with the pixels
    # alone, one UID would name two kinds of image.
    said = digest_of(manifest.model_dump_json(exclude={"ledger"}), settings.model_dump_json())
    rng = np.random.default_rng([seed, int(said, 16)])
    common = _common(manifest, settings, rng)
    masks = folder.with_name(MASKS["dicom"])
    for entry in manifest.classes:
        (folder / entry.folder).mkdir(parents=True)
        if manifest.masks:
            (masks / entry.folder).mkdir(parents=True)
    findings = [_finding(entry) for entry in manifest.classes]
    for number, slices in groupby(planes(release), key=lambda plane: plane.number):
        drawn: list[Drawn] = []
        series = _series(common, number, manifest, rng)
        label = int(release.labels[number])
        series.AcquisitionContextSequence = [findings[label]]
        entry = manifest.classes[label]
        for plane in slices:
            dataset = _image(series, plane, manifest, _uid(rng))
            _save(dataset, _path(folder / entry.folder, plane, manifest), manifest.medaug)
            if plane.mask is not None:
                drawn.append(Drawn(dataset, plane.mask))
            progress.advance()
        if drawn:
            place = len(release) + number + 1  # after the series of images
            mask = segmentation(drawn, manifest, entry, place, (_uid(rng), _uid(rng), _uid(rng)))
            _save(mask, masks / entry.folder / f"{sample_name(number)}.dcm", manifest.medaug)


def missing_marks(path: Path, sop: UID | None = SecondaryCaptureImageStorage) -> list[str]:
    """What a DICOM file of a release should say and does not, as sentences.

    Args:
        path: the file; a mask lies in the folder of masks.
        sop: class of the images, by `dicom_kinds.sop_class`.
    """
    kind = SegmentationStorage if path.parts[-3] == MASKS["dicom"] else sop
    wanted = {"SOPClassUID": str(kind), "SyntheticData": "YES"}
    wanted |= {"SeriesDescription": NOTICE, "ImageComments": NOTICE}
    if kind == SecondaryCaptureImageStorage:
        wanted["ConversionType"] = "SYN"
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=[*wanted])
        found = {tag: str(dataset.get(tag, "")) for tag in wanted}
    except (InvalidDicomError, OSError, EOFError, ValueError, struct.error) as error:
        return [f"cannot be read as DICOM: {error}"]
    return [
        f"{tag} is '{found[tag]}', not '{value}'"
        for tag, value in wanted.items()
        if found[tag] != value
    ]


def _common(manifest: Manifest, settings: ExportSettings, rng: np.random.Generator) -> Dataset:
    """What all images of the release share."""
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    common.SyntheticData = "YES"
    _add_patient_and_study(common, manifest, rng)
    _add_equipment(common, manifest)
    common.Modality = manifest.image.modality
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
    common.Rows, common.Columns = manifest.image.shape[-2:]
    common.SamplesPerPixel = 1
    common.PhotometricInterpretation = "MONOCHROME2"
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit = 15
    add_kind(common, manifest, settings)
    return common


def _add_patient_and_study(common: Dataset, manifest: Manifest, rng: np.random.Generator) -> None:
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
    if manifest.day:
        common.StudyDate = manifest.day.strftime("%Y%m%d")


def _add_equipment(common: Dataset, manifest: Manifest) -> None:
    common.Manufacturer = "medaug"
    common.ManufacturerModelName = "medaug"
    common.SoftwareVersions = manifest.medaug
    synthesiser = Dataset()
    synthesiser.PurposeOfReferenceCodeSequence = [coded(_SYNTHESISER)]
    synthesiser.Manufacturer = "medaug"
    synthesiser.ManufacturerModelName = "medaug"
    synthesiser.SoftwareVersions = manifest.medaug
    synthesiser.ContributionDescription = f"Release {manifest.pixels_digest}"
    if manifest.ledger:
        entry, head = manifest.ledger.entry, manifest.ledger.head
        synthesiser.ContributionDescription += f"; ledger entry {entry}, head {head}"
    common.ContributingEquipmentSequence = [synthesiser]


def _series(common: Dataset, number: int, manifest: Manifest, rng: np.random.Generator) -> Dataset:
    """What the slices of a sample share."""
    series = Dataset()
    series.update(common)
    series.SeriesInstanceUID = _uid(rng)
    series.SeriesNumber = number + 1
    if placed(manifest):
        # The place of a slice means something beside the others of its series and nowhere else.
        series.FrameOfReferenceUID = _uid(rng)
        series.PositionReferenceIndicator = None
    return series


def _image(series: Dataset, plane: Plane, manifest: Manifest, uid: UID) -> Dataset:
    """One slice of a sample.

    Columns run to the left (+x), rows to the back (+y), slices to the head (+z); the first pixel
    of a sample is at the origin.
    """
    apart = manifest.image.slice_mm
    dataset = Dataset()
    dataset.update(series)
    dataset.SOPInstanceUID = uid
    dataset.InstanceNumber = plane.slice + 1
    if placed(manifest):
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, f"{plane.slice * (apart or 0):.9g}"]
        if apart:
            dataset.SpacingBetweenSlices = f"{apart:.9g}"
    dataset.PixelData = to_store(plane.pixels, dataset)
    dataset["PixelData"].VR = "OW"
    return dataset


def _path(folder: Path, plane: Plane, manifest: Manifest) -> Path:
    """Of the file of a slice, below the folder of its class."""
    if depth_of(manifest.image.shape) == 1:
        return folder / f"{plane.name}.dcm"
    return folder / sample_name(plane.number) / f"{plane.slice:03d}.dcm"


def _finding(entry: ClassEntry) -> Dataset:
    """The class as the item of an acquisition context."""
    finding = Dataset()
    finding.ConceptNameCodeSequence = [coded(_FINDING)]
    if entry.finding:
        finding.ValueType = "CODE"
        finding.ConceptCodeSequence = [coded(entry.finding)]
    else:
        finding.ValueType = "TEXT"
        finding.TextValue = entry.name
    return finding


def _save(dataset: Dataset, path: Path, version: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = f"MEDAUG {version}"[:16]
    dataset.file_meta = meta
    path.parent.mkdir(exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)


def _uid(rng: np.random.Generator) -> UID:
    return UID(f"2.25.{uuid.UUID(bytes=rng.bytes(16), version=4).int}")
