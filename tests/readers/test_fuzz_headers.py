"""Headers that say anything at all: each ends in voxels or in a `ReaderError`.

Where `test_fuzz` damages real files, here every field of a header takes any value that its type
can hold, and the content stays small: what a header claims must be held against the file.
"""

import tracemalloc
import warnings
from contextlib import suppress

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medaug.domain import Unit
from medaug.errors import ReaderError
from medaug.readers.dicom.header import read_header
from medaug.readers.dicom.pixels import slice_decoder
from medaug.readers.files import SourceFile
from medaug.readers.volumes.cases import read_header as read_volume
from medaug.readers.volumes.cases import volume_of
from medaug.readers.volumes.file import Wanted

ROOM = 24 << 20
often = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

odd_number = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([0, 1, -1, 2**15, 2**16 - 1]),
)
odd_text = st.one_of(
    st.sampled_from(
        ["nan", "inf", "-0", "1e308", "", " ", "0", "1\\2", "1\\2\\3\\4\\5\\6\\7", "x"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16),
)

US = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel")
US += ("PixelRepresentation", "PlanarConfiguration", "PixelPaddingValue")
TEXTS = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope")
TEXTS += ("RescaleIntercept", "NumberOfFrames", "Modality", "PhotometricInterpretation")
TEXTS += ("ImageType", "LossyImageCompression", "SeriesInstanceUID")
TEXTS += ("ImagerPixelSpacing", "SliceThickness", "AcquisitionNumber", "EchoTime", "Units")


def image() -> Dataset:
    """A CT slice of 6 x 5 pixels, every attribute as raw bytes to come."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    one.SOPClassUID, one.SOPInstanceUID, one.Modality = CTImageStorage, "1.2.3", "CT"
    one.SeriesInstanceUID, one.PatientID = "1.2", "4711"
    one.Rows, one.Columns, one.SamplesPerPixel = 6, 5, 1
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.PhotometricInterpretation, one.PixelSpacing = "MONOCHROME2", [1, 1]
    one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.PixelData = np.arange(30, dtype=np.int16).tobytes()
    return one


def peak(work) -> int:
    """Most bytes that were held while ``work`` ran to its end or to a `ReaderError`."""
    tracemalloc.start()
    try:
        with suppress(ReaderError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@often
@example(numbers={}, texts={"RescaleSlope": "1e308"})
@given(
    numbers=st.dictionaries(st.sampled_from(US), odd_number.map(lambda n: n % 2**16), max_size=4),
    texts=st.dictionaries(st.sampled_from(TEXTS), odd_text, max_size=4),
)
def test_dicom(numbers: dict, texts: dict, tmp_path) -> None:
    one = image()
    for keyword, value in (numbers | texts).items():
        element = pydicom.DataElement(keyword, "LO", None)
        element.VR = "US" if keyword in numbers else pydicom.datadict.dictionary_VR(keyword)
        element._value = value
        one[keyword] = element
    path = tmp_path / "x"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one.save_as(path, enforce_file_format=True)

    def work() -> None:
        images = read_header(SourceFile(path, "x", "x"), "PatientID")
        for slice_ in images if isinstance(images, tuple) else ():
            values = slice_decoder()(slice_)
            assert values.shape == (slice_.plane.columns, slice_.plane.rows)
            assert np.isfinite(values).all()

    assert peak(work) < ROOM


def peak_of(path) -> int:
    def work() -> None:
        header = read_volume(SourceFile(path, path.name, path.name), Wanted())
        for voxels in header.voxels:
            voxels.check()  # as a case does before anything is read
        volume = volume_of(header, "OT", Unit.ARBITRARY)
        values = volume.read()
        assert values.shape == volume.geometry.shape
        assert np.isfinite(values).all()

    return peak(work)


short = st.integers(-(2**15), 2**15 - 1)
real = st.floats(width=32)
NIFTI = {
    "dim": st.lists(st.one_of(st.integers(-1, 8), short), min_size=8, max_size=8),
    "datatype": st.one_of(st.sampled_from([2, 4, 8, 16, 64, 128, 256, 512, 1024, 1792]), short),
    "bitpix": short,
    "pixdim": st.lists(real, min_size=8, max_size=8),
    "vox_offset": real,
    "scl_slope": real,
    "scl_inter": real,
    "xyzt_units": st.integers(0, 255),
    "qform_code": short,
    "sform_code": short,
    "quatern_b": real,
    "srow_x": st.lists(real, min_size=4, max_size=4),
    "srow_z": st.lists(real, min_size=4, max_size=4),
}


@often
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@given(fields=st.fixed_dictionaries({}, optional=NIFTI))
def test_nifti(ending: str, fields: dict, tmp_path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((4, 3, 2))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 352
    for name, value in fields.items():
        header[name] = value
    content = header.binaryblock + bytes(4) + np.arange(24, dtype=np.int16).tobytes()
    path = tmp_path / f"x{ending}"
    with nib.openers.Opener(path, "wb") as stream:
        stream.write(content)
    assert peak_of(path) < ROOM


word = st.one_of(
    st.sampled_from(["4 3 2", "4 3", "-1 3 2", "4 3 9999999999", "nan", "(1,0,0) (0,1,0) (0,0,1)"]),
    st.sampled_from(["short", "double", "block", "raw", "gzip", "bzip2", "ascii", "little", "3"]),
    st.sampled_from(["left-posterior-superior", "none", "(1,0,0)", "../x", "LIST", "1e400", ""]),
    odd_text,
)
NRRD = ["type", "dimension", "sizes", "encoding", "endian", "space", "space directions"]
NRRD += ["space origin", "spacings", "kinds", "data file", "line skip", "byte skip"]
META = ["NDims", "DimSize", "ElementType", "ElementSpacing", "Offset", "TransformMatrix"]
META += ["CompressedData", "CompressedDataSize", "BinaryDataByteOrderMSB", "HeaderSize"]
META += ["ElementNumberOfChannels", "ElementDataFile", "ObjectType", "CenterOfRotation"]
VOXELS = np.arange(24, dtype="<i2").tobytes()


SOUND_NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "4 3 2",
    "encoding": "raw",
    "endian": "little",
    "space": "left-posterior-superior",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)",
    "space origin": "(0,0,0)",
}
SOUND_META = {
    "ObjectType": "Image",
    "NDims": "3",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
    "ElementSpacing": "1 1 1",
    "ElementDataFile": "LOCAL",
}


def nrrd(fields: dict) -> bytes:
    lines = "".join(f"{name}: {value}\n" for name, value in (SOUND_NRRD | fields).items())
    return f"NRRD0004\n{lines}\n".encode() + VOXELS


def metaimage(fields: dict) -> bytes:
    said = SOUND_META | fields
    said["ElementDataFile"] = said.pop("ElementDataFile")  # the last line of a header
    return "".join(f"{name} = {value}\n" for name, value in said.items()).encode() + VOXELS


@often
@given(fields=st.dictionaries(st.sampled_from(NRRD), word, max_size=3))
def test_nrrd(fields: dict, tmp_path) -> None:
    path = tmp_path / "x.nrrd"
    path.write_bytes(nrrd(fields))
    assert peak_of(path) < ROOM


@often
@given(fields=st.dictionaries(st.sampled_from(META), word, max_size=3))
def test_metaimage(fields: dict, tmp_path) -> None:
    path = tmp_path / "x.mha"
    path.write_bytes(metaimage(fields))
    assert peak_of(path) < ROOM


def test_sound_headers_are_read(tmp_path) -> None:
    """What the tests above start from ends in voxels, or they would show nothing."""
    path = tmp_path / "x"
    image().save_as(path, enforce_file_format=True)
    (one,) = read_header(SourceFile(path, "x", "x"), "PatientID")
    np.testing.assert_array_equal(slice_decoder()(one).T.ravel(), np.arange(30) - 1024.0)
    for name, content in (("x.nrrd", nrrd({})), ("x.mha", metaimage({}))):
        (tmp_path / name).write_bytes(content)
        file = SourceFile(tmp_path / name, name, name)
        volume = volume_of(read_volume(file, Wanted()), "OT", Unit.ARBITRARY)
        np.testing.assert_array_equal(volume.read().ravel(order="F"), np.arange(24.0))
