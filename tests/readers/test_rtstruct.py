"""RTSTRUCT: contours against analytic shapes and a rasterisation that only asks each centre."""

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Line
from pydantic import TypeAdapter, ValidationError
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from medaug.errors import ReaderError
from medaug.readers.dicom.header import read_header
from medaug.readers.dicom.stack import build_stacks
from medaug.readers.files import list_files
from medaug.readers.marks.contours import polygons
from medaug.readers.rules import RtstructRule
from medaug.readers.settings import SourceSettings
from medaug.readers.source import guess_sources, scan

SOURCE = TypeAdapter(SourceSettings)
KEY = bytes(range(32))
LESION = {"kind": "rtstruct", "labels": {"gtv.*": "tumour"}}
ANGLES = np.linspace(0, 2 * np.pi, 240, endpoint=False)


def read(root, rule=LESION, **given):
    return scan([SOURCE.validate_python({"kind": "dicom", "lesions": [rule], **given})], root, KEY)


def reasons(root, rule=LESION):
    try:
        return {one.path: one.reason for one in read(root, rule).inventory.refused}
    except ReaderError as error:
        return {fault.where: fault.came for fault in error.faults}


def write_rtstruct(path, images, rois, frame=None, name_images=True):
    """An RTSTRUCT; ``rois``: {name: [(points in LPS mm, image or None, kind)]}."""
    first = pydicom.dcmread(images[0])
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = RTStructureSetStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    one.Modality, one.PatientID, one.PatientName = "RTSTRUCT", first.get("PatientID"), "Doe^Jane"
    one.StructureSetLabel = "plan"
    frame = frame or first.get("FrameOfReferenceUID") or generate_uid()
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    one.RTROIObservationsSequence = []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, drawn, seen = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        seen.ObservationNumber = seen.ReferencedROINumber = number
        for points, image, kind in contours:
            line = pydicom.Dataset()
            line.ContourGeometricType = kind
            line.NumberOfContourPoints = len(points)
            line.ContourData = [f"{x:.10g}"[:16] for x in np.ravel(points)]
            if image is not None and name_images:
                there, reference = pydicom.dcmread(image), pydicom.Dataset()
                reference.ReferencedSOPClassUID = there.SOPClassUID
                reference.ReferencedSOPInstanceUID = there.SOPInstanceUID
                line.ContourImageSequence = [reference]
            drawn.ContourSequence.append(line)
        one.StructureSetROISequence.append(roi)
        one.ROIContourSequence.append(drawn)
        one.RTROIObservationsSequence.append(seen)
    pydicom.dcmwrite(path, one, enforce_file_format=True)
    return path


def change(path, edit):
    one = pydicom.dcmread(path)
    edit(one)
    one.save_as(path)


def ball(images, centre, radius):
    """Contours of a ball where it cuts the planes of the images."""
    lines = []
    for image in images:
        one = pydicom.dcmread(image)
        across, down = np.reshape(one.ImageOrientationPatient, (2, 3)).astype(float)
        normal = np.cross(across, down)
        height = (np.array(one.ImagePositionPatient, float) - centre) @ normal
        if abs(height) < radius:
            r = np.sqrt(radius**2 - height**2)
            middle = centre + height * normal
            points = middle + r * (
                np.outer(np.cos(ANGLES), across) + np.outer(np.sin(ANGLES), down)
            )
            lines.append((points, image, "CLOSED_PLANAR"))
    return lines


def a_series(root, write, **attributes):
    """A series of 40 x 36 pixels, 12 slices 2.5 mm apart; a point well inside it."""
    images = write.series(root / "ct", write.ct((40, 36, 12)), **attributes)
    one = pydicom.dcmread(images[6])
    axes = np.reshape(one.ImageOrientationPatient, (2, 3)).astype(float)
    middle = np.array(one.ImagePositionPatient, float) + [20 * 0.7, 18 * 0.9] @ axes
    return images, middle


def centres(case, lesion):
    """LPS mm of the marked voxels."""
    at = np.argwhere(lesion.mask) + [part.start for part in lesion.box]
    return case.volume.geometry.world(at) * [-1, -1, 1]


def to_lines(points, lines):
    """Distance of each point to the nearest edge of the closed lines."""
    nearest = np.full(len(points), np.inf)
    for line in lines:
        for a, b in zip(line, np.roll(line, -1, axis=0), strict=True):
            along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
            nearest = np.minimum(nearest, np.hypot(*(points - a - np.outer(along, b - a)).T))
    return nearest


class TestPolygons:
    """A pixel belongs to the region if its centre does."""

    @pytest.mark.parametrize("seed", range(8))
    def test_as_the_slow_twin_has_it(self, seed):
        """matplotlib asks each centre; even-odd over two random stars, in general position."""
        rng = np.random.default_rng(seed)
        lines = [
            rng.uniform(5, 25, 2)
            + np.column_stack([np.cos(ANGLES), np.sin(ANGLES)]) * rng.uniform(2, 11, (240, 1))
            for _ in range(2)
        ]
        grid = np.stack(np.meshgrid(np.arange(30), np.arange(24), indexing="ij"), -1).reshape(-1, 2)
        snapped = [np.round(line, 2) for line in lines]
        twin = [Line(np.vstack([line, line[:1]])).contains_points(grid) for line in snapped]
        expected = (twin[0] ^ twin[1]).reshape(30, 24)
        found = polygons(lines, (30, 24))
        on_line = (to_lines(grid, snapped) < 1e-6).reshape(30, 24)
        assert expected.sum() > 30
        assert np.array_equal(found[~on_line], expected[~on_line])

    def test_the_centre_of_a_pixel_is_a_whole_number(self):
        square = np.array([[1.6, 2.6], [4.4, 2.6], [4.4, 3.4], [1.6, 3.4]])
        expected = np.zeros((8, 6), bool)
        expected[2:5, 3] = True
        assert np.array_equal(polygons([square], (8, 6)), expected)

    def test_a_centre_on_the_line_counts_whatever_the_last_decimals_say(self):
        for noise in (0, 1e-3, -1e-3):
            square = np.array([[2, 2], [5, 2], [5, 4], [2, 4]]) + noise
            assert polygons([square], (8, 6)).sum() == 4 * 3

    def test_a_hole_and_a_keyhole_are_the_same(self):
        outer = np.array([[1, 1], [9, 1], [9, 9], [1, 9]]) + 0.3
        inner = np.array([[4, 4], [6, 4], [6, 6], [4, 6]]) + 0.3
        keyhole = np.vstack([outer, outer[:1], inner[::-1][-1:], inner[::-1], outer[:1]])
        assert polygons([outer, inner], (12, 12)).sum() == 8 * 8 - 2 * 2
        assert np.array_equal(polygons([keyhole], (12, 12)), polygons([outer, inner], (12, 12)))

    def test_outside_the_picture_there_is_nothing(self):
        square = np.array([[-5.2, -5.2], [1.2, -5.2], [1.2, 1.2], [-5.2, 1.2]])
        assert polygons([square], (8, 6)).sum() == 4
        assert polygons([square - 20], (8, 6)).sum() == 0


class TestTheMask:
    @pytest.mark.parametrize(
        "orientation",
        [
            (1, 0, 0, 0, 1, 0),
            (0, 1, 0, 0, 0, -1),
            (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997),
        ],
    )
    def test_of_a_ball(self, orientation, tmp_path, write):
        """Every centre of a voxel that the ball's slices hold, and no other; the volume fits."""
        axes = np.reshape(orientation, (2, 3)).astype(float)
        axes[1] -= axes[0] * (axes[0] @ axes[1]) / (axes[0] @ axes[0])
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        images, middle = a_series(tmp_path, write, orientation=tuple(axes.ravel()))
        write_rtstruct(tmp_path / "rt.dcm", images, {"GTV 1": ball(images, middle, 9.0)})
        (case,) = read(tmp_path).cases()
        (lesion,) = case.lesions
        geometry = case.volume.geometry
        every = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)
        away = np.linalg.norm(geometry.world(every) * [-1, -1, 1] - middle, axis=-1)
        inside = np.zeros(geometry.shape, bool)
        inside[lesion.box] = lesion.mask
        # The polygon and its grain take at most 0.02 mm off the circle.
        assert inside[away < 8.9].all()
        assert not inside[away > 9.01].any()
        assert lesion.volume_mm3(geometry) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.03)

    def test_between_slices_goes_to_the_nearest(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        lines = [
            (points + np.array([0, 0, 1.1]), None, kind)
            for points, _, kind in ball(images, middle, 6.0)
        ]
        write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": lines})
        shifted = next(iter(read(tmp_path).cases())).lesions[0]
        write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": ball(images, middle, 6.0)})
        exact = next(iter(read(tmp_path).cases())).lesions[0]
        assert shifted.box == exact.box
        assert np.array_equal(shifted.mask, exact.mask)

    def test_of_a_hole(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        lines = ball(images, middle, 9.0) + ball(images, middle, 4.0)
        write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": lines})
        (case,) = read(tmp_path).cases()
        away = np.linalg.norm(centres(case, case.lesions[0]) - middle, axis=-1)
        assert away.min() > 3.9
        assert away.max() < 9.01

    def test_of_a_point(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": [(middle[None], images[6], "POINT")]})
        (case,) = read(tmp_path).cases()
        (lesion,) = case.lesions
        assert lesion.mask is None
        assert lesion.voxels == 1
        at = [part.start for part in lesion.box]
        assert case.volume.geometry.world(at) * [-1, -1, 1] == pytest.approx(middle, abs=1e-3)

    def test_gaps_are_noted_and_not_filled(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": ball(images, middle, 9.0)[::2]})
        source = read(tmp_path)
        assert any("leave out slices in between" in note for note in source.inventory.notes)
        (case,) = source.cases()
        assert not case.lesions[0].mask[:, :, 1].any()


class TestWhichRegions:
    def test_only_those_asked_for(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        lines = ball(images, middle, 6.0)
        rois = {"GTVp": lines, "Doe Jane 1970": lines, "Liver": lines}
        write_rtstruct(tmp_path / "rt.dcm", images, rois)
        source = read(tmp_path)
        assert source.inventory.classes == {"tumour": {"lesions": 1, "patients": 1}}
        assert source.inventory.notes == (
            "1 file(s) hold contours of regions that are not among `labels`; these were not read",
        )

    def test_none_of_them_is_refused_without_their_names(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        lines = ball(images, middle, 6.0)
        write_rtstruct(tmp_path / "rt.dcm", images, {"Doe Jane": lines, "Liver": lines})
        reason = reasons(tmp_path)["rt.dcm"]
        assert "none of its 2 regions of interest has a name that is among the labels" in reason
        assert "Doe" not in reason

    def test_names_are_patterns_or_themselves(self):
        rule = RtstructRule(kind="rtstruct", labels={"GTV+LN": "node", "gtv.*": "tumour"})
        assert rule.label_of(" gtv+ln ") == "node"
        assert rule.label_of("GTV_1") == "tumour"
        assert rule.label_of("not a GTV") == ""

    def test_without_names_there_is_no_rule(self):
        with pytest.raises(ValidationError):
            RtstructRule(kind="rtstruct", labels={})
        with pytest.raises(ValidationError, match="is no pattern"):
            RtstructRule(kind="rtstruct", labels={"(": "tumour"})

    def test_a_coded_finding(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        path = write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": ball(images, middle, 6.0)})

        def code(one):
            item = pydicom.Dataset()
            item.CodeValue, item.CodingSchemeDesignator = "108369006", "SCT"
            item.CodeMeaning = "Neoplasm"
            one.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence = [item]

        change(path, code)
        (case,) = read(tmp_path).cases()
        assert case.lesions[0].finding.value == "108369006"


def no_roi_contour(one):
    del one.ROIContourSequence[0]


def no_number(one):
    del one.ROIContourSequence[0].ReferencedROINumber


def an_image_less(one):
    line = one.ROIContourSequence[0].ContourSequence[0]
    line.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def no_image_at_all(one):
    for line in one.ROIContourSequence[0].ContourSequence:
        line.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def off_every_slice(one):
    line = one.ROIContourSequence[0].ContourSequence[0]
    del line.ContourImageSequence
    data = np.reshape(line.ContourData, (-1, 3)).astype(float)
    line.ContourData = [f"{x:.8g}" for x in (data + np.array([0, 0, 500])).ravel()]


def another_slice(one):
    lines = one.ROIContourSequence[0].ContourSequence
    lines[0].ContourImageSequence, lines[1].ContourImageSequence = (
        lines[1].ContourImageSequence,
        lines[0].ContourImageSequence,
    )


def mirrored(one):
    for line in one.ROIContourSequence[0].ContourSequence:
        data = np.reshape(line.ContourData, (-1, 3)).astype(float)
        line.ContourData = [f"{x:.8g}" for x in (data * [-1, 1, 1]).ravel()]


def no_triples(one):
    one.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2", "3", "4"]


def another_frame_and_no_image(one):
    one.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    for line in one.ROIContourSequence[0].ContourSequence:
        del line.ContourImageSequence


BROKEN = {
    no_roi_contour: "no contours for ROI number 1",
    no_number: "no contours for ROI number 1 (1 sets of contours name no ROI number)",
    an_image_less: "1 of the 5 images that its contours name are not among the files that can be "
    "used (ROI number 1: 1 of 5 contours)",
    no_image_at_all: "none of the 1 images that its contours name is among the files",
    off_every_slice: "1 of the 5 contours of ROI number 1 lie off every slice",
    another_slice: "2 of the 5 contours of ROI number 1 lie on another slice than the image",
    mirrored: "5 of the 5 contours of ROI number 1 lie outside the picture, and inside it with "
    "left and right exchanged",
    no_triples: "ROI number 1: a contour whose coordinates are not triples of numbers",
    another_frame_and_no_image: "it names no image, and no series among the files is in its frame",
}


class TestBrokenReferences:
    """Broken references named; never guessed silently."""

    @pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
    def test_is_refused_with_what_is_broken(self, spoil, tmp_path, write):
        images, middle = a_series(tmp_path, write, origin=(-60.0, 12.0, 100.0))
        path = write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": ball(images, middle, 6.0)})
        change(path, spoil)
        assert reasons(tmp_path)["rt.dcm"].startswith(BROKEN[spoil])

    def test_truncated(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        path = write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": ball(images, middle, 6.0)})
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "rt.dcm" in reasons(tmp_path)

    def test_without_a_rule_the_reason_names_the_rule(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": ball(images, middle, 6.0)})
        reason = reasons(tmp_path, {"kind": "seg"})["rt.dcm"]
        assert reason == (
            "contours (an RT structure set), and the settings name no rule of kind `rtstruct`"
        )

    def test_the_frame_of_reference_alone_is_enough(self, tmp_path, write):
        images, middle = a_series(tmp_path, write)
        write.series(tmp_path / "other", write.ct((40, 36, 12)))
        lines = ball(images, middle, 6.0)
        write_rtstruct(tmp_path / "rt.dcm", images, {"gtv": lines}, name_images=False)
        (case,) = read(tmp_path).cases()
        assert centres(case, case.lesions[0]).mean(axis=0) == pytest.approx(middle, abs=0.2)


ANY = {"kind": "rtstruct", "labels": {"ROI-1": "square"}}


class TestRealContours:
    def test_a_square_with_a_hole(self, real_data, tmp_path):
        """The phantom's own figure: 24 mm wide, an octagon cut out, on one slice."""
        root = tmp_path / "good"
        root.mkdir()
        for name in ("ct_1.dcm", "ct_2.dcm", "rt.dcm"):
            (root / name).symlink_to(real_data("rtstruct_phantom") / "mock_data" / name)
        source = read(root, ANY)
        assert any("a frame of reference of their own" in note for note in source.inventory.notes)
        (case,) = source.cases()
        (lesion,) = case.lesions
        geometry = case.volume.geometry
        drawn = pydicom.dcmread(root / "rt.dcm").ROIContourSequence[0].ContourSequence
        outlines = [np.reshape(line.ContourData, (-1, 3)).astype(float) for line in drawn]
        area = sum(
            sign * 0.5 * abs(np.sum(p[:, 0] * np.roll(p[:, 1], 1) - p[:, 1] * np.roll(p[:, 0], 1)))
            for sign, p in zip((1, -1), outlines, strict=True)
        )
        assert lesion.box[2] == slice(0, 1)
        assert lesion.volume_mm3(geometry) / 5.0 == pytest.approx(area, rel=0.03)
        # Centre by centre in the world, with a library that was not used.
        every = np.argwhere(np.ones(geometry.shape[:2], bool))
        at = geometry.world(np.column_stack([every, np.zeros(len(every))])) * [-1, -1, 1]
        hits = [Line(np.vstack([p, p[:1]])[:, :2]).contains_points(at[:, :2]) for p in outlines]
        twin = (hits[0] ^ hits[1]).reshape(geometry.shape[:2])
        found = np.zeros(geometry.shape, bool)
        found[lesion.box] = lesion.mask
        assert np.array_equal(found[:, :, 0], twin)

    @pytest.mark.parametrize("name", ["invalid_reference_rt", "non_existent_reference_rt"])
    def test_broken_references(self, name, real_data, tmp_path):
        for one in ("ct_1", "ct_2", name):
            place = real_data("rtstruct_phantom") / "mock_data" / f"{one}.dcm"
            (tmp_path / f"{one}.dcm").symlink_to(place)
        assert reasons(tmp_path, ANY)[f"{name}.dcm"] == (
            "1 of the 3 images that its contours name are not among the files that can be used "
            "(ROI number 1: 1 of 3 contours)"
        )

    def test_on_oblique_slices(self, real_data, tmp_path):
        """Rows 3.5 mm, columns 2.5 mm apart: an ellipse in the patient, centre by centre."""
        for number in range(3):
            place = real_data("rtstruct_phantom") / "oriented_data" / f"{number}.dcm"
            (tmp_path / f"{number}.dcm").symlink_to(place)
        headers = [read_header(file, "PatientID") for file in list_files(tmp_path, tmp_path)[0]]
        (stack,), _ = build_stacks([one for found in headers for one in found])
        lines, checks = [], []
        for one in stack.slices:
            across, down = np.reshape(one.plane.orientation, (2, 3))
            middle = np.array(one.plane.position) + 120.3 * across + 90.7 * down
            points = (
                middle + np.outer(np.cos(ANGLES), across) * 40 + np.outer(np.sin(ANGLES), down) * 25
            )
            lines.append((points, one.file.path, "CLOSED_PLANAR"))
            checks.append((middle, across, down))
        write_rtstruct(tmp_path / "rt.dcm", [tmp_path / "0.dcm"], {"gtv": lines})
        (case,) = read(tmp_path, patient={"folder": "source"}).cases()
        (lesion,) = case.lesions
        found = np.zeros(case.volume.geometry.shape, bool)
        found[lesion.box] = lesion.mask
        every = np.argwhere(np.ones(found.shape, bool))
        world = case.volume.geometry.world(every) * [-1, -1, 1]
        reach = np.full(len(every), np.inf)
        for middle, across, down in checks:
            off = world - middle
            here = np.abs(off @ np.cross(across, down)) < 0.1
            reach[here] = np.hypot(off[here] @ across / 40, off[here] @ down / 25)
        flat = found.ravel()
        assert flat[reach < 0.998].all()
        assert not flat[reach > 1.002].any()
        assert lesion.voxels * 2.5 * 3.5 / 3 == pytest.approx(np.pi * 40 * 25, rel=0.01)

    def test_the_bare_folder(self, real_data):
        root = real_data("rtstruct_phantom")
        with pytest.raises(ReaderError) as caught:
            scan(guess_sources(root), root, KEY)
        assert "regions of interest has a name that is among the labels" in str(caught.value)
