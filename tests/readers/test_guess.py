"""What is made of a folder that nobody has described."""

import json
import time

import numpy as np
import pytest

from medaug.readers.dicom import pixels as dicom_pixels
from medaug.readers.source import guess_sources, scan

GREY = np.arange(96, dtype=np.uint8).reshape(8, 12)


def classes(root, site_key):
    return scan(guess_sources(root), root, site_key).inventory.classes


def ircad(home, write, patient="", seed=0):
    write.series(home / "PATIENT_DICOM", write.ct(seed=seed), patient=patient, extension="")
    for name in ("liver", "livertumor1"):
        mask = np.where(write.blob(), 255, 0)
        write.series(home / "MASKS_DICOM" / name, mask, patient=patient, intercept=0, extension="")


class TestDicom:
    @pytest.mark.parametrize("homes", [["."], ["a", "b"], ["only"]])
    def test_series_of_two_values_are_masks(self, homes, tmp_path, write, site_key):
        for seed, home in enumerate(homes):
            ircad(tmp_path / home, write, seed=seed)
        source = scan(guess_sources(tmp_path), tmp_path, site_key)
        count = len(homes)
        assert len(source) == count
        assert source.inventory.document()["patients"] == count
        assert source.inventory.classes == {
            "liver": {"lesions": count, "patients": count},
            "livertumor1": {"lesions": count, "patients": count},
        }
        assert not source.inventory.refused

    def test_segmentations(self, tmp_path, write, site_key):
        for number in range(2):
            home = tmp_path / str(number)
            paths = write.series(home / "ct", write.ct(seed=number), patient=f"id{number}")
            write.seg(home / "seg.dcm", paths, {"Cyst": write.blob()})
        (tmp_path / "DICOMDIR").write_bytes(b"x")
        assert classes(tmp_path, site_key) == {"cyst": {"lesions": 2, "patients": 2}}

    def test_looks_into_three_files_of_a_folder(self, tmp_path, write, monkeypatch):
        write.series(tmp_path / "ct", write.ct((20, 16, 60)))
        decoded = []
        honest = dicom_pixels.stored_values
        monkeypatch.setattr(
            dicom_pixels, "stored_values", lambda one: decoded.append(one) or honest(one)
        )
        started = time.perf_counter()
        guess_sources(tmp_path)
        assert len(decoded) <= 3
        assert time.perf_counter() - started < 5


class TestNifti:
    @pytest.mark.parametrize(
        ("images", "masks"),
        [
            (["p1/FLAIR.nii.gz", "p2/T1.nii"], ["p1/GOLD_STANDARD.nii.gz", "p2/T1_label.nii"]),
            (["ct.nii.gz"], ["lesions.nii.gz"]),
            (["p1_ct.nii.gz", "p2_ct.nii.gz"], ["p1_seg.nii.gz", "p2_seg.nii.gz"]),
            (["x/a-1_t1.nii", "x/a-2_t1.nii"], ["x/a-1_mask.nii", "x/a-2_mask.nii"]),
            (["imagesTr/c1.nii.gz", "imagesTr/c2.nii.gz"], ["labelsTr/c1.nii.gz",
              "labelsTr/c2.nii.gz"]),
            (["imagesTr/c1_0000.nii.gz"], ["labelsTr/c1.nii.gz"]),
        ],
    )  # fmt: skip
    def test_pairs_by_folder_or_by_name(self, images, masks, tmp_path, write, site_key):
        for at, name in enumerate(images):
            write.nifti(tmp_path / name, write.ct(seed=at))
        for name in masks:
            write.nifti(tmp_path / name, write.blob().astype(np.uint8))
        source = scan(guess_sources(tmp_path), tmp_path, site_key)
        assert len(source) == len(images)
        assert source.inventory.document()["patients"] == len(images)
        assert source.inventory.classes["value-1"]["lesions"] == 2 * len(masks)


class TestOtherVolumes:
    def test_pairs_of_nrrd(self, real_data, site_key):
        source = scan(guess_sources(real_data("pyradiomics_nrrd")), real_data("pyradiomics_nrrd"),
                      site_key)  # fmt: skip
        assert [len(case.lesions) for case in source.inventory.cases] == [2, 1]

    def test_a_task_of_the_decathlon(self, tmp_path, write, site_key):
        task = tmp_path / "Task09_Spleen"
        for at, name in enumerate(("spleen_1", "spleen_2")):
            write.nifti(task / "imagesTr" / f"{name}.nii.gz", write.ct(seed=at))
            write.nifti(task / "labelsTr" / f"{name}.nii.gz", write.blob().astype(np.uint8))
        pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
                 for name in ("spleen_1", "spleen_2")]  # fmt: skip
        document = {"labels": {"0": "background", "1": "spleen"}, "modality": {"0": "CT"},
                    "training": pairs}  # fmt: skip
        (task / "dataset.json").write_text(json.dumps(document))
        (guess,) = guess_sources(tmp_path)
        assert (guess.kind, guess.path) == ("msd", "Task09_Spleen")
        assert classes(tmp_path, site_key) == {"spleen": {"lesions": 4, "patients": 2}}

    def test_a_folder_like_luna16(self, tmp_path, write, site_key):
        write.nifti(tmp_path / "subset0" / "1.2.3.nii.gz", write.ct())
        head = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
        (tmp_path / "annotations.csv").write_text(f"{head}1.2.3,-3,-4,5,2\n")
        (tmp_path / "candidates.csv").write_text("seriesuid,coordX,coordY,coordZ,class\n")
        assert classes(tmp_path, site_key) == {"nodule": {"lesions": 1, "patients": 1}}

    def test_arrays_without_sidecars_are_left_alone(self, tmp_path):
        np.save(tmp_path / "features.npy", np.zeros((3, 3, 3)))
        assert guess_sources(tmp_path) == []


class TestPictures:
    def test_folders_are_classes(self, tmp_path, write, site_key):
        for at, name in enumerate(("a/x/1", "a/y/2", "b/x/3")):
            write.picture(tmp_path / f"{name}.png", GREY + at)
        assert {name: entry["lesions"] for name, entry in classes(tmp_path, site_key).items()} == {
            "x": 2,
            "y": 1,
        }

    def test_tables_name_the_classes(self, tmp_path, write, site_key):
        for at, name in enumerate("ab"):
            write.picture(tmp_path / "train" / f"{name}.png", GREY + at)
        (tmp_path / "labels.txt").write_text("train/a.png 1\ntrain/b.png 0\n")
        (tmp_path / "readme.txt").write_text("hello\n")
        assert list(classes(tmp_path, site_key)) == ["0", "1"]

    def test_beside_volumes_are_screenshots(self, tmp_path, write, site_key):
        ircad(tmp_path, write)
        write.picture(tmp_path / "screen.png", GREY)
        source = scan(guess_sources(tmp_path), tmp_path, site_key)
        assert [entry.path for entry in source.inventory.refused] == ["screen.png"]
