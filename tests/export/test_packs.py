"""A release as a data set: HDF5, shards, layouts for segmentation; larger than memory; marked."""

import dataclasses
import getpass
import gzip
import io
import json
import socket
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from medaug.config import load_pipeline
from medaug.datasets import SyntheticPatches
from medaug.domain import Release, Unit
from medaug.errors import ReaderError, SettingsError
from medaug.export import shards
from medaug.export.release import load_release
from medaug.export.settings import ExportSettings
from medaug.export.verify import verify_release
from medaug.export.words import NOTICE
from medaug.export.write import write_release
from medaug.scan.folder import scan

PACKS = ("npz", "hdf5", "shards", "msd", "nnunet")
LICENCE = "CC-BY-NC-SA-4.0"
Samples = Iterator[tuple[int, str, NDArray[np.floating], NDArray[np.integer]]]


def write(release: Release, folder: Path, window, formats=PACKS, licence=LICENCE) -> Path:
    settings = ExportSettings(formats=formats, licence=licence)
    write_release(release, folder, settings, name="trial (1)", seed=1, window=window)
    return folder


def from_h5py(folder: Path) -> Samples:
    with h5py.File(folder / "hdf5/release.h5") as file:
        about = file.attrs
        for number, label in enumerate(file["labels"]):
            values = file["pixels"][number] * about["slope"] + about["intercept"]
            yield number, about["classes"][label], values, file["masks"][number]


def samples_in(shard: Path) -> dict[str, dict[str, bytes]]:
    """Members of a tar by sample, as WebDataset groups them: by the name up to its first dot."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(shard) as members:
        for info in members:
            key, _, suffix = info.name.partition(".")
            assert key not in found or key == list(found)[-1], "a sample's files are neighbours"
            found.setdefault(key, {})[suffix] = members.extractfile(info).read()
    return found


def from_tar(folder: Path) -> Samples:
    for shard in sorted((folder / "shards").iterdir()):
        for key, sample in samples_in(shard).items():
            about = json.loads(sample["json"])
            pixels, mask = (
                np.load(io.BytesIO(sample[name]), allow_pickle=False)
                for name in ("image.npy", "mask.npy")
            )
            classes = json.loads((folder / "release.json").read_text())["classes"]
            assert classes[int(sample["cls"])]["name"] == about["class"]
            yield int(key), about["class"], pixels * about["slope"] + about["intercept"], mask


def from_monai(folder: Path) -> Samples:
    """As MONAI lists and reads a task of the Decathlon."""
    from monai.data import load_decathlon_datalist

    root = folder / "msd"
    names = json.loads((root / "dataset.json").read_text())["labels"]
    cases = load_decathlon_datalist(root / "dataset.json", True, "training", root)
    assert len(cases) == json.loads((root / "dataset.json").read_text())["numTraining"]
    for case in cases:
        image, label = (nibabel.load(case[part]) for part in ("image", "label"))
        assert image.header.get_data_shape()[:3] == label.header.get_data_shape()
        np.testing.assert_allclose(image.affine, label.affine)
        mask = np.asarray(label.dataobj)
        (value,) = set(np.unique(mask)) - {0}
        axes = (3, 2, 1, 0) if image.ndim == 4 else (2, 1, 0)
        number = int(case["image"].removesuffix(".nii.gz")[-6:])
        values = np.asanyarray(image.dataobj).transpose(axes)
        yield number, names[str(value)], values, mask.transpose(2, 1, 0) // value


def from_nnunet(folder: Path) -> Samples:
    """As nnU-Net reads: its default library, a file for each channel, all of one geometry."""
    (root,) = (folder / "nnunet").iterdir()
    assert root.name == "Dataset500_trial_1"
    about = json.loads((root / "dataset.json").read_text())
    names = {value: name for name, value in about["labels"].items()}
    paths = sorted((root / "labelsTr").iterdir())
    assert len(paths) == about["numTraining"]
    for path in paths:
        case = path.name.removesuffix(about["file_ending"])
        label = SimpleITK.ReadImage(path)
        channels = []
        for at in range(len(about["channel_names"])):
            image = SimpleITK.ReadImage(root / "imagesTr" / f"{case}_{at:04d}.nii.gz")
            for side in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
                np.testing.assert_allclose(getattr(image, side)(), getattr(label, side)())
            channels.append(SimpleITK.GetArrayFromImage(image))
        mask = SimpleITK.GetArrayFromImage(label)
        value = mask.max()
        yield int(case[-6:]), names[int(value)], np.stack(channels), mask // value


READERS = [from_h5py, from_tar, from_monai, from_nnunet]
# Unit, channels, and slices of 3-D.
CASES = [
    (Unit.HOUNSFIELD, 1, 0),
    (Unit.HOUNSFIELD, 3, 0),
    (Unit.SUV, 1, 6),
]


@pytest.fixture(scope="module", params=CASES, ids=["2-D", "2.5-D", "3-D"])
def written(request, make_release, windows, tmp_path_factory) -> tuple[Release, Path]:
    unit, channels, slices = request.param
    release = make_release(unit, channels=channels, slices=slices, masks=True, size=(19, 15))
    return release, write(release, tmp_path_factory.mktemp("packs") / "r", windows[unit])


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_every_sample_comes_back_with_its_mask(written, read) -> None:
    release, folder = written
    found = {number: rest for number, *rest in read(folder)}
    assert sorted(found) == list(range(len(release)))
    for number, (label, values, mask) in found.items():
        assert label == release.classes[release.labels[number]]
        np.testing.assert_array_equal(
            values.astype(np.float32).ravel(), release.images[number].ravel()
        )
        np.testing.assert_array_equal(mask.ravel(), release.masks[number].ravel())


class TestLargerThanMemory:
    """A release of mapped arrays is approved, written, read back and verified in pieces."""

    def test_memory_does_not_hold_the_pixels(self, make_release, windows, tmp_path) -> None:
        made = make_release(per_class=32, size=(256, 256), classes=("cyst", "x"), masks=True)
        columns = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
        for name in ("pixels", "masks"):
            np.save(tmp_path / f"{name}.npy", columns[name])
            columns[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        assert made.pixels.nbytes + made.masks.nbytes == 12 << 20
        folder, window = tmp_path / "r", windows[made.unit]
        del made
        tracemalloc.start()
        try:
            write(Release(**columns), folder, window, ("hdf5", "shards", "msd", "nnunet"))
            assert verify_release(folder).ok
            patches = SyntheticPatches(folder, verify=False)
            assert patches[40]["image"].shape == (1, 256, 256)
            assert tracemalloc.get_traced_memory()[1] < 5 << 20
        finally:
            tracemalloc.stop()

    def test_what_is_loaded_can_be_changed_in_memory_alone(self, written) -> None:
        _, folder = written
        loaded = load_release(folder)
        assert isinstance(loaded.pixels, np.memmap)
        loaded.pixels[...] = 0
        assert verify_release(folder).ok

    @pytest.mark.parametrize("case", [{}, {"channels": 3}, {"slices": 4}])
    def test_receivers_open_it(self, case, make_release, windows, tmp_path) -> None:
        release = make_release(masks=True, **case)
        patches = SyntheticPatches(write(release, tmp_path / "r", windows[release.unit], ("hdf5",)))
        assert len(patches) == len(release)
        np.testing.assert_array_equal(patches[7]["image"].numpy(), release.images[7])
        np.testing.assert_array_equal(patches[7]["mask"].numpy()[0], release.masks[7])


class TestShards:
    """Of one size, and mixed: a pipeline reads them from end to end."""

    def test_many_and_mixed(self, make_release, windows, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(shards, "SAMPLES", 20)
        release = make_release(per_class=17, size=(4, 4))
        folder = write(release, tmp_path / "r", windows[release.unit], ("hdf5", "shards"))
        assert verify_release(folder).ok
        found = [samples_in(path) for path in sorted((folder / "shards").iterdir())]
        assert [len(shard) for shard in found] == [20, 20, 11]
        assert sorted(int(key) for shard in found for key in shard) == list(range(51))
        assert len({sample["cls"] for sample in found[0].values()}) == 3
        (folder / "shards/release-000001.tar").unlink()
        assert "release-000001.tar is missing" in verify_release(folder).problems[0]


class TestSameTwice:
    """Two builds of one release are the same, byte for byte, at any time of day."""

    def test_byte_identical(self, written, windows, tmp_path, monkeypatch) -> None:
        release, folder = written
        later = time.time() + 10**7
        monkeypatch.setattr(time, "time", lambda: later)
        again = write(release, tmp_path / "r", windows[release.unit])
        names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert names == {p.relative_to(again) for p in again.rglob("*") if p.is_file()}
        for name in names:
            assert (folder / name).read_bytes() == (again / name).read_bytes(), name

    def test_no_time_where_the_system_keeps_the_clock(self, written) -> None:
        _, folder = written
        with h5py.File(folder / "hdf5/release.h5") as file:
            for node in (file["/"], *file.values()):
                about = h5py.h5o.get_info(node.id)
                assert {about.atime, about.mtime, about.ctime, about.btime} <= {0}
        for path in (folder / "shards").iterdir():
            with tarfile.open(path) as members:
                for info in members:
                    assert (info.mtime, info.uid, info.gid, info.mode) == (0, 0, 0, 0o644)
                    assert (info.uname, info.gname, info.pax_headers) == ("", "", {})


ALL = (*PACKS, "png", "nifti", "dicom")


@pytest.fixture(scope="module")
def whole(make_release, windows, tmp_path_factory) -> Path:
    release = make_release(masks=True, per_class=1, size=(8, 8))
    return write(release, tmp_path_factory.mktemp("whole") / "r", windows[release.unit], ALL)


class TestMarks:
    """Every file says that it is synthetic, of which release, and under which licence."""

    def test_of_every_file(self, whole) -> None:
        release = json.loads((whole / "release.json").read_text())["pixels_digest"]
        wanted = {NOTICE, release[:16], LICENCE}
        seen = set()
        for path in sorted(whole.rglob("*")):
            kind = path.relative_to(whole).parts[0]
            if path.is_dir() or kind in ("DATASHEET.md", "SHA256SUMS", "release.json"):
                continue
            if path.name == "table.csv":  # of numbers; the pictures that it names are marked
                continue
            said = marks_in(path)
            assert {word for word in wanted if word in said} == wanted, f"{path.name}: {said}"
            seen.add(kind)
        assert seen == {*ALL, "png-masks", "nifti-masks", "dicom-masks"}

    @pytest.mark.parametrize("licence", ["Creative Commons, see our pages " * 3, "Lizenz für alle"])
    def test_a_licence_that_no_nifti_holds(self, licence, make_release, windows, tmp_path) -> None:
        release = make_release(per_class=1, size=(4, 4))
        folder = write(
            release, tmp_path / "r", windows[release.unit], ("npz", "nifti"), licence.strip()
        )
        said = nibabel.load(folder / "nifti/cyst/000000.nii.gz").header["descrip"].item().decode()
        assert said == f"{NOTICE}; {release.digest[:16]}; licence: release.json"

    def test_nothing_of_the_place_in_any_of_them(self, whole) -> None:
        traces = [str(whole.parent), str(Path.home()), socket.gethostname(), getpass.getuser()]
        found = scan(whole, [trace for trace in traces if len(trace) > 4])
        assert found.findings == []
        assert found.unsearched == []

    def test_a_search_looks_into_all_of_them(self, whole) -> None:
        found = {(each.file.split("/")[0], each.place) for each in scan(whole, [LICENCE]).findings}
        assert {
            ("npz", "licence.npy"),
            ("hdf5", "/ licence"),
            ("msd", "gzip"),
            ("nnunet", "gzip"),
        } <= found
        assert any(kind == "shards" and place.endswith(".json") for kind, place in found)


def marks_in(path: Path) -> str:
    """All text in a file, by the library that the format's own people would take."""
    if path.name.endswith(".json"):
        return json.dumps(json.loads(path.read_text()))
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())[148:228].decode()  # descrip
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return " ".join(picture.text.values())
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return " ".join(str(arrays[name]) for name in ("notice", "release", "licence"))
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return " ".join(str(value) for value in file.attrs.values())
    if path.suffix == ".tar":
        said = [sample["json"].decode() for sample in samples_in(path).values()]
        return min(said, key=len) if said else ""
    return path.read_bytes().decode("latin-1")


def change_h5(folder: Path, name: str, change) -> None:
    with h5py.File(folder / "hdf5/release.h5", "r+") as file:
        if name in file:
            values = change(file[name][()])
            if isinstance(values, np.ndarray) and values.dtype == file[name].dtype:
                file[name][...] = values
            else:
                del file[name]
                file.create_dataset(name, **values)
        else:
            file.attrs[name] = change(file.attrs[name])


def unmark_shard(folder: Path) -> None:
    path = folder / "shards/release-000000.tar"
    path.write_bytes(path.read_bytes().replace(b"SYNTHETIC", b"AUTHENTIC"))


def unmark_npz(folder: Path) -> None:
    with np.load(folder / "npz/release.npz") as archive:
        arrays = dict(archive)
    np.savez(folder / "npz/release.npz", **{k: v for k, v in arrays.items() if k != "licence"})


FORGERIES = {
    "a pixel": (lambda f: change_h5(f, "pixels", lambda v: v + 1), "other pixels"),
    "a mask": (lambda f: change_h5(f, "masks", lambda v: 1 - v), "other pixels or masks"),
    "masks beyond 1": (lambda f: change_h5(f, "masks", lambda v: v * 255), "masks are uint8"),
    "a class": (lambda f: change_h5(f, "classes", lambda v: ["a", *v[1:]]), "other pixels"),
    "a slope": (lambda f: change_h5(f, "slope", lambda v: v * 2), "other pixels"),
    "compressed pixels": (
        lambda f: change_h5(f, "pixels", lambda v: {"data": v, "compression": "gzip"}),
        "not <i2 in one piece",
    ),
    "texts for pixels": (
        lambda f: change_h5(f, "pixels", lambda v: {"data": ["a"] * len(v)}),
        "not <i2 in one piece",
    ),
    "no h5": (lambda f: (f / "hdf5/release.h5").write_bytes(b"\x89HDF"), "cannot be read"),
    "half an h5": (
        lambda f: (f / "hdf5/release.h5").write_bytes((f / "hdf5/release.h5").read_bytes()[:3000]),
        "cannot be read",
    ),
    "no mark in the h5": (lambda f: change_h5(f, "notice", lambda _: "REAL"), "notice is 'REAL'"),
    "no licence in the npz": (unmark_npz, "licence is ''"),
    "no mark in a shard": (unmark_shard, "notice is 'AUTHENTIC"),
    "no shard": (lambda f: (f / "shards/release-000000.tar").unlink(), "shards/ holds 0 files"),
    "no tar": (
        lambda f: (f / "shards/release-000000.tar").write_bytes(b"x" * 1024),
        "cannot be read as tar",
    ),
    "a lost image": (
        lambda f: (f / "msd/imagesTr/cyst_000000.nii.gz").unlink(),
        "msd/imagesTr/ holds 2 files, not 3",
    ),
    "a lost label map": (
        lambda f: next((f / "nnunet").glob("*/labelsTr/cyst*")).unlink(),
        "labelsTr/ holds 2 files, not 3",
    ),
    "a lost list": (
        lambda f: next((f / "nnunet").glob("*/dataset.json")).unlink(),
        "dataset.json holds 0 files, not 1",
    ),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_verify_finds(what, make_release, windows, tmp_path) -> None:
    release = make_release(per_class=1, size=(4, 4), masks=True)
    folder = write(release, tmp_path / "r", windows[release.unit])
    forge, sentence = FORGERIES[what]
    forge(folder)
    assert "was changed" in (first := verify_release(folder).problems[0]) or "missing" in first
    sum_again(folder)
    problems = verify_release(folder).problems
    assert any(sentence in problem for problem in problems), problems


def sum_again(folder: Path) -> None:
    """What a forger does: digests that fit the changed files."""
    from medaug.export.sums import SUMS, digests_of, sums_text

    (folder / SUMS).write_text(sums_text(digests_of(folder)))


class TestRefused:
    """What cannot be written is said before anything is."""

    def test_layouts_for_segmentation_without_masks(self, make_release, windows, tmp_path) -> None:
        release = make_release(classes=("background", "cyst"))
        with pytest.raises(SettingsError) as caught:
            write(release, tmp_path / "r", windows[release.unit])
        assert "no masks" in str(caught.value)
        assert "called 'background'" in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_and_before_anything_is_trained(self) -> None:
        asked = ["export.formats=[npz, nnunet]", "generator.preset=small-data"]
        with pytest.raises(SettingsError, match="nnunet for patches with masks"):
            load_pipeline("phantom", [*asked, "generator.outputs=[image]"])
        assert load_pipeline("phantom", [*asked, "generator.outputs=[image, mask]"])

    @pytest.mark.parametrize("formats", [("png",), ("npz", "npz"), ("hdf5", "zarr")])
    def test_formats(self, formats) -> None:
        with pytest.raises(ValidationError):
            ExportSettings(formats=formats)

    def test_a_release_whose_manifest_names_none_that_is_whole(self, whole, tmp_path) -> None:
        document = json.loads((whole / "release.json").read_text())
        (tmp_path / "release.json").write_text(json.dumps(document | {"formats": ["png"]}))
        with pytest.raises(ReaderError, match="npz or hdf5"):
            load_release(tmp_path)
