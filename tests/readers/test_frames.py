"""Files of several frames: what each says of itself, and what is said of all."""

from collections import Counter

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medaug.domain import Unit
from medaug.readers.dicom.header import OF_THE_PROBE, read_header
from medaug.readers.dicom.pixels import slice_decoder
from medaug.readers.files import Refusal, SourceFile

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ENHANCED_US = "1.2.840.10008.5.1.4.1.1.6.2"
FRAMES = np.random.default_rng(4).integers(0, 4000, (4, 6, 5)).astype(np.uint16)


def read(path, noted=None):
    return read_header(SourceFile(path, path.name, path.name), "PatientID", noted)


def item(**attributes):
    one = Dataset()
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return one


def group(**macros):
    """A functional group: macro keyword → its item."""
    return item(**{keyword: Sequence([one]) for keyword, one in macros.items()})


def enhanced(path, write, per_frame, shared=None, modality="CT", sop_class=ENHANCED_CT, **changes):
    given = {
        "SOPClassUID": sop_class,
        "PixelSpacing": None,
        "ImageOrientationPatient": None,
        "ImagePositionPatient": None,
        "PerFrameFunctionalGroupsSequence": Sequence(per_frame),
        "SharedFunctionalGroupsSequence": Sequence([shared or everywhere()]),
        **changes,
    }
    write.image(path, FRAMES, modality, **given)
    return path


def everywhere(**more):
    return group(
        PixelMeasuresSequence=item(PixelSpacing=[0.9, 0.7]),
        PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        **more,
    )


def at(k, **more):
    return group(PlanePositionSequence=item(ImagePositionPatient=[1, 2, 3.0 * k]), **more)


def transform(slope, intercept, kind="HU"):
    return item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType=kind)


class TestAFrame:
    def test_is_a_slice_with_its_own_place_and_rescale(self, tmp_path, write):
        frames = [
            at(k, PixelValueTransformationSequence=transform(1 + k, -10 * k)) for k in range(4)
        ]
        slices = read(enhanced(tmp_path / "ct", write, frames))
        assert [one.frame for one in slices] == [0, 1, 2, 3]
        assert [one.plane.position for one in slices] == [(1, 2, 3.0 * k) for k in range(4)]
        assert {one.plane.spacing for one in slices} == {(0.9, 0.7)}
        assert {one.unit for one in slices} == {Unit.HOUNSFIELD}
        decode = slice_decoder()
        for k in (2, 0, 3, 1):
            np.testing.assert_array_equal(decode(slices[k]).T, FRAMES[k] * (1.0 + k) - 10 * k)

    def test_takes_what_is_shared_where_it_says_nothing(self, tmp_path, write):
        shared = everywhere(PixelValueTransformationSequence=transform(1, -1024, "US"))
        (first, *_) = read(enhanced(tmp_path / "ct", write, [at(k) for k in range(4)], shared))
        assert first.unit is Unit.ARBITRARY
        np.testing.assert_array_equal(slice_decoder()(first).T, FRAMES[0] - 1024.0)

    def test_goes_before_what_is_shared(self, tmp_path, write):
        shared = everywhere(PlanePositionSequence=item(ImagePositionPatient=[9, 9, 9]))
        frames = [at(0), at(1), at(2), group(FrameContentSequence=item(StackID="1"))]
        slices = read(enhanced(tmp_path / "ct", write, frames, shared))
        assert [one.plane.position[2] for one in slices] == [0, 3, 6, 9]

    def test_is_never_placed_by_what_is_said_of_the_file(self, tmp_path, write):
        frames = [group(FrameContentSequence=item(StackID="1"))] * 4
        path = enhanced(tmp_path / "ct", write, frames, ImagePositionPatient=[0, 0, 0])
        assert "no place in the patient" in read(path).reason

    def test_says_what_tells_it_apart(self, tmp_path, write):
        frames = [
            at(
                k // 2,
                FrameContentSequence=item(StackID="7", TemporalPositionIndex=1 + k % 2),
                MREchoSequence=item(EffectiveEchoTime=12.5),
                MRDiffusionSequence=item(
                    DiffusionBValue=500.0 * (k % 2),
                    DiffusionGradientDirectionSequence=Sequence(
                        [item(DiffusionGradientOrientation=[1.0, 0.0, 0.0])]
                    ),
                ),
                MRImageFrameTypeSequence=item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"]),
            )
            for k in range(4)
        ]
        path = enhanced(tmp_path / "mr", write, frames, modality="MR", sop_class=ENHANCED_MR)
        assert [one.apart for one in read(path)][:2] == [
            (
                ("image type", "ORIGINAL\\PRIMARY\\M\\NONE"),
                ("stack", "7"),
                ("echo time", "12.5"),
                ("b-value", b_value),
                ("gradient", "1.0\\0.0\\0.0"),
                ("temporal position", moment),
            )
            for b_value, moment in (("0.0", "1"), ("500.0", "2"))
        ]

    def test_of_a_localiser_is_refused(self, tmp_path, write):
        frames = [
            at(k, CTImageFrameTypeSequence=item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
            for k in range(4)
        ]
        assert "localiser" in read(enhanced(tmp_path / "ct", write, frames)).reason

    @pytest.mark.parametrize("count", [1, 3, 5])
    def test_that_is_not_described_makes_the_file_useless(self, count, tmp_path, write):
        path = enhanced(tmp_path / "ct", write, [at(k) for k in range(count)])
        assert read(path).reason == f"it has 4 frames and describes {count} of them"


class TestPicturesInARow:
    """Time is not space: the frames of a loop are pictures of their own."""

    def test_of_ultrasound(self, tmp_path, write):
        region = item(
            RegionSpatialFormat=1,
            RegionDataType=1,
            PhysicalUnitsXDirection=3,
            PhysicalUnitsYDirection=3,
            PhysicalDeltaX=0.02,
            PhysicalDeltaY=-0.03,
        )
        write.image(
            tmp_path / "us",
            FRAMES,
            "US",
            PixelSpacing=None,
            ImagePositionPatient=None,
            SequenceOfUltrasoundRegions=Sequence([region]),
        )
        slices = read(tmp_path / "us")
        assert [one.frame for one in slices] == [0, 1, 2, 3]
        assert not any(one.plane.placed for one in slices)
        assert {one.plane.spacing for one in slices} == {(0.3, 0.2)}
        np.testing.assert_array_equal(slice_decoder()(slices[2]).T, FRAMES[2])

    def test_are_not_placed_by_the_file(self, tmp_path, write):
        write.image(tmp_path / "xa", FRAMES, "XA")
        assert not any(one.plane.placed for one in read(tmp_path / "xa"))

    def test_may_not_be_more_than_the_bytes_allow(self, tmp_path, write):
        tiny = np.zeros((5000, 1, 2), np.uint8)
        write.image(tmp_path / "us", tiny, "US", ImagePositionPatient=None)
        assert read(tmp_path / "us").reason == "it claims 5000 frames, more than its bytes can hold"


class TestAnUltrasoundVolume:
    def test_lies_in_the_frame_of_the_probe(self, tmp_path, write):
        shared = group(
            PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.4]),
            PlaneOrientationVolumeSequence=item(ImageOrientationVolume=[1, 0, 0, 0, 0, 1]),
        )
        frames = [
            group(PlanePositionVolumeSequence=item(ImagePositionVolume=[0, 2.0 * k, 0]))
            for k in range(4)
        ]
        path = enhanced(
            tmp_path / "us",
            write,
            frames,
            shared,
            modality="US",
            sop_class=ENHANCED_US,
            FrameOfReferenceUID=None,
            VolumeFrameOfReferenceUID="1.2.3",
        )
        noted = Counter()
        slices = read(path, noted)
        assert [one.plane.position for one in slices] == [(0, 2.0 * k, 0) for k in range(4)]
        assert all(one.plane.placed for one in slices)
        assert slices[0].frame_of_reference == "1.2.3"
        assert noted == {OF_THE_PROBE: 1}


class TestRealFiles:
    @pytest.mark.parametrize(
        ("folder", "pattern"),
        [
            ("dicom2nifti_cases", "hyperfine/anatomical/001/*"),
            ("dcmqi_seg", "23x38x3/multiframe/*"),
            ("dcmqi_seg", "24x38x3/multiframe/*"),
        ],
    )
    def test_lie_where_itk_has_them(self, folder, pattern, real_data):
        (path,) = real_data(folder).rglob(pattern)
        slices = read(path)
        twin = SimpleITK.ReadImage(path)
        values = SimpleITK.GetArrayFromImage(twin)
        assert len(slices) == len(values)
        decode = slice_decoder()
        # ITK sorts nothing within a file: frame k is slice k.
        for k, one in enumerate(slices):
            np.testing.assert_allclose(
                one.plane.position, twin.TransformIndexToPhysicalPoint((0, 0, k)), atol=1e-3
            )
            np.testing.assert_array_equal(decode(one).T, values[k])

    @pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
    def test_converted_ones_say_what_the_classic_ones_say(self, size, real_data):
        """A legacy converted CT beside the three files it was made of."""
        home = next(real_data("dcmqi_seg").rglob(size))
        (converted,) = home.glob("multiframe/*")
        frames = {one.plane.position: one for one in read(converted)}
        decode = slice_decoder()
        for path in home.glob("image/*"):
            (one,) = read(path)
            frame = frames.pop(one.plane.position)
            assert frame.plane == one.plane
            assert frame.unit == one.unit
            np.testing.assert_array_equal(decode(frame), decode(one))
        assert not frames


def test_highdicom_agrees_on_a_legacy_conversion(tmp_path, write):
    """Written by highdicom from a classic series; read to the same slices."""
    paths = write.series(tmp_path / "ct", write.ct())
    classic = [pydicom.dcmread(path) for path in paths]
    for one in classic:
        one.Laterality = one.PatientOrientation = ""
    made = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=classic,
        series_instance_uid=pydicom.uid.generate_uid(),
        series_number=1,
        sop_instance_uid=pydicom.uid.generate_uid(),
        instance_number=1,
    )
    made.save_as(tmp_path / "converted.dcm")
    frames = read(tmp_path / "converted.dcm")
    assert not isinstance(frames, Refusal), frames
    by_place = {one.plane.position: one for one in frames}
    decode = slice_decoder()
    assert len(by_place) == 8
    for path in paths:
        (one,) = read(path)
        assert by_place[one.plane.position].plane == one.plane
        np.testing.assert_array_equal(decode(by_place[one.plane.position]), decode(one))
