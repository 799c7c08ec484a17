"""The inventory: what became of every file, and what is measured of every lesion."""

import json

import numpy as np
import pytest
import SimpleITK
from pydantic import TypeAdapter
from scipy import ndimage
from scipy.spatial.distance import pdist

from medaug.errors import ReaderError
from medaug.readers.inventory import FileRow, fates_of_files
from medaug.readers.settings import SourceSettings
from medaug.readers.source import guess_sources, scan, survey

SOURCE = TypeAdapter(SourceSettings)
KEY = bytes(range(32))


def look(root, measure=False, **given):
    return survey([SOURCE.validate_python(given)], root, KEY, measure=measure)


class TestFates:
    """Every file has one row that says which case uses it, or why none does."""

    def test_rows(self):
        rows = fates_of_files(
            ["a/1", "a/2", "b/1", "b/2", "b/3", "c"],
            {"a/1": ["x"], "a/2": ["x"], "b/1": ["x", "y"], "c": []},
            {"b/2": "no", "b/3": "no"},
        )
        assert rows == (
            FileRow("a", 2, None, ("x",), ""),
            FileRow("b", 1, ("1",), ("x", "y"), ""),
            FileRow("b", 2, ("2", "3"), (), "no"),
            FileRow(".", 1, ("c",), (), ""),
        )

    def test_of_a_real_folder(self, real_data):
        root = real_data("dcmqi_seg")
        document = survey(guess_sources(root), root, KEY).inventory.document()
        fate: dict[str, dict] = {}
        for row in document["fates"]:
            folder = root / row["folder"]
            names = row["names"]
            if names == "all":
                names = [one.name for one in folder.iterdir() if one.is_file()]
            assert len(names) == row["files"]
            for name in names:
                assert fate.setdefault(str((folder / name).relative_to(root)), row) is row
        every = {str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()}
        assert set(fate) == every
        used = {name for name, row in fate.items() if "refused" not in row}
        assert len(used) == document["files"]["used"]
        cases = {case["case"] for case in document["cases"]}
        assert {case for row in fate.values() for case in row.get("cases", ())} == cases
        assert len(used) + sum(row["files"] for row in document["refused"]) == len(every)

    def test_of_many_files_stay_small(self, real_data):
        root = real_data("ircadb17_liver_ct")
        fates = survey(guess_sources(root), root, KEY).inventory.document()["fates"]
        assert len(json.dumps(fates)) < 5000

    def test_a_table_is_used_in_no_case(self, tmp_path, write):
        write.picture(tmp_path / "p" / "a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
        (tmp_path / "y.txt").write_text("p/a.png 1\n")
        source = look(tmp_path, kind="images", table={"files": ["y.txt"]}, patient_identity="none")
        rows = {row["folder"]: row for row in source.inventory.document()["fates"]}
        assert rows["."] == {"folder": ".", "files": 1, "names": ["y.txt"], "use": "a table"}


class TestNothingMarked:
    """`survey` shows what is there; `scan`, for whoever needs lesions, refuses."""

    def test_shows_the_series(self, tmp_path, write):
        write.series(tmp_path / "ct", write.ct())
        sources = guess_sources(tmp_path)
        inventory = survey(sources, tmp_path, KEY).inventory
        assert not inventory.cases
        (entry,) = inventory.refused
        assert entry.files == 8
        assert entry.reason.startswith("CT series of 8 slices, 20x16")
        assert inventory.notes[0].startswith("no lesion can be used: put what marks them")
        with pytest.raises(ReaderError, match="no lesion can be used; 8 files"):
            scan(sources, tmp_path, KEY)

    @pytest.mark.parametrize(("name", "says"), [("a.zip", "only archives"), (None, "an empty")])
    def test_but_nothing_to_look_at_is_an_error(self, name, says, tmp_path):
        if name:
            (tmp_path / name).write_bytes(b"PK\3\4")
        with pytest.raises(ReaderError, match=says):
            look(tmp_path, kind="dicom")


def feret(mask, spacing):
    """Longest distance in mm between edge middles of (row, column): all pairs on the border."""
    mask = mask & ~ndimage.binary_erosion(mask)
    halves = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    return pdist((np.argwhere(mask)[:, None] + halves).reshape(-1, 2) * spacing).max()


def reference(image, labels):
    """Per label: (volume in mm³, longest axial diameter in mm, mean), by SimpleITK and pdist."""
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.Execute(labels)
    means = SimpleITK.LabelStatisticsImageFilter()
    means.Execute(SimpleITK.Cast(image, SimpleITK.sitkFloat64), labels)
    array = SimpleITK.GetArrayFromImage(labels)
    spacing = labels.GetSpacing()[1::-1]
    found = []
    for label in shapes.GetLabels():
        slices = [plane == label for plane in array if (plane == label).any()]
        diameter = max(feret(plane, spacing) for plane in slices)
        found.append((shapes.GetPhysicalSize(label), diameter, means.GetMean(label)))
    return sorted(found)


def measured(source):
    return sorted(
        (lesion.volume_mm3, lesion.diameter_mm, lesion.mean)
        for case in source.inventory.cases
        for lesion in case.lesions
    )


def read_series(folder):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


class TestLesionsMeasured:
    """Volume, longest axial diameter and mean agree with an independent calculation."""

    @pytest.mark.slow
    def test_liver_tumours(self, real_data):
        root = real_data("ircadb17_liver_ct")
        rule = {"kind": "mask-series", "path": "MASKS_DICOM/livertumou?r", "label": "tumour"}
        source = look(root, True, kind="dicom", patient={"folder": "source"},
                      series="PATIENT_DICOM/", lesions=[rule])  # fmt: skip
        ct = read_series(root / "PATIENT_DICOM")
        expected = []
        for name in ("livertumor1", "livertumor2"):
            mask = read_series(root / "MASKS_DICOM" / name) > 0
            mask.CopyInformation(ct)
            expected += reference(ct, mask)
        # SimpleITK takes the distance of slices from their thickness, rounded; ours is measured.
        np.testing.assert_allclose(measured(source), sorted(expected), rtol=2e-3)

    def test_brain_lesions(self, real_data):
        root = real_data("ms_lesions_mni")
        source = look(root, True, kind="volumes", image="(?P<patient>patient[0-9]+)/FLAIR",
                      labels="(?P<patient>patient[0-9]+)/GOLD", per="component")  # fmt: skip
        expected = []
        for folder in sorted(root.glob("patient*")):
            (image,), (gold,) = folder.glob("FLAIR*"), folder.glob("GOLD*")
            mask = SimpleITK.Cast(SimpleITK.ReadImage(str(gold)) > 0, SimpleITK.sitkUInt8)
            parts = SimpleITK.ConnectedComponent(mask, True)
            flair = SimpleITK.ReadImage(str(image))
            parts.CopyInformation(flair)
            expected += reference(flair, parts)
        assert len(expected) == 37 + 19
        ours = np.array(measured(source))
        for column in range(3):
            np.testing.assert_allclose(
                np.sort(ours[:, column]), np.sort(np.array(expected)[:, column]), atol=2e-3
            )

    def test_brain_and_breast_tumours(self, real_data):
        root = real_data("pyradiomics_nrrd")
        source = look(root, True, kind="volumes", image="(?P<patient>[a-z0-9]+)_image",
                      labels="(?P<patient>[a-z0-9]+)_label")  # fmt: skip
        expected = []
        for name in ("brain1", "breast1"):
            image, label = (
                SimpleITK.ReadImage(str(root / f"{name}_{what}.nrrd"))
                for what in ("image", "label")
            )
            expected += reference(image, SimpleITK.Cast(label, SimpleITK.sitkUInt8))
        np.testing.assert_allclose(measured(source), sorted(expected), rtol=1e-5, atol=2e-3)

    @pytest.mark.parametrize(
        ("name", "rule"),
        [
            ("dcmqi_seg", {"kind": "seg"}),
            ("rtstruct_phantom", {"kind": "rtstruct", "labels": {"ROI-[0-9]": "region"}}),
        ],
    )
    def test_masks_drawn_by_segments_and_contours(self, name, rule, real_data):
        """Against SimpleITK on the masks that were read; the masks have tests of their own."""
        root = real_data(name)
        source = look(root, True, kind="dicom", patient={"folder": "source"}, lesions=[rule])
        assert len(source) > 0
        for case, entry in zip(source.cases(), source.inventory.cases, strict=True):
            voxels = case.volume.read()
            for lesion, row in zip(case.lesions, entry.lesions, strict=True):
                whole = np.zeros(voxels.shape, np.uint8)
                whole[lesion.box] = lesion.mask
                images = [SimpleITK.GetImageFromArray(one.T) for one in (voxels, whole)]
                for image in images:
                    image.SetSpacing(case.volume.geometry.spacing)
                ((volume, diameter, mean),) = reference(*images)
                assert row.volume_mm3 == pytest.approx(volume, rel=1e-5)
                assert row.mean == pytest.approx(mean, abs=2e-3)
                if case.volume.geometry.axial_axis == 2:
                    assert row.diameter_mm == pytest.approx(diameter, abs=2e-3)

    def test_is_not_decoded_unless_asked_for(self, tmp_path, write):
        paths = write.series(tmp_path / "ct", write.ct())
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": write.blob()})
        (entry,) = look(tmp_path, kind="dicom", lesions=[{"kind": "seg"}]).inventory.cases
        assert entry.lesions[0].mean is None
        assert entry.lesions[0].diameter_mm is not None
