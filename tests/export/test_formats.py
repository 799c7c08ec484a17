"""Every format gives back the release's very values, read by independent libraries."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import highdicom
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
# (unit, channels, slices of 3-D, mm, with the ends of the range)
CASES = [
    (Unit.HOUNSFIELD, 1, 0, 0.75, True),
    (Unit.HOUNSFIELD, 1, 0, 0.75, False),
    (Unit.HOUNSFIELD, 3, 0, 0.75, False),
    (Unit.HOUNSFIELD, 1, 6, 0.75, True),
    (Unit.SUV, 1, 0, 4.0, True),
    (Unit.SUV, 1, 5, 4.0, False),
    (Unit.ARBITRARY, 1, 0, 0.0, False),
    (Unit.ARBITRARY, 5, 0, 0.0, True),
]


def from_numpy(folder: Path, _depth: int) -> Samples:
    with np.load(folder / "npz/release.npz", allow_pickle=False) as npz:
        values = npz["pixels"] * float(npz["slope"]) + float(npz["intercept"])
        for number, (label, sample) in enumerate(zip(npz["labels"], values, strict=True)):
            yield number, str(npz["classes"][label]), sample


def from_pillow(folder: Path, depth: int) -> Samples:
    with (folder / "png/table.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for at in range(0, len(rows), depth):
        sample = []
        for at_slice, row in enumerate(rows[at : at + depth]):
            assert int(row["slice"]) == at_slice
            with Image.open(folder / "png" / row["file"]) as picture:
                grey = np.asarray(picture).astype(np.float64)
            stored = grey / int(row["gain"]) + int(row["offset"])
            sample.append(stored * float(row["slope"]) + float(row["intercept"]))
        yield int(row["number"]), row["class"], np.stack(sample)


def of_nifti(folder: Path, read: Callable[[Path], NDArray[np.floating]]) -> Samples:
    for path in (folder / "nifti").rglob("*.nii.gz"):
        yield int(path.name.removesuffix(".nii.gz")), path.parent.name, read(path)


def from_nibabel(folder: Path, _depth: int) -> Samples:
    def read(path: Path) -> NDArray[np.floating]:
        return np.asanyarray(nibabel.load(path).dataobj).transpose(2, 1, 0)

    return of_nifti(folder, read)


def from_simpleitk_nifti(folder: Path, _depth: int) -> Samples:
    def read(path: Path) -> NDArray[np.floating]:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))

    return of_nifti(folder, read)


def of_dicom(folder: Path, depth: int, read: Callable[[Path], NDArray[np.floating]]) -> Samples:
    """A file for each sample, or a folder of slices."""
    for path in (folder / "dicom").glob("*/*"):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        assert len(files) == depth
        yield int(path.stem), path.parent.name, np.stack([read(file) for file in files])


def from_pydicom(folder: Path, depth: int) -> Samples:
    def read(path: Path) -> NDArray[np.floating]:
        dataset = pydicom.dcmread(path)
        return apply_modality_lut(dataset.pixel_array, dataset)

    return of_dicom(folder, depth, read)


def from_simpleitk_dicom(folder: Path, _depth: int) -> Samples:
    for path in (folder / "dicom").glob("*/*"):
        volume = SimpleITK.ReadImage(series_in(path) if path.is_dir() else path)
        yield int(path.stem), path.parent.name, SimpleITK.GetArrayFromImage(volume)


def series_in(folder: Path) -> tuple[str, ...]:
    """The files of the one series in a folder, in the order that SimpleITK finds."""
    reader = SimpleITK.ImageSeriesReader
    (series,) = reader.GetGDCMSeriesIDs(str(folder))
    return reader.GetGDCMSeriesFileNames(str(folder), series)


READERS = [
    from_numpy,
    from_pillow,
    from_nibabel,
    from_simpleitk_nifti,
    from_pydicom,
    from_simpleitk_dicom,
]


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: f"{case[0].value}-{case[1]}-{case[2]}"
)
def written(request, make_release, windows, tmp_path_factory) -> tuple[Release, Path]:
    unit, channels, slices, mm_per_pixel, extremes = request.param
    release = make_release(
        unit, channels=channels, slices=slices, mm_per_pixel=mm_per_pixel, extremes=extremes
    )
    folder = tmp_path_factory.mktemp("release") / "release"
    write_release(release, folder, ExportSettings(), name="trial", seed=1, window=windows[unit])
    return release, folder


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_every_sample_comes_back_value_for_value(written, read) -> None:
    release, folder = written
    depth = release.pixels.shape[-3]
    found = {number: (label, sample) for number, label, sample in read(folder, depth)}
    assert sorted(found) == list(range(len(release)))
    for number, image in enumerate(release.images):
        label, sample = found[number]
        assert label == release.classes[release.labels[number]]
        assert sample.dtype != object
        np.testing.assert_array_equal(
            sample.astype(np.float32).reshape(-1, *image.shape[-2:]),
            image.reshape(-1, *image.shape[-2:]),
        )


def masks_of_numpy(folder: Path) -> dict[int, NDArray[np.uint8]]:
    with np.load(folder / "npz/release.npz", allow_pickle=False) as npz:
        masks = npz["masks"]
        return dict(enumerate(masks.reshape(len(masks), -1, *masks.shape[-2:])))


def masks_of_png(folder: Path) -> dict[int, NDArray[np.uint8]]:
    found: dict[int, list[NDArray[np.uint8]]] = {}
    for path in sorted((folder / "png-masks").rglob("*.png")):
        assert (folder / "png" / path.relative_to(folder / "png-masks")).is_file()
        with Image.open(path) as picture:
            assert picture.mode == "L"
            assert "SYNTHETIC" in picture.text["Disclaimer"]
            found.setdefault(int(path.stem[:6]), []).append(np.asarray(picture) // 255)
    return {number: np.stack(slices) for number, slices in found.items()}


def masks_of_nifti(folder: Path) -> dict[int, NDArray[np.uint8]]:
    found = {}
    for path in (folder / "nifti-masks").rglob("*.nii.gz"):
        image = SimpleITK.ReadImage(path)
        picture = SimpleITK.ReadImage(folder / "nifti" / path.relative_to(folder / "nifti-masks"))
        # Slice by slice they lie on one another, in millimetres.
        first = (picture.GetSize()[2] - image.GetSize()[2]) // 2
        at = (3, 2, image.GetSize()[2] - 1)
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(at),
            picture.TransformIndexToPhysicalPoint((3, 2, at[2] + first)),
        )
        header = nibabel.load(path).header
        assert header.get_intent()[0] == "label"
        found[int(path.name.removesuffix(".nii.gz"))] = SimpleITK.GetArrayFromImage(image)
    return found


def masks_of_dicom(folder: Path) -> dict[int, NDArray[np.uint8]]:
    """By highdicom, frame by frame as the images that they refer to lie in the folder."""
    found = {}
    for path in (folder / "dicom-masks").rglob("*.dcm"):
        segmentation = highdicom.seg.segread(path)
        here = folder / "dicom" / path.relative_to(folder / "dicom-masks")
        images = sorted(here.with_suffix("").iterdir()) if not here.exists() else [here]
        uids = [str(pydicom.dcmread(image).SOPInstanceUID) for image in images]
        drawn = {uid for _, _, uid in segmentation.get_source_image_uids()}
        masks = segmentation.get_pixels_by_source_instance([uid for uid in uids if uid in drawn])
        assert drawn <= set(uids)
        found[int(path.stem)] = masks[..., 0]
    return found


MASK_READERS = [masks_of_numpy, masks_of_png, masks_of_nifti, masks_of_dicom]


@pytest.fixture(scope="module", params=[(1, 0), (3, 0), (1, 6)], ids=["2-D", "2.5-D", "3-D"])
def with_masks(request, make_release, windows, tmp_path_factory) -> tuple[Release, Path]:
    # 19 x 15 pixels: the bits of a frame of a Segmentation then fill no whole byte.
    channels, slices = request.param
    release = make_release(
        masks=True, channels=channels, slices=slices, size=(19, 15), extremes=False
    )
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
            np.testing.assert_array_equal(found[number], mask.reshape(-1, 19, 15).astype(np.uint8))

    def test_of_adjacent_slices_only_the_middle_one_has_a_mask(self, with_masks) -> None:
        release, folder = with_masks
        if release.pixels.shape[1] == 3:
            for path in (folder / "dicom-masks").rglob("*.dcm"):
                (reference,) = pydicom.dcmread(path).ReferencedSeriesSequence
                (instance,) = reference.ReferencedInstanceSequence
                middle = folder / "dicom" / path.parent.name / path.stem / "001.dcm"
                uid = pydicom.dcmread(middle).SOPInstanceUID
                assert instance.ReferencedSOPInstanceUID == uid
            assert {path.stem[6:] for path in (folder / "png-masks").rglob("*.png")} == {"_s01"}

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


class TestPlace:
    """Columns run to the left, rows to the back, slices to the head, all in millimetres."""

    @pytest.mark.parametrize(("slices", "channels", "apart"), [(6, 1, 0.75), (0, 3, 2.5)])
    def test_as_readers_see_it(
        self, slices, channels, apart, make_release, windows, tmp_path
    ) -> None:
        release = make_release(slices=slices, channels=channels, per_class=1)
        window = windows[release.unit]
        write_release(
            release,
            tmp_path / "r",
            ExportSettings(),
            name="a",
            seed=0,
            window=window,
            slice_mm=2.5,  # voxels of 3-D patches are cubes whatever is said
        )
        folder = tmp_path / "r"
        assert verify_release(folder).ok
        for number, label in enumerate(release.classes):
            stem = f"{label}/{number:06d}"
            nifti = nibabel.load(folder / "nifti" / f"{stem}.nii.gz")
            np.testing.assert_allclose(nifti.affine, np.diag([-0.75, -0.75, apart, 1]))
            np.testing.assert_allclose(nifti.header.get_qform(), nifti.affine, atol=1e-6)
            # SimpleITK and highdicom speak LPS+.
            volume = SimpleITK.ReadImage(series_in(folder / "dicom" / stem))
            np.testing.assert_allclose(volume.GetSpacing(), (0.75, 0.75, apart))
            assert volume.GetOrigin() == (0, 0, 0)
            assert volume.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
            files = [pydicom.dcmread(path) for path in (folder / "dicom" / stem).iterdir()]
            affine = highdicom.get_volume_from_series(files).affine
            np.testing.assert_allclose(np.abs(np.linalg.det(affine)), 0.75 * 0.75 * apart)
            assert len({dataset.SeriesInstanceUID for dataset in files}) == 1

    def test_every_sample_is_a_series_of_its_own(self, make_release, windows, tmp_path) -> None:
        release = make_release(slices=4, per_class=2)
        window = windows[release.unit]
        write_release(release, tmp_path / "r", ExportSettings(), name="a", seed=0, window=window)
        files = [pydicom.dcmread(path) for path in (tmp_path / "r/dicom").rglob("*.dcm")]
        for keyword, count in (
            ("StudyInstanceUID", 1),
            ("SeriesInstanceUID", 6),
            ("SeriesNumber", 6),
            ("FrameOfReferenceUID", 6),
            ("SOPInstanceUID", 24),
        ):
            assert len({dataset[keyword].value for dataset in files}) == count


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
