"""3D-IRCADb patient 17: two liver tumours, read here with pydicom alone."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.spatial.distance import pdist

from medaug.domain import Case, Geometry, Lesion, PatientKey, Unit, Volume, lps_to_ras
from medaug.patching.extract import extract_patches
from medaug.patching.settings import PatchingSettings

PATIENT = PatientKey("0" * 32)
TUMOURS = ("livertumor1", "livertumor2")


@pytest.fixture(scope="module")
def liver(real_data) -> tuple[Case, np.ndarray]:
    """The case, and its voxels as DICOM orders them: (slice, row, column)."""
    folder = real_data("ircadb17_liver_ct")

    def series(path: Path) -> list[pydicom.Dataset]:
        files = [pydicom.dcmread(file) for file in path.iterdir()]
        return sorted(files, key=lambda file: float(file.ImagePositionPatient[2]))

    scan = series(_only(folder, "PATIENT_DICOM"))
    first, last = scan[0], scan[-1]
    hu = np.stack([f.pixel_array * float(f.RescaleSlope) + float(f.RescaleIntercept) for f in scan])
    down, across = (float(step) for step in first.PixelSpacing)
    affine = np.eye(4)
    cosines = np.array([float(cosine) for cosine in first.ImageOrientationPatient])
    affine[:3, 0], affine[:3, 1] = cosines[:3] * across, cosines[3:] * down
    ends = [np.array([float(mm) for mm in f.ImagePositionPatient]) for f in (first, last)]
    affine[:3, 2], affine[:3, 3] = (ends[1] - ends[0]) / (len(scan) - 1), ends[0]
    voxels = hu.transpose(2, 1, 0).astype(np.float32)
    geometry = Geometry(voxels.shape, lps_to_ras(affine))
    lesions = []
    for name in TUMOURS:
        outline = np.stack([f.pixel_array > 0 for f in series(_only(folder, name))])
        outline = outline.transpose(2, 1, 0)
        at = np.argwhere(outline)
        box = tuple(
            slice(a, b + 1) for a, b in zip(at.min(0).tolist(), at.max(0).tolist(), strict=True)
        )
        lesions.append(Lesion(f"2.25.{len(lesions)}", name, PATIENT, box, outline[box]))
    volume = Volume.from_array(voxels, geometry, "CT", Unit.HOUNSFIELD)
    return Case("liver", PATIENT, volume, tuple(lesions)), hu


def _only(folder: Path, name: str) -> Path:
    (found,) = (path for path in folder.rglob(name) if path.is_dir())
    return found


class TestTumours:
    def test_pixels_in_hu_centred_and_measured(self, liver):
        case, _ = liver
        geometry = case.volume.geometry
        assert geometry.shape == (512, 512, 119)
        np.testing.assert_allclose(geometry.spacing, (0.743, 0.743, 1.6), atol=1e-3)
        patches = list(extract_patches(case, PatchingSettings(mm_per_pixel=1.0)))
        assert [patch.label for patch in patches] == list(TUMOURS)
        for patch, lesion in zip(patches, case.lesions, strict=True):
            place = patch.location
            k = place.slice_index - lesion.box[2].start
            areas = lesion.mask.sum(axis=(0, 1))
            assert areas[k] == areas.max()
            outline = lesion.mask[:, :, k]
            source = case.volume.read(
                (lesion.box[0], lesion.box[1], slice(place.slice_index, place.slice_index + 1))
            )[:, :, 0]
            assert patch.image[0][patch.mask].mean() == pytest.approx(source[outline].mean(), abs=3)
            area = areas[k] * 0.743**2
            assert patch.mask.sum() * place.mm_per_pixel**2 == pytest.approx(area, rel=0.05)
            voxels = np.argwhere(outline) * 0.743
            assert place.diameter_mm == pytest.approx(pdist(voxels).max() + 0.743, abs=0.5)
            rows, columns = np.nonzero(patch.mask)
            for at in (rows, columns):
                assert (at.min() + at.max()) / 2 == pytest.approx(31.5, abs=1)

    def test_the_view_is_that_of_the_files(self, liver):
        """These axial files are stored as radiologists look at them."""
        case, hu = liver
        (spacing, *_) = case.volume.geometry.spacing
        wanted = PatchingSettings(mm_per_pixel=spacing, larger_than_patch="tile", slices="all")
        for patch in list(extract_patches(case, wanted))[::5]:
            i, j, k = case.volume.geometry.index(patch.location.centre_mm)
            top, left = (int(np.floor(at)) - 31 for at in (j, i))
            crop = hu[round(k), top : top + 64, left : left + 64]
            ours = patch.image[0]
            alike = np.corrcoef(crop.ravel(), ours.ravel())[0, 1]
            assert alike > 0.9
            for turned in (ours[::-1], ours[:, ::-1], ours.T, ours[::-1, ::-1]):
                assert np.corrcoef(crop.ravel(), turned.ravel())[0, 1] < alike - 0.03
