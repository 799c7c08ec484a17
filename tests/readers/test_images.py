"""Pictures: which values they hold, and where class and patient come from."""

from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from medaug.errors import ReaderError
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
GREY = np.arange(96, dtype=np.uint8).reshape(8, 12)


def read(root, site_key, **given):
    return scan([SOURCE.validate_python({"kind": "images", **given})], root, site_key)


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


class TestTheValues:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_are_exact(self, suffix, dtype, tmp_path, site_key):
        values = GREY.astype(dtype) * (dtype(600) if dtype is np.uint16 else dtype(1))
        save(tmp_path / f"a{suffix}", Image.fromarray(values))
        (case,) = read(tmp_path, site_key, label="x", patient_identity="none").cases()
        np.testing.assert_array_equal(case.volume.read()[:, :, 0].T, values)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
    def test_of_grey_pictures_kept_in_colour(self, mode, tmp_path, site_key):
        save(tmp_path / "a.png", Image.fromarray(GREY).convert(mode))
        (case,) = read(tmp_path, site_key, label="x", patient_identity="none").cases()
        np.testing.assert_array_equal(case.volume.read()[:, :, 0].T, GREY)

    def test_of_jpeg(self, tmp_path, site_key):
        save(tmp_path / "a.jpg", Image.fromarray(np.full((8, 8), 77, np.uint8)))
        (case,) = read(tmp_path, site_key, label="x", patient_identity="none").cases()
        np.testing.assert_array_equal(case.volume.read(), np.full((8, 8, 1), 77))

    def test_of_big_endian_tiff(self, tmp_path, site_key):
        values = (GREY.astype(np.uint16) * 500).astype(">u2")
        save(tmp_path / "a.tif", Image.frombytes("I;16B", (12, 8), values.tobytes()))
        (case,) = read(tmp_path, site_key, label="x", patient_identity="none").cases()
        np.testing.assert_array_equal(case.volume.read()[:, :, 0].T, values)

    def test_are_seen_as_they_are_drawn(self, tmp_path, site_key):
        """Columns run to the patient's left and rows to the back: the radiological view."""
        save(tmp_path / "a.png", Image.fromarray(GREY))
        (case,) = read(tmp_path, site_key, label="x", patient_identity="none").cases()
        geometry = case.volume.geometry
        assert geometry.shape == (12, 8, 1)
        assert not geometry.in_millimetres
        assert geometry.directions[:, 0].tolist() == [-1, 0, 0]
        assert geometry.directions[:, 1].tolist() == [0, -1, 0]


class TestClassAndPatient:
    def test_from_the_path(self, tmp_path, write, site_key):
        for number, name in enumerate(("true/p1_a", "true/p2_a", "false/p2_b", "odd/p3_a")):
            write.picture(tmp_path / f"is_benign_{name}.png", GREY + np.uint8(number))
        source = read(
            tmp_path,
            site_key,
            pattern="is_benign_(?P<label>[a-z]+)/(?P<patient>p[0-9])",
            labels={True: "benign", "false": "malignant"},
        )
        assert source.inventory.classes == {
            "benign": {"lesions": 2, "patients": 2},
            "malignant": {"lesions": 1, "patients": 1},
        }
        assert source.inventory.document()["patients"] == 2
        assert source.patients_known
        (refused,) = source.inventory.refused
        assert refused.reason == "its label 'odd' is not among those asked for"

    def test_unknown_patients_are_one_per_picture_and_said_to_be(self, tmp_path, write, site_key):
        for number, name in enumerate("abc"):
            write.picture(tmp_path / f"{name}.png", GREY + np.uint8(number))
        source = read(tmp_path, site_key, label="x", patient_identity="none")
        assert source.inventory.document()["patients"] == 3
        assert source.inventory.document()["patients_known"] is False
        assert source.inventory.notes[0].startswith("3 pictures carry no patient identity")


class TestTables:
    @pytest.mark.parametrize(
        ("text", "table"),
        [
            ("train/a.png 1\ntrain/b.png 0\n", {}),
            ("train/a.png\t1\n\ntrain/b.png\t0", {}),
            ("train/a.png,1\r\ntrain/b.png,0\r\n", {}),
            ("train/a.png;1\ntrain/b.png;0\n", {}),
            ('"train/a.png","1"\n"train/b.png","0"\n', {}),
            (".\\train\\a.png,1\ntrain\\b.png,0\n", {}),
            ("\ufefftrain/a.png 1\ntrain/b.png 0\n", {}),
            ("1 train/a.png\n0 train/b.png\n", {"path_column": 1, "label_column": 0}),
            ("id,file,y\n7,train/a.png,1\n8,train/b.png,0\n",
             {"path_column": "file", "label_column": "y"}),
        ],
    )  # fmt: skip
    def test_in_every_dress(self, text, table, tmp_path, write, site_key):
        for number, name in enumerate("ab"):
            write.picture(tmp_path / "train" / f"{name}.png", GREY + np.uint8(number))
        (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
        source = read(
            tmp_path,
            site_key,
            table={"files": ["labels.txt"], **table},
            labels={0: "other", 1: "nodule"},
            patient_identity="none",
        )
        assert [case.lesions[0].label for case in source.cases()] == ["nodule", "other"]
        assert source.inventory.files_used == 3

    def test_beside_their_pictures(self, tmp_path, write, site_key):
        for number, part in enumerate(("train", "val")):
            write.picture(tmp_path / part / "a.png", GREY + np.uint8(number))
            (tmp_path / part / "y.txt").write_text("a.png 1\n")
        table = {"files": ["train/y.txt", "val/y.txt"]}
        source = read(tmp_path, site_key, table=table, patient_identity="none")
        assert len(source) == 2

    def test_tell_all_their_faults_at_once(self, tmp_path, write, site_key):
        write.picture(tmp_path / "a.png", GREY)
        (tmp_path / "one.txt").write_text("a.png 1\nb.png 0\nc.png 1\na.png 0\na.png\n")
        (tmp_path / "two.txt").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "three.csv").write_text("path,label\na.png,1\n")
        with pytest.raises(ReaderError) as caught:
            read(
                tmp_path,
                site_key,
                table={"files": ["one.txt", "two.txt", "gone.txt"]},
                patient_identity="none",
            )
        assert [(fault.where, fault.came) for fault in caught.value.faults] == [
            ("one.txt, line 2", "names b.png, which is not there"),
            ("one.txt, line 3", "names c.png, which is not there"),
            ("one.txt, line 4", "gives a.png a second, different label"),
            ("one.txt, line 5", "no label"),
            ("two.txt", "not a text table in UTF-8"),
            ("gone.txt", "no such table"),
        ]
        columns = {"path_column": "file", "label_column": "y"}
        with pytest.raises(ReaderError, match="has no column file or y") as caught:
            read(
                tmp_path,
                site_key,
                table={"files": ["three.csv"], **columns},
                patient_identity="none",
            )
        assert "a first line that names each of them" in caught.value.faults[0].allowed

    def test_that_forget_a_picture(self, tmp_path, write, site_key):
        for name in "ab":
            write.picture(tmp_path / f"{name}.png", GREY)
        (tmp_path / "y.txt").write_text("a.png 1\n")
        source = read(tmp_path, site_key, table={"files": ["y.txt"]}, patient_identity="none")
        (refused,) = source.inventory.refused
        assert (refused.path, refused.reason) == ("b.png", "the label tables do not name it")


class TestMarksWithin:
    MASKS: ClassVar = {
        "pattern": r"(?P<patient>p[0-9])\.png$",
        "masks": r"(?P<patient>p[0-9])_mask",
        "label": "mass",
    }

    def test_masks_beside_the_pictures(self, tmp_path, site_key):
        mask = np.zeros(GREY.shape, np.uint8)
        mask[1:3, 4:7] = 255
        mask[6, 10] = 255
        for at, name in enumerate(("p1", "p2")):
            save(tmp_path / f"{name}.png", Image.fromarray(GREY + at))
            save(tmp_path / f"{name}_mask.png", Image.fromarray(mask))
        save(tmp_path / "p2_mask.png", Image.fromarray(mask > 0))  # one bit per pixel
        source = read(tmp_path, site_key, per="component", **self.MASKS)
        assert source.inventory.classes == {"mass": {"lesions": 4, "patients": 2}}
        assert source.inventory.files_used == 4
        for case in source.cases():
            found = np.zeros(case.volume.geometry.shape, bool)
            for lesion in case.lesions:
                found[lesion.box] |= lesion.mask
            np.testing.assert_array_equal(found[:, :, 0].T, mask > 0)

    @pytest.mark.parametrize(("mask", "sentence"), [
        (np.zeros((8, 12), np.uint8), "no pixel is marked"),
        (np.ones((8, 13), np.uint8), "a mask of 13x8 pixels, its picture has 12x8"),
        (np.arange(96, dtype=np.uint8).reshape(8, 12), "this one has 96 values"),
    ])  # fmt: skip
    def test_a_mask_that_cannot_be_used_keeps_its_picture_out(
        self, mask, sentence, tmp_path, site_key
    ):
        save(tmp_path / "p1.png", Image.fromarray(GREY))
        save(tmp_path / "p1_mask.png", Image.fromarray(mask))
        with pytest.raises(ReaderError, match=sentence) as caught:
            read(tmp_path, site_key, **self.MASKS)
        assert {fault.where for fault in caught.value.faults[1:]} == {"p1.png", "p1_mask.png"}

    def test_boxes_from_a_table(self, tmp_path, site_key):
        save(tmp_path / "p1.png", Image.fromarray(GREY))
        (tmp_path / "boxes.csv").write_text("file,x,y,w,h,kind\np1.png,4,1,3,2,mass\n")
        boxes = {"files": ["boxes.csv"], "image_column": "file", "space": "voxel",
                 "first": ["x", "y"], "size": ["w", "h"], "label_column": "kind"}  # fmt: skip
        source = read(tmp_path, site_key, pattern="(?P<patient>p1)", boxes=boxes)
        (case,) = source.cases()
        (lesion,) = case.lesions
        assert lesion.box == (slice(4, 7), slice(1, 3), slice(0, 1))
        assert (lesion.label, lesion.mask) == ("mass", None)
        assert source.inventory.files_used == 2

    def test_floating_point_tiff(self, tmp_path, site_key):
        values = np.linspace(-1, 1, 96, dtype=np.float32).reshape(8, 12)
        save(tmp_path / "a.tif", Image.fromarray(values))
        (case,) = read(tmp_path, site_key, label="x", patient_identity="none").cases()
        np.testing.assert_array_equal(case.volume.read()[:, :, 0].T, values)
        values[3, 3] = np.nan
        save(tmp_path / "a.tif", Image.fromarray(values))
        with pytest.raises(ReaderError, match="pixels that are no numbers"):
            read(tmp_path, site_key, label="x", patient_identity="none")
