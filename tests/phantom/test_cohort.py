import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medaug.atomic import PARTIAL
from medaug.errors import RunFolderError
from medaug.phantom import cohort, write_cohort

SCRIPT = """
import sys
from pathlib import Path
from medaug.phantom import write_cohort

if __name__ == "__main__":
    write_cohort(Path(sys.argv[1]), patients=int(sys.argv[2]), seed=5, workers=2)
"""


class Counting:
    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, what: str, total: int) -> None:  # noqa: ARG002
        self.total = total

    def advance(self, steps: int = 1, note: str = "") -> None:  # noqa: ARG002
        self.done += steps


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients of seed 5, written by one process."""
    folder = tmp_path_factory.mktemp("cohort") / "phantom"
    write_cohort(folder, patients=4, seed=5, workers=1)
    return folder


class TestFolder:
    def test_layout(self, whole: Path) -> None:
        assert {path.parent.name for path in whole.glob("dicom/*/seg.dcm")} == {
            "phantom-0000",
            "phantom-0002",
        }
        assert {path.parent.name for path in whole.glob("nifti/*/lesions.nii.gz")} == {
            "phantom-0001",
            "phantom-0003",
        }
        document = json.loads((whole / "phantom.json").read_text())
        assert document == {"phantom": 1, "seed": 5, "patients": 4, "marker": None}

    def test_one_step_per_patient_even_for_those_kept(self, tmp_path: Path) -> None:
        for _ in range(2):
            progress = Counting()
            write_cohort(tmp_path / "a", patients=2, seed=5, progress=progress, workers=1)
            assert (progress.total, progress.done) == (2, 2)


class TestSameBytes:
    def test_with_one_process_and_two_and_after_a_kill(self, whole: Path, tmp_path: Path) -> None:
        """kill -9 as soon as one patient is there; the workers end too; the rest is then made."""
        script = tmp_path / "cohort_script.py"
        script.write_text(SCRIPT)
        folder = tmp_path / "phantom"
        command = [sys.executable, str(script), str(folder), "4"]
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 120
        while not any(folder.glob("[dn]i*/phantom-*")) and time.monotonic() < deadline:
            assert process.poll() is None, "the cohort ended before it could be killed"
            time.sleep(0.01)
        children = _children(process.pid)
        process.kill()
        process.wait()
        while any(map(_runs, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(_runs, children)), "workers outlived the parent"
        assert contents(folder) != contents(whole), "the kill came too late to test anything"
        for patient in folder.glob("[dn]i*/phantom-*"):
            there = {str(patient.relative_to(folder) / name) for name in contents(patient)}
            assert there == {name for name in contents(whole) if f"/{patient.name}/" in name}

        subprocess.run(command, check=True, timeout=120)
        assert contents(folder) == contents(whole)
        assert not list(folder.rglob(f"{PARTIAL}*"))

    def test_patients_that_are_there_are_kept(self, whole: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.gz")}
        write_cohort(whole, patients=4, seed=5, workers=1)
        assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.gz")} == before

    def test_an_interrupt_leaves_only_whole_patients(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(_patient: object, folder: Path, _marker: str | None) -> None:
            (folder / "ct.nii.gz").write_text("half")
            raise KeyboardInterrupt

        monkeypatch.setattr(cohort, "write_nifti", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_cohort(tmp_path / "a", patients=2, seed=5, workers=1)
        assert (tmp_path / "a/dicom/phantom-0000/seg.dcm").is_file()
        assert not any((tmp_path / "a/nifti").iterdir())


class TestForeignFolders:
    def test_another_cohort_is_refused_with_every_difference(self, whole: Path) -> None:
        before = contents(whole)
        with pytest.raises(RunFolderError) as error:
            write_cohort(whole, patients=9, seed=6, workers=1)
        assert {fault.where.rsplit(": ")[-1] for fault in error.value.faults} == {
            "seed",
            "patients",
        }
        assert "choose another folder" in str(error.value)
        assert contents(whole) == before

    def test_another_marker_is_refused_and_not_repeated(self, whole: Path) -> None:
        with pytest.raises(RunFolderError, match="marker") as error:
            write_cohort(whole, patients=4, seed=5, marker="QXZMARK7")
        assert "QXZMARK7" not in str(error.value)

    @pytest.mark.parametrize("name", ["holiday.jpg", "phantom.json"])
    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("[1, 2")
        with pytest.raises(RunFolderError):
            write_cohort(tmp_path, patients=1)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("arguments", [{"patients": 0}, {"seed": -1}, {"workers": 0}])
    def test_numbers_out_of_range(self, tmp_path: Path, arguments: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="out of range"):
            write_cohort(tmp_path / "a", **arguments)
        assert not (tmp_path / "a").exists()


def test_workers_do_not_import_torch() -> None:
    code = "import sys, medaug.phantom; print({'torch', 'monai'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def _children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def _runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        os.kill(pid, signal.SIG_DFL)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
