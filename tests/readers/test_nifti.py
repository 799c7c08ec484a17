"""NIfTI: orientation, scaling, pairing, and how much of a file is looked at."""

import nibabel as nib
import numpy as np
import pytest
from pydantic import TypeAdapter

from medaug.errors import ReaderError
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
PAIR = {
    "kind": "volumes",
    "image": r"(?P<patient>[^/]+)/ct\.nii",
    "labels": r"(?P<patient>[^/]+)/mask\.nii",
}


def read(root, site_key, **given):
    return scan([SOURCE.validate_python({**PAIR, **given})], root, site_key)


def one(root, write, values=None, affine=None, suffix=".nii.gz", **header):
    values = write.ct() if values is None else values
    write.nifti(root / "p1" / f"ct{suffix}", values, affine, **header)
    mask = write.blob().astype(np.uint8)
    write.nifti(root / "p1" / f"mask{suffix}", mask, affine, **header)


class TestTheVolume:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "PIR", "ASL"])
    def test_lies_where_nibabel_has_it(self, axes, suffix, tmp_path, write, site_key):
        to = nib.orientations.axcodes2ornt(tuple(axes))
        image = nib.Nifti1Image(write.ct(), np.diag([0.7, 0.9, 2.5, 1]))
        turned = image.as_reoriented(to)
        mask = nib.Nifti1Image(write.blob().astype(np.uint8), image.affine).as_reoriented(to)
        (tmp_path / "p1").mkdir()
        nib.save(turned, tmp_path / "p1" / f"ct{suffix}")
        nib.save(mask, tmp_path / "p1" / f"mask{suffix}")
        (case,) = read(tmp_path, site_key).cases()
        geometry = case.volume.geometry
        np.testing.assert_allclose(geometry.affine, turned.affine, atol=1e-6)
        np.testing.assert_array_equal(case.volume.read(), np.asarray(turned.dataobj))
        # Wherever the array points, the marked voxels lie at the same places in the patient.
        (lesion,) = case.lesions
        starts = [part.start for part in lesion.box]
        places = geometry.world(np.argwhere(lesion.mask) + starts)
        expected = np.argwhere(write.blob()) * [0.7, 0.9, 2.5]
        np.testing.assert_allclose(
            places[np.lexsort(places.T)], expected[np.lexsort(expected.T)], atol=1e-5
        )

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_is_scaled_as_the_header_says(self, suffix, tmp_path, write, site_key):
        one(tmp_path, write, suffix=suffix)
        path = tmp_path / "p1" / f"ct{suffix}"
        image = nib.Nifti1Image(write.ct(), np.diag([0.7, 0.9, 2.5, 1]))
        image.header.set_slope_inter(0.25, 3)
        nib.save(image, path)
        assert nib.load(path).dataobj.slope == 0.25
        (case,) = read(tmp_path, site_key).cases()
        np.testing.assert_allclose(case.volume.read(), write.ct() * 0.25 + 3)
        box = case.lesions[0].box
        np.testing.assert_allclose(case.volume.read(box), (write.ct() * 0.25 + 3)[box])

    def test_takes_the_qform_where_there_is_no_sform(self, tmp_path, write, site_key):
        affine = np.diag([-0.7, 0.9, 2.5, 1.0])
        affine[:3, 3] = 10, 20, 30
        for name, values in (("ct", write.ct()), ("mask", write.blob().astype(np.uint8))):
            image = nib.Nifti1Image(values, affine)
            image.set_sform(None, 0)
            image.set_qform(affine, 1)
            (tmp_path / "p1").mkdir(exist_ok=True)
            nib.save(image, tmp_path / "p1" / f"{name}.nii.gz")
        source = read(tmp_path, site_key)
        (case,) = source.cases()
        np.testing.assert_allclose(case.volume.geometry.affine, affine, atol=1e-5)
        assert source.inventory.notes == ()

    def test_without_any_orientation_is_used_and_noted(self, tmp_path, write, site_key):
        for name, values in (("ct", write.ct()), ("mask", write.blob().astype(np.uint8))):
            image = nib.Nifti1Image(values, None)
            image.header.set_zooms((0.7, 0.9, 2.5))
            (tmp_path / "p1").mkdir(exist_ok=True)
            nib.save(image, tmp_path / "p1" / f"{name}.nii.gz")
        source = read(tmp_path, site_key)
        assert source.inventory.cases[0].spacing_mm == pytest.approx((0.7, 0.9, 2.5))
        assert "state no orientation" in source.inventory.notes[0]

    def test_of_four_dimensions_with_one_volume_is_one_volume(self, tmp_path, write, site_key):
        one(tmp_path, write, values=write.ct()[..., None])
        (case,) = read(tmp_path, site_key).cases()
        np.testing.assert_array_equal(case.volume.read(), write.ct())

    def test_nan_is_never_turned_into_a_number(self, tmp_path, write, site_key):
        values = write.ct().astype(np.float32)
        values[0, 0, 0] = np.nan
        one(tmp_path, write, values=values)
        (case,) = read(tmp_path, site_key).cases()
        assert case.volume.read(case.lesions[0].box).size
        with pytest.raises(ReaderError, match="no numbers"):
            case.volume.read()

    def test_whose_packed_content_is_spoiled_is_an_error_on_reading(
        self, tmp_path, write, site_key
    ):
        one(tmp_path, write)
        path = tmp_path / "p1" / "ct.nii.gz"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        (case,) = read(tmp_path, site_key).cases()
        with pytest.raises(ReaderError, match="a damaged file"):
            case.volume.read()


class TestPairs:
    def test_are_files_with_equal_groups(self, tmp_path, write, site_key):
        for at, patient in enumerate(("a", "b")):
            for visit in ("1", "2"):
                values = write.ct(seed=int(visit) + 10 * at)
                write.nifti(tmp_path / f"{patient}_{visit}_img.nii.gz", values)
                mask = write.blob().astype(np.uint8) * int(visit)
                write.nifti(tmp_path / f"{patient}_{visit}_seg.nii.gz", mask)
        source = read(
            tmp_path,
            site_key,
            image="(?P<patient>[ab])_(?P<visit>[12])_img",
            labels="(?P<patient>[ab])_(?P<visit>[12])_seg",
            values={1: "first", 2: "second"},
        )
        assert source.inventory.classes == {
            "first": {"lesions": 2, "patients": 2},
            "second": {"lesions": 2, "patients": 2},
        }
        for case, visit in zip(source.cases(), [1, 2, 11, 12], strict=True):
            np.testing.assert_array_equal(case.volume.read(), write.ct(seed=visit))

    def test_two_images_may_share_a_mask_and_its_lesions_count_once(
        self, tmp_path, write, site_key
    ):
        one(tmp_path, write)
        write.nifti(tmp_path / "p1" / "t1.nii.gz", write.ct(seed=5))
        source = read(tmp_path, site_key, image="(?P<patient>p1)/(ct|t1)", values={1: "x"})
        assert len(source) == 2
        assert source.inventory.classes == {"x": {"lesions": 1, "patients": 1}}
        assert source.inventory.files_used == 3

    def test_one_image_may_have_several_masks(self, tmp_path, write, site_key):
        one(tmp_path, write)
        write.nifti(tmp_path / "p1" / "mask2.nii.gz", write.blob().astype(np.uint8) * 2)
        source = read(
            tmp_path, site_key, labels="(?P<patient>p1)/mask", values={1: "one", 2: "two"}
        )
        assert list(source.inventory.classes) == ["one", "two"]

    def test_values_that_nobody_asked_for_are_noted(self, tmp_path, write, site_key):
        one(tmp_path, write)
        mask = write.blob().astype(np.uint8)
        mask[0, 0, 0] = 9
        write.nifti(tmp_path / "p1" / "mask.nii.gz", mask)
        source = read(tmp_path, site_key, values={1: "x"})
        assert source.inventory.classes == {"x": {"lesions": 1, "patients": 1}}
        assert "not among `values`" in source.inventory.notes[0]
        every = read(tmp_path, site_key)
        assert list(every.inventory.classes) == ["value-1", "value-9"]
