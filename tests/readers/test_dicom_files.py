"""One DICOM file as it lies on a disk: wrappings, places, what it claims, and what is refused."""

import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medaug.errors import ReaderError
from medaug.readers.dicom import header, pixel_data
from medaug.readers.dicom.file import open_data_set
from medaug.readers.dicom.header import Allowed, MarkFile, read_header
from medaug.readers.dicom.pixels import slice_decoder, stored_values
from medaug.readers.files import Refusal, SourceFile

GREY = np.arange(48, dtype=np.int16).reshape(6, 8)


def read(path, **allowed):
    file = SourceFile(path, path.name, path.name)
    return read_header(file, "PatientID", allowed=Allowed(**allowed))


def dump(path, one, implicit, little):
    """The data set alone, without preamble and meta information."""
    bare = Dataset(one)
    if hasattr(bare, "file_meta"):
        del bare.file_meta
    pydicom.dcmwrite(path, bare, implicit_vr=implicit, little_endian=little)


class TestWrappings:
    @pytest.mark.parametrize("name", ["image", "image.dcm", "image.IMA", "image.txt", "IM.0001"])
    def test_any_name(self, name, tmp_path, write):
        write.image(tmp_path / name, GREY)
        (one,) = read(tmp_path / name)
        np.testing.assert_array_equal(stored_values(one).T, GREY)

    @pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
    def test_no_part_10_header(self, implicit, little, tmp_path, write):
        one = write.image(tmp_path / "one", GREY)
        if not little:
            one.PixelData = GREY.astype(">i2").tobytes()
        dump(tmp_path / "bare", one, implicit, little)
        assert (tmp_path / "bare").read_bytes()[128:132] != b"DICM"
        (bare,) = read(tmp_path / "bare")
        np.testing.assert_array_equal(stored_values(bare).T, GREY)
        assert bare.plane.position == (-30, 12, 100)

    def test_no_preamble(self, tmp_path, write):
        write.image(tmp_path / "one", GREY)
        (tmp_path / "bare").write_bytes((tmp_path / "one").read_bytes()[132:])
        (one,) = read(tmp_path / "bare")
        np.testing.assert_array_equal(stored_values(one).T, GREY)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"text, not an image",
            b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
            b"\x08\x00\x08\x00\xff\xff\xff\xff" + bytes(500),
            b"\x02\x00\x10\x00UI" + bytes(500),
            os.urandom(4000),
            bytes(4000),
        ],
        ids=["empty", "text", "a bare attribute", "a length", "a meta tag", "noise", "zeros"],
    )
    def test_no_dicom(self, content, tmp_path):
        (tmp_path / "x").write_bytes(content)
        assert read(tmp_path / "x").reason in ("not a DICOM file", "an empty file")

    def test_an_index(self):
        path = Path(pydicom.data.get_testdata_file("DICOMDIR", download=False))
        assert read(path).reason == "an index (DICOMDIR), not an image"

    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            ("MR_small_implicit.dcm", "read"),
            ("MR_small_bigendian.dcm", "read"),
            ("MR_small_padded.dcm", "read"),
            ("image_dfl.dcm", "read"),
            ("J2K_pixelrep_mismatch.dcm", "read"),
            ("MR_truncated.dcm", "its pixel data are cut off"),
            ("ExplVR_LitEndNoMeta.dcm", "a radiotherapy plan holds no image"),
            ("rtdose.dcm", "a radiotherapy dose is no image"),
            ("waveform_ecg.dcm", "a DICOM object without an image, or cut off within its header"),
        ],
    )
    def test_of_pydicom(self, name, outcome):
        """Files that come with pydicom."""
        path = Path(pydicom.data.get_testdata_file(name, download=False))
        found = read(path, lossy=True)
        if outcome != "read":
            assert (found.reason if isinstance(found, Refusal) else found[0].damage) == outcome
            return
        (one,) = found
        twin = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).squeeze()
        values = slice_decoder()(one).T
        padded = one.values.padding is not None
        assert padded or np.array_equal(values, twin)

    def test_marks_stay_marks(self):
        for name, kind in (("liver_1frame.dcm", "seg"), ("rtstruct.dcm", "rtstruct")):
            found = read(Path(pydicom.data.get_testdata_file(name, download=False)))
            assert isinstance(found, MarkFile)
            assert found.kind == kind


class TestPlaces:
    """Images without a place in the patient keep their millimetres."""

    @pytest.mark.parametrize("modality", ["MG", "CR", "DX", "US", "XA", "OT"])
    def test_of_a_picture(self, modality, tmp_path, write):
        write.image(tmp_path / "x", GREY, modality, ImagePositionPatient=None)
        (one,) = read(tmp_path / "x")
        assert not one.plane.placed
        assert one.plane.measured
        assert one.plane.spacing == (0.9, 0.7)
        assert one.plane.orientation == (1, 0, 0, 0, 1, 0)

    @pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
    def test_of_a_slice_must_be_said(self, modality, tmp_path, write):
        write.image(tmp_path / "x", GREY, modality, ImagePositionPatient=None)
        assert "no place in the patient" in read(tmp_path / "x").reason

    @pytest.mark.parametrize(
        ("attributes", "spacing"),
        [
            ({"ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
            (
                {
                    "ImagerPixelSpacing": [0.1, 0.2],
                    "EstimatedRadiographicMagnificationFactor": 1.25,
                },
                (0.08, 0.16),
            ),
            (
                {
                    "PixelSpacing": [0.1, 0.2],
                    "ImagerPixelSpacing": [0.1, 0.2],
                    "EstimatedRadiographicMagnificationFactor": 1.25,
                },
                (0.08, 0.16),
            ),
            (
                {
                    "PixelSpacing": [0.09, 0.18],
                    "ImagerPixelSpacing": [0.1, 0.2],
                    "EstimatedRadiographicMagnificationFactor": 1.25,
                },
                (0.09, 0.18),
            ),
            ({"NominalScannedPixelSpacing": [0.05, 0.06]}, (0.05, 0.06)),
            ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
        ],
        ids=["detector", "magnified", "same as detector", "calibrated", "film", "zero"],
    )
    def test_distances(self, attributes, spacing, tmp_path, write):
        given = {"PixelSpacing": None, "ImagePositionPatient": None, **attributes}
        write.image(tmp_path / "x", GREY, "DX", **given)
        (one,) = read(tmp_path / "x")
        assert one.plane.measured
        assert one.plane.spacing == pytest.approx(spacing)

    def region(self, **changes):
        one = Dataset()
        one.RegionSpatialFormat, one.RegionDataType = 1, 1
        one.PhysicalUnitsXDirection = one.PhysicalUnitsYDirection = 3
        one.PhysicalDeltaX, one.PhysicalDeltaY = 0.01, 0.02
        for keyword, value in changes.items():
            setattr(one, keyword, value)
        return one

    @pytest.mark.parametrize(
        ("regions", "spacing"),
        [
            ([{}], (0.2, 0.1)),
            ([{}, {}], (0.2, 0.1)),
            ([{}, {"PhysicalDeltaX": 0.011}], None),
            ([{}, {"RegionSpatialFormat": 3}], None),
            ([{"PhysicalUnitsYDirection": 4}], None),
            ([{"PhysicalDeltaX": 0}], None),
            ([], None),
        ],
        ids=["one", "alike", "two scales", "doppler", "seconds", "zero", "none"],
    )
    def test_of_ultrasound_regions(self, regions, spacing, tmp_path, write):
        write.image(
            tmp_path / "us",
            GREY,
            "US",
            PixelSpacing=None,
            ImagePositionPatient=None,
            SequenceOfUltrasoundRegions=Sequence([self.region(**one) for one in regions]),
        )
        (one,) = read(tmp_path / "us")
        assert one.plane.measured is (spacing is not None)
        assert one.plane.spacing == pytest.approx(spacing or (1, 1))

    def test_of_pixels_that_are_no_squares(self, tmp_path, write):
        write.image(
            tmp_path / "us",
            GREY,
            "US",
            PixelSpacing=None,
            ImagePositionPatient=None,
            PixelAspectRatio=[4, 5],
        )
        (one,) = read(tmp_path / "us")
        assert (one.plane.measured, one.plane.spacing) == (False, (0.8, 1.0))


class TestClaims:
    """What a header claims is checked against the bytes, before anything is allocated."""

    def peak(self, act):
        tracemalloc.start()
        try:
            result = act()
            return result, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("name", ["native", "rle", "jpegls", "deflated"])
    def test_of_enormous_sizes(self, name, tmp_path, write):
        path = tmp_path / "x"
        one = write.image(path, GREY)
        if name == "rle":
            one.compress(uid.RLELossless, encoding_plugin="pydicom")
        elif name == "jpegls":
            one.compress(uid.JPEGLSLossless)
        one.Rows = one.Columns = 65535
        if name == "deflated":
            one.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        one.save_as(path)
        ((image,), peak) = self.peak(lambda: read(path))
        assert image.damage
        assert name in ("native", "deflated") or image.damage.startswith("it claims")
        assert peak < 4e6

    def test_of_a_deflate_bomb(self, tmp_path, write):
        """200 MB of zeros behind an honest header of 96 bytes of pixels."""
        path = tmp_path / "bomb"
        one = write.image(path, GREY)
        one.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        one.save_as(path)
        whole = path.read_bytes()
        start = whole.index(b"1.2.840.10008.1.2.1.99")
        start += 22  # the last element of the meta information
        while True:  # the deflated data begin where they can be unpacked
            try:
                data = zlib.decompress(whole[start:], -15)
                break
            except zlib.error:
                start += 1
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(data)
        for _ in range(200):
            packed += packer.compress(bytes(1_000_000))
        path.write_bytes(whole[:start] + packed + packer.flush())
        ((image,), peak) = self.peak(lambda: read(path))
        assert image.damage == ""
        values, peak_pixels = self.peak(lambda: stored_values(image))
        np.testing.assert_array_equal(values.T, GREY)
        assert max(peak, peak_pixels) < 2e6

    def test_of_more_than_deflated_data_are_likely_to_hold(self, tmp_path, write, monkeypatch):
        one = write.image(tmp_path / "x", np.zeros((300, 300), np.int16))
        one.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        one.save_as(tmp_path / "x")
        assert read(tmp_path / "x")[0].damage == ""
        monkeypatch.setattr(pixel_data, "LIKELY_FRAME", 10_000)
        assert "it claims 180000 bytes" in read(tmp_path / "x")[0].damage

    def test_of_a_deflated_header_without_end(self, tmp_path, write):
        path = tmp_path / "bomb"
        write.image(path, GREY)
        head = path.read_bytes()
        head = head[: head.index(b"\x08\x00\x08\x00CS")]
        head = head.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        element = b"\x08\x00\x08\x00CS\xff\x00" + b"A" * 255
        packed = b"".join(packer.compress(element) for _ in range(400_000))
        meta_length = head.index(b"\x02\x00\x00\x00UL") + 8
        size = struct.unpack("<L", head[meta_length : meta_length + 4])[0] + 2
        head = head[:meta_length] + struct.pack("<L", size) + head[meta_length + 4 :]
        at = head.index(b"1.2.840.10008.1.2.1.99") - 2
        head = head[:at] + struct.pack("<H", 22) + head[at + 2 :]
        path.write_bytes(head + packed + packer.flush())
        found, peak = self.peak(lambda: read(path))
        assert isinstance(found, Refusal)
        assert peak < 4e7

    def test_of_frames_that_are_not_there(self, tmp_path, write):
        path = tmp_path / "us"
        one = write.image(path, np.stack([GREY] * 3), "US", ImagePositionPatient=None)
        one.compress(uid.RLELossless, encoding_plugin="pydicom")
        one.NumberOfFrames = 4
        one.save_as(path)
        assert read(path)[0].damage == "it claims 4 frames, and holds 3"

    def test_of_a_length_that_the_pixels_exceed(self, tmp_path, write):
        path = tmp_path / "x"
        one = write.image(path, GREY)
        one.Rows = 7
        one.add_new(0xFFFCFFFC, "OB", bytes(1000))
        one.save_as(path)
        assert read(path)[0].damage == "its pixel data are cut off"

    def test_one_frame_is_read_and_no_more(self, tmp_path, write):
        path = tmp_path / "us"
        frames = np.random.default_rng(0).integers(0, 255, (200, 128, 128)).astype(np.uint8)
        write.image(path, frames, "US", ImagePositionPatient=None)
        slices = read(path)
        values, peak = self.peak(lambda: stored_values(slices[150]))
        np.testing.assert_array_equal(values.T, frames[150])
        assert peak < 20 * frames[0].nbytes  # all of them: 200 times

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
    def test_of_a_file_that_is_cut_off(self, share, tmp_path, write):
        path = tmp_path / "x"
        one = write.image(path, np.random.default_rng(0).integers(0, 9, (60, 70)).astype("u2"))
        one.compress(uid.JPEGLSLossless)
        one.save_as(path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        found = read(path)
        assert isinstance(found, Refusal) or found[0].damage


def test_a_damaged_codestream_is_an_error_and_no_crash(real_data, tmp_path):
    """JPEG Lossless above all: other decoders abort the process on it."""
    (path, *_) = sorted(next(real_data("dicom2nifti_cases").rglob("compressed_jpeg/001")).iterdir())
    whole = bytearray(path.read_bytes())
    start = whole.index(b"\xff\xd8\xff")
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        broken = whole.copy()
        for at in rng.integers(start, min(len(broken), start + rng.choice([60, 400, 10**6])), 4):
            broken[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "x").write_bytes(broken)
        try:
            stored_values(read(tmp_path / "x")[0])
            outcomes.add("decoded")
        except ReaderError:
            outcomes.add("refused")
    assert outcomes == {"decoded", "refused"}


def test_a_header_is_opened_and_parsed_once(tmp_path, write, monkeypatch):
    write.image(tmp_path / "x", GREY)
    opened = []
    plain = header.File
    monkeypatch.setattr(header, "File", lambda path: opened.append(path) or plain(path))
    read(tmp_path / "x")
    assert len(opened) == 1


def test_nothing_but_what_was_asked_for_is_kept(tmp_path, write):
    write.image(tmp_path / "x", GREY, PatientName="Doe^Jane", InstitutionName="A Hospital")
    with (tmp_path / "x").open("rb") as stream:
        written = open_data_set(stream, [0x00080060])
    assert [element.keyword for element in written.dataset if element.keyword != "SOPClassUID"] == [
        "Modality"
    ]


def test_a_damaged_length_makes_no_room_for_gigabytes(tmp_path, write) -> None:
    path = write.series(tmp_path, write.ct())[0]
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x60\x00CS")  # Modality, as an OB of 2 GB
    path.write_bytes(content[:at] + b"\x08\x00\x60\x00OB\0\0\xf0\xff\xff\x7f" + content[at + 8 :])
    tracemalloc.start()
    read_header(SourceFile(path, path.name, path.name), "PatientID")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
