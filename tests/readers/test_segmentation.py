"""DICOM SEG of every kind, on the image's grid and on others; highdicom writes and reads them."""

import highdicom
import numpy as np
import pydicom
import pytest
from pydantic import TypeAdapter, ValidationError
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medaug.errors import ReaderError
from medaug.readers.rules import SegRule
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
KEY = bytes(range(32))


def read(root, rule=None, **given):
    lesions = [{"kind": "seg", **(rule or {})}]
    return scan([SOURCE.validate_python({"kind": "dicom", "lesions": lesions, **given})], root, KEY)


def reason(root, rule=None, name="seg.dcm", **given):
    try:
        found = {one.path: one.reason for one in read(root, rule, **given).inventory.refused}
    except ReaderError as error:
        found = {fault.where: fault.came for fault in error.faults}
    return found[name]


def segment(number, name="Cyst", **attributes):
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"a label of {name}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=getattr(codes.SCT, name),
        algorithm_type="MANUAL",
        **attributes,
    )


def write_seg(path, images, pixels, kind="BINARY", segments=None, **given):
    """``pixels``: (column, row, slice), or with a last axis of segments."""
    pixels = np.moveaxis(pixels, (0, 1, 2), (2, 1, 0))
    written = highdicom.seg.Segmentation(
        source_images=[pydicom.dcmread(one) for one in images],
        pixel_array=np.ascontiguousarray(pixels),
        segmentation_type=kind,
        segment_descriptions=segments or [segment(1)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        **given,
    )
    written.save_as(path)
    return path


def whole(case, lesion):
    mask = np.zeros(case.volume.geometry.shape, bool)
    mask[lesion.box] = lesion.mask
    return mask


def by_highdicom(path, images, number=1):
    """The mask (column, row, slice) as highdicom rebuilds it for the source images."""
    found = highdicom.seg.segread(path)
    uids = [pydicom.dcmread(one).SOPInstanceUID for one in images]
    pixels = found.get_pixels_by_source_instance(uids, segment_numbers=[number])
    return pixels[..., 0].transpose(2, 1, 0)


class TestFractional:
    @pytest.fixture
    def ramp(self, tmp_path, write):
        values = np.zeros((20, 16, 8))
        values[2:12, 4, 3] = np.arange(1, 11) / 10
        images = write.series(tmp_path / "ct", write.ct())
        write_seg(
            tmp_path / "seg.dcm",
            images,
            values,
            kind="FRACTIONAL",
            fractional_type="OCCUPANCY",
            max_fractional_value=200,
        )
        return images, values

    @pytest.mark.parametrize(("threshold", "voxels"), [(None, 6), (0.1, 10), (0.75, 3), (1, 1)])
    def test_from_the_threshold_on(self, threshold, voxels, ramp, tmp_path):
        rule = {} if threshold is None else {"threshold": threshold}
        (case,) = read(tmp_path, rule).cases()
        images, _ = ramp
        twin = by_highdicom(tmp_path / "seg.dcm", images) >= (threshold or 0.5)
        assert case.lesions[0].voxels == voxels
        assert np.array_equal(whole(case, case.lesions[0]), twin)

    def test_a_threshold_lies_above_0(self):
        with pytest.raises(ValidationError):
            SegRule(kind="seg", threshold=0)


class TestEncodings:
    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
    @pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
    def test_compressed(self, syntax, kind, tmp_path, write):
        shape = (40, 36, 8)  # JPEG 2000 needs 32 pixels
        images = write.series(tmp_path / "ct", write.ct(shape))
        pixels = write.blob(shape).astype(float if kind == "FRACTIONAL" else np.uint8)
        write_seg(tmp_path / "seg.dcm", images, pixels, kind, transfer_syntax_uid=syntax)
        (case,) = read(tmp_path).cases()
        assert np.array_equal(whole(case, case.lesions[0]), write.blob(shape))

    def test_deflated(self, tmp_path, write):
        images = write.series(tmp_path / "ct", write.ct())
        path = write_seg(tmp_path / "seg.dcm", images, write.blob().astype(np.uint8))
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        one.save_as(path)
        (case,) = read(tmp_path).cases()
        assert np.array_equal(whole(case, case.lesions[0]), write.blob())

    @pytest.mark.parametrize("palette", [False, True])
    def test_label_map_of_16_bits(self, palette, tmp_path, write):
        images = write.series(tmp_path / "ct", write.ct())
        pixels = np.zeros((20, 16, 8), np.uint16)
        pixels[write.blob()] = 300
        pixels[0:2, 0:2, 0] = 2
        colours = {}
        if palette:
            table = (np.arange(301 * 3) % 255).reshape(301, 3).astype(np.uint16)
            colours["palette_color_lut_transformation"] = (
                highdicom.PaletteColorLUTTransformation.from_combined_lut(table)
            )
        names = [segment(2, "Liver"), segment(300, "Cyst")]
        write_seg(tmp_path / "seg.dcm", images, pixels, "LABELMAP", names, **colours)
        (case,) = read(tmp_path).cases()
        found = {one.label: whole(case, one) for one in case.lesions}
        assert np.array_equal(found["cyst"], pixels == 300)
        assert np.array_equal(found["liver"], pixels == 2)


class TestOnPictures:
    """References to single instances of 2-D images: no plane position."""

    def test_without_a_place_in_the_patient(self, tmp_path, write):
        images = write.series(tmp_path / "ct", write.ct())
        path = write_seg(tmp_path / "seg.dcm", images, write.blob().astype(np.uint8))
        one = pydicom.dcmread(path)
        for frame in one.PerFrameFunctionalGroupsSequence:
            del frame.PlanePositionSequence
        del one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        one.save_as(path)
        (case,) = read(tmp_path).cases()
        assert np.array_equal(whole(case, case.lesions[0]), write.blob())

    def test_an_image_that_is_not_there(self, tmp_path, write):
        images = write.series(tmp_path / "ct", write.ct())
        path = write_seg(tmp_path / "seg.dcm", images, write.blob().astype(np.uint8))
        one = pydicom.dcmread(path)
        for frame in one.PerFrameFunctionalGroupsSequence:
            del frame.PlanePositionSequence
            source = frame.DerivationImageSequence[0].SourceImageSequence[0]
            source.ReferencedSOPInstanceUID = "1.2.3"
        one.save_as(path)
        assert reason(tmp_path) == "no frame of it names an image of the volume, of the same size"


def shift(path, by, flip=(1, 1, 1), both=True):
    """Move the planes of a SEG in the world, or mirror them."""
    one = pydicom.dcmread(path)
    for frame in one.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        old = np.array(place.ImagePositionPatient, float)
        place.ImagePositionPatient = [f"{x:.8g}" for x in (old * flip if both else old) + by]
    shared = one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    turned = np.reshape(shared.ImageOrientationPatient, (2, 3)).astype(float) * flip
    shared.ImageOrientationPatient = [f"{x:.8g}" for x in turned.ravel()]
    one.save_as(path)


class TestAnotherGrid:
    """Resampled only if it lies in the same frame of reference and overlaps; otherwise refused."""

    @pytest.fixture
    def seg(self, tmp_path, write):
        images = write.series(tmp_path / "ct", write.ct((20, 16, 8)), origin=(-30.0, 12.0, 100.0))
        return write_seg(tmp_path / "seg.dcm", images, write.blob().astype(np.uint8))

    def test_in_the_same_frame_is_resampled(self, seg, tmp_path, write):
        """Half a voxel and a bit to the left of where it was: every centre finds its neighbour."""
        shift(seg, (0.7 * 0.6, 0, 0))
        source = read(tmp_path)
        (case,) = source.cases()
        assert np.array_equal(whole(case, case.lesions[0]), np.roll(write.blob(), 1, axis=0))
        assert source.inventory.notes == (
            "1 file(s) hold masks on another grid than the image; they were resampled to it",
        )

    def test_of_another_spacing(self, tmp_path, write):
        """A ball drawn on a finer grid keeps its volume and its place."""
        frame, series = generate_uid(), generate_uid()
        images = write.series(tmp_path / "ct", write.ct((40, 36, 16)), frame_of_reference=frame)
        first = np.array(pydicom.dcmread(images[0]).ImagePositionPatient, float)
        fine = write.series(
            tmp_path / "fine",
            np.zeros((70, 70, 50), int),
            spacing=(0.41, 0.43, 0.7),
            origin=first + np.array([0.13, 0.17, 0.19]),
            frame_of_reference=frame,
            series=series,
        )
        middle = first + np.array([14.0, 15.0, 17.0])
        at = np.stack(np.meshgrid(*map(np.arange, (70, 70, 50)), indexing="ij"), -1)
        away = np.linalg.norm(
            first + np.array([0.13, 0.17, 0.19]) + at * [0.41, 0.43, 0.7] - middle, axis=-1
        )
        path = write_seg(tmp_path / "seg.dcm", fine, (away < 9).astype(np.uint8))
        for one in fine:
            one.unlink()
        seg = pydicom.dcmread(path)
        seg.ReferencedSeriesSequence[0].SeriesInstanceUID = pydicom.dcmread(
            images[0]
        ).SeriesInstanceUID
        seg.save_as(path)
        (case,) = read(tmp_path).cases()
        geometry, (lesion,) = case.volume.geometry, case.lesions
        assert lesion.volume_mm3(geometry) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.03)
        centre = geometry.world(np.argwhere(whole(case, lesion)).mean(axis=0)) * [-1, -1, 1]
        assert centre == pytest.approx(middle, abs=0.15)

    def test_unless_the_settings_forbid_it(self, seg, tmp_path):
        shift(seg, (0.42, 0, 0))
        assert reason(tmp_path, {"other_grid": "refuse"}) == (
            "it lies on another grid than the image, and `other_grid` forbids to resample it"
        )

    def test_in_another_frame(self, seg, tmp_path):
        shift(seg, (0.42, 0, 0))
        one = pydicom.dcmread(seg)
        one.FrameOfReferenceUID = "1.2.3"
        one.save_as(seg)
        assert reason(tmp_path) == (
            "it lies on another grid than the image, in another frame of reference"
        )

    def test_without_overlap(self, seg, tmp_path):
        shift(seg, (200, 0, 0))
        found = reason(tmp_path)
        assert found.startswith("it lies on another grid than the image: 20x16x5 voxels instead of")
        assert found.endswith("its first voxel 200 mm away; 193 mm off, it meets no voxel")

    def test_mostly_outside(self, seg, tmp_path):
        shift(seg, (10.6, 0.1, 0))
        assert "of what it marks lies within the image" in reason(tmp_path)

    @pytest.mark.usefixtures("seg")
    def test_with_slices_missing_it_is_not_cut_to_fit(self, tmp_path):
        """Two of three marked planes are on the grid: an image is missing, nothing is resampled."""
        at = {p: pydicom.dcmread(p).ImagePositionPatient[2] for p in (tmp_path / "ct").iterdir()}
        for path in sorted(at, key=at.get)[-2:]:
            path.unlink()
        assert reason(tmp_path) == (
            "it lies on another grid than the image: 1 of its 3 marked planes lie on no slice"
        )

    @pytest.mark.parametrize(
        ("flip", "words"),
        [
            ((-1, 1, 1), "left and right"),
            ((1, -1, 1), "front and back"),
            ((-1, -1, 1), "left and right and front and back"),
        ],
    )
    @pytest.mark.parametrize("both", [True, False])
    def test_mirrored_is_refused_and_named(self, flip, words, both, seg, tmp_path):
        shift(seg, (0, 0, 0), flip, both)
        assert reason(tmp_path).startswith(f"it fits the image only with {words} exchanged")

    @pytest.mark.parametrize("left", [-30.0, -19 * 0.7 / 2])
    def test_stored_from_another_corner_is_no_mistake(self, left, tmp_path, write):
        """The columns run the other way, from the other end: the same voxels.

        A picture centred on x = 0 is its own mirror image: there, too, the file is believed.
        """
        images = write.series(tmp_path / "ct", write.ct(), origin=(left, 12.0, 100.0))
        seg = write_seg(tmp_path / "seg.dcm", images, write.blob().astype(np.uint8))
        one = pydicom.dcmread(seg)
        for frame in one.PerFrameFunctionalGroupsSequence:
            frame.PlanePositionSequence[0].ImagePositionPatient[0] = f"{left + 19 * 0.7:.6f}"
        orientation = one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        orientation.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        one.save_as(seg)
        (case,) = read(tmp_path).cases()
        assert np.array_equal(whole(case, case.lesions[0]), write.blob()[::-1])

    def test_mask_series(self, tmp_path, write):
        frame = generate_uid()
        write.series(tmp_path / "ct", write.ct(), frame_of_reference=frame)
        moved = np.where(write.blob(), 255, 0)
        write.series(
            tmp_path / "mask",
            moved,
            intercept=0,
            origin=(-30.0 + 0.42, 12.0, 100.0),
            frame_of_reference=frame,
        )
        rule = {"kind": "mask-series", "path": "mask/", "label": "tumour"}
        (case,) = read(tmp_path, rule).cases()
        assert np.array_equal(whole(case, case.lesions[0]), np.roll(write.blob(), 1, axis=0))
        strict = {**rule, "other_grid": "refuse"}
        assert "forbids to resample" in reason(tmp_path, strict, name="mask")


class TestRealSegmentations:
    def test_volumes_are_those_of_highdicom(self, real_data):
        root = real_data("dcmqi_seg") / "segmentations"
        liver = highdicom.seg.segread(root / "liver.dcm")
        spacing = liver.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        voxels = int(liver.get_volume(segment_numbers=[1]).array.sum())
        cases = {one.volume.geometry.shape: one for one in read(root).cases()}
        case = cases[512, 512, 3]
        found = next(one for one in case.lesions if one.label == "liver")
        expected = voxels * spacing[0] * spacing[1] * 1.0
        assert found.volume_mm3(case.volume.geometry) == pytest.approx(expected, rel=1e-5)
