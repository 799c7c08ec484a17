"""The command line as a person meets it: answers at once, says what is wrong, exits by the book."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medaug import cli
from medaug.errors import DisclosureError, Fault, InputError, MedaugError

HEAVY = ("torch", "monai", "SimpleITK", "highdicom", "skimage", "matplotlib")


def medaug(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medaug", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def modules_after(code: str) -> set[str]:
    """Names of the modules that are loaded once ``code`` has run."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four grey pictures of two patients and two classes."""
    rng = np.random.default_rng(0)
    for label in ("benign", "malignant"):
        for patient in (1, 2):
            path = tmp_path / "pictures" / label / f"P{patient}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.yaml"
    path.write_text(
        "name: pictures\n"
        "sources:\n"
        "  - kind: images\n"
        "    pattern: '(?P<label>benign|malignant)/(?P<patient>P[0-9]+)\\.png'\n"
        "patching: {mm_per_pixel: null}\n"
        "generator: {window: [0, 255]}\n"
    )
    return path


class TestStartsFast:
    """``medaug --help`` answers at once, ``medaug inspect`` imports neither torch nor monai."""

    def test_help_loads_nothing_heavy(self) -> None:
        loaded = modules_after("import medaug.cli")
        assert "typer" in loaded
        assert not loaded & {*HEAVY, "numpy", "pydantic", "pydicom", "rich"}

    def test_inspect_loads_no_torch(self, pictures: Path, pipeline: Path) -> None:
        code = (
            "from medaug import cli\n"
            f"sys.argv = ['medaug', 'inspect', {str(pipeline)!r}, '--data', {str(pictures)!r},"
            " '--json']\n"
            "try:\n    cli.main()\nexcept SystemExit as done:\n    assert done.code == 0\n"
        )
        assert not modules_after(code) & {"torch", "monai"}


class TestExitCodes:
    """0 done; 1 a fault of medaug; 2 input or settings; 3 refused by the gate; 130 stopped."""

    @pytest.mark.parametrize(
        ("raised", "code", "says"),
        [
            (None, 0, ""),
            (MedaugError("odd"), 1, "odd"),
            (InputError(Fault("here", "came", "allowed", "do")), 2, "allowed: allowed"),
            (DisclosureError("too near"), 3, "  - too near"),
            (KeyboardInterrupt(), 130, "the same command goes on"),
            (OSError(28, "No space left on device", "run/x"), 2, "make room"),
        ],
    )
    def test_each_end_has_its_code_and_words(
        self, raised: BaseException | None, code: int, says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def work() -> None:
            if raised:
                raise raised

        assert cli._guarded(work) == code
        assert says in capsys.readouterr().err

    def test_ctrl_c_in_the_middle(self, tmp_path: Path) -> None:
        # A test run in the background ignores Ctrl-C, and its children would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [sys.executable, "-m", "medaug", "demo", "--out", str(tmp_path / "demo")],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while process.poll() is None and not any(tmp_path.glob("demo/phantom/*/phantom-*")):
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        assert "the same command goes on" in said
        assert "Traceback" not in said

    @pytest.mark.parametrize("error", [ValueError, OSError])
    def test_a_fault_of_medaug_says_where_and_never_with_what(
        self,
        error: type[Exception],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Its message may quote a name, and tracebacks are pasted into public trackers."""

        def work() -> None:
            try:
                raise KeyError("Doe^Jane")
            except KeyError:
                raise error("/home/doe/Doe^Jane.dcm") from None

        assert cli._guarded(work) == 1
        said = capsys.readouterr().err
        assert f"An internal fault: {error.__name__}" in said
        assert "medaug/cli.py, line" in said
        assert "in work" in said
        assert "doe" not in said.lower()
        monkeypatch.setenv("MEDAUG_TRACEBACK", "full")
        assert cli._guarded(work) == 1
        assert "Doe^Jane.dcm" in capsys.readouterr().err

    def test_unknown_command(self) -> None:
        done = medaug("fly")
        assert done.returncode == 2
        assert "No such command" in done.stderr


class TestBadInput:
    """What came, what is allowed, what to do; no traceback."""

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["run", "livre_ct"], "no such pipeline"),
            (["run", "liver_ct", "--out", "{out}"], "--data FOLDER"),
            (["run", "liver_ct", "--data", "{empty}", "--out", "{out}"], "empty"),
            (["run", "liver_ct", "--data", "{out}/none", "--out", "{out}"], "no such folder"),
            (["run", "liver_ct", "--set", "generator.presett=x", "--data", "."], "'preset'"),
            (["inspect", "{empty}"], "empty"),
            (["report", "{empty}"], "no run.json"),
            (["verify", "{empty}"], "SHA256SUMS is missing"),
        ],
    )
    def test_each_is_answered(self, tmp_path: Path, arguments: list[str], says: str) -> None:
        (tmp_path / "empty").mkdir()
        places = {"out": tmp_path / "out", "empty": tmp_path / "empty"}
        done = medaug(*(argument.format(**places) for argument in arguments))
        assert done.returncode == 2, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_folder_with_other_files_is_not_touched(
        self, tmp_path: Path, pictures: Path, pipeline: Path
    ) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "thesis.txt").write_text("years of work")
        done = medaug("extract", pipeline, "--data", pictures, "--out", mine)
        assert done.returncode == 2
        assert "not a medaug run" in done.stderr
        assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


class TestRunFolder:
    """A run resumes, and never replaces another."""

    def test_other_pipeline_other_settings_other_files(
        self, tmp_path: Path, pictures: Path, pipeline: Path
    ) -> None:
        out = tmp_path / "run"
        extract = ("extract", pipeline, "--data", pictures, "--out", out)
        key = ("--set", f"site_key={tmp_path / 'site.key'}")
        assert medaug(*extract, *key).returncode == 0
        store = out / "patches" / "patches.h5"
        written = store.stat().st_mtime_ns

        assert medaug(*extract, *key).returncode == 0
        assert store.stat().st_mtime_ns == written, "what is done is not done again"

        other = medaug(*extract, *key, "--set", "name=another")
        assert (other.returncode, "pipeline 'pictures'" in other.stderr) == (2, True)

        changed = medaug(*extract, *key, "--set", "patching.size=32")
        assert changed.returncode == 2
        assert "patching.size: 64 → 32" in changed.stderr
        assert store.stat().st_mtime_ns == written

        (pictures / "benign" / "P3.png").write_bytes((pictures / "benign" / "P1.png").read_bytes())
        files = medaug(*extract, *key)
        assert (files.returncode, "other source files" in files.stderr) == (2, True)
        assert store.stat().st_mtime_ns == written

        assert medaug(*extract, *key, "--redo").returncode == 0
        assert store.stat().st_mtime_ns != written

    def test_too_few_patients_says_how_many_are_needed(
        self, tmp_path: Path, pictures: Path, pipeline: Path
    ) -> None:
        out = tmp_path / "run"
        key = ("--set", f"site_key={tmp_path / 'site.key'}")
        done = medaug("run", pipeline, "--data", pictures, "--out", out, *key)
        assert done.returncode == 2
        assert "about 40 patients of this class" in done.stderr
        assert "about 76 patients in all" in done.stderr


class TestRealFiles:
    def test_inspect_json_is_one_document(
        self, real_data: Callable[[str], Path], tmp_path: Path
    ) -> None:
        folder = real_data("ms_lesions_mni")
        key = f"site_key={tmp_path / 'site.key'}"
        done = medaug("inspect", "ms_lesions", "--data", folder, "--set", key, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["classes"]["ms_lesion"] == {"lesions": 56, "patients": 2}
