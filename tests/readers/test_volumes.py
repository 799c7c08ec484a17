"""What marks lesions on a volume: label maps, one mask per lesion, masks on another grid."""

import pickle
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from medaug.errors import ReaderError
from medaug.readers.files import SourceFile
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan
from medaug.readers.volumes.cases import VolumeCase, read_header, stem, volume_of
from medaug.readers.volumes.file import Wanted

SOURCE = TypeAdapter(SourceSettings)
AFFINE = np.diag([0.7, 0.9, 2.5, 1.0])
ONE = {
    "kind": "volumes",
    "image": "(?P<patient>p[0-9])/ct",
    "labels": "(?P<patient>p[0-9])/mask",
    "values": {1: "x"},
}


def read(root, site_key, **given):
    return scan([SOURCE.validate_python({**ONE, **given})], root, site_key)


def pair(root, write, mask=None, affine=AFFINE, image_affine=AFFINE):
    write.nifti(root / "p1" / "ct.nii.gz", write.ct(), image_affine)
    mask = write.blob() if mask is None else mask
    write.nifti(root / "p1" / "mask.nii.gz", mask.astype(np.uint8), affine)


def marked(case):
    voxels = np.zeros(case.volume.geometry.shape, int)
    for lesion in case.lesions:
        voxels[lesion.box] += lesion.mask
    return voxels


class TestClasses:
    def test_one_mask_file_per_lesion(self, tmp_path, write, site_key):
        write.nifti(tmp_path / "p1" / "ct.nii.gz", write.ct())
        for name, i in (("cyst_1", 1), ("cyst_2", 5), ("metastasis_1", 9)):
            mask = np.zeros((20, 16, 8), np.uint8)
            mask[i : i + 2, 3:5, 2] = 255
            write.nifti(tmp_path / "p1" / f"{name}.nii.gz", mask)
        labels = r"(?P<patient>p1)/(?P<label>[a-z]+)_[0-9]\.nii"
        source = read(tmp_path, site_key, labels=labels, values={})
        assert source.inventory.classes == {
            "cyst": {"lesions": 2, "patients": 1},
            "metastasis": {"lesions": 1, "patients": 1},
        }
        assert source.inventory.files_used == 4

    def test_one_class_for_every_value(self, tmp_path, write, site_key):
        pair(tmp_path, write, write.blob() * np.arange(1, 21)[:, None, None])
        source = read(tmp_path, site_key, values={}, label="nodule")
        assert source.inventory.classes == {"nodule": {"lesions": 6, "patients": 1}}

    def test_from_a_table_of_values(self, tmp_path, write, site_key):
        pair(tmp_path, write, write.blob() * 3)
        (tmp_path / "values.csv").write_text("\ufeffvalue,label\n1,liver\n3,tumour\n")
        source = read(tmp_path, site_key, values={}, values_table="values.csv", per="component")
        assert source.inventory.classes == {"tumour": {"lesions": 2, "patients": 1}}
        assert source.inventory.files_used == 3
        (tmp_path / "values.csv").write_text("1,a\n1,b\nx,c\n2,\n")
        with pytest.raises(ReaderError) as caught:
            read(tmp_path, site_key, values={}, values_table="values.csv")
        assert [fault.where for fault in caught.value.faults] == [
            f"values.csv, line {line}" for line in (2, 3, 4)
        ]

    @pytest.mark.parametrize(("change", "sentence"), [
        ({"label": "y"}, "the class comes from one of"),
        ({"labels": "(?P<patient>a)(?P<label>b)"}, "the class comes from one of"),
        ({"labels": None}, "something must mark the lesions"),
        ({"spacing_mm": [1, 0, 1]}, "greater than 0"),
    ])  # fmt: skip
    def test_a_fault_in_the_settings_is_named(self, change, sentence):
        with pytest.raises(ValidationError, match=re.escape(sentence)):
            SOURCE.validate_python({**ONE, **change})


class TestAnotherGrid:
    def test_is_refused_and_says_what_to_set(self, tmp_path, write, site_key):
        pair(tmp_path, write, write.blob()[:, :, 1:], AFFINE @ shift(0, 0, 1))
        with pytest.raises(ReaderError, match="other_grid: resample"):
            read(tmp_path, site_key)

    def test_is_resampled_where_the_settings_ask_for_it(self, tmp_path, write, site_key):
        """A crop of the mask, stored from the other side: exact, whatever the order."""
        affine = AFFINE @ shift(0, 0, 1) @ np.diag([-1.0, 1, 1, 1])
        affine[:3, 3] += AFFINE[:3, :3] @ [19, 0, 0]
        pair(tmp_path, write, write.blob()[::-1, :, 1:], affine)
        source = read(tmp_path, site_key, other_grid="resample")
        (case,) = source.cases()
        np.testing.assert_array_equal(marked(case), write.blob())
        assert "were resampled" in source.inventory.notes[0]

    def test_agrees_with_simpleitk(self, tmp_path, write, site_key):
        coarse = np.random.default_rng(1).random((9, 9, 9)) > 0.6
        turned = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3] = turned * [1.9, 1.3, 2.1]
        affine[:3, 3] = AFFINE[:3, :3] @ [10, 8, 4] - affine[:3, :3] @ [4.1, 4.2, 4.3]
        pair(tmp_path, write, coarse, affine)
        (case,) = read(tmp_path, site_key, other_grid="resample").cases()
        ct, mask = (
            SimpleITK.ReadImage(str(tmp_path / "p1" / f"{name}.nii.gz")) for name in ("ct", "mask")
        )
        twin = SimpleITK.Resample(mask, ct, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
        twin = SimpleITK.GetArrayFromImage(twin).transpose(2, 1, 0)
        assert twin.any()
        differ = (marked(case) != twin).sum()
        assert differ <= 2, "other than at ties"

    @pytest.mark.parametrize("other_grid", ["refuse", "resample"])
    @pytest.mark.parametrize(("sides", "flip"), [
        ("left and right", [-1.0, 1, 1, 1]), ("front and back", [1.0, -1, 1, 1]),
        ("LPS taken for RAS", [-1.0, -1, 1, 1]),
    ])  # fmt: skip
    def test_a_mirror_image_is_never_used(self, sides, flip, other_grid, tmp_path, write, site_key):
        image = AFFINE.copy()
        image[:3, 3] = -20, 31, 7
        pair(tmp_path, write, affine=np.diag(flip) @ image, image_affine=image)
        with pytest.raises(ReaderError, match=rf"would fit if .*{re.escape(sides)}"):
            read(tmp_path, site_key, other_grid=other_grid)

    def test_elsewhere_altogether_it_is_refused(self, tmp_path, write, site_key):
        pair(tmp_path, write, affine=AFFINE @ shift(300, 0, 0))
        with pytest.raises(ReaderError, match="none of its lesions lies in the image"):
            read(tmp_path, site_key, other_grid="resample")

    def test_what_reaches_beyond_is_cut_and_noted(self, tmp_path, write, site_key):
        pair(tmp_path, write, np.ones((20, 16, 8)), AFFINE @ shift(18, 0, 0))
        source = read(tmp_path, site_key, other_grid="resample")
        (case,) = source.cases()
        assert case.lesions[0].voxels == 2 * 16 * 8
        assert any("reach beyond the image" in note for note in source.inventory.notes)


def shift(i, j, k):
    matrix = np.eye(4)
    matrix[:3, 3] = i, j, k
    return matrix


class TestFormats:
    def test_a_chosen_volume_of_nifti(self, tmp_path, write, site_key):
        pair(tmp_path, write)
        values = np.stack([write.ct(seed=at) for at in range(3)], axis=-1)
        for suffix in ("nii", "nii.gz"):
            (tmp_path / "p1" / "ct.nii.gz").unlink(missing_ok=True)
            write.nifti(tmp_path / "p1" / f"ct.{suffix}", values)
            with pytest.raises(ReaderError, match="choose one of 3 by the setting `volume`"):
                read(tmp_path, site_key)
            (case,) = read(tmp_path, site_key, volume=2).cases()
            np.testing.assert_array_equal(case.volume.read(), values[..., 2])
            region = (slice(2, 5), slice(1, 3), slice(6, 8))
            np.testing.assert_array_equal(case.volume.read(region), values[..., 2][region])
            (tmp_path / "p1" / f"ct.{suffix}").unlink()
            write.nifti(tmp_path / "p1" / "ct.nii.gz", values)

    def test_nifti_two_and_pairs_of_files(self, tmp_path, write, site_key):
        pair(tmp_path, write)
        (tmp_path / "p1" / "ct.nii.gz").unlink()
        nib.save(nib.Nifti2Image(write.ct(), AFFINE), tmp_path / "p1" / "ct.nii")
        (case,) = read(tmp_path, site_key).cases()
        np.testing.assert_array_equal(case.volume.read(), write.ct())
        (tmp_path / "p1" / "ct.nii").unlink()
        nib.save(nib.Nifti1Pair(write.ct(), AFFINE), tmp_path / "p1" / "ct.img")
        source = read(tmp_path, site_key)
        (case,) = source.cases()
        np.testing.assert_array_equal(case.volume.read(), write.ct())
        assert source.inventory.files_used == source.inventory.files_seen == 3

    def test_a_stack_of_tiff_pages(self, tmp_path, write, site_key):
        (tmp_path / "p1").mkdir()
        for name, values in (("ct", write.ct() + 1000), ("mask", write.blob())):
            pages = [Image.fromarray(page.astype(np.uint16)) for page in values.transpose(2, 1, 0)]
            pages[0].save(tmp_path / "p1" / f"{name}.tif", save_all=True, append_images=pages[1:])
        with pytest.raises(ReaderError, match="set `spacing_mm`"):
            read(tmp_path, site_key)
        source = read(tmp_path, site_key, spacing_mm=[0.7, 0.9, 2.5])
        (case,) = source.cases()
        np.testing.assert_array_equal(case.volume.read(), write.ct() + 1000)
        np.testing.assert_array_equal(marked(case), write.blob())
        assert case.volume.geometry.spacing == (0.7, 0.9, 2.5)
        assert "state no orientation" in source.inventory.notes[0]

    @pytest.mark.parametrize(("name", "expected"), [
        ("a/1.2.3.mhd", "1.2.3"), ("x.nii.gz", "x"), ("x.seg.nrrd", "x.seg"), ("x.txt", "x")
    ])  # fmt: skip
    def test_stems(self, name, expected):
        assert stem(name) == expected

    def test_a_case_can_travel_to_another_process(self, tmp_path, write, site_key):
        pair(tmp_path, write)
        source = read(tmp_path, site_key)
        (files,) = source._files
        assert isinstance(files, VolumeCase)
        opened = pickle.loads(pickle.dumps(files)).open()
        np.testing.assert_array_equal(opened.case.volume.read(), write.ct())


class TestBitFlips:
    """Small files of every format, a bit or some bytes changed: a volume or a reason."""

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "z.nrrd", "a.mha", "z.mha",
                                      "a.npy", "a.npz"])  # fmt: skip
    def test_end_in_a_volume_or_in_a_reason(self, name, tmp_path, write):
        path = tmp_path / name
        (tmp_path / "a.json").write_text('{"spacing_mm": [1, 1, 1]}')
        if name.endswith("npy"):
            np.save(path, write.ct())
        elif name.endswith("npz"):
            np.savez_compressed(path, voxels=write.ct())
        else:
            image = SimpleITK.GetImageFromArray(write.ct())
            SimpleITK.WriteImage(image, str(path), name.startswith("z"))
        whole = path.read_bytes()
        random = np.random.default_rng(7)
        used = 0
        for _ in range(300):
            data = bytearray(whole)
            for at in random.integers(0, min(len(data), 700), random.integers(1, 4)):
                data[at] ^= 1 << random.integers(8)
            if random.random() < 0.2:
                data = data[: random.integers(len(data))]
            path.write_bytes(data)
            try:
                found = read_header(SourceFile(path, name, name), Wanted())
                found.voxels[0].check()
                volume_of(found, "OT", "arbitrary").read()
                used += 1
            except ReaderError:
                pass
        assert used < 300
        assert used or name == "a.nii.gz", "its checksum finds every change"
