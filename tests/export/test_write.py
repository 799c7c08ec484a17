"""A release is whole or absent, twice the same, and says nothing of where it was made."""

import dataclasses
import errno
import getpass
import gzip
import os
import socket
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from medaug.domain import Candidates, Release, Window
from medaug.errors import DisclosureError, SettingsError
from medaug.export import write as module
from medaug.export.settings import ExportSettings, Finding
from medaug.export.write import write_release

WINDOW = Window(-100, 200)


def write(release, folder: Path, seed: int = 3, name: str = "trial", **settings) -> Path:
    write_release(release, folder, ExportSettings(**settings), name=name, seed=seed, window=WINDOW)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def folder(make_release, tmp_path_factory) -> Path:
    return write(make_release(), tmp_path_factory.mktemp("write") / "release")


class TestOnlyAReleaseLeaves:
    """Exporters accept only a `Release`, and only as it was approved."""

    def test_candidates_are_refused(self, make_release, tmp_path) -> None:
        release = make_release()
        columns = {
            field.name: getattr(release, field.name)
            for field in dataclasses.fields(Candidates)
            if field.name != "seeds"
        }
        candidates = Candidates(**columns, seeds=np.arange(len(release)))
        with pytest.raises(DisclosureError, match="Candidates"):
            write(candidates, tmp_path / "r")
        assert not list(tmp_path.iterdir())

    def test_pixels_changed_after_the_approval_are_refused(self, make_release, tmp_path) -> None:
        release = make_release()
        assert release.digest  # cached: the object itself no longer notices
        release.pixels[4, 0, 2, 2] ^= 1
        with pytest.raises(DisclosureError, match="other pixels"):
            write(release, tmp_path / "r")
        assert not list(tmp_path.iterdir())

    def test_what_was_written_is_read_back(self, make_release, tmp_path, monkeypatch) -> None:
        honest = module.write_npz

        def careless(release: Release, *rest: object) -> None:
            changed = release.pixels.copy()
            changed[0, 0, 0, 0] += 1
            copy = object.__new__(Release)
            for field in dataclasses.fields(release):
                object.__setattr__(copy, field.name, getattr(release, field.name))
            object.__setattr__(copy, "pixels", changed)
            honest(copy, *rest)

        monkeypatch.setattr(module, "write_npz", careless)
        with pytest.raises(DisclosureError, match="other pixels"):
            write(make_release(), tmp_path / "r")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(("value", "limit"), [(float("nan"), 1.0), (0.0, float("inf"))])
    def test_a_figure_that_is_no_number_is_refused(
        self, make_release, tmp_path, value, limit
    ) -> None:
        release = make_release()
        results = tuple(
            dataclasses.replace(result, value=value, limit=limit)
            for result in release.decision.results
        )
        decision = dataclasses.replace(release.decision, results=results)
        with pytest.raises(DisclosureError, match="no number"):
            write(dataclasses.replace(release, decision=decision), tmp_path / "r")

    def test_an_unknown_mode_is_refused(self, make_release, tmp_path) -> None:
        release = make_release()
        policy = dataclasses.replace(release.decision.policy, mode="dp-magic")
        decision = dataclasses.replace(release.decision, policy=policy)
        with pytest.raises(DisclosureError, match="dp-magic"):
            write(dataclasses.replace(release, decision=decision), tmp_path / "r")


class TestSameTwice:
    """Two builds of one release are the same, byte for byte."""

    def test_byte_identical(self, make_release, folder, tmp_path, monkeypatch) -> None:
        later = time.time() + 10**7
        monkeypatch.setattr(time, "time", lambda: later)
        assert contents(write(make_release(), tmp_path / "again")) == contents(folder)

    def test_another_seed_changes_dicom_only(self, make_release, folder, tmp_path) -> None:
        one, other = contents(folder), contents(write(make_release(), tmp_path / "r", seed=4))
        changed = {name for name in one if one[name] != other[name]}
        assert changed == {name for name in one if name.startswith("dicom/")} | {"SHA256SUMS"}


class TestWholeOrAbsent:
    """A full disk leaves nothing behind, and what stood there before stays."""

    @pytest.mark.parametrize("writer", ["write_png", "write_nifti", "write_dicom", "write_json"])
    def test_disk_full(self, make_release, tmp_path, monkeypatch, writer) -> None:
        write(make_release(), tmp_path / "r")
        before = contents(tmp_path)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(module, writer, full)
        with pytest.raises(OSError, match="No space left") as caught:
            write(make_release(seed=5), tmp_path / "r")
        assert caught.value.errno == errno.ENOSPC
        assert contents(tmp_path) == before

    def test_an_old_release_is_replaced_as_a_whole(self, make_release, tmp_path) -> None:
        write(make_release(), tmp_path / "r")
        write(make_release(), tmp_path / "r", formats=("npz",))
        assert sorted(contents(tmp_path)) == [
            "r/DATASHEET.md",
            "r/SHA256SUMS",
            "r/npz/release.npz",
            "r/release.json",
        ]


class TestNothingOfThePlace:
    """No time, host, user, path, and no chunk or field that could hold one."""

    def test_no_trace_in_any_byte(self, folder) -> None:
        traces = [str(folder.parent), str(Path.home()), socket.gethostname(), os.sep + "tmp"]
        if len(getpass.getuser()) > 4:  # a short name occurs by chance
            traces.append(getpass.getuser())
        for name, data in contents(folder).items():
            plain = gzip.decompress(data) if name.endswith(".gz") else data
            for trace in traces:
                assert trace.encode() not in plain, f"{trace} in {name}"

    def test_png_chunks(self, folder) -> None:
        for name, data in contents(folder).items():
            if not name.endswith(".png"):
                continue
            chunks, at = [], 8
            while at < len(data):
                chunks.append(data[at + 4 : at + 8])
                at += 12 + int.from_bytes(data[at : at + 4], "big")
            assert at == len(data)
            assert set(chunks) == {b"IHDR", b"tEXt", b"IDAT", b"IEND"}
            assert b"tEXtDisclaimer\x00SYNTHETIC - NOT FOR DIAGNOSTIC USE" in data
            assert data[24:26] == bytes([16, 0]), "16 bits, grey"

    def test_gzip_header_holds_no_name_and_no_time(self, folder) -> None:
        for path in (folder / "nifti").rglob("*.gz"):
            head = path.read_bytes()[:10]
            assert head[3] == 0, "flags: no name, no comment, no extra field"
            assert head[4:8] == bytes(4), "time"

    def test_nifti_header_fields(self, folder) -> None:
        import nibabel

        for path in (folder / "nifti").rglob("*.gz"):
            header = nibabel.load(path).header
            assert header["descrip"].item().startswith(b"SYNTHETIC - NOT FOR DIAGNOSTIC USE")
            assert not header.extensions
            for field in ("db_name", "aux_file", "intent_name", "data_type"):
                assert not header[field].item()

    def test_zip_members_are_sorted_and_dated_1980(self, folder) -> None:
        with zipfile.ZipFile(folder / "npz/release.npz") as archive:
            members = archive.infolist()
        assert [member.filename for member in members] == sorted(m.filename for m in members)
        assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
        assert all(not member.extra or len(member.extra) <= 20 for member in members)


def test_sums_are_those_of_coreutils(folder) -> None:
    answer = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = [line.removesuffix(": OK") for line in answer.stdout.splitlines()]
    assert listed == sorted(set(contents(folder)) - {"SHA256SUMS"})


def test_class_names_never_leave_the_folder(make_release, tmp_path) -> None:
    release = make_release(classes=("../../up", "/etc", "BÖSE | x"))
    folder = write(release, tmp_path / "a" / "b" / "r")
    assert [path.name for path in (folder / "png").iterdir() if path.is_dir()]
    assert {path.name for path in tmp_path.rglob("*")} & {"up", "etc", "B_SE_x"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_progress_reaches_its_total(make_release, tmp_path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.work: list[list[object]] = []

        def start(self, what: str, total: int) -> None:
            self.work.append([what, total, 0])

        def advance(self, steps: int = 1, note: str = "") -> None:  # noqa: ARG002
            self.work[-1][2] += steps

    seen = Counting()
    write_release(
        make_release(slices=2),
        tmp_path / "r",
        ExportSettings(),
        name="a",
        seed=0,
        window=WINDOW,
        progress=seen,
    )
    assert [(total, done) for _, total, done in seen.work] == [(18, 18), (9, 9), (18, 18)]


def test_a_finding_for_a_class_that_is_not_there(make_release, tmp_path) -> None:
    finding = Finding(value="4147007", scheme="SCT", meaning="Mass")
    with pytest.raises(SettingsError, match="metastasys"):
        write(make_release(), tmp_path / "r", findings={"metastasys": finding})
