"""Real files, measured a second way wherever there is one."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydantic import TypeAdapter

from medaug.domain import Unit
from medaug.errors import ReaderError
from medaug.readers.dicom.header import read_header
from medaug.readers.dicom.pixels import slice_decoder
from medaug.readers.dicom.stack import build_stacks
from medaug.readers.dicom.volume import volume_of
from medaug.readers.files import list_files
from medaug.readers.settings import SourceSettings
from medaug.readers.source import guess_sources, scan

SOURCE = TypeAdapter(SourceSettings)
KEY = bytes(range(32))


def read(root, **source):
    return scan([SOURCE.validate_python(source)], root, KEY)


def stacks_of(folder: Path, **settings):
    headers = [read_header(file, "PatientID") for file in list_files(folder, folder)[0]]
    slices = [one for found in headers if isinstance(found, tuple) for one in found]
    return build_stacks(slices, **settings)


class TestLiverCT:
    """3D-IRCADb patient 17; figures of its SOURCE.txt, volumes by SimpleITK."""

    LESIONS = (
        {
            "kind": "mask-series",
            "path": "MASKS_DICOM/(livertumou?r)[^/]*/",
            "label": "tumour",
        },
    )

    def test_two_tumours(self, real_data):
        root = real_data("ircadb17_liver_ct")
        source = read(
            root,
            kind="dicom",
            patient={"path": "^(?:(?P<patient>.+?)/)?(?:PATIENT|MASKS)_DICOM/"},
            series="PATIENT_DICOM/",
            lesions=self.LESIONS,
        )
        (case,) = source.cases()
        geometry = case.volume.geometry
        assert geometry.shape == (512, 512, 119)
        assert geometry.spacing == pytest.approx((0.743, 0.743, 1.6), abs=1e-4)
        assert case.volume.unit is Unit.HOUNSFIELD
        assert source.inventory.files_used == 3 * 119
        assert source.inventory.files_seen - source.inventory.files_used >= 2 * 119

        volumes = sorted(lesion.volume_mm3(geometry) for lesion in case.lesions)
        expected = []
        for name in ("livertumor1", "livertumor2"):
            reader = SimpleITK.ImageSeriesReader()
            folder = str(root / "MASKS_DICOM" / name)
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
            image = reader.Execute()
            marked = int((SimpleITK.GetArrayViewFromImage(image) > 0).sum())
            expected.append(marked * float(np.prod(image.GetSpacing())))
        assert volumes == pytest.approx(sorted(expected), rel=0.01)

        # One slice of the first tumour against the pixels of the one file at that height.
        lesion = case.lesions[0]
        k = (lesion.box[2].start + lesion.box[2].stop) // 2
        height = geometry.world((0, 0, k))[2]
        files = (pydicom.dcmread(path) for path in (root / "PATIENT_DICOM").iterdir())
        (there,) = [one for one in files if abs(one.ImagePositionPatient[2] - height) < 0.1]
        box = (lesion.box[0], lesion.box[1], slice(k, k + 1))
        expected = there.pixel_array[box[1], box[0]].T
        np.testing.assert_array_equal(case.volume.read(box)[:, :, 0], expected)

    def test_the_bare_folder(self, real_data):
        root = real_data("ircadb17_liver_ct")
        source = scan(guess_sources(root), root, KEY)
        (entry,) = source.inventory.cases
        assert entry.shape == (512, 512, 119)
        assert list(source.inventory.classes) == [
            "liver", "livertumor1", "livertumor2", "portalvein",
        ]  # fmt: skip


class TestPictures:
    def test_mammography_masses(self, real_data):
        source = read(
            real_data("cbis_ddsm_mass_patches"),
            kind="images",
            pattern="(?:train|val)/is_benign_(?P<label>true|false)/.*?_(?P<patient>P_[0-9]+)_",
            labels={"true": "benign", "false": "malignant"},
            modality="MG",
        )
        document = source.inventory.document()
        assert len(document["cases"]) == document["files"]["used"] == 1296
        assert document["patients"] == 578 + 102
        assert document["patients_known"]
        assert document["cases"][0]["shape"] == [128, 128, 1]
        assert {name: entry["lesions"] for name, entry in document["classes"].items()} == {
            "benign": 669,
            "malignant": 627,
        }
        assert sum(entry["files"] for entry in document["refused"]) == (
            document["files"]["seen"] - 1296
        )

    def test_lung_nodules(self, real_data):
        source = read(
            real_data("luna_nodule_patches"),
            kind="images",
            table={"files": ["traindatalabels.txt", "valdatalabels.txt"]},
            labels={"0": "other", "1": "nodule"},
            patient_identity="none",
            modality="CT",
        )
        assert source.inventory.classes == {
            "nodule": {"lesions": 845 + 224, "patients": 845 + 224},
            "other": {"lesions": 6484 - 845 - 224, "patients": 6484 - 845 - 224},
        }
        assert not source.inventory.patients_known


class TestBrainLesions:
    def test_the_published_counts(self, real_data):
        source = read(
            real_data("ms_lesions_mni"),
            kind="volumes",
            image="(?P<patient>patient[0-9]+)/FLAIR",
            labels="(?P<patient>patient[0-9]+)/GOLD_STANDARD",
            values={1: "ms-lesion"},
            per="component",
            modality="MR",
        )
        assert [len(case.lesions) for case in source.inventory.cases] == [37, 19]
        cases = list(source.cases())
        for case, folder in zip(cases, ("patient07", "patient26"), strict=True):
            (path,) = (real_data("ms_lesions_mni") / folder).glob("FLAIR*")
            image = nib.load(path)
            assert nib.aff2axcodes(case.volume.geometry.affine) == ("L", "A", "S")
            np.testing.assert_array_equal(case.volume.geometry.affine, image.affine)
            box = case.lesions[-1].box
            np.testing.assert_array_equal(case.volume.read(box), image.get_fdata()[box])
        total = sum(lesion.voxels for lesion in cases[1].lesions)
        assert total == 8227


class TestSegmentations:
    def test_against_their_nrrd_twins(self, real_data):
        root = real_data("dcmqi_seg") / "segmentations"
        source = read(root, kind="dicom", lesions=[{"kind": "seg"}])
        cases = {case.volume.geometry.shape: case for case in source.cases()}
        for shape, name in {(23, 38, 3): "23x38x3", (24, 38, 3): "24x38x3"}.items():
            twin = SimpleITK.ReadImage(str(root / name / "nrrd" / "label.nrrd"))
            places = {
                tuple(np.round(twin.TransformIndexToPhysicalPoint(at[::-1].tolist()), 2))
                for at in np.argwhere(SimpleITK.GetArrayFromImage(twin))
            }
            found = [
                set(map(tuple, marked(cases[shape], lesion))) for lesion in cases[shape].lesions
            ]
            assert places in found

    def test_on_three_liver_slices(self, real_data):
        root = real_data("dcmqi_seg") / "segmentations"
        source = read(root, kind="dicom", lesions=[{"kind": "seg"}])
        case = next(one for one in source.cases() if one.volume.geometry.shape[0] == 512)
        # SliceThickness is 1.25; the slices lie 1.0 apart.
        assert case.volume.geometry.spacing == pytest.approx((0.810547, 0.810547, 1.0), abs=1e-4)
        liver = pydicom.dcmread(root / "liver.dcm")
        voxels = {lesion.label: lesion.voxels for lesion in case.lesions}
        assert voxels["liver"] == int(liver.pixel_array.sum())
        assert set(voxels) == {"liver", "tissue", "artery", "capillary", "edema", "vein"}
        overlaps = pydicom.dcmread(root / "partial_overlaps.dcm")
        frames = [
            int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            for frame in overlaps.PerFrameFunctionalGroupsSequence
        ]
        third = overlaps.pixel_array[np.array(frames) == 3]
        assert voxels["capillary"] == int(third.sum())


def marked(case, lesion):
    """Marked voxels in LPS mm, rounded as the NRRD's."""
    starts = [part.start for part in lesion.box]
    world = case.volume.geometry.world(np.argwhere(lesion.mask) + starts)
    return np.round(world * [-1, -1, 1], 2)


GOOD = [
    "generic/anatomical/001",
    "generic/anatomical/001_implicit",
    "generic/anatomical/002_non_isotropic",
    "generic/compressed/001",
    "generic/compressed_j2k/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "hitachi/anatomical/001",
    "hitachi/anatomical/001_implicit",
    "failing/slicecount/001",
    "hyperfine/anatomical/001",
]

BAD = {
    "failing/gantrytilting": "a tilted gantry",
    "failing/notavolume": "a single slice among 4 of its series",
    "failing/sliceincrement/001": "neighbours are 5 mm apart, in one place 10 mm",
    "failing/sliceincrement/002": "slices are missing",
    "generic/rgb": "a colour image",
}


class TestAwkwardSeries:
    @pytest.mark.parametrize("name", GOOD)
    def test_voxels_and_places_are_those_of_the_reference(self, name, real_data):
        root = real_data("dicom2nifti_cases")
        (stack,), refused = stacks_of(root / name)
        assert not refused
        volume = volume_of(stack, slice_decoder())
        ours = volume.read()
        reference = nib.load(root / f"{name}_ground_truth.nii.gz")
        theirs = reference.get_fdata()
        # Same voxels at the same places, whichever way the two arrays run.
        to_theirs = np.linalg.inv(reference.affine) @ volume.geometry.affine
        every = np.indices(ours.shape).reshape(3, -1).T
        index = np.rint(nib.affines.apply_affine(to_theirs, every)).astype(int)
        np.testing.assert_allclose(theirs[tuple(index.T)], ours.ravel(), rtol=1e-5, atol=1e-3)
        assert theirs.size == ours.size

    @pytest.mark.parametrize("name", BAD)
    def test_is_refused_with_its_reason(self, name, real_data):
        root = real_data("dicom2nifti_cases") / name
        with pytest.raises(ReaderError) as caught:
            read(root, kind="dicom", lesions=[{"kind": "seg"}])
        assert BAD[name] in str(caught.value)

    def test_a_codec_that_is_not_there_is_named(self, real_data):
        root = real_data("dicom2nifti_cases") / "generic" / "compressed_jpeg"
        try:
            (stack,), _ = stacks_of(root)
        except ValueError:
            with pytest.raises(ReaderError, match=r'pip install "medaug\[codecs\]"'):
                read(root, kind="dicom", lesions=[{"kind": "seg"}])
        else:
            assert volume_of(stack, slice_decoder()).read().any()

    def test_two_orientations_in_one_series(self, real_data):
        stacks, refused = stacks_of(real_data("dicom2nifti_cases") / "failing" / "sliceorientation")
        assert [len(stack.slices) for stack in stacks] == [2, 2]
        assert not refused


def in_mm(path, values):
    """(column, row) HU of a file and its Image Position, by pydicom alone."""
    one = pydicom.dcmread(path)
    stored = one.pixel_array.T * float(one.RescaleSlope) + float(one.RescaleIntercept)
    values[np.round(one.ImagePositionPatient[2], 3)] = stored, one
    return values


class TestRepairedSeries:
    """The series that are refused by default, brought onto a grid by the settings."""

    def test_a_missing_slice(self, real_data):
        root = real_data("dicom2nifti_cases") / "failing" / "sliceincrement" / "001"
        files = {}
        for path in root.iterdir():
            in_mm(path, files)
        below = [files[height][0] for height in sorted(files)]  # 0, 5, 10, 20 mm or downwards
        gaps = np.diff(sorted(files)).round(2).tolist()
        assert sorted(gaps) == [5, 5, 10]
        wide = gaps.index(10)
        expected = [*below[: wide + 1], (below[wide] + below[wide + 1]) / 2, *below[wide + 1 :]]
        (stack,), refused = stacks_of(root, irregular="resample")
        assert not refused
        assert stack.geometry.spacing[2] == pytest.approx(5, abs=1e-3)
        volume = volume_of(stack, slice_decoder()).read()
        np.testing.assert_allclose(volume, np.stack(expected, axis=2), atol=0.05)

        (stack,), (left_out,) = stacks_of(root, irregular="longest-block")
        assert "3 of 4 slices" in left_out.reason
        kept = below[1:] if wide == 0 else below[:3]
        volume = volume_of(stack, slice_decoder()).read()
        np.testing.assert_array_equal(volume, np.stack(kept, axis=2))

    @pytest.mark.parametrize(
        ("name", "distance", "rows"),
        [
            ("gantrytilting/001", 5 * np.cos(np.deg2rad(14)), 521),
            ("sliceincrement/002", 0.778 * np.cos(np.deg2rad(15.5)), 514),
        ],
    )
    def test_a_tilted_gantry_against_itk(self, name, distance, rows, real_data):
        """ITK takes the slices for a sheared image and resamples that; the tag is not asked.

        dicom2nifti's own result for sliceincrement/002 has the same 514 rows, but puts the slices
        0.778 mm apart, which is how far the table moves; along their normal it is 0.750 mm. Its
        first slice is empty.
        """
        root = real_data("dicom2nifti_cases") / "failing" / name
        (stack,), refused = stacks_of(root, irregular="resample", tilt="shear")
        assert not refused
        geometry = stack.geometry
        assert geometry.shape[:2] == (512, rows)
        assert geometry.spacing[2] == pytest.approx(distance, abs=2e-3)
        found = volume_of(stack, slice_decoder()).read()
        affine = np.diag([-1, -1, 1, 1]) @ geometry.affine

        files = {}
        for path in root.iterdir():
            in_mm(path, files)
        ordered = [files[height] for height in sorted(files)]
        for (lower, first), (upper, second) in pairwise(ordered):
            ends = [np.array(one.ImagePositionPatient, float) for one in (first, second)]
            axes = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
            step = ends[1] - ends[0]
            length = float(np.linalg.norm(step))
            image = SimpleITK.GetImageFromArray(np.stack([lower.T, upper.T]))
            image.SetSpacing((*map(float, first.PixelSpacing[::-1]), length))
            image.SetOrigin(ends[0].tolist())
            image.SetDirection(np.column_stack([*axes, step / length]).ravel().tolist())
            sampled = SimpleITK.Resample(
                image,
                geometry.shape,
                SimpleITK.Transform(),
                SimpleITK.sitkLinear,
                affine[:3, 3].tolist(),
                geometry.spacing,
                (affine[:3, :3] / geometry.spacing).ravel().tolist(),
                np.nan,
            )
            twin = SimpleITK.GetArrayFromImage(sampled).transpose()
            gap = round(step @ affine[:3, 2] / geometry.spacing[2] ** 2)
            at = round((ends[0] - affine[:3, 3]) @ affine[:3, 2] / geometry.spacing[2] ** 2)
            # On the slices only: between them ITK interpolates along the tilt, medaug upright.
            for k in (at, at + gap):
                inside = np.isfinite(twin[:, :, k])
                assert inside.sum() > 0.97 * 512 * 512
                np.testing.assert_allclose(found[:, :, k][inside], twin[:, :, k][inside], atol=0.05)


class TestContours:
    def test_are_refused_by_name(self, real_data):
        root = real_data("rtstruct_phantom")
        with pytest.raises(ReaderError) as caught:
            scan(guess_sources(root), root, KEY)
        message = str(caught.value)
        assert "none of its 4 regions of interest has a name that is among the labels" in message
        assert "CT series of 2 slices, 512x512: no lesion is marked in it" in message
        # Non-square pixels, oblique: rows 3.5 mm apart, columns 2.5 mm.
        (stack,), _ = stacks_of(root / "oriented_data")
        assert stack.geometry.shape == (100, 50, 3)
        assert stack.geometry.spacing[:2] == pytest.approx((2.5, 3.5))


def test_inspecting_imports_neither_torch_nor_monai_nor_skimage():
    code = (
        "import sys, medaug.readers.source, medaug.readers.identity;"
        "print([m for m in ('torch', 'monai', 'skimage', 'highdicom', 'SimpleITK')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
