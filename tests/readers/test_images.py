"""Pictures: which values they hold, and where class and patient come from."""

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
        for name in ("true/p1_a", "true/p2_a", "false/p2_b", "odd/p3_a"):
            write.picture(tmp_path / f"is_benign_{name}.png", GREY)
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
        for name in "abc":
            write.picture(tmp_path / f"{name}.png", GREY)
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
        for name in "ab":
            write.picture(tmp_path / "train" / f"{name}.png", GREY)
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
        for part in ("train", "val"):
            write.picture(tmp_path / part / "a.png", GREY)
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
            ("gone.txt", "no such label table"),
        ]
        columns = {"path_column": "file", "label_column": "y"}
        with pytest.raises(ReaderError, match="has no column file or y") as caught:
            read(
                tmp_path,
                site_key,
                table={"files": ["three.csv"], **columns},
                patient_identity="none",
            )
        assert "path" in caught.value.faults[0].allowed

    def test_that_forget_a_picture(self, tmp_path, write, site_key):
        for name in "ab":
            write.picture(tmp_path / f"{name}.png", GREY)
        (tmp_path / "y.txt").write_text("a.png 1\n")
        source = read(tmp_path, site_key, table={"files": ["y.txt"]}, patient_identity="none")
        (refused,) = source.inventory.refused
        assert (refused.path, refused.reason) == ("b.png", "the label tables do not name it")
