"""Lesions from text tables: where they lie, and what is said of every line that is wrong."""

import re

import numpy as np
import pytest
import SimpleITK
from pydantic import TypeAdapter, ValidationError

from medaug.domain import Geometry
from medaug.errors import ReaderError
from medaug.readers.points import markings, read_points
from medaug.readers.rules import PointsRule
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
LUNA = {
    "files": ["annotations.csv"],
    "space": "lps",
    "centre": ["coordX", "coordY", "coordZ"],
    "diameter": "diameter_mm",
    "label": "nodule",
}
HEAD = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
BOX = {"files": ["boxes.csv"], "image_column": "image", "label_column": "class"}
TURNED = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


def grids():
    oblique = np.eye(4)
    oblique[:3, :3] = TURNED * [0.7, 0.9, 2.5]
    oblique[:3, 3] = 5, -7, 30
    sheared = oblique.copy()
    sheared[:3, 2] += 0.4 * sheared[:3, 1]
    flipped = np.diag([-0.7, -0.9, 2.5, 1.0])
    return {"upright": np.diag([0.7, 0.9, 2.5, 1]), "flipped": flipped, "oblique": oblique,
            "sheared": sheared}  # fmt: skip


def places(tmp_path, rule, text, encoding="utf-8"):
    (tmp_path / rule["files"][0]).write_bytes(text.encode(encoding))
    return read_points(PointsRule.model_validate(rule), tmp_path)


def boxes(tmp_path, rule, text, geometry):
    (found,) = places(tmp_path, rule, text).values()
    return markings(found, PointsRule.model_validate(rule), geometry)


class TestAPointWithADiameter:
    @pytest.mark.parametrize("name", grids())
    @pytest.mark.parametrize("diameter", [0.1, 3.0, 8.0])
    def test_is_the_box_of_its_sphere(self, name, diameter, tmp_path):
        """Against every point of a fine sphere: none outside the box, the box no larger."""
        geometry = Geometry((30, 28, 14), grids()[name])
        centre = geometry.world((14.3, 13.8, 6.6))
        x, y, z = centre * [-1, -1, 1]
        text = f"{HEAD}1.2.3,{x!r},{y!r},{z!r},{diameter}\n".replace("np.float64(", "")
        (marking,) = boxes(tmp_path, LUNA, text.replace(")", ""), geometry)
        assert (marking.mask, marking.diameter_mm, marking.label) == (None, diameter, "nodule")
        directions = np.random.default_rng(0).normal(size=(40000, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        at = geometry.index(centre + diameter / 2 * directions)
        for axis, part in enumerate(marking.box):
            low, high = at[:, axis].min(), at[:, axis].max()
            inside = [i for i in range(geometry.shape[axis]) if low - 0.02 <= i <= high + 0.02]
            expected = inside or [round(float(geometry.index(centre)[axis]))]
            assert (part.start, part.stop) == (expected[0], expected[-1] + 1)

    def test_lies_where_itk_has_it(self, tmp_path, write, site_key):
        """LUNA16 as it is kept: .mhd + .raw below folders, the table beside them."""
        for name in ("1.2.3", "1.2.4"):
            image = SimpleITK.GetImageFromArray(write.ct().transpose(2, 1, 0))
            image.SetSpacing((0.7, 0.9, 2.5))
            image.SetOrigin((-30, 12, 99))
            image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
            (tmp_path / "subset0").mkdir(exist_ok=True)
            SimpleITK.WriteImage(image, str(tmp_path / "subset0" / f"{name}.mhd"))
        at = image.TransformIndexToPhysicalPoint((4, 5, 6))
        row = ",".join(map(str, at))
        (tmp_path / "annotations.csv").write_text(f"{HEAD}1.2.3,{row},1.0\n1.2.9,{row},1.0\n")
        settings = {"kind": "volumes", "image": r"/(?P<patient>[^/]+)\.mhd$", "points": LUNA}
        source = scan([SOURCE.validate_python(settings)], tmp_path, site_key)
        (case,) = source.cases()
        (lesion,) = case.lesions
        assert lesion.box == (slice(4, 5), slice(5, 6), slice(6, 7))
        assert (lesion.diameter_mm, lesion.mask) == (1.0, None)
        assert source.inventory.files_used == 3
        refused = {entry.path: entry.reason for entry in source.inventory.refused}
        assert refused["subset0/1.2.4.mhd"] == "the tables name no lesion in it"
        assert source.inventory.notes[0].startswith("1 file(s) are named by the tables")


class TestBoxes:
    GRID = Geometry((30, 28, 14), np.diag([0.5, 0.5, 2.0, 1]))

    @pytest.mark.parametrize(("rule", "numbers", "expected"), [
        ({"space": "voxel", "first": "abc", "last": "def", "last_belongs": True},
         "3,4,5,6,7,8", ((3, 7), (4, 8), (5, 9))),
        ({"space": "voxel", "first": "abc", "last": "def", "last_belongs": False},
         "3,4,5,6,7,8", ((3, 6), (4, 7), (5, 8))),
        ({"space": "voxel", "first": "abc", "last": "def", "last_belongs": True,
          "counted_from": 1}, "3,4,5,6,7,8", ((2, 6), (3, 7), (4, 8))),
        ({"space": "voxel", "first": "abc", "size": "def"},
         "3,4,5,6,7,8", ((3, 9), (4, 11), (5, 13))),
        ({"space": "voxel", "centre": "abc", "size": "def"},
         "9,9,9,3,5,1", ((8, 11), (7, 12), (9, 10))),
        ({"space": "ras", "first": "abc", "last": "def"},
         "2,3,4,4,5,8", ((4, 9), (6, 11), (2, 5))),
        ({"space": "lps", "first": "abc", "last": "def"},
         "-4,-5,4,-2,-3,8", ((4, 9), (6, 11), (2, 5))),
        ({"space": "ras", "centre": "abc", "size": "def"},
         "3,4,6,2,2,4", ((4, 9), (6, 11), (2, 5))),
        ({"space": "ras", "centre": "abc", "size": "def"},
         "3.1,4,6,0.01,0.01,0.01", ((6, 7), (8, 9), (3, 4))),
    ])  # fmt: skip
    def test_by_each_convention(self, rule, numbers, expected, tmp_path):
        rule = {**BOX, **{key: list(v) if str(v).isalpha() and key in ("first", "last", "size",
                "centre") else v for key, v in rule.items()}}  # fmt: skip
        text = f"image,class,a,b,c,d,e,f\nx,cyst,{numbers}\n"
        (marking,) = boxes(tmp_path, rule, text, self.GRID)
        assert tuple((part.start, part.stop) for part in marking.box) == expected
        assert (marking.label, marking.diameter_mm) == ("cyst", None)


class TestTables:
    @pytest.mark.parametrize(("text", "more", "encoding"), [
        (f"{HEAD}u,1.5,2,3,4\n", {}, "utf-8"),
        (f"{HEAD}u,1.5,2,3,4\r\n", {}, "utf-8-sig"),
        (f"{HEAD}u,1.5,2,3,4\n".replace(",", ";").replace(".", ","), {"decimal": "comma"},
         "utf-8"),
        (f"{HEAD}u,1.5,2,3,4\n".replace(",", "\t"), {}, "utf-8"),
        ('"seriesuid","coordX","coordY","coordZ","diameter_mm"\n"u","1.5","2","3","4"\n', {},
         "utf-8"),
        ("x,diameter_mm,coordZ,coordY,coordX,seriesuid\n0,4,3,2,1.5,u\n", {}, "utf-8"),
    ])  # fmt: skip
    def test_in_every_dress(self, text, more, encoding, tmp_path):
        found = places(tmp_path, {**LUNA, **more}, text, encoding)
        (place,) = found["u"]
        assert (place.low, place.high) == ((-0.5, 0, 1), (3.5, 4, 5))

    def test_tell_all_their_faults_at_once(self, tmp_path):
        hint = ": if the comma is a decimal one, set `decimal: comma`"
        text = HEAD + "u,1,2,3,4\nu,1,2,3,4\nu,a,2,3,4\n,1,2,3,4\nu,1,2,3,0\nu,nan,2,3,4\nu,1,2\n"
        text += 'u,"1,5",2,3,4\n'
        with pytest.raises(ReaderError) as caught:
            places(tmp_path, {**LUNA, "files": ["annotations.csv", "gone.csv"]}, text)
        assert [(fault.where, fault.came) for fault in caught.value.faults] == [
            ("annotations.csv, line 3", "repeats annotations.csv, line 2"),
            ("annotations.csv, line 4", "no number in coordX"),
            ("annotations.csv, line 5", "no image"),
            ("annotations.csv, line 6", "its size is not positive"),
            ("annotations.csv, line 7", "no number in coordX"),
            ("annotations.csv, line 8", "no number in coordZ"),
            ("annotations.csv, line 9", f"no number in coordX{hint}"),
            ("gone.csv", "no such table"),
        ]  # fmt: skip

    def test_that_lack_a_column_say_which(self, tmp_path):
        with pytest.raises(ReaderError, match="has no column coordX or coordY"):
            places(tmp_path, LUNA, "seriesuid,x,y,coordZ,diameter_mm\nu,1,2,3,4\n")

    def test_points_outside_refuse_their_image_by_line(self, tmp_path, write, site_key):
        for name in ("p1", "p2"):
            write.nifti(tmp_path / f"{name}.nii", write.ct())
        (tmp_path / "annotations.csv").write_text(
            f"{HEAD}p1,-1,-1,1,2\np1,1,-1,1,2\np1,-1,-1,90,2\np2,-1,-1,1,2\n"
        )
        settings = {"kind": "volumes", "image": r"(?P<patient>p[0-9])\.nii", "points": LUNA}
        source = scan([SOURCE.validate_python(settings)], tmp_path, site_key)
        assert len(source) == 1
        (entry,) = source.inventory.refused
        assert entry.path == "p1.nii"
        assert "annotations.csv, line 3: lies outside of its image, by 0.65 mm" in entry.reason
        assert "annotations.csv, line 4" in entry.reason

    def test_classes_that_nobody_asked_for_are_not_read(self, tmp_path):
        rule = {**LUNA, "label": None, "label_column": "c", "labels": {"1": "nodule"}}
        head = HEAD.replace("\n", ",c\n")
        found = places(tmp_path, rule, f"{head}u,1,2,3,4,1\nu,1,2,3,4,0\n")
        assert [place.label for place in found["u"]] == ["nodule"]


class TestSettings:
    @pytest.mark.parametrize(("change", "sentence"), [
        ({"space": None}, "space"),
        ({"diameter": None}, "give exactly one of centre"),
        ({"size": ["a", "b", "c"]}, "give exactly one of centre"),
        ({"centre": ["a"]}, "two or three columns"),
        ({"label": None}, "exactly one of label and label_column"),
        ({"counted_from": 1}, "goes with the space `voxel`"),
        ({"centre": [], "diameter": None, "first": ["a", "b", "c"], "last": ["d", "e", "f"],
          "space": "voxel"}, "`last_belongs` goes with"),
    ])  # fmt: skip
    def test_a_fault_is_named(self, change, sentence):
        with pytest.raises(ValidationError, match=re.escape(sentence)):
            PointsRule.model_validate({**LUNA, **change})


class TestOnDicom:
    def test_by_series_and_by_path(self, tmp_path, write, site_key):
        series = write.series(tmp_path / "p1" / "ct", write.ct(), patient="a", series="1.2.3")
        write.series(tmp_path / "p2" / "ct", write.ct(seed=1), patient="b", series="1.2.4")
        assert series
        image = SimpleITK.ImageSeriesReader()
        image.SetFileNames(image.GetGDCMSeriesFileNames(str(tmp_path / "p1" / "ct")))
        at = ",".join(map(str, image.Execute().TransformIndexToPhysicalPoint((4, 5, 6))))
        for match, names in (("series", ("1.2.3", "1.2.4")), ("path", ("p1/ct", "p2"))):
            text = HEAD + "".join(f"{name},{at},1.0\n" for name in (*names, "9.9"))
            (tmp_path / "annotations.csv").write_text(text)
            rule = {"kind": "points", **LUNA, "match": match}
            settings = SOURCE.validate_python({"kind": "dicom", "lesions": [rule]})
            source = scan([settings], tmp_path, site_key)
            assert source.inventory.classes == {"nodule": {"lesions": 2, "patients": 2}}
            for case in source.cases():
                (lesion,) = case.lesions
                assert lesion.box == (slice(4, 5), slice(5, 6), slice(6, 7))
                assert lesion.diameter_mm == 1.0
            assert any("lines of series that are not among" in n for n in source.inventory.notes)

    def test_a_point_outside_is_told_by_its_line(self, tmp_path, write, site_key):
        write.series(tmp_path / "ct", write.ct(), series="1.2.3")
        (tmp_path / "annotations.csv").write_text(f"{HEAD}1.2.3,900,900,0,3\n")
        rule = {"kind": "points", **LUNA, "match": "series"}
        settings = SOURCE.validate_python({"kind": "dicom", "lesions": [rule]})
        with pytest.raises(ReaderError, match=r"annotations\.csv, line 2: lies outside"):
            scan([settings], tmp_path, site_key)

    def test_voxels_and_stems_mean_nothing_there(self):
        for change in ({"match": "stem"}, {"match": "series", "space": "voxel"}):
            rule = {"kind": "points", **LUNA, **change}
            with pytest.raises(ValidationError, match="matched by `series` or `path`"):
                SOURCE.validate_python({"kind": "dicom", "lesions": [rule]})
