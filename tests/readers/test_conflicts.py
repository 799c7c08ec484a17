"""One image under two classes or patients, one patient in two parts: found, refused, allowed."""

import numpy as np
import pydicom
import pytest
from pydantic import TypeAdapter

from medaug.readers import conflicts
from medaug.readers.conflicts import part_of
from medaug.readers.settings import ImagesSource, SourceSettings
from medaug.readers.source import survey

SOURCES = TypeAdapter(list[SourceSettings])
RNG = np.random.default_rng(3)
GREY = [RNG.integers(0, 255, (24, 24), dtype=np.uint8) for _ in range(6)]


def look(root, site_key, *sources):
    return survey(SOURCES.validate_python(list(sources)), root, site_key)


def pictures(**given):
    pattern = "(?P<label>[ab])/(?P<patient>P[0-9])"
    return {"kind": "images", "pattern": pattern, **given}


def found(source):
    return [(one.kind, one.paths, one.allowed) for one in source.inventory.conflicts]


def refused(source):
    return {entry.path: entry.reason for entry in source.inventory.refused}


class TestPictures:
    def test_all_at_once_and_both_sides_are_refused(self, tmp_path, write, site_key):
        write.picture(tmp_path / "a" / "P1_x.png", GREY[0])
        write.picture(tmp_path / "b" / "P1_x.tif", GREY[0])  # the same picture, another file
        write.picture(tmp_path / "a" / "P2_x.png", GREY[1])
        write.picture(tmp_path / "a" / "P3_x.png", GREY[1])
        write.picture(tmp_path / "a" / "P4_x.png", GREY[2])
        write.picture(tmp_path / "a" / "P4_y.png", GREY[2])  # a copy that contradicts nothing
        source = look(tmp_path, site_key, pictures())
        assert found(source) == [
            ("two-classes", ("a/P1_x.png", "b/P1_x.tif"), False),
            ("two-patients", ("a/P2_x.png", "a/P3_x.png"), False),
        ]
        assert len(source) == 2
        assert refused(source)["a/P1_x.png"].startswith("b/P1_x.tif is the same picture in another")
        assert refused(source)["a/P3_x.png"].startswith(
            "a/P2_x.png is the same image under another"
        )

    def test_of_no_known_patient_would_lie_on_both_sides_of_a_split(
        self, tmp_path, write, site_key
    ):
        for name in "xy":
            write.picture(tmp_path / f"{name}.png", GREY[0])
        given = {"kind": "images", "label": "a", "patient_identity": "none"}
        source = look(tmp_path, site_key, given)
        assert [kind for kind, _, _ in found(source)] == ["two-patients"]

    def test_one_grey_value_off_is_another_picture(self, tmp_path, write, site_key):
        other = GREY[0].copy()
        other[5, 5] ^= 1
        write.picture(tmp_path / "a" / "P1.png", GREY[0])
        write.picture(tmp_path / "b" / "P2.png", other)
        assert not found(look(tmp_path, site_key, pictures()))

    def test_are_used_where_the_settings_allow_it(self, tmp_path, write, site_key):
        write.picture(tmp_path / "a" / "P1.png", GREY[0])
        write.picture(tmp_path / "b" / "P2.png", GREY[0])
        one = look(tmp_path, site_key, pictures(allow=["two-classes"]))
        assert (len(one), {kind: allowed for kind, _, allowed in found(one)}) == (
            0,
            {"two-classes": True, "two-patients": False},
        )
        assert len(look(tmp_path, site_key, pictures(allow=["two-classes", "two-patients"]))) == 2


class TestVolumes:
    def dicom(self, root, write, patient, seed=0, values=None):
        values = write.ct(seed=seed) if values is None else values
        paths = write.series(root / "ct", values, patient=patient)
        write.seg(root / "seg.dcm", paths, {"Cyst": write.blob()})
        return paths

    DICOM = {"kind": "dicom", "lesions": [{"kind": "seg"}]}  # noqa: RUF012

    def test_dicom_under_other_identifiers(self, tmp_path, write, site_key):
        for name in ("P1", "P2"):
            self.dicom(tmp_path / name, write, name)  # every UID differs
        source = look(tmp_path, site_key, self.DICOM)
        ((kind, paths, _),) = found(source)
        assert kind == "two-patients"
        assert {path[:2] for path in paths} == {"P1", "P2"}
        assert len(source) == 0

    def test_dicom_that_agrees_in_one_slice_only(self, tmp_path, write, site_key):
        values = write.ct()
        other = values.copy()
        other[0, 0, 7] += 1
        self.dicom(tmp_path / "1", write, "P1", values=values)
        self.dicom(tmp_path / "2", write, "P2", values=other)
        assert not found(look(tmp_path, site_key, self.DICOM))

    def test_a_part_of_a_series_copied_with_its_instance_uids(self, tmp_path, write, site_key):
        paths = self.dicom(tmp_path / "1", write, "P1")
        copies = tmp_path / "2" / "ct"
        copies.mkdir(parents=True)
        images = []
        for at, path in enumerate(paths[:5]):
            one = pydicom.dcmread(path)
            one.PatientID = "P2"
            one.save_as(copies / f"{at}.dcm")
            images.append(copies / f"{at}.dcm")
        mask = {"Cyst": write.blob()[:, :, :5]}
        write.seg(tmp_path / "2" / "seg.dcm", images, mask)
        source = look(tmp_path, site_key, self.DICOM)
        assert [kind for kind, _, _ in found(source)] == ["two-patients"]

    def test_nifti_and_nothing_is_read_of_files_of_unlike_size(
        self, tmp_path, write, site_key, monkeypatch
    ):
        read = []
        honest = conflicts.digest_of_slice
        monkeypatch.setattr(
            conflicts, "digest_of_slice", lambda *given: read.append(1) or honest(*given)
        )
        given = {"kind": "volumes", "image": "(?P<patient>P.)/ct", "labels": "(?P<patient>P.)/mask"}
        for number, patient in enumerate(["P1", "P2", "P3"]):
            values = write.ct(seed=number).astype(np.int32 if number else np.int16)
            write.nifti(tmp_path / patient / "ct.nii", values)
            write.nifti(tmp_path / patient / "mask.nii", write.blob().astype(np.uint8))
        assert not found(look(tmp_path, site_key, given))
        assert len(read) == 2 * 8, "P2 and P3 are of one size, P1 is not"
        write.nifti(tmp_path / "P1" / "ct.nii", write.ct(seed=2).astype(np.int32))
        ((kind, paths, _),) = found(look(tmp_path, site_key, given))
        assert (kind, paths) == ("two-patients", ("P1/ct.nii", "P3/ct.nii"))


class TestParts:
    @pytest.mark.parametrize(
        ("path", "part"),
        [
            ("train/x.png", "training"),
            ("Training_images/x.png", "training"),
            ("valid/a/x.png", "tuning"),
            ("data/validation/x.png", "tuning"),
            ("TEST/x.png", "test"),
            ("test/train/x.png", "training"),
            ("strain/x.png", ""),
            ("latest/x.png", ""),
            ("x_train.png", ""),
        ],
    )
    def test_by_folder(self, path, part):
        source = ImagesSource(kind="images", label="x", patient_identity="none")
        assert part_of(path, source) == part

    def test_by_pattern(self):
        source = ImagesSource(
            kind="images",
            label="x",
            patient_identity="none",
            path="in",
            pattern="^(?P<part>s[12])/",
        )
        assert [part_of(name, source) for name in ("in/s1/x.png", "in/s3/train/x.png")] == [
            "s1",
            "",
        ]

    def test_a_patient_in_two(self, tmp_path, write, site_key):
        names = ("train/a/P1", "train/b/P2", "val/a/P1", "val/b/P3")
        for values, name in zip(GREY, names, strict=False):
            write.picture(tmp_path / f"{name}.png", values)
        source = look(tmp_path, site_key, pictures())
        assert found(source) == [("two-parts", ("train/a/P1.png", "val/a/P1.png"), False)]
        assert len(source) == 2
        assert refused(source)["train/a/P1.png"].startswith("val/a/P1.png is of the same patient")
        assert len(look(tmp_path, site_key, pictures(allow=["two-parts"]))) == 4


class TestRealSets:
    """Both public sets of patches keep their promise: no picture twice, no patient in two parts."""

    def test_mammography_masses(self, real_data, site_key):
        given = {
            "kind": "images",
            "pattern": "is_benign_(?P<label>true|false)/.*?_(?P<patient>P_[0-9]+)_",
        }
        source = look(real_data("cbis_ddsm_mass_patches"), site_key, given)
        assert len(source) == 1296
        assert not found(source)

    def test_a_patient_moved_between_the_parts_is_seen(self, real_data, tmp_path, site_key):
        root = real_data("cbis_ddsm_mass_patches")
        pattern = "is_benign_(?P<label>true|false)/.*?_(?P<patient>P_[0-9]+)_"
        every = sorted(root.glob("train/**/*.png"))
        by_patient: dict[str, list] = {}
        for path in every:
            by_patient.setdefault("_".join(path.name.split("_")[:]).split("P_")[1][:5], []).append(
                path
            )
        several = next(paths for paths in by_patient.values() if len(paths) > 1)
        for part, path in zip(("train", "val"), several, strict=False):
            target = tmp_path / part / path.parent.name / path.name
            target.parent.mkdir(parents=True)
            target.symlink_to(path)
        source = look(tmp_path, site_key, {"kind": "images", "pattern": pattern})
        assert [kind for kind, _, _ in found(source)] == ["two-parts"]
