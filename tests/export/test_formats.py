"""Every format gives back the release's very values, read by independent libraries."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels import apply_modality_lut

from medaug.domain import Release, Unit
from medaug.export.release import load_release
from medaug.export.settings import ExportSettings
from medaug.export.verify import verify_release
from medaug.export.write import write_release

Samples = Iterator[tuple[int, str, NDArray[np.floating]]]
CASES = [
    (Unit.HOUNSFIELD, 1, 0.75, True),
    (Unit.HOUNSFIELD, 1, 0.75, False),
    (Unit.HOUNSFIELD, 3, 0.75, False),
    (Unit.SUV, 1, 4.0, True),
    (Unit.ARBITRARY, 1, 0.0, False),
    (Unit.ARBITRARY, 2, 0.0, True),
]


def from_numpy(folder: Path, _channels: int) -> Samples:
    with np.load(folder / "npz/release.npz", allow_pickle=False) as npz:
        values = npz["pixels"] * float(npz["slope"]) + float(npz["intercept"])
        for number, (label, sample) in enumerate(zip(npz["labels"], values, strict=True)):
            yield number, str(npz["classes"][label]), sample


def from_pillow(folder: Path, channels: int) -> Samples:
    with (folder / "png/table.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for at in range(0, len(rows), channels):
        sample = []
        for channel, row in enumerate(rows[at : at + channels]):
            assert int(row["channel"]) == channel
            with Image.open(folder / "png" / row["file"]) as picture:
                grey = np.asarray(picture).astype(np.float64)
            stored = grey / int(row["gain"]) + int(row["offset"])
            sample.append(stored * float(row["slope"]) + float(row["intercept"]))
        yield int(row["number"]), row["class"], np.stack(sample)


def of_nifti(folder: Path, read: Callable[[Path], NDArray[np.floating]]) -> Samples:
    for path in (folder / "nifti").rglob("*.nii.gz"):
        yield int(path.name.removesuffix(".nii.gz")), path.parent.name, read(path)


def from_nibabel(folder: Path, channels: int) -> Samples:
    def read(path: Path) -> NDArray[np.floating]:
        values = np.asanyarray(nibabel.load(path).dataobj)
        return values.reshape(*values.shape[:2], channels).transpose(2, 1, 0)

    return of_nifti(folder, read)


def from_simpleitk_nifti(folder: Path, channels: int) -> Samples:
    def read(path: Path) -> NDArray[np.floating]:
        values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
        return values.reshape(channels, *values.shape[-2:])

    return of_nifti(folder, read)


def of_dicom(folder: Path, channels: int, read: Callable[[Path], NDArray[np.floating]]) -> Samples:
    paths = sorted((folder / "dicom").rglob("*.dcm"), key=lambda path: path.name)
    for at in range(0, len(paths), channels):
        sample = np.stack([read(path) for path in paths[at : at + channels]])
        yield int(paths[at].name[:6]), paths[at].parent.name, sample


def from_pydicom(folder: Path, channels: int) -> Samples:
    def read(path: Path) -> NDArray[np.floating]:
        dataset = pydicom.dcmread(path)
        return apply_modality_lut(dataset.pixel_array, dataset)

    return of_dicom(folder, channels, read)


def from_simpleitk_dicom(folder: Path, channels: int) -> Samples:
    def read(path: Path) -> NDArray[np.floating]:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))[0]

    return of_dicom(folder, channels, read)


READERS = [
    from_numpy,
    from_pillow,
    from_nibabel,
    from_simpleitk_nifti,
    from_pydicom,
    from_simpleitk_dicom,
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0].value}-{case[1]}")
def written(request, make_release, windows, tmp_path_factory) -> tuple[Release, Path]:
    unit, channels, mm_per_pixel, extremes = request.param
    release = make_release(unit, channels=channels, mm_per_pixel=mm_per_pixel, extremes=extremes)
    folder = tmp_path_factory.mktemp("release") / "release"
    write_release(release, folder, ExportSettings(), name="trial", seed=1, window=windows[unit])
    return release, folder


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_every_sample_comes_back_value_for_value(written, read) -> None:
    release, folder = written
    found = {
        number: (label, sample) for number, label, sample in read(folder, release.pixels.shape[1])
    }
    assert sorted(found) == list(range(len(release)))
    for number, image in enumerate(release.images):
        label, sample = found[number]
        assert label == release.classes[release.labels[number]]
        np.testing.assert_array_equal(sample.astype(np.float32), image)


def masks_of_numpy(folder: Path) -> dict[int, NDArray[np.uint8]]:
    with np.load(folder / "npz/release.npz", allow_pickle=False) as npz:
        return dict(enumerate(npz["masks"]))


def masks_of_png(folder: Path) -> dict[int, NDArray[np.uint8]]:
    found = {}
    for path in (folder / "png-masks").rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "L"
            assert "SYNTHETIC" in picture.text["Disclaimer"]
            found[int(path.stem)] = np.asarray(picture) // 255
    return found


def masks_of_nifti(folder: Path) -> dict[int, NDArray[np.uint8]]:
    found = {}
    for path in (folder / "nifti-masks").rglob("*.nii.gz"):
        image = SimpleITK.ReadImage(path)
        picture = SimpleITK.ReadImage(folder / "nifti" / path.relative_to(folder / "nifti-masks"))
        assert (image.GetSpacing()[:2], image.GetOrigin()) == (
            picture.GetSpacing()[:2],
            (0, 0, 0),
        )
        header = nibabel.load(path).header
        assert header.get_intent()[0] == "label"
        found[int(path.name.removesuffix(".nii.gz"))] = SimpleITK.GetArrayFromImage(image)[0]
    return found


def masks_of_dicom(folder: Path) -> dict[int, NDArray[np.uint8]]:
    found = {}
    for path in (folder / "dicom").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        mask = dataset.overlay_array(0x6000)
        assert dataset[0x6000, 0x0040].value == "R"
        assert dataset[0x6000, 0x1301].value == mask.sum()
        np.testing.assert_array_equal(found.setdefault(int(path.name[:6]), mask), mask)
    return found


MASK_READERS = [masks_of_numpy, masks_of_png, masks_of_nifti, masks_of_dicom]


@pytest.fixture(scope="module", params=[1, 2])
def with_masks(request, make_release, windows, tmp_path_factory) -> tuple[Release, Path]:
    # 19 x 15 pixels: the bits of a DICOM overlay then fill no whole byte.
    release = make_release(masks=True, channels=request.param, size=(19, 15), extremes=False)
    folder = tmp_path_factory.mktemp("masks") / "release"
    write_release(
        release, folder, ExportSettings(), name="trial", seed=1, window=windows[release.unit]
    )
    return release, folder


class TestMasks:
    """A mask lies under its image's name in every format, pixel for pixel."""

    @pytest.mark.parametrize("read", MASK_READERS, ids=lambda read: read.__name__)
    def test_every_mask_comes_back(self, with_masks, read) -> None:
        release, folder = with_masks
        found = read(folder)
        assert sorted(found) == list(range(len(release)))
        for number, mask in enumerate(release.masks):
            assert 0 < mask.sum() < mask.size
            np.testing.assert_array_equal(found[number], mask.astype(np.uint8))

    def test_names_are_those_of_the_images(self, make_release, windows, tmp_path) -> None:
        release = make_release(masks=True)
        window = windows[release.unit]
        write_release(release, tmp_path / "r", ExportSettings(), name="a", seed=0, window=window)
        for kind in ("png", "nifti"):
            names = [
                {
                    str(p.relative_to(tmp_path / "r" / folder))
                    for p in (tmp_path / "r" / folder).rglob("0*")
                }
                for folder in (kind, f"{kind}-masks")
            ]
            assert names[0] == names[1]

    def test_load_release_gives_them_back(self, with_masks) -> None:
        release, folder = with_masks
        loaded = load_release(folder)
        np.testing.assert_array_equal(loaded.masks, release.masks)
        assert loaded.digest == release.digest

    def test_verify_counts_them(self, with_masks) -> None:
        found = verify_release(with_masks[1])
        assert found.ok, found.problems
        assert found.facts["masks"] is True

    @pytest.mark.parametrize("formats", [("npz",), ("npz", "nifti")])
    def test_only_where_asked_for(self, formats, make_release, windows, tmp_path) -> None:
        release = make_release(masks=True)
        chosen = ExportSettings(formats=formats)
        window = windows[release.unit]
        write_release(release, tmp_path / "r", chosen, name="a", seed=0, window=window)
        folders = {path.name for path in (tmp_path / "r").iterdir() if path.is_dir()}
        assert folders == {*formats} | ({"nifti-masks"} if "nifti" in formats else set())
        assert verify_release(tmp_path / "r").ok


def test_load_release_gives_the_release_back(written) -> None:
    release, folder = written
    loaded = load_release(folder)
    assert loaded.digest == release.digest
    assert loaded.decision.policy == release.decision.policy
    assert loaded.decision.statements == release.decision.statements
    assert loaded.per_class() == release.per_class()


def test_nifti_lies_as_the_radiological_view(written) -> None:
    release, folder = written
    for path in (folder / "nifti").rglob("*.nii.gz"):
        header = nibabel.load(path).header
        size = release.mm_per_pixel or 1.0
        np.testing.assert_allclose(header.get_zooms()[:3], size)
        assert nibabel.aff2axcodes(header.get_best_affine()) == ("L", "P", "S")
        assert header["sform_code"] == header["qform_code"] == 2
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-6)
        assert header.get_xyzt_units()[0] == ("mm" if release.mm_per_pixel else "unknown")


def test_png_uses_its_range(make_release, windows, tmp_path) -> None:
    release = make_release(extremes=False)
    window = windows[release.unit]
    write_release(release, tmp_path / "r", ExportSettings(), name="a", seed=0, window=window)
    grey = [np.asarray(Image.open(path)) for path in (tmp_path / "r/png").rglob("*.png")]
    assert np.min(grey) == 0
    assert np.max(grey) > 60000


def test_hounsfield_units_stay_16_bit_in_nifti(make_release, windows, tmp_path) -> None:
    release = make_release()
    window = windows[release.unit]
    write_release(release, tmp_path / "r", ExportSettings(), name="a", seed=0, window=window)
    header = nibabel.load(tmp_path / "r/nifti/cyst/000000.nii.gz").header
    assert header.get_data_dtype() == np.int16
    assert (header["cal_min"], header["cal_max"]) == (window.low, window.high)
