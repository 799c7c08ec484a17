"""A drawn lesion mask as DICOM Segmentation (SEG) that refers to its image [1]_.

One file for each sample, with one binary segment: a frame for each slice that a mask was drawn of.
The segment's type is the class's coded finding, or ``Lesion`` where it has none.

highdicom reads what is written here, and the tests hold it to that; it does not write it, because
its `Segmentation` takes the clock, random UIDs and what its source images hold into the file. This
data set holds what stands below.

The standard demands a date and a time of the content (type 1 [2]_). The date is the day of release,
the only one that a release states; where none is given, 19000101 stands for none. The time is
always 000000: a release never tells a time of day.

.. [1] DICOM PS3.3 A.51 and C.8.20.2
.. [2] DICOM PS3.3 C.7.6.16
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, SegmentationStorage

from medaug.export.dicom_kinds import coded
from medaug.export.manifest import ClassEntry, Manifest
from medaug.export.settings import Finding
from medaug.export.words import NOTICE

_NO_DAY = date(1900, 1, 1)
_CATEGORY = Finding(value="49755003", scheme="SCT", meaning="Morphologically Abnormal Structure")
_LESION = Finding(value="52988006", scheme="SCT", meaning="Lesion")
_SEGMENTATION = Finding(value="113076", scheme="DCM", meaning="Segmentation")
_SOURCE = Finding(
    value="121322", scheme="DCM", meaning="Source image for image processing operation"
)
# Patient, study and equipment are the image's own: it was built by the same hands.
_SHARED = (
    "SpecificCharacterSet",
    "SyntheticData",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyDescription",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesDescription",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "ContributingEquipmentSequence",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "ImageComments",
    "DerivationDescription",
    "BodyPartExamined",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Rows",
    "Columns",
)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A slice that a mask was drawn of: the image's data set, and the mask (row, column)."""

    image: Dataset
    mask: NDArray[np.bool_]


def segmentation(
    drawn: Sequence[Drawn],
    manifest: Manifest,
    entry: ClassEntry,
    number: int,
    uids: tuple[UID, UID, UID],
) -> Dataset:
    """The mask of one sample.

    Args:
        drawn: its slices from feet to head, at least one.
        manifest: of the release.
        entry: the sample's class.
        number: of the series.
        uids: of series, instance and dimension organization.
    """
    image = drawn[0].image
    dataset = Dataset()
    for keyword in _SHARED:
        if keyword in image:
            dataset[keyword] = image[keyword]
    dataset.SOPClassUID = SegmentationStorage
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID, organization = uids
    dataset.Modality = "SEG"
    dataset.SeriesNumber, dataset.InstanceNumber = number, 1
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    # Which weights drew it: the nearest that a generator has to a serial number.
    dataset.DeviceSerialNumber = manifest.generator_digest
    dataset.ContentLabel = "SYNTHETIC"
    dataset.ContentDescription = NOTICE
    dataset.ContentCreatorName = None
    dataset.ContentDate = (manifest.day or _NO_DAY).strftime("%Y%m%d")
    dataset.ContentTime = "000000"
    dataset.PatientOrientation = None
    _add_segment(dataset, entry)
    _add_references(dataset, drawn)
    _add_dimensions(dataset, organization, "ImagePositionPatient" in image)
    _add_frames(dataset, drawn, manifest)
    _add_pixels(dataset, np.stack([each.mask for each in drawn]))
    return dataset


def _add_segment(dataset: Dataset, entry: ClassEntry) -> None:
    segment = Dataset()
    segment.SegmentNumber = 1
    segment.SegmentLabel = entry.name[:64]
    segment.SegmentDescription = "Lesion, drawn with the image"
    segment.SegmentAlgorithmType = "AUTOMATIC"
    segment.SegmentAlgorithmName = "medaug"
    segment.SegmentedPropertyCategoryCodeSequence = [coded(_CATEGORY)]
    segment.SegmentedPropertyTypeCodeSequence = [coded(entry.finding or _LESION)]
    dataset.SegmentSequence = [segment]


def _add_references(dataset: Dataset, drawn: Sequence[Drawn]) -> None:
    series = Dataset()
    series.SeriesInstanceUID = drawn[0].image.SeriesInstanceUID
    series.ReferencedInstanceSequence = [_reference(each.image) for each in drawn]
    dataset.ReferencedSeriesSequence = [series]


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return reference


def _add_dimensions(dataset: Dataset, organization: UID, has_place: bool) -> None:
    """Frames are ordered by segment and, where they have one, by place."""
    item = Dataset()
    item.DimensionOrganizationUID = organization
    dataset.DimensionOrganizationSequence = [item]
    pointers = [("ReferencedSegmentNumber", "SegmentIdentificationSequence")]
    if has_place:
        pointers.append(("ImagePositionPatient", "PlanePositionSequence"))
    dataset.DimensionIndexSequence = []
    for pointer, group in pointers:
        index = Dataset()
        index.DimensionOrganizationUID = organization
        index.DimensionIndexPointer = Tag(pointer)
        index.FunctionalGroupPointer = Tag(group)
        index.DimensionDescriptionLabel = pointer
        dataset.DimensionIndexSequence.append(index)


def _add_frames(dataset: Dataset, drawn: Sequence[Drawn], manifest: Manifest) -> None:
    image = drawn[0].image
    shared = Dataset()
    if "ImagePositionPatient" in image:  # without a place SimpleITK refuses a spacing, too
        measures, orientation = Dataset(), Dataset()
        measures.PixelSpacing = image.PixelSpacing
        # highdicom asks for a thickness; where nobody knows it, a voxel is a cube.
        apart = manifest.image.slice_mm or manifest.image.mm_per_pixel
        measures.SliceThickness = measures.SpacingBetweenSlices = f"{apart:.9g}"
        shared.PixelMeasuresSequence = [measures]
        orientation.ImageOrientationPatient = image.ImageOrientationPatient
        shared.PlaneOrientationSequence = [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(each.image, at) for at, each in enumerate(drawn, start=1)
    ]


def _frame(image: Dataset, at: int) -> Dataset:
    frame, content, identification = Dataset(), Dataset(), Dataset()
    identification.ReferencedSegmentNumber = 1  # MONAI looks for it here and not in what is shared
    frame.SegmentIdentificationSequence = [identification]
    content.DimensionIndexValues = [1, at] if "ImagePositionPatient" in image else [1]
    frame.FrameContentSequence = [content]
    if "ImagePositionPatient" in image:
        position = Dataset()
        position.ImagePositionPatient = image.ImagePositionPatient
        frame.PlanePositionSequence = [position]
    source = _reference(image)
    source.PurposeOfReferenceCodeSequence = [coded(_SOURCE)]
    source.SpatialLocationsPreserved = "YES"
    derivation = Dataset()
    derivation.SourceImageSequence = [source]
    derivation.DerivationCodeSequence = [coded(_SEGMENTATION)]
    frame.DerivationImageSequence = [derivation]
    return frame


def _add_pixels(dataset: Dataset, masks: NDArray[np.bool_]) -> None:
    """Masks (frame, row, column), one bit per pixel across the ends of frames (PS3.5 8.1.1)."""
    dataset.NumberOfFrames = len(masks)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    dataset.SegmentationType = "BINARY"
    packed = np.packbits(masks.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + bytes(len(packed) % 2)
    dataset["PixelData"].VR = "OB"
