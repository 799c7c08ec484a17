"""Transfer syntaxes: one image, the same pixels; and what a codestream may not claim."""

import base64
import io
from collections import Counter

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from medaug.errors import ReaderError
from medaug.readers.dicom import codecs, pixel_data
from medaug.readers.dicom.codecs import codec_of, codestream_size, no_codec
from medaug.readers.dicom.header import LOST, Allowed, read_header
from medaug.readers.dicom.pixels import stored_values
from medaug.readers.files import Refusal, SourceFile

LOSSLESS = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG lossless": uid.JPEGLossless,
    "JPEG lossless SV1": uid.JPEGLosslessSV1,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}

# 24 rows of 20 values, (20 row + column) * 37 % 4096, encoded without loss by OpenJPH.
HTJ2K = """
/0//UQApQAAAAAAUAAAAGAAAAAAAAAAAAAAAFAAAABgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE
BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4zMi4wLv+QAAoAAAAAAdMAAf+TwAAm
tfAFB3QAwAASwAATQAATAOQAh3QANvgDB3QAy/4Ch3QAwAATwAATwAASgH/g/gGLdAAcY/MAojQAzQIHdADAABWQ
AAWrAABWgAbKZ52Vlp4BzIOVAOyfYjCQ3LzBk0DlYOgMJeYygL6YACXI5Zi7ZzPkA5lHNQDAABdPAABd1AABbYDf
+P3gh0T64383Pxz4IJFsWTRgwh8/+IePSJH6hyc1f9HeIHyBmwD/ed//eN83eWz/eB/u8R7+4df8iH/7jn/7n3/7
2GMAqf9ZX95Qp/x/v/xGv/wHNkuXzh3ON5SAJr0Av31/fP77/wf+6A0/ecAv/3CPnD8Jm3fIYZkAwAAurgABe7wA
AtYI8v9/COIfQfz7I8j/fAeC+Md/EOTtbRThgjp8fqcYXIP9OEC9OQIwgnYB/u//ft//fb//fp//b/9/f/97v/9/
/3//f/9//3//X3/wj/7v/3//f/9//3//f/9f/eNG+8eN9Q/j5P9Gi/8bLv8bLv83XP43Lv83XP43rvAAMOZjAc+Z
zgM/Uy2pjAb69NaAYezGA9+zHA9vzDecwG/eYwG+uAL/d3//fe9//vjxWDBGUfxQuMFzAH4A/9k=
"""


def source(path):
    return SourceFile(path, path.name, path.name)


def read(path, **allowed):
    return read_header(source(path), "PatientID", allowed=Allowed(**allowed))


def stored(path, **allowed):
    return stored_values(read(path, **allowed)[0]).T


def rewritten(path, syntax):
    """The data set in another transfer syntax."""
    one = pydicom.dcmread(path)
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        lossless_jpeg(one, syntax)
    elif syntax.is_compressed and not syntax.is_deflated:
        plugin = "pydicom" if syntax == uid.RLELossless else ""
        one.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    elif syntax == uid.ExplicitVRBigEndian:
        width = one.BitsAllocated // 8
        if width > 1:
            swapped = np.frombuffer(one.PixelData, f"<u{width}").byteswap()
            one.PixelData = swapped.tobytes()
    one.file_meta.TransferSyntaxUID = syntax
    little = syntax != uid.ExplicitVRBigEndian
    pydicom.dcmwrite(
        path,
        one,
        implicit_vr=syntax == uid.ImplicitVRLittleEndian,
        little_endian=little,
        force_encoding=True,
    )
    return path


def lossless_jpeg(one, syntax):
    """Process 14, with the first-order prediction of SV1 or another one."""
    predictor = 1 if syntax == uid.JPEGLosslessSV1 else 6
    values = one.pixel_array
    if one.BitsAllocated > 8:  # T.81 has no sign
        values = (values.astype(np.int64) % (1 << one.BitsStored)).astype(np.uint16)
    codestream = imagecodecs.jpeg8_encode(
        values,
        lossless=True,
        predictor=predictor,
        bitspersample=one.BitsStored,
    )
    assert codestream[codestream.index(b"\xff\xda") + 7] == predictor
    one.PixelData = encapsulate([codestream])


def pictures():
    rng = np.random.default_rng(7)
    smooth = np.add.outer(np.arange(77) * 31, np.arange(69) * 17)
    return {
        "8 bit": (rng.integers(0, 256, (77, 69)).astype(np.uint8), 8),
        "12 of 16": (((smooth + rng.integers(0, 9, (77, 69))) % 4096).astype(np.uint16), 12),
        "16 unsigned": (rng.integers(0, 65536, (77, 69)).astype(np.uint16), 16),
        "16 signed": (rng.integers(-32768, 32768, (77, 69)).astype(np.int16), 16),
    }


class TestTheSameImage:
    """The same image in every lossless syntax gives equal pixels."""

    @pytest.mark.parametrize("kind", pictures())
    @pytest.mark.parametrize("name", LOSSLESS)
    def test_gives_equal_pixels(self, name, kind, tmp_path, write):
        values, bits = pictures()[kind]
        path = tmp_path / "one"
        write.image(path, values, BitsStored=bits, HighBit=bits - 1)
        rewritten(path, LOSSLESS[name])
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == LOSSLESS[name]
        np.testing.assert_array_equal(stored(path), values)

    def test_in_htj2k(self, tmp_path, write):
        values = (np.arange(480).reshape(24, 20) * 37 % 4096).astype(np.uint16)
        one = write.image(tmp_path / "one", values, BitsStored=12, HighBit=11)
        one.file_meta.TransferSyntaxUID = uid.HTJ2KLossless
        one.PixelData = encapsulate([base64.b64decode(HTJ2K)])
        one.save_as(tmp_path / "one")
        np.testing.assert_array_equal(stored(tmp_path / "one"), values)

    @pytest.mark.parametrize("wrapping", ["compressed", "compressed_j2k", "compressed_jpeg"])
    def test_of_a_scanner(self, wrapping, real_data):
        """One MR series in several wrappings (dicom2nifti_cases), as SimpleITK reads its RLE."""
        generic = next(real_data("dicom2nifti_cases").rglob("generic"))
        for number in range(1, 5):
            file = f"001/IM-0001-000{number}-0001.dcm"
            twin = SimpleITK.GetArrayFromImage(
                SimpleITK.ReadImage(generic / "compressed_rle" / file)
            )[0]
            for name in (wrapping, "compressed_jpegls", "compressed_rle"):
                np.testing.assert_array_equal(stored(generic / name / file), twin)

    @pytest.mark.parametrize("name", ["explicit", "big endian", "deflated", "RLE", "JPEG 2000"])
    def test_of_colours(self, name, tmp_path, write):
        colours = np.random.default_rng(1).integers(0, 256, (70, 66, 3)).astype(np.uint8)
        path = tmp_path / "us"
        write.image(
            path,
            colours[..., 0],
            modality="US",
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
            PixelData=colours.tobytes(),
        )
        rewritten(path, LOSSLESS[name])
        np.testing.assert_allclose(stored(path), colours @ [0.299, 0.587, 0.114], rtol=1e-6)

    @pytest.mark.parametrize("name", ["explicit", "deflated", "RLE", "JPEG-LS"])
    def test_of_several_frames(self, name, tmp_path, write):
        frames = np.random.default_rng(2).integers(0, 255, (3, 39, 41)).astype(np.uint8)
        path = tmp_path / "cine"
        write.image(path, frames, modality="US", ImagePositionPatient=None)
        rewritten(path, LOSSLESS[name])
        slices = read(path)
        assert [each.frame for each in slices] == [0, 1, 2]
        for frame, each in zip(frames, slices, strict=True):
            np.testing.assert_array_equal(stored_values(each).T, frame)


class TestLossyImages:
    @pytest.fixture
    def near_lossless(self, tmp_path, write):
        values = pictures()["12 of 16"][0]
        one = write.image(tmp_path / "one", values, BitsStored=12, HighBit=11)
        one.compress(uid.JPEGLSNearLossless, jls_error=3)
        one.LossyImageCompression = "01"
        one.save_as(tmp_path / "one")
        return tmp_path / "one", values

    def test_are_refused(self, near_lossless):
        refusal = read(near_lossless[0])
        assert isinstance(refusal, Refusal)
        assert "set `lossy: true`" in refusal.reason

    def test_are_read_by_leave_and_counted(self, near_lossless):
        path, values = near_lossless
        noted = Counter()
        (one,) = read_header(source(path), "PatientID", noted, Allowed(lossy=True))
        assert noted == {LOST: 1}
        off = np.abs(stored_values(one).T.astype(int) - values)
        assert 0 < off.max() <= 3

    def test_are_told_by_the_syntax_where_the_attribute_is_missing(self, near_lossless):
        path, _ = near_lossless
        one = pydicom.dcmread(path)
        del one.LossyImageCompression
        one.save_as(path)
        assert "lossy" in read(path).reason


class TestACodec:
    @pytest.mark.parametrize(
        ("syntax", "codec"),
        [
            (uid.RLELossless, "pydicom"),
            (uid.JPEGLSLossless, "pyjpegls"),
            (uid.JPEG2000Lossless, "pylibjpeg"),
            (uid.HTJ2KLossless, "pylibjpeg"),
            (uid.JPEGLosslessSV1, "imagecodecs"),
            (uid.JPEGBaseline8Bit, "pillow"),
        ],
    )
    def test_of_the_extra(self, syntax, codec):
        assert codec_of(syntax) == codec

    def test_that_is_missing_is_named_with_its_command(self, tmp_path, write, monkeypatch):
        path = tmp_path / "one"
        write.image(path, pictures()["16 signed"][0])
        rewritten(path, uid.JPEG2000Lossless)

        monkeypatch.setattr(codecs, "codec_of", lambda _syntax: "")
        assert 'pip install "medaug[codecs]" reads them' in read(path).reason

    def test_of_an_unknown_syntax(self):
        assert "unknown transfer syntax" in no_codec(uid.UID("1.2.3"))


class TestACodestream:
    """A decoder allocates by the codestream's own size: it must be the one in the header."""

    @pytest.mark.parametrize("name", ["JPEG lossless SV1", "JPEG-LS", "JPEG 2000"])
    def test_says_its_size(self, name, tmp_path, write):
        path = tmp_path / "one"
        write.image(path, pictures()["12 of 16"][0], BitsStored=12, HighBit=11)
        rewritten(path, LOSSLESS[name])
        codestream = pydicom.encaps.get_frame(
            pydicom.dcmread(path).PixelData, 0, number_of_frames=1
        )
        assert codestream_size(codestream) == (77, 69, 1)

    @pytest.mark.parametrize("name", ["JPEG-LS", "JPEG 2000", "JPEG lossless SV1"])
    def test_of_another_size_is_not_decoded(self, name, tmp_path, write, monkeypatch):
        path = tmp_path / "one"
        one = write.image(path, pictures()["8 bit"][0])
        rewritten(path, LOSSLESS[name])
        one = pydicom.dcmread(path)
        one.Rows = 76
        one.save_as(path)
        (image,) = read(path)
        monkeypatch.setattr(
            type(get_decoder(LOSSLESS[name])), "as_array", lambda *_, **__: pytest.fail("decoded")
        )
        with pytest.raises(ReaderError, match="cannot be decoded"):
            stored_values(image)

    @pytest.mark.parametrize(
        "junk", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\x4f\xff\x51\0\x29", b"RIFF" * 9]
    )
    def test_without_a_header_has_no_size(self, junk):
        assert codestream_size(junk) is None

    def test_of_a_picture_library(self):
        """Pillow's JPEG and JPEG 2000 (a JP2 file, with boxes before the codestream)."""
        from PIL import Image

        for kind in ("JPEG", "JPEG2000"):
            stream = io.BytesIO()
            Image.fromarray(np.zeros((13, 21, 3), np.uint8)).save(stream, kind)
            assert codestream_size(stream.getvalue()) == (13, 21, 3)


def test_a_jpeg_ls_codestream_cut_off_is_refused_before_it_is_decoded(
    real_data, tmp_path, monkeypatch
):
    """CharLS would take seconds over it."""
    path = sorted((real_data("dicom2nifti_cases") / "generic/compressed_jpegls/001").iterdir())[0]
    content = path.read_bytes()
    whole = read(path)[0]
    decoded = []
    monkeypatch.setattr(pixel_data, "get_decoder", decoded.append)
    end = content.rindex(b"\xff\xd9")
    (tmp_path / "x").write_bytes(content[:end] + b"\0\0" + content[end + 2 :])
    (tmp_path / "y").write_bytes(content[: len(content) // 3])
    for name in "xy":
        with pytest.raises(ReaderError):
            stored_values(read(tmp_path / name)[0])
    assert not decoded
    with pytest.raises(ReaderError):
        stored_values(whole)  # the stand-in decodes nothing
    assert decoded
