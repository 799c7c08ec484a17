"""A phantom patient as a DICOM CT series and one DICOM Segmentation.

The files differ from patient to patient in what real archives differ in: stored values signed or
unsigned, with 12 or 16 bits; instance numbers from 0 or 1, from the head or from the feet; file
names in no order. Everything, UIDs and dates too, follows from the seed and the patient's number.

Standard: CT Image IOD (DICOM PS3.3 A.3), Segmentation IOD (PS3.3 A.51).
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import highdicom as hd
import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medaug.domain import lps_to_ras
from medaug.phantom.dealing import Kind
from medaug.phantom.marker import plant
from medaug.phantom.patient import PhantomPatient

# SNOMED CT codes with the meanings of DICOM PS3.16; the segment labels are the kinds.
FINDINGS: dict[Kind, Code] = {
    "cyst": Code("367643001", "SCT", "Cyst"),
    "metastasis": Code("128462008", "SCT", "Metastasis"),
    "haemangioma": Code("400210000", "SCT", "Hemangioma"),
}


def write_dicom(patient: PhantomPatient, folder: Path, marker: str | None = None) -> None:
    """Write ``folder/ct/*.dcm`` and ``folder/seg.dcm``.

    Args:
        patient: whom to write.
        folder: an existing folder.
        marker: a text to plant in every text attribute (see `medaug.phantom.marker`).
    """
    slices = _ct_slices(patient)
    segmentation = _segmentation(patient, slices)
    rng = np.random.default_rng([patient.seed, patient.number, 0xF11E])
    names = [f"{name:08x}.dcm" for name in rng.choice(2**32, len(slices), replace=False)]
    (folder / "ct").mkdir()
    for name, dataset in zip(names, slices, strict=True):
        _save(dataset, folder / "ct" / name, marker)
    _save(segmentation, folder / "seg.dcm", marker)


def _save(dataset: Dataset, path: Path, marker: str | None) -> None:
    if marker is not None:
        plant(dataset, marker)
    dataset.save_as(path, enforce_file_format=True)


def _uid(patient: PhantomPatient, *what: str | int) -> str:
    """A UID made from a UUID (DICOM PS3.5 B.2), the same for the same patient and thing."""
    name = "/".join(map(str, ("medaug.phantom", patient.seed, patient.number, *what)))
    return f"2.25.{uuid5(NAMESPACE_OID, name).int}"


def _ct_slices(patient: PhantomPatient) -> list[Dataset]:
    """The CT images, from the feet to the head."""
    variant = patient.number // 2
    signed = variant % 3 == 1
    intercept = 0 if signed else -1024
    first = 0 if variant % 3 == 2 else 1
    header = _header(patient)
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = intercept, 1, "HU"
    header.PixelRepresentation = int(signed)
    header.BitsAllocated, header.BitsStored = 16, 12 if variant % 3 == 2 else 16
    header.HighBit = header.BitsStored - 1

    origin = lps_to_ras(patient.geometry.affine)  # RAS to LPS: its own inverse
    count = patient.geometry.shape[2]
    slices = []
    for k in range(count):
        dataset = deepcopy(header)
        x, y, z = origin[:3, 3] + k * origin[:3, 2]
        dataset.SOPInstanceUID = _uid(patient, "ct", k)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = first + (k if variant % 2 else count - 1 - k)
        dataset.ImagePositionPatient = [round(float(value), 4) for value in (x, y, z)]
        dataset.SliceLocation = round(float(z), 4)
        stored = patient.voxels[:, :, k].T.astype(np.int32) - intercept
        dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        slices.append(dataset)
    return slices


def _header(patient: PhantomPatient) -> Dataset:
    """What all CT images of a patient share."""
    columns, rows, _ = patient.geometry.shape
    dx, dy, dz = patient.geometry.spacing
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = CTImageStorage
    header.SpecificCharacterSet = "ISO_IR 192"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.Modality = "CT"
    header.StudyInstanceUID = _uid(patient, "study")
    header.SeriesInstanceUID = _uid(patient, "series")
    header.FrameOfReferenceUID = _uid(patient, "frame of reference")
    header.SeriesNumber, header.AcquisitionNumber = 2, 1
    header.PatientPosition = "HFS"
    header.PositionReferenceIndicator = ""
    header.BodyPartExamined = "ABDOMEN"
    header.KVP = 120
    header.GantryDetectorTilt = 0
    header.SliceThickness = dz
    header.SpacingBetweenSlices = dz
    header.PixelSpacing = [dy, dx]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = rows, columns
    header.WindowCenter, header.WindowWidth = 60, 350
    _describe(header, patient)
    return header


def _describe(header: Dataset, patient: PhantomPatient) -> None:
    """The texts, names and dates of a patient, a study and a machine, all invented."""
    rng = np.random.default_rng([patient.seed, patient.number, 0x1D])
    age = int(rng.integers(28, 85))
    study = f"20{rng.integers(12, 21)}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    number = f"{patient.number:04d}"
    header.PatientName = f"PHANTOM^{number}"
    header.PatientID = f"PH{number}"
    header.PatientBirthDate = f"{int(study[:4]) - age}0101"
    header.PatientSex = str(rng.choice(["F", "M"]))
    header.PatientAge = f"{age:03d}Y"
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = study
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = "101500"
    texts = {
        "AccessionNumber": f"ACC{number}",
        "AdditionalPatientHistory": "Invented history",
        "ContrastBolusAgent": "Iodine, portal-venous phase",
        "ConvolutionKernel": "SOFT",
        "DeviceSerialNumber": "1",
        "ImageComments": "Invented image",
        "InstitutionAddress": "1 Nowhere Street",
        "InstitutionName": "Nowhere Hospital",
        "InstitutionalDepartmentName": "Radiology",
        "IssuerOfPatientID": "Nowhere",
        "Manufacturer": "medaug",
        "ManufacturerModelName": "Phantom",
        "MedicalRecordLocator": f"Record {number}",
        "NameOfPhysiciansReadingStudy": "READER^NOBODY",
        "Occupation": "None",
        "OperatorsName": "OPERATOR^NOBODY",
        "OtherPatientIDs": f"OTHER{number}",
        "OtherPatientNames": f"OTHER^{number}",
        "PatientAddress": "2 Nowhere Street",
        "PatientComments": "Invented patient",
        "PatientTelephoneNumbers": "000",
        "PerformingPhysicianName": "PERFORMER^NOBODY",
        "PhysiciansOfRecord": "RECORD^NOBODY",
        "ProtocolName": "Liver portal venous",
        "ReferringPhysicianName": "REFERRER^NOBODY",
        "RequestedProcedureDescription": "CT liver",
        "SeriesDescription": "Liver portal venous",
        "SoftwareVersions": "1",
        "StationName": "CT1",
        "StudyDescription": "CT abdomen",
        "StudyID": number,
    }
    for keyword, text in texts.items():
        setattr(header, keyword, text)
    request = Dataset()
    request.RequestedProcedureID = f"RP{number}"
    request.ScheduledProcedureStepDescription = "CT liver"
    header.RequestAttributesSequence = [request]
    private = header.private_block(0x0009, "MEDAUG PHANTOM", create=True)
    private.add_new(0x01, "LO", f"Private {number}")
    private.add_new(0x02, "LT", "Private comment")


def _segmentation(patient: PhantomPatient, slices: list[Dataset]) -> Dataset:
    """One binary segment per lesion, numbered and tracked in the order of `PhantomPatient`."""
    drawn_by_hand = patient.number // 2 % 2 == 0
    algorithm = hd.AlgorithmIdentificationSequence(
        name="Phantom truth", family=codes.cid7162.ArtificialIntelligence, version="1"
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=order,
            segment_label=lesion.kind,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=FINDINGS[lesion.kind],
            algorithm_type="MANUAL" if drawn_by_hand else "AUTOMATIC",
            algorithm_identification=None if drawn_by_hand else algorithm,
            tracking_id=f"PH{patient.number:04d} lesion {order}",
            tracking_uid=_uid(patient, "lesion", order),
            anatomic_regions=[codes.SCT.Liver],
        )
        for order, lesion in enumerate(patient.lesions, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=np.ascontiguousarray(patient.labels.transpose(2, 1, 0)),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=_uid(patient, "segmentation series"),
        series_number=900,
        sop_instance_uid=_uid(patient, "segmentation"),
        instance_number=1,
        manufacturer="medaug",
        manufacturer_model_name="Phantom",
        software_versions="1",
        device_serial_number="1",
        content_description="Lesions of the liver",
        content_creator_name="DRAWER^NOBODY",
        series_description="Lesions",
    )
    _settle(segmentation, patient)
    return segmentation


def _settle(segmentation: Dataset, patient: PhantomPatient) -> None:
    """Replace what highdicom takes from the clock and from chance."""
    study: str = segmentation.StudyDate
    for name in ("InstanceCreation", "Content", "Series"):
        if f"{name}Date" in segmentation:
            setattr(segmentation, f"{name}Date", study)
            setattr(segmentation, f"{name}Time", "113000")
    for item in segmentation.ContributingEquipmentSequence:
        item.ContributionDateTime = f"{study}113000"
    organisation = _uid(patient, "dimension organisation")
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    segmentation.InstitutionName = "Nowhere Hospital"
    segmentation.ImageComments = "Invented segmentation"
    private = segmentation.private_block(0x0009, "MEDAUG PHANTOM", create=True)
    private.add_new(0x01, "LO", f"Private {patient.number:04d}")
