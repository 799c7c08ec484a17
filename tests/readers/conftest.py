"""Small cohorts written by other libraries than the ones that read them, where there are any."""

from pathlib import Path
from types import SimpleNamespace

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medaug.domain import Unit
from medaug.readers.dicom.header import Slice
from medaug.readers.dicom.plane import Plane
from medaug.readers.dicom.values import Meaning
from medaug.readers.files import SourceFile

SITE_KEY = bytes(range(32))
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ct_values(shape=(20, 16, 8), seed=0):
    """(column, row, slice) int16 HU."""
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def blob(shape=(20, 16, 8)):
    """Two boxes that touch nowhere: 24 and 2 voxels."""
    mask = np.zeros(shape, bool)
    mask[4:8, 5:8, 2:4] = True
    mask[14:16, 12, 6] = True
    return mask


def write_series(
    folder: Path,
    values: np.ndarray,
    spacing=(0.7, 0.9, 2.5),
    orientation=AXIAL,
    origin=(-30.0, 12.0, 100.0),
    patient="4711",
    seed=0,
    intercept=-1024,
    series=None,
    study=None,
    frame_of_reference=None,
    edit=lambda _dataset, _k: None,
    extension=".dcm",
    step=None,
    **attributes,
):
    """A CT series; file names and Instance Numbers are in no order. Returns paths by slice."""
    folder.mkdir(parents=True, exist_ok=True)
    columns, rows, count = values.shape
    series = series or generate_uid()
    study = study or generate_uid()
    frame_of_reference = frame_of_reference or generate_uid()
    along_row, along_column = np.reshape(orientation, (2, 3))
    step = np.cross(along_row, along_column) * spacing[2] if step is None else np.array(step)
    scrambled = np.random.default_rng(seed + 1).permutation(count)
    paths = []
    for k in range(count):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        one = pydicom.Dataset()
        one.file_meta = meta
        one.SOPClassUID = CTImageStorage
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.FrameOfReferenceUID = frame_of_reference
        one.Modality, one.PatientID, one.PatientName = "CT", patient, "Doe^Jane"
        one.PatientBirthDate, one.PatientSex, one.AccessionNumber = "", "", ""
        one.StudyID, one.StudyDate, one.StudyTime = "", "", ""
        one.ReferringPhysicianName, one.SeriesNumber = "", 1
        one.Manufacturer, one.PositionReferenceIndicator = "", ""
        one.InstanceNumber = int(scrambled[k])
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.Rows, one.Columns = rows, columns
        one.SliceThickness = 77.0
        one.PixelSpacing = [spacing[1], spacing[0]]
        one.ImageOrientationPatient = [f"{x:.10g}"[:16] for x in orientation]
        position = np.array(origin) + k * step
        one.ImagePositionPatient = [f"{x:.10g}"[:16] for x in position]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.RescaleSlope, one.RescaleIntercept = 1, intercept
        one.PixelData = (values[:, :, k].T.astype(np.int32) - intercept).astype("<i2").tobytes()
        for keyword, value in attributes.items():
            if value is None:
                delattr(one, keyword)
            else:
                setattr(one, keyword, value)
        edit(one, k)
        path = folder / f"image_{scrambled[k]}{extension}"
        with pydicom.config.disable_value_validation():
            pydicom.dcmwrite(path, one, enforce_file_format=True)
        paths.append(path)
    return paths


def write_image(path: Path, stored: np.ndarray, modality="CT", **attributes):
    """One image of stored values (row, column), uncompressed; attributes replace or remove.

    Returns the data set as it was written.
    """
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = attributes.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    one = pydicom.Dataset()
    one.file_meta, one.preamble = meta, b"\0" * 128
    one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID = generate_uid(), generate_uid()
    one.FrameOfReferenceUID, one.Modality, one.PatientID = generate_uid(), modality, "4711"
    one.ImageType = ["ORIGINAL", "PRIMARY"]
    one.Rows, one.Columns = stored.shape[-2:] if stored.ndim < 3 else stored.shape[1:3]
    if stored.ndim > 2:
        one.NumberOfFrames = len(stored)
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = stored.itemsize * 8
    one.HighBit, one.PixelRepresentation = one.BitsStored - 1, int(stored.dtype.kind == "i")
    one.PixelSpacing = [0.9, 0.7]
    one.ImageOrientationPatient = list(AXIAL)
    one.ImagePositionPatient = [-30, 12, 100]
    one.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    one["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(one, keyword)
        else:
            setattr(one, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(path, one, enforce_file_format=True)
    return one


def write_seg(path: Path, series: list[Path], masks: dict[str, np.ndarray], kind="BINARY"):
    """A DICOM SEG by highdicom; masks (column, row, slice) by code keyword ("Cyst")."""
    images = [pydicom.dcmread(one) for one in series]
    finding = {"Cyst": codes.SCT.Cyst, "Neoplasm": codes.SCT.Neoplasm, "Liver": codes.SCT.Liver}
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"a label of {name}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=finding[name],
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(masks, start=1)
    ]
    pixels = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], axis=-1)
    written = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels.astype(float) if kind == "FRACTIONAL" else pixels.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    written.save_as(path)
    return path


def write_nifti(path: Path, values: np.ndarray, affine=None, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, np.diag([0.7, 0.9, 2.5, 1.0]) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def write_picture(path: Path, values: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def a_slice(position, name="a/1", plane=None, **changes):
    """A slice of 8 columns (0.5 mm) and 6 rows (0.8 mm) whose file does not exist."""
    grid = {"rows": 6, "columns": 8, "spacing": (0.8, 0.5), "orientation": AXIAL, **(plane or {})}
    given = {
        "file": SourceFile(Path(name), name, name),
        "frame": None,
        "plane": Plane(position=tuple(map(float, position)), **grid),
        "series": "1.2.3",
        "instance": f"1.2.3.{name}",
        "frame_of_reference": "1.2.4",
        "patient": "4711",
        "modality": "CT",
        "values": Meaning(),
        "unit": Unit.HOUNSFIELD,
        "apart": (),
        "damage": "",
        "pixels": None,  # places only: there is no file to decode
        **changes,
    }
    return Slice(**given)


@pytest.fixture
def site_key() -> bytes:
    return SITE_KEY


@pytest.fixture(scope="session")
def write() -> SimpleNamespace:
    return SimpleNamespace(
        series=write_series,
        image=write_image,
        seg=write_seg,
        nifti=write_nifti,
        picture=write_picture,
        ct=ct_values,
        blob=blob,
        slice=a_slice,
    )
