"""TID 1500 reports, written by highdicom, over a CT series and its segmentation."""

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import sr
from pydantic import TypeAdapter
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from medaug.errors import ReaderError
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
KEY = bytes(range(32))
SR = {"kind": "sr", "labels": {"neoplasm": "tumour"}}
TRACKING = "1.2.826.0.1.3680043.8.498.1"


def read(root, *rules):
    lesions = list(rules or [SR])
    return scan([SOURCE.validate_python({"kind": "dicom", "lesions": lesions})], root, KEY)


def reasons(root, *rules):
    try:
        return {one.path: one.reason for one in read(root, *rules).inventory.refused}
    except ReaderError as error:
        return {fault.where: fault.came for fault in error.faults}


def tracking(uid=TRACKING):
    return sr.TrackingIdentifier(uid=uid, identifier="Doe Jane")


def planar(finding=codes.SCT.Neoplasm, uid=TRACKING, **geometry):
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(uid), finding_type=finding, **geometry
    )


def volumetric(finding=codes.SCT.Neoplasm, uid=TRACKING, **geometry):
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(uid), finding_type=finding, **geometry
    )


def on_image(image, kind, points, frame=None):
    there = pydicom.dcmread(image)
    source = sr.SourceImageForRegion(there.SOPClassUID, there.SOPInstanceUID, frame)
    return sr.ImageRegion(kind, np.array(points, float), source)


def in_patient(image, kind, points):
    frame = pydicom.dcmread(image).FrameOfReferenceUID
    return sr.ImageRegion3D(kind, np.array(points, float), frame)


def whole_segment(path, series):
    seg = pydicom.dcmread(path)
    images = [
        sr.SourceImageForSegmentation.from_source_image(pydicom.dcmread(one)) for one in series
    ]
    return sr.ReferencedSegment(seg.SOPClassUID, seg.SOPInstanceUID, 1, source_images=images)


def report(path, evidence, groups):
    person = sr.PersonObserverIdentifyingAttributes(name="Doe^Jane")
    observer = sr.ObserverContext(codes.DCM.Person, person)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    written = sr.Comprehensive3DSR(
        evidence=[pydicom.dcmread(one) for one in evidence],
        content=content,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
    )
    written.save_as(path)
    return path


@pytest.fixture
def series(tmp_path, write):
    return write.series(tmp_path / "ct", write.ct((40, 36, 8)), spacing=(0.8, 0.8, 2.5))


def whole(case, lesion):
    mask = np.zeros(case.volume.geometry.shape, bool)
    mask[lesion.box] = lesion.mask
    return mask


def lps(case, index):
    return case.volume.geometry.world(index) * [-1, -1, 1]


class TestASegment:
    """The lesion takes its tracking and its finding from the report."""

    def of_segment(self, tmp_path, series, write):
        mask = write.blob((40, 36, 8))
        path = write.seg(tmp_path / "seg.dcm", series, {"Cyst": mask})
        group = volumetric(referenced_segment=whole_segment(path, series))
        report(tmp_path / "sr.dcm", [*series, path], [group])
        return mask

    def test_is_read_once_and_as_the_report_has_it(self, tmp_path, series, write):
        mask = self.of_segment(tmp_path, series, write)
        for rules in ([SR], [SR, {"kind": "seg"}]):
            source = read(tmp_path, *rules)
            (case,) = source.cases()
            (lesion,) = case.lesions
            assert lesion.label == "tumour"
            assert lesion.finding.value == "108369006"
            assert np.array_equal(whole(case, lesion), mask)
            assert source.inventory.files_used == len(series) + 2

    def test_the_tracking_uid_is_that_of_the_report(self, tmp_path, series, write):
        self.of_segment(tmp_path, series, write)
        reported = next(iter(read(tmp_path).cases())).lesions[0].tracking_uid
        (tmp_path / "sr.dcm").unlink()
        one = pydicom.dcmread(tmp_path / "seg.dcm")
        one.SegmentSequence[0].TrackingUID = TRACKING
        one.save_as(tmp_path / "seg.dcm")
        (case,) = read(tmp_path, {"kind": "seg"}).cases()
        assert case.lesions[0].tracking_uid == reported

    def test_without_the_segmentation_it_is_refused(self, tmp_path, series, write):
        self.of_segment(tmp_path, series, write)
        (tmp_path / "seg.dcm").unlink()
        assert "the segmentation it refers to is not among the files" in reasons(tmp_path)["sr.dcm"]

    def test_frames_of_a_segment(self, tmp_path, series, write):
        mask = write.blob((40, 36, 8))
        path = write.seg(tmp_path / "seg.dcm", series, {"Cyst": mask})
        seg, image = pydicom.dcmread(path), pydicom.dcmread(series[3])
        frame = sr.ReferencedSegmentationFrame(
            seg.SOPClassUID,
            seg.SOPInstanceUID,
            frame_number=2,
            segment_number=1,
            source_image=sr.SourceImageForSegmentation.from_source_image(image),
        )
        report(tmp_path / "sr.dcm", [*series, path], [planar(referenced_segment=frame)])
        (case,) = read(tmp_path).cases()
        expected = np.zeros_like(mask)
        expected[:, :, 3] = mask[:, :, 3]
        assert np.array_equal(whole(case, case.lesions[0]), expected)


class TestOnAnImage:
    """Graphic Data count from the corner of the first pixel (PS3.3 C.18.6.1.2)."""

    def read_one(self, tmp_path, series, *regions, make=planar, **given):
        if make is planar:
            group = planar(referenced_region=regions[0], **given)
        else:
            group = volumetric(referenced_regions=list(regions), **given)
        report(tmp_path / "sr.dcm", series, [group])
        (case,) = read(tmp_path).cases()
        (lesion,) = case.lesions
        return case, lesion

    def test_a_polyline_around_whole_pixels(self, tmp_path, series):
        """From corner to corner of pixels 4..7 x 10..12: those, and no others."""
        corners = [[4, 10], [8, 10], [8, 13], [4, 13], [4, 10]]
        _, lesion = self.read_one(tmp_path, series, on_image(series[5], "POLYLINE", corners))
        assert lesion.box == (slice(4, 8), slice(10, 13), slice(5, 6))
        assert lesion.mask.all()

    def test_places_are_those_of_highdicom(self, tmp_path, series):
        """highdicom maps the same image coordinates into the patient."""
        point = np.array([[17.3, 9.8]])
        case, lesion = self.read_one(tmp_path, series, on_image(series[5], "POINT", point))
        there = pydicom.dcmread(series[5])
        twin = highdicom.spatial.ImageToReferenceTransformer(
            there.ImagePositionPatient, there.ImageOrientationPatient, there.PixelSpacing
        )(point)[0]
        at = lps(case, [part.start for part in lesion.box])
        assert np.abs(at - twin).max() <= 0.4 + 1e-6  # within half a pixel
        assert lesion.mask is None

    @pytest.mark.parametrize(
        ("kind", "points", "axes"),
        [
            ("CIRCLE", [[20.3, 18.1], [20.3, 25.2]], (7.1, 7.1)),
            ("ELLIPSE", [[10.3, 18.1], [30.3, 18.1], [20.3, 13.1], [20.3, 23.1]], (10, 5)),
        ],
    )
    def test_round_shapes(self, kind, points, axes, tmp_path, series):
        _, lesion = self.read_one(tmp_path, series, on_image(series[2], kind, points))
        i, j = np.meshgrid(np.arange(40) + 0.5, np.arange(36) + 0.5, indexing="ij")
        inside = np.hypot((i - 20.3) / axes[0], (j - 18.1) / axes[1]) <= 1
        found = np.zeros((40, 36), bool)
        found[lesion.box[:2]] = lesion.mask[:, :, 0]
        assert np.array_equal(found, inside)
        assert lesion.voxels == pytest.approx(np.pi * axes[0] * axes[1], rel=0.03)

    def test_several_regions_are_one_lesion(self, tmp_path, series):
        circle = [[20.3, 18.1], [20.3, 25.2]]
        regions = [on_image(series[k], "CIRCLE", circle) for k in (2, 3, 4)]
        _, lesion = self.read_one(tmp_path, series, *regions, make=volumetric)
        assert lesion.box[2] == slice(2, 5)

    def test_an_open_line_gives_its_box_and_the_diameter_stated(self, tmp_path, series):
        line = on_image(series[4], "POLYLINE", [[5.5, 6.5], [15.5, 8.5]])
        size = sr.Measurement(name=codes.SCT.Diameter, value=1.25, unit=codes.UCUM.Centimeter)
        _, lesion = self.read_one(tmp_path, series, line, measurements=[size])
        assert lesion.box == (slice(5, 16), slice(6, 9), slice(4, 5))
        assert lesion.mask is None
        assert lesion.diameter_mm == 12.5

    def test_a_volume_stated_is_that_of_a_ball(self, tmp_path, series):
        point = on_image(series[4], "POINT", [[5.5, 6.5]])
        size = sr.Measurement(
            name=codes.SCT.Volume, value=4 / 3 * np.pi * 0.5**3, unit=codes.UCUM.CubicCentimeter
        )
        _, lesion = self.read_one(tmp_path, series, point, measurements=[size])
        assert lesion.diameter_mm == pytest.approx(10)

    def test_outside_the_image(self, tmp_path, series):
        point = on_image(series[4], "POINT", [[50.5, 6.5]])
        report(tmp_path / "sr.dcm", series, [planar(referenced_region=point)])
        assert reasons(tmp_path)["sr.dcm"] == "a graphic of its report lies outside the images"

    def test_on_an_image_that_is_not_there(self, tmp_path, series):
        point = on_image(series[4], "POINT", [[5.5, 6.5]])
        report(tmp_path / "sr.dcm", series, [planar(referenced_region=point)])
        one = pydicom.dcmread(tmp_path / "sr.dcm")
        text = one.to_json().replace(str(pydicom.dcmread(series[4]).SOPInstanceUID), "1.2.3")
        other = pydicom.Dataset.from_json(text)
        other.file_meta = one.file_meta
        other.save_as(tmp_path / "sr.dcm")
        assert reasons(tmp_path)["sr.dcm"] == (
            "1 of the 1 images that its report names are not among the files"
        )


class TestInThePatient:
    def test_an_ellipsoid(self, tmp_path, series):
        first = np.array(pydicom.dcmread(series[0]).ImagePositionPatient, float)
        middle = first + np.array([15.2, 13.7, 9.1])
        half = np.diag([8.0, 6.0, 5.0])
        ends = np.vstack([(middle - a, middle + a) for a in half])
        region = sr.VolumeSurface(
            graphic_type="ELLIPSOID",
            graphic_data=ends,
            frame_of_reference_uid=pydicom.dcmread(series[0]).FrameOfReferenceUID,
            source_images=[
                sr.SourceImageForSegmentation.from_source_image(pydicom.dcmread(series[0]))
            ],
        )
        report(tmp_path / "sr.dcm", series, [volumetric(referenced_volume_surface=region)])
        (case,) = read(tmp_path).cases()
        every = np.stack(
            np.meshgrid(*map(np.arange, case.volume.geometry.shape), indexing="ij"), -1
        )
        inside = (((lps(case, every) - middle) / [8, 6, 5]) ** 2).sum(axis=-1) <= 1
        assert inside.sum() > 300
        assert np.array_equal(whole(case, case.lesions[0]), inside)

    def test_a_polygon(self, tmp_path, series):
        first = np.array(pydicom.dcmread(series[3]).ImagePositionPatient, float)
        corners = (
            first
            + np.array([[2, 2, 0], [10, 2, 0], [10, 8, 0], [2, 8, 0], [2, 2, 0]])
            - 0.3 * np.array([1, 1, 0])
        )
        region = in_patient(series[3], "POLYGON", corners)
        report(tmp_path / "sr.dcm", series, [planar(referenced_region=region)])
        (case,) = read(tmp_path).cases()
        at = lps(case, np.argwhere(whole(case, case.lesions[0])))
        assert case.lesions[0].voxels * 0.64 == pytest.approx(48, rel=0.1)
        assert (at.min(axis=0)[:2] >= first[:2] + 1.7 - 1e-3).all()
        assert at[:, 2] == pytest.approx(first[2], abs=1e-3)

    def test_a_point_in_another_frame(self, tmp_path, series):
        region = sr.ImageRegion3D("POINT", np.zeros((1, 3)), generate_uid())
        report(tmp_path / "sr.dcm", series, [planar(referenced_region=region)])
        assert "is in the frame of reference of its report" in reasons(tmp_path)["sr.dcm"]


class TestTheGroups:
    def test_each_is_a_lesion_and_only_wanted_ones_are(self, tmp_path, series):
        def at(k, column, finding, uid):
            return planar(
                finding, uid, referenced_region=on_image(series[k], "POINT", [[column, 5.5]])
            )

        groups = [
            at(1, 5.5, codes.SCT.Neoplasm, "1.2.3"),
            at(2, 9.5, codes.SCT.Neoplasm, "1.2.4"),
            at(3, 12.5, codes.SCT.Cyst, "1.2.5"),
        ]
        report(tmp_path / "sr.dcm", series, groups)
        source = read(tmp_path)
        (case,) = source.cases()
        assert [one.box[0].start for one in case.lesions] == [5, 9]
        assert len({one.tracking_uid for one in case.lesions}) == 2
        (note,) = source.inventory.notes
        assert note.startswith("1 file(s) hold measurement groups whose finding is not among")
        (every,) = read(tmp_path, {"kind": "sr"}).cases()
        assert sorted(one.label for one in every.lesions) == ["cyst", "neoplasm", "neoplasm"]

    def test_on_two_series_are_two_cases(self, tmp_path, series, write):
        other = write.series(tmp_path / "later", write.ct(seed=3))
        groups = [
            planar(referenced_region=on_image(one, "POINT", [[5.5, 5.5]]))
            for one in (series[2], other[3])
        ]
        report(tmp_path / "sr.dcm", [*series, *other], groups)
        cases = list(read(tmp_path).cases())
        assert [len(case.lesions) for case in cases] == [1, 1]
        uids = {case.lesions[0].tracking_uid for case in cases}
        assert len(uids) == 1

    def test_a_broken_group_is_noted_and_the_others_are_read(self, tmp_path, series):
        groups = [
            planar(referenced_region=on_image(series[2], "POINT", [[5.5, 5.5]])),
            planar(uid="1.2.9", referenced_region=on_image(series[2], "POINT", [[99.5, 5.5]])),
        ]
        report(tmp_path / "sr.dcm", series, groups)
        source = read(tmp_path)
        assert [len(case.lesions) for case in source.cases()] == [1]
        assert source.inventory.notes == (
            "1 file(s) mark more than is read: a graphic of its report lies outside the images",
        )

    def test_none_is_asked_for(self, tmp_path, series):
        group = planar(codes.SCT.Cyst, referenced_region=on_image(series[2], "POINT", [[5, 5]]))
        report(tmp_path / "sr.dcm", series, [group])
        assert reasons(tmp_path)["sr.dcm"] == (
            "none of its findings is among the labels of the rule `sr`; it has group 1 coded "
            "441457006 (SCT)"
        ).replace("441457006", codes.SCT.Cyst.value)

    def test_without_a_rule_the_reason_names_it(self, tmp_path, series):
        point = on_image(series[4], "POINT", [[5.5, 6.5]])
        report(tmp_path / "sr.dcm", series, [planar(referenced_region=point)])
        assert reasons(tmp_path, {"kind": "seg"})["sr.dcm"] == (
            "a structured report, and the settings name no rule of kind `sr`"
        )

    def test_identifiers_stay_in_the_report(self, tmp_path, series):
        point = on_image(series[4], "POINT", [[5.5, 6.5]])
        report(tmp_path / "sr.dcm", series, [planar(referenced_region=point)])
        source = read(tmp_path)
        text = repr(source.inventory.document()) + repr(list(source.cases()))
        assert "Doe" not in text
        assert TRACKING not in text
