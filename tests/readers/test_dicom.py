"""DICOM: from slices to volumes, and from masks to the volumes they mark."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from medaug.domain import Unit
from medaug.errors import ReaderError
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
SEG = {"kind": "seg", "labels": {"cyst": "cyst", "Neoplasm": "tumour", "86049000": "tumour"}}
OBLIQUE = (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997)
ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "axial, feet first": (1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": OBLIQUE,
}


def read(root, site_key, **given_settings):
    source = {"kind": "dicom", "lesions": [SEG], **given_settings}
    return scan([SOURCE.validate_python(source)], root, site_key)


def reasons(source):
    return {entry.path: entry.reason for entry in source.inventory.refused}


class TestTheVolume:
    @pytest.mark.parametrize("name", ORIENTATIONS)
    def test_lies_where_itk_has_it(self, name, tmp_path, write, site_key):
        """SimpleITK (GDCM) is the twin: the same value at the same place in the patient."""
        orientation = np.reshape(ORIENTATIONS[name], (2, 3)).astype(float)
        orientation[1] -= (
            orientation[0] * (orientation[0] @ orientation[1]) / (orientation[0] @ orientation[0])
        )
        orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
        paths = write.series(
            tmp_path / "ct", write.ct(), orientation=tuple(orientation.ravel()), seed=3
        )
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob()})
        (case,) = read(tmp_path, site_key).cases()
        voxels, geometry = case.volume.read(), case.volume.geometry

        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
        twin = reader.Execute()
        picked = np.random.default_rng(0).integers(0, twin.GetSize(), (200, 3)).tolist()
        for index in picked:
            left, back, up = twin.TransformIndexToPhysicalPoint(index)
            at = geometry.index((-left, -back, up))
            np.testing.assert_allclose(at, np.rint(at), atol=1e-4)
            assert voxels[tuple(np.rint(at).astype(int))] == twin.GetPixel(index)
        assert geometry.spacing == pytest.approx((0.7, 0.9, 2.5), rel=1e-6)

    @settings(
        max_examples=10,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(seed=st.integers(0, 1000))
    def test_does_not_depend_on_names_numbers_or_thickness(
        self, seed, tmp_path_factory, write, site_key
    ):
        root = tmp_path_factory.mktemp("shuffled")
        paths = write.series(root / "ct", write.ct(), seed=seed, extension="")
        write.seg(root / "seg.dcm", paths, {"Cyst": write.blob()})
        (case,) = read(root, site_key).cases()
        np.testing.assert_array_equal(case.volume.read(), write.ct())
        assert case.volume.geometry.spacing[2] == pytest.approx(2.5)

    def test_applies_the_rescale_of_each_slice(self, tmp_path, write, site_key):
        def edit(one, k):
            one.RescaleSlope, one.RescaleIntercept = 0.5 + k, 10 * k

        paths = write.series(tmp_path / "ct", write.ct(), intercept=0, edit=edit)
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob()})
        (case,) = read(tmp_path, site_key).cases()
        k = np.arange(8)
        np.testing.assert_allclose(case.volume.read(), write.ct() * (0.5 + k) + 10 * k)

    @pytest.mark.parametrize(
        ("changed", "unit", "modality"),
        [
            ({}, Unit.HOUNSFIELD, "CT"),
            ({"RescaleType": "HU"}, Unit.HOUNSFIELD, "CT"),
            ({"RescaleType": "US"}, Unit.ARBITRARY, "CT"),
            ({"RescaleSlope": None, "RescaleIntercept": None}, Unit.ARBITRARY, "CT"),
            ({"Modality": "MR"}, Unit.ARBITRARY, "MR"),
            ({"Modality": "DOE JANE"}, Unit.ARBITRARY, "OT"),
        ],
    )
    def test_is_in_hu_only_where_the_file_says_so(
        self, changed, unit, modality, tmp_path, write, site_key
    ):
        paths = write.series(tmp_path / "ct", write.ct())
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob()})
        for path in paths:
            one = pydicom.dcmread(path)
            for keyword, value in changed.items():
                if value is None:
                    delattr(one, keyword)
                else:
                    setattr(one, keyword, value)
            one.save_as(path)
        (case,) = read(tmp_path, site_key).cases()
        assert case.volume.unit is unit
        assert case.volume.modality == modality

    def test_two_orientations_in_one_series_are_two_volumes(self, tmp_path, write, site_key):
        series = pydicom.uid.generate_uid()
        for name in ("axial", "coronal"):
            paths = write.series(
                tmp_path / name, write.ct(), orientation=ORIENTATIONS[name], series=series
            )
            write.seg(tmp_path / f"{name}.dcm", paths, {"Cyst": write.blob()})
        cases = list(read(tmp_path, site_key).cases())
        assert len(cases) == 2
        assert cases[0].key != cases[1].key
        assert [len(case.lesions) for case in cases] == [1, 1]


class TestAStack:
    """Accepted within a tenth of the slice distance, refused beyond."""

    @pytest.mark.parametrize(
        ("move", "accepted"),
        [
            ((0, 0, 0.24), True),
            ((0, 0, 0.26), False),
            ((0.24, 0, 0), True),
            ((0.26, 0, 0), False),
        ],
    )
    def test_tolerance(self, move, accepted, tmp_path, write, site_key):
        def edit(one, k):
            if k == 3:
                one.ImagePositionPatient = list(np.add(one.ImagePositionPatient, move))

        paths = write.series(tmp_path / "moved", write.ct(), edit=edit)
        write.seg(tmp_path / "whole.dcm", paths, {"Cyst": write.blob()})
        if accepted:
            assert len(read(tmp_path, site_key)) == 1
        else:
            with pytest.raises(ReaderError, match=r"uneven distances|aside of the line"):
                read(tmp_path, site_key)

    @pytest.mark.parametrize(("degrees", "accepted"), [(1.0, True), (1.3, False), (15, False)])
    def test_tilt(self, degrees, accepted, tmp_path, write, site_key):
        drift = 2.5 * np.tan(np.deg2rad(degrees))
        paths = write.series(tmp_path / "ct", write.ct(), step=(0, drift, 2.5))
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob()})
        if accepted:
            (case,) = read(tmp_path, site_key).cases()
            last = case.volume.geometry.world((0, 0, 7))
            np.testing.assert_allclose(last, (30, -12 - 7 * drift, 117.5), atol=1e-6)
        else:
            with pytest.raises(ReaderError, match="a tilted gantry"):
                read(tmp_path, site_key)

    def test_without_one_slice_anywhere_is_refused(self, tmp_path, write, site_key):
        for at in range(1, 7):
            root = tmp_path / str(at)
            paths = write.series(root / "ct", write.ct())
            write.seg(root / "seg.dcm", paths, {"Cyst": write.blob()})
            paths[at].unlink()
            with pytest.raises(ReaderError, match=r"2\.5 mm apart, in one place 5 mm"):
                read(root, site_key)


class TestMasks:
    def test_go_to_the_series_they_refer_to(self, tmp_path, write, site_key):
        """Two phases on one grid: the segmentation belongs to the one it names."""
        write.series(tmp_path / "a_arterial", write.ct(seed=1))
        venous = write.series(tmp_path / "b_venous", write.ct(seed=2))
        write.seg(tmp_path / "seg.dcm", venous, {"Cyst": write.blob()})
        source = read(tmp_path, site_key)
        (case,) = source.cases()
        np.testing.assert_array_equal(case.volume.read(), write.ct(seed=2))
        assert reasons(source) == {
            "a_arterial": "CT series of 8 slices, 20x16: no lesion is marked in it"
        }

    def test_of_several_segments(self, tmp_path, write, site_key):
        other = np.zeros((20, 16, 8), bool)
        other[5:7, 5:7, 0:8] = True  # overlaps the cyst
        paths = write.series(tmp_path / "ct", write.ct())
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob(), "Neoplasm": other})
        rule = {"kind": "seg", "labels": {"CYST": "cyst", "108369006": "tumour"}}
        (case,) = read(tmp_path, site_key, lesions=[rule]).cases()
        by_label = {lesion.label: lesion for lesion in case.lesions}
        assert by_label["cyst"].voxels == 26
        assert by_label["tumour"].voxels == 32
        assert by_label["tumour"].box == (slice(5, 7), slice(5, 7), slice(0, 8))
        assert by_label["tumour"].finding.value == "108369006"

    def test_that_nobody_asked_for_are_noted(self, tmp_path, write, site_key):
        paths = write.series(tmp_path / "ct", write.ct())
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob(), "Liver": ~write.blob()})
        source = read(tmp_path, site_key)
        assert [lesion.label for case in source.cases() for lesion in case.lesions] == ["cyst"]
        assert source.inventory.notes == (
            "1 file(s) hold segments that are not among `labels`; these were not read",
        )

    def test_per_component(self, tmp_path, write, site_key):
        paths = write.series(tmp_path / "ct", write.ct())
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob()})
        (case,) = read(tmp_path, site_key, lesions=[{**SEG, "per": "component"}]).cases()
        assert sorted(lesion.voxels for lesion in case.lesions) == [2, 24]
        assert len({lesion.tracking_uid for lesion in case.lesions}) == 2

    def test_a_label_map_segmentation(self, tmp_path, write, site_key):
        paths = write.series(tmp_path / "ct", write.ct())
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob()}, kind="LABELMAP")
        (case,) = read(tmp_path, site_key).cases()
        assert [lesion.voxels for lesion in case.lesions] == [26]

    def test_of_two_patients_on_one_grid_stay_apart(self, tmp_path, write, site_key):
        """Mask series carry no reference: the patient and the folder decide."""
        for number in range(2):
            home = tmp_path / f"p{number}"
            write.series(home / "CT", write.ct(seed=number), patient="")
            mask = np.zeros((20, 16, 8), int)
            mask[number : number + 3, 4, 4] = 255
            write.series(home / "MASKS" / "tumour", mask, patient="", intercept=0)
        rule = {"kind": "mask-series", "path": "MASKS/(?P<label>[^/]+)/"}
        source = read(tmp_path, site_key, lesions=[rule], patient={"path": "^(?P<patient>[^/]+)/"})
        cases = list(source.cases())
        assert [case.lesions[0].box[0].start for case in cases] == [0, 1]
        assert cases[0].patient != cases[1].patient

    def test_that_no_rule_names_are_not_taken_for_images(self, tmp_path, write, site_key):
        write.series(tmp_path / "CT", write.ct())
        for name in ("liver", "tumour"):
            mask = np.where(write.blob(), 255, 0)
            write.series(tmp_path / "MASKS" / name, mask, intercept=0, patient="")
        rule = {"kind": "mask-series", "path": "MASKS/tumour/", "label": "tumour"}
        source = read(tmp_path, site_key, lesions=[rule], patient={"folder": "source"})
        (case,) = source.cases()
        np.testing.assert_array_equal(case.volume.read(), write.ct())
        assert "no rule of the settings names" in reasons(source)["MASKS/liver"]

    def test_may_cover_fewer_slices_than_the_image(self, tmp_path, write, site_key):
        write.series(tmp_path / "CT", write.ct())
        mask = np.where(write.blob(), 1, 0)
        for path in write.series(tmp_path / "mask", mask, intercept=0)[:2]:
            path.unlink()
        rule = {"kind": "mask-series", "path": "mask/", "label": "tumour"}
        (case,) = read(tmp_path, site_key, lesions=[rule]).cases()
        assert case.lesions[0].voxels == 26

    def test_a_bad_mask_does_not_take_the_good_ones_with_it(self, tmp_path, write, site_key):
        write.series(tmp_path / "CT", write.ct())
        write.series(tmp_path / "m" / "good", np.where(write.blob(), 255, 0), intercept=0)
        write.series(tmp_path / "m" / "empty", np.zeros((20, 16, 8), int), intercept=0)
        write.series(tmp_path / "m" / "grey", write.ct() % 7, intercept=0)
        rule = {"kind": "mask-series", "path": "m/(?P<label>[^/]+)/"}
        source = read(tmp_path, site_key, lesions=[rule])
        assert list(source.inventory.classes) == ["good"]
        assert reasons(source) == {
            "m/empty": "a mask with no lesion: no voxel is marked in it",
            "m/grey": "a mask series has two values, this one has 7",
        }


class TestTracking:
    def test_follows_a_lesion_of_one_patient_and_shows_no_uid(self, tmp_path, write, site_key):
        for name, patient in {"before": "A", "after": "A", "other": "B"}.items():
            values = write.ct(seed=ord(patient))
            paths = write.series(tmp_path / name / "ct", values, patient=patient)
            path = write.seg(tmp_path / name / "seg.dcm", paths, {"Cyst": write.blob()})
            one = pydicom.dcmread(path)
            one.SegmentSequence[0].TrackingUID = "1.2.3"
            one.save_as(path)
        found = [case.lesions[0].tracking_uid for case in read(tmp_path, site_key).cases()]
        after, before, other = found
        assert before == after != other
        assert all(uid.startswith("2.25.") for uid in found)

    def test_keeps_two_outlines_of_one_lesion_in_one_image_apart(self, tmp_path, write, site_key):
        paths = write.series(tmp_path / "ct", write.ct())
        for reader in ("first", "second"):
            path = write.seg(tmp_path / f"{reader}.dcm", paths, {"Cyst": write.blob()})
            one = pydicom.dcmread(path)
            one.SegmentSequence[0].TrackingUID = "1.2.3"
            one.save_as(path)
        (case,) = read(tmp_path, site_key).cases()
        assert len({lesion.tracking_uid for lesion in case.lesions}) == 2


class TestPatients:
    def test_of_one_id_are_one(self, tmp_path, write, site_key):
        for number, patient in enumerate(["A", "A ", "B"]):
            home = tmp_path / str(number)
            paths = write.series(home / "ct", write.ct(seed=number), patient=patient)
            write.seg(home / "seg.dcm", paths, {"Cyst": write.blob()})
        source = read(tmp_path, site_key)
        assert source.inventory.document()["patients"] == 2

    def test_another_attribute(self, tmp_path, write, site_key):
        for number in range(2):
            home = tmp_path / str(number)
            paths = write.series(home / "ct", write.ct(seed=number), StudyID=f"S{number}")
            write.seg(home / "seg.dcm", paths, {"Cyst": write.blob()})
        assert read(tmp_path, site_key).inventory.document()["patients"] == 1
        by_study = read(tmp_path, site_key, patient={"attribute": "StudyID"})
        assert by_study.inventory.document()["patients"] == 2

    def test_a_group_that_takes_no_part_is_the_folder(self, tmp_path, write, site_key):
        homes = (tmp_path / "one", tmp_path / "two" / "p1", tmp_path / "two" / "p2")
        for seed, home in enumerate(homes):
            paths = write.series(home / "CT", write.ct(seed=seed), patient="")
            write.seg(home / "CT" / "seg.dcm", paths, {"Cyst": write.blob()})
        rule = {"path": "^(?:(?P<patient>.+?)/)?CT/"}
        whole = read(tmp_path / "one", site_key, patient=rule)
        assert whole.inventory.document()["patients"] == 1
        both = read(tmp_path / "two", site_key, patient=rule)
        assert both.inventory.document()["patients"] == 2
