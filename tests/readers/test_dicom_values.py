"""What stored values measure: rescale, tables, padding, inverted grey values, colours, SUV."""

from collections import Counter

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.sequence import Sequence

from medaug.domain import Unit
from medaug.readers.dicom.header import LUMINANCE_ONLY, Allowed, read_header
from medaug.readers.dicom.pixels import slice_decoder
from medaug.readers.files import Refusal, SourceFile

GREY = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100


def read(path, noted=None, **allowed):
    file = SourceFile(path, path.name, path.name)
    return read_header(file, "PatientID", noted, Allowed(**allowed))


def measured(path, **allowed):
    """(unit, values (row, column)) of a single image."""
    (one,) = read(path, **allowed)
    return one.unit, slice_decoder()(one).T


class TestRescale:
    def test_in_hu(self, tmp_path, write):
        write.image(tmp_path / "ct", GREY, RescaleSlope=0.5, RescaleIntercept=-1024)
        unit, values = measured(tmp_path / "ct")
        assert unit is Unit.HOUNSFIELD
        np.testing.assert_array_equal(values, GREY * 0.5 - 1024)

    def test_of_a_screen_is_no_hu(self, tmp_path, write):
        write.image(
            tmp_path / "sc",
            GREY,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
            RescaleSlope=1,
            RescaleIntercept=-1024,
        )
        assert measured(tmp_path / "sc")[0] is Unit.ARBITRARY

    @pytest.mark.parametrize("slope", [0, None, "x"])
    def test_that_is_no_rescale_is_refused(self, slope, tmp_path, write):
        write.image(tmp_path / "ct", GREY, RescaleIntercept=5)
        one = pydicom.dcmread(tmp_path / "ct")
        if slope is not None:
            with pydicom.config.disable_value_validation():
                one.add_new("RescaleSlope", "LO", str(slope))
                one["RescaleSlope"].VR = "LO"
        one.save_as(tmp_path / "ct")
        assert "not two usable numbers" in read(tmp_path / "ct").reason


class TestDirtyBits:
    """Bits above Bits Stored carry overlays and noise, and are no part of the value."""

    @pytest.mark.parametrize("signed", [0, 1])
    def test_are_ignored(self, signed, tmp_path, write):
        rng = np.random.default_rng(0)
        clean = rng.integers(-2048 if signed else 0, 2048 if signed else 4096, (6, 5))
        dirty = (clean & 0xFFF) | (rng.integers(0, 16, (6, 5)) << 12)
        write.image(
            tmp_path / "mr",
            dirty.astype(np.uint16),
            modality="MR",
            BitsStored=12,
            HighBit=11,
            PixelRepresentation=signed,
        )
        np.testing.assert_array_equal(measured(tmp_path / "mr")[1], clean)

    def test_below_the_value_are_refused(self, tmp_path, write):
        """ACR-NEMA: 12 bits kept in the upper part of 16."""
        write.image(tmp_path / "mr", GREY, modality="MR", BitsStored=12, HighBit=15)
        assert "High Bit" in read(tmp_path / "mr").reason


class TestOtherDepths:
    @pytest.mark.parametrize("bits", [8, 16, 32])
    @pytest.mark.parametrize("kind", "iu")
    def test_integers(self, kind, bits, tmp_path, write):
        values = np.array([[0, 1, 100], [77, 127, 3]]).astype(f"{kind}{bits // 8}")
        write.image(tmp_path / "mr", values - values.dtype.type(kind == "i"), modality="MR")
        np.testing.assert_array_equal(measured(tmp_path / "mr")[1], values - 1.0 * (kind == "i"))

    def test_single_bits(self, tmp_path, write):
        """Frames of 5 x 5 bits follow one another inside a byte (PS3.5 8.1.1)."""
        bits = np.random.default_rng(3).integers(0, 2, (3, 5, 5)).astype(np.uint8)
        packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
        write.image(
            tmp_path / "us",
            bits,
            modality="US",
            ImagePositionPatient=None,
            BitsAllocated=1,
            BitsStored=1,
            HighBit=0,
            PixelData=packed + b"\0" * 96,
        )
        frames = [slice_decoder()(one).T for one in read(tmp_path / "us")]
        np.testing.assert_array_equal(frames, bits)

    @pytest.mark.parametrize(("kind", "word"), [("<f4", "Float"), ("<f8", "DoubleFloat")])
    def test_floats(self, kind, word, tmp_path, write):
        values = np.array([[0.5, -3.25, 1e3], [np.nan, -9.0, 2.0]], kind)
        one = write.image(tmp_path / "mr", GREY[:2, :3], modality="MR")
        del one.PixelData, one.BitsStored, one.HighBit, one.PixelRepresentation
        one.BitsAllocated = values.itemsize * 8
        setattr(one, f"{word}PixelData", values.tobytes())
        setattr(one, f"{word}PixelPaddingValue", -9.0)
        one.save_as(tmp_path / "mr")
        expected = np.nan_to_num(values, nan=-3.25)
        expected[1, 1] = -3.25  # padding: the smallest value that is none
        np.testing.assert_array_equal(measured(tmp_path / "mr")[1], expected)


class TestModalityTable:
    def test_replaces_the_rescale(self, tmp_path, write):
        table = Dataset()
        table.LUTDescriptor = [300, 100, 16]
        table.ModalityLUTType = "HU"
        table.add_new("LUTData", "US", [(k * k) % 5000 for k in range(300)])
        one = write.image(tmp_path / "ct", GREY, BitsStored=12, HighBit=11)
        one.ModalityLUTSequence = Sequence([table])
        one.save_as(tmp_path / "ct")
        unit, values = measured(tmp_path / "ct")
        assert unit is Unit.HOUNSFIELD
        np.testing.assert_array_equal(values, apply_modality_lut(GREY, one))
        slow = [table.LUTData[min(max(v - 100, 0), 299)] for v in GREY.ravel().tolist()]
        np.testing.assert_array_equal(values.ravel(), slow)


class TestInvertedGreyValues:
    """MONOCHROME1: the smallest value is shown white."""

    def test_are_mirrored_in_the_range_of_the_bits(self, tmp_path, write):
        write.image(
            tmp_path / "cr",
            GREY,
            modality="CR",
            ImagePositionPatient=None,
            PhotometricInterpretation="MONOCHROME1",
            BitsStored=12,
            HighBit=11,
            RescaleSlope=2,
            RescaleIntercept=10,
        )
        unit, values = measured(tmp_path / "cr")
        assert unit is Unit.ARBITRARY
        np.testing.assert_array_equal(values, (4095 - GREY.astype(float)) * 2 + 10)

    def test_are_only_a_matter_of_display_in_hu(self, tmp_path, write):
        write.image(
            tmp_path / "ct",
            GREY,
            PhotometricInterpretation="MONOCHROME1",
            RescaleSlope=1,
            RescaleIntercept=-1024,
        )
        np.testing.assert_array_equal(measured(tmp_path / "ct")[1], GREY - 1024.0)


class TestPadding:
    def test_is_air_in_hu(self, tmp_path, write):
        stored = np.array([[-2000, 5], [-900, -2000]], np.int16)
        write.image(tmp_path / "ct", stored, RescaleSlope=1, RescaleIntercept=-24)
        one = pydicom.dcmread(tmp_path / "ct")
        one.add_new("PixelPaddingValue", "SS", -2000)
        one.save_as(tmp_path / "ct")
        assert measured(tmp_path / "ct")[1].tolist() == [[-1024, -19], [-924, -1024]]
        one["PixelPaddingValue"].VR = "US"  # the wrong sign, as some writers have it
        one["PixelPaddingValue"].value = 63536
        one.save_as(tmp_path / "ct")
        assert measured(tmp_path / "ct")[1].tolist() == [[-1024, -19], [-924, -1024]]

    def test_is_the_smallest_other_value_elsewhere(self, tmp_path, write):
        stored = np.array([[0, 900], [65000, 300]], np.uint16)
        one = write.image(tmp_path / "mr", stored, modality="MR")
        one.add_new("PixelPaddingValue", "US", 60000)
        one.add_new("PixelPaddingRangeLimit", "US", 65535)
        one.save_as(tmp_path / "mr")
        assert measured(tmp_path / "mr")[1].tolist() == [[0, 900], [0, 300]]

    def test_of_an_inverted_picture_is_dark(self, tmp_path, write):
        stored = np.array([[255, 9], [40, 255]], np.uint8)
        one = write.image(
            tmp_path / "mg",
            stored,
            modality="MG",
            ImagePositionPatient=None,
            PhotometricInterpretation="MONOCHROME1",
        )
        one.add_new("PixelPaddingValue", "US", 255)
        one.save_as(tmp_path / "mg")
        assert measured(tmp_path / "mg")[1].tolist() == [[215, 246], [215, 215]]


class TestColours:
    PIXELS = np.random.default_rng(5).integers(0, 256, (6, 8, 3)).astype(np.uint8)

    def write(self, path, write, modality="US", pixels=PIXELS, **attributes):
        given = {
            "SamplesPerPixel": 3,
            "PhotometricInterpretation": "RGB",
            "PlanarConfiguration": 0,
            "ImagePositionPatient": None,
            **attributes,
        }
        return write.image(path, pixels[..., 0], modality, PixelData=pixels.tobytes(), **given)

    @pytest.mark.parametrize("planar", [0, 1])
    def test_become_luminance(self, planar, tmp_path, write):
        data = self.PIXELS.transpose(2, 0, 1) if planar else self.PIXELS
        one = self.write(tmp_path / "us", write, PlanarConfiguration=planar)
        one.PixelData = np.ascontiguousarray(data).tobytes()
        one.save_as(tmp_path / "us")
        noted = Counter()
        (image,) = read(tmp_path / "us", noted)
        grey = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in self.PIXELS]
        np.testing.assert_allclose(slice_decoder()(image).T, grey, rtol=1e-6)
        assert noted == {LUMINANCE_ONLY: 1}

    def test_in_ybr_hold_it_already(self, tmp_path, write):
        self.write(tmp_path / "us", write, PhotometricInterpretation="YBR_FULL")
        np.testing.assert_array_equal(measured(tmp_path / "us")[1], self.PIXELS[..., 0])

    def test_in_ybr_with_shared_chroma(self, tmp_path, write):
        """YBR_FULL_422: Y Y B R for two pixels."""
        pairs = self.PIXELS.reshape(6, 4, 2, 3)
        data = np.stack([pairs[..., 0, 0], pairs[..., 1, 0], pairs[..., 0, 1], pairs[..., 0, 2]], 2)
        one = self.write(tmp_path / "us", write, PhotometricInterpretation="YBR_FULL_422")
        one.PixelData = data.tobytes()
        one.save_as(tmp_path / "us")
        np.testing.assert_array_equal(measured(tmp_path / "us")[1], self.PIXELS[..., 0])

    def test_of_a_palette(self, tmp_path, write):
        one = write.image(
            tmp_path / "us",
            self.PIXELS[..., 0] % 200,
            modality="US",
            ImagePositionPatient=None,
            PhotometricInterpretation="PALETTE COLOR",
        )
        rng = np.random.default_rng(9)
        for colour in ("Red", "Green", "Blue"):
            setattr(one, f"{colour}PaletteColorLookupTableDescriptor", [180, 10, 16])
            data = rng.integers(0, 65536, 180).astype("<u2").tobytes()
            setattr(one, f"{colour}PaletteColorLookupTableData", data)
        one.save_as(tmp_path / "us")
        colours = apply_color_lut(one.pixel_array, pydicom.dcmread(tmp_path / "us"))
        twin = colours @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(measured(tmp_path / "us")[1], twin, rtol=1e-6)

    @pytest.mark.parametrize(
        ("modality", "colour", "read_at_all"),
        [
            ("US", "ultrasound", True),
            ("US", "luminance", True),
            ("US", "refuse", False),
            ("XA", "ultrasound", False),
            ("XA", "luminance", True),
            ("XA", "refuse", False),
        ],
    )
    def test_are_read_where_the_setting_says(self, modality, colour, read_at_all, tmp_path, write):
        self.write(tmp_path / "one", write, modality=modality)
        found = read(tmp_path / "one", colour=colour)
        assert isinstance(found, Refusal) is not read_at_all


class TestSuv:
    """QIBA's pseudo-code: SUVbw in g/ml."""

    ACTIVITY = np.array([[0, 1000], [2000, 4000]], np.uint16)

    def write(self, path, write, **attributes):
        tracer = Dataset()
        tracer.RadionuclideTotalDose = 370e6
        tracer.RadionuclideHalfLife = 6586.2
        tracer.RadiopharmaceuticalStartTime = "100000.00"
        for keyword in [word for word in attributes if hasattr(tracer, word) or "Start" in word]:
            value = attributes.pop(keyword)
            if value is None:
                delattr(tracer, keyword)
            else:
                setattr(tracer, keyword, value)
        given = {
            "Units": "BQML",
            "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY"],
            "DecayCorrection": "START",
            "PatientWeight": 70,
            "SeriesDate": "20200102",
            "SeriesTime": "110000",
            "AcquisitionDate": "20200102",
            "AcquisitionTime": "110500",
            "RescaleSlope": 1.5,
            "RescaleIntercept": 0,
            "RadiopharmaceuticalInformationSequence": Sequence([tracer]),
            **attributes,
        }
        write.image(path, self.ACTIVITY, modality="PT", **given)
        return path

    @pytest.mark.parametrize(
        ("changed", "hours"),
        [
            ({}, 1.0),
            ({"RadiopharmaceuticalStartDateTime": "20200102093000.000+0100"}, 1.5),
            (
                {
                    "SeriesDate": "20200103",
                    "AcquisitionDate": "20200103",
                    "SeriesTime": "003000",
                    "AcquisitionTime": "0031",
                    "RadiopharmaceuticalStartTime": "233000",
                },
                1.0,
            ),
            ({"DecayCorrection": "ADMIN"}, 0.0),
            ({"DecayCorrection": "ADMIN", "RadiopharmaceuticalStartTime": None}, 0.0),
        ],
        ids=["start", "with a date", "over midnight", "admin", "admin without times"],
    )
    def test_by_body_weight(self, changed, hours, tmp_path, write):
        unit, values = measured(self.write(tmp_path / "pt", write, **changed))
        left = 370e6 * 0.5 ** (hours * 3600 / 6586.2)
        assert unit is Unit.SUV
        np.testing.assert_allclose(values, self.ACTIVITY * 1.5 * 70e3 / left, rtol=1e-6)

    def test_that_the_file_holds_already(self, tmp_path, write):
        unit, values = measured(self.write(tmp_path / "pt", write, Units="GML"))
        assert unit is Unit.SUV
        np.testing.assert_array_equal(values, self.ACTIVITY * 1.5)

    @pytest.mark.parametrize(
        "changed",
        [
            {"Units": "CNTS"},
            {"Units": "GML", "SUVType": "BSA"},
            {"CorrectedImage": ["ATTN"]},
            {"DecayCorrection": "NONE"},
            {"PatientWeight": 0},
            {"PatientWeight": -70},
            {"RadionuclideTotalDose": 370},
            {"RadionuclideHalfLife": None},
            {"RadiopharmaceuticalStartTime": None},
            {"RadiopharmaceuticalStartTime": ""},
            {"AcquisitionTime": "105900"},
            {"RadiopharmaceuticalStartDateTime": "20200102113000"},
        ],
        ids=lambda changed: ",".join(f"{k}={v}" for k, v in changed.items()),
    )
    def test_is_not_guessed(self, changed, tmp_path, write):
        path = self.write(tmp_path / "pt", write, **changed)
        noted = Counter()
        (one,) = read(path, noted)
        assert one.unit is Unit.ARBITRARY
        np.testing.assert_array_equal(slice_decoder()(one).T, self.ACTIVITY * 1.5)
        assert [what for what in noted if "cannot be told as SUV" in what]
