"""The receiver's check finds every flipped bit, moved file and false paper."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medaug.domain import Unit
from medaug.errors import ReaderError
from medaug.export.settings import ExportSettings
from medaug.export.verify import verify_release
from medaug.export.write import write_release


@pytest.fixture(scope="module")
def pristine(make_release, windows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "release"
    release = make_release(per_class=1, size=(8, 8))
    window = windows[Unit.HOUNSFIELD]
    write_release(release, folder, ExportSettings(), name="trial", seed=1, window=window)
    return folder


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "release"))


def sum_again(folder: Path) -> None:
    """What a forger does: digests that fit the changed files."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    )
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


class TestFiles:
    """Whole, under their names, bit for bit, and none besides."""

    def test_an_untouched_release_holds(self, pristine) -> None:
        found = verify_release(pristine)
        assert found.ok
        assert found.problems == ()
        assert found.facts["samples"] == {"cyst": 1, "haemangioma": 1, "metastasis": 1}
        assert found.facts["mode"] == "empirical"
        assert json.loads(json.dumps(found.document()))["ok"] is True
        assert "samples" in found.summary()

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_any_flipped_bit_is_found_and_its_file_named(self, pristine, data) -> None:
        files = sorted(path for path in pristine.rglob("*") if path.is_file())
        path = data.draw(st.sampled_from(files), label="file")
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) * 8 - 1), label="bit")
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        try:
            path.write_bytes(damaged)
            found = verify_release(pristine)
        finally:
            path.write_bytes(whole)
        assert not found.ok
        if path.name != "SHA256SUMS":
            name = path.relative_to(pristine).as_posix()
            assert found.problems[0].startswith(f"{name} was changed")

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_missing_or_renamed_file_is_found(self, pristine, data) -> None:
        files = sorted(path for path in pristine.rglob("*") if path.is_file())
        path = data.draw(st.sampled_from(files), label="file")
        renamed = data.draw(st.booleans(), label="renamed rather than missing")
        away = path.with_name("0" + path.name) if renamed else pristine.parent / "away"
        path.rename(away)
        try:
            found = verify_release(pristine)
        finally:
            away.rename(path)
        name = path.relative_to(pristine).as_posix()
        assert found.problems[0].startswith(f"{name} is missing")

    @pytest.mark.parametrize("name", ["extra.txt", "png/cyst/extra.png", ".hidden", "x/SHA256SUMS"])
    def test_an_added_file_is_found(self, folder, name) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
        assert verify_release(folder).problems == (f"{name} is not listed in SHA256SUMS",)

    @settings(max_examples=80, deadline=None)
    @given(data=st.data())
    def test_any_swapped_pair_link_or_added_file_is_found(self, pristine, data) -> None:
        files = sorted(path for path in pristine.rglob("*") if path.is_file())
        one, other = data.draw(
            st.lists(st.sampled_from(files), min_size=2, max_size=2, unique=True)
        )
        kept = {path: path.read_bytes() for path in (one, other)}
        name = one.relative_to(pristine).as_posix()
        stranger = one.with_name("zz" + one.name)
        what = data.draw(st.sampled_from(["swapped", "moved", "link", "linked twin", "added"]))
        try:
            if what == "swapped":
                one.write_bytes(kept[other])
                other.write_bytes(kept[one])
            elif what == "moved":
                one.replace(other)
            elif what == "link":
                one.rename(pristine.parent / "outside")
                one.symlink_to(pristine.parent / "outside")
            elif what == "linked twin":
                stranger.symlink_to(one.name)
            else:
                stranger.write_bytes(kept[one])
            found = verify_release(pristine)
        finally:
            for path in (one, other, stranger):
                path.unlink(missing_ok=True)
            for path, whole in kept.items():
                path.write_bytes(whole)
        assert not found.ok or kept[one] == kept[other]
        if "link" in what:
            shown = name if what == "link" else stranger.relative_to(pristine).as_posix()
            assert found.problems == (f"{shown} is neither a file nor a folder",)
        if what == "moved" and "SHA256SUMS" not in (one.name, other.name):
            assert found.problems[0] == f"{name} is missing"

    def test_a_linked_folder_is_not_entered(self, folder) -> None:
        (folder / "png").rename(folder.parent / "elsewhere")
        (folder / "png").symlink_to(folder.parent / "elsewhere")
        assert verify_release(folder).problems == ("png is neither a file nor a folder",)

    def test_no_folder_is_the_callers_fault(self, tmp_path) -> None:
        with pytest.raises(ReaderError, match="no such folder"):
            verify_release(tmp_path / "nothing")

    def test_an_empty_folder(self, tmp_path) -> None:
        assert "SHA256SUMS is missing" in verify_release(tmp_path).problems[0]


def edit(change):
    def apply(folder: Path) -> None:
        path = folder / "release.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


def change_npz(folder: Path, **arrays: object) -> None:
    path = folder / "npz/release.npz"
    with np.load(path) as npz:
        members = dict(npz)
    np.savez(path, **members | {name: np.asarray(value) for name, value in arrays.items()})


def change_pixel(folder: Path) -> None:
    with np.load(folder / "npz/release.npz") as npz:
        pixels = npz["pixels"]
    pixels[1, 0, 3, 3] += 1
    change_npz(folder, pixels=pixels)


def unmark(keyword: str):
    def apply(folder: Path) -> None:
        path = folder / "dicom/cyst/000000.dcm"
        dataset = pydicom.dcmread(path)
        delattr(dataset, keyword)
        dataset.save_as(path)

    return apply


def overwrite(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


FORGERIES = {
    "a pixel": (change_pixel, "other pixels"),
    "the meaning of a pixel": (lambda f: change_npz(f, slope=2.0), "other pixels"),
    "a unit nobody knows": (lambda f: change_npz(f, unit="Bq"), "Bq"),
    "labels of another type": (lambda f: change_npz(f, pixels=np.zeros((3, 1, 8, 8))), "int16"),
    "no npz": (lambda f: (f / "npz/release.npz").unlink(), "release.npz"),
    "a broken npz": (overwrite("npz/release.npz", "PK"), "cannot be read"),
    "a check that failed": (edit(lambda d: d["checks"][1].update(passed=False)), "'copy' failed"),
    "a check that was not run": (edit(lambda d: d["checks"].pop(1)), "'copy' was asked for"),
    "no check asked for": (edit(lambda d: d["policy"].update(checks=[])), "asks for no check"),
    "another mode": (edit(lambda d: d.update(mode="dp-wish")), "mode 'dp-wish' is unknown"),
    "another policy mode": (edit(lambda d: d["policy"].update(mode="dp")), "cost in privacy is"),
    "patch level": (edit(lambda d: d.update(patch_level_only=True)), "patch_level_only"),
    "counts": (edit(lambda d: d["classes"][0].update(samples=0)), "classes or counts"),
    "names": (edit(lambda d: d["classes"][0].update(name="x")), "classes or counts"),
    "a rescale in the manifest": (edit(lambda d: d["image"].update(slope=2)), "another meaning"),
    "acceptance": (edit(lambda d: d["classes"][0].update(drawn=99)), "policy's share"),
    "accepted than drawn": (edit(lambda d: d["classes"][0].update(drawn=0)), "more samples"),
    "another notice": (edit(lambda d: d.update(notice="FOR DIAGNOSIS")), "notice"),
    "a claim in the manifest": (edit(lambda d: d.update(title="Safe data")), "claims 'Safe'"),
    "a claim in the data sheet": (
        lambda f: (f / "DATASHEET.md").write_text("These data are anonymous."),
        "claims 'anonymous'",
    ),
    "an empty data sheet": (overwrite("DATASHEET.md", ""), "does not say what the mode"),
    "no data sheet": (lambda f: (f / "DATASHEET.md").unlink(), "DATASHEET.md cannot be read"),
    "a missing picture": (lambda f: (f / "png/cyst/000000.png").unlink(), "png/cyst/ holds 0"),
    "a format that is not told": (edit(lambda d: d["formats"].remove("nifti")), "nifti/cyst/"),
    "no synthetic data": (unmark("SyntheticData"), "SyntheticData is ''"),
    "no conversion type": (unmark("ConversionType"), "ConversionType is ''"),
    "no series description": (unmark("SeriesDescription"), "SeriesDescription is ''"),
    "no comment": (unmark("ImageComments"), "ImageComments is ''"),
    "no dicom at all": (overwrite("dicom/cyst/000000.dcm", "x" * 200), "cannot be read as DICOM"),
}


def change_mask(folder: Path) -> None:
    with np.load(folder / "npz/release.npz") as npz:
        masks = npz["masks"]
    masks[0, 0, 0] ^= 1
    change_npz(folder, masks=masks)


def drop_masks(folder: Path) -> None:
    path = folder / "npz/release.npz"
    with np.load(path) as npz:
        members = {name: npz[name] for name in npz if name != "masks"}
    np.savez(path, **members)


MASK_FORGERIES = {
    "a mask": (change_mask, "other pixels or masks"),
    "no masks": (drop_masks, "other pixels or masks"),
    "masks of another type": (lambda f: change_npz(f, masks=np.ones((3, 8, 8))), "masks are uint8"),
    "masks beyond 1": (
        lambda f: change_npz(f, masks=np.full((3, 8, 8), 255, np.uint8)),
        "masks are uint8",
    ),
    "what the manifest says": (edit(lambda d: d.update(masks=False)), "whether there are masks"),
    "a lost mask": (lambda f: (f / "png-masks/cyst/000000.png").unlink(), "png-masks/cyst/ holds"),
    "a mask too many": (
        lambda f: shutil.copy(
            f / "nifti-masks/cyst/000000.nii.gz", f / "nifti-masks/cyst/000009.nii.gz"
        ),
        "nifti-masks/cyst/ holds 2 files, not 1",
    ),
}


@pytest.mark.parametrize("what", MASK_FORGERIES)
def test_a_forged_mask_is_found(what, make_release, windows, tmp_path) -> None:
    release, folder = make_release(per_class=1, size=(8, 8), masks=True), tmp_path / "release"
    window = windows[Unit.HOUNSFIELD]
    write_release(release, folder, ExportSettings(), name="trial", seed=1, window=window)
    assert verify_release(folder).ok
    forge, sentence = MASK_FORGERIES[what]
    forge(folder)
    sum_again(folder)
    problems = verify_release(folder).problems
    assert any(sentence in problem for problem in problems), problems


class TestForgeries:
    """Changed files with digests that fit them again: the papers, pixels and marks must agree."""

    def test_summing_again_changes_nothing(self, folder) -> None:
        before = (folder / "SHA256SUMS").read_bytes()
        sum_again(folder)
        assert (folder / "SHA256SUMS").read_bytes() == before

    @pytest.mark.parametrize("what", FORGERIES)
    def test_is_found(self, folder, what) -> None:
        forge, sentence = FORGERIES[what]
        forge(folder)
        sum_again(folder)
        found = verify_release(folder)
        assert any(sentence in problem for problem in found.problems), found.problems


def test_the_command_needs_no_torch(pristine) -> None:
    """Run as the receiver does, where the large packages cannot be imported at all."""
    code = (
        "import sys\n"
        "large = ('torch', 'monai', 'nibabel', 'SimpleITK', 'scipy', 'sklearn', 'skimage')\n"
        "sys.modules.update(dict.fromkeys(large))\n"
        "sys.argv[0] = 'medaug'\n"
        "from medaug.cli import main\n"
        "main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "verify", str(pristine)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "every check holds" in answer.stdout
