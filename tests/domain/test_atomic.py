"""Whole or absent: neither an exception nor a kill leaves half an artefact."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medaug.atomic import remove_partials, replacing, write_json

ROOT = Path(__file__).parents[2]


def fill(path: Path, text: str, kind: str) -> None:
    """Write ``text`` as a file, or as a folder of two files."""
    if kind == "file":
        path.write_text(text)
    else:
        (path / "sub").mkdir(parents=True)
        (path / "one").write_text(text)
        (path / "sub" / "two").write_text(text)


def content(path: Path) -> list[str]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file.read_text() for file in files if file.is_file()]


@pytest.mark.parametrize("kind", ["file", "folder"])
class TestReplacing:
    def test_success_replaces(self, tmp_path, kind):
        path = tmp_path / "new" / "artefact"
        for text in ("old", "new"):
            with replacing(path) as temporary:
                fill(temporary, text, kind)
            assert set(content(path)) == {text}
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_exception_leaves_the_old(self, tmp_path, kind, error):
        path = tmp_path / "artefact"
        fill(path, "old", kind)

        def fail() -> None:
            with replacing(path) as temporary:
                fill(temporary, "half", kind)
                raise error

        with pytest.raises(error):
            fail()
        assert set(content(path)) == {"old"}
        assert list(tmp_path.iterdir()) == [path]

    def test_a_kill_in_the_middle_leaves_the_old(self, tmp_path, kind):
        path = tmp_path / "artefact"
        fill(path, "old", kind)
        program = f"""
import os, signal, sys
from pathlib import Path
from medaug.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    if {kind!r} == "folder":
        temporary.mkdir()
        temporary = temporary / "one"
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
        done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
        assert set(content(path)) == {"old"}
        assert len(list(tmp_path.iterdir())) == 2
        remove_partials(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
        assert set(content(path)) == {"old"}

    def test_a_leftover_of_the_same_process_number_is_no_obstacle(self, tmp_path, kind):
        path = tmp_path / "artefact"
        fill(tmp_path / f".partial-{os.getpid()}-artefact", "leftover", "folder")
        with replacing(path) as temporary:
            fill(temporary, "new", kind)
        assert set(content(path)) == {"new"}


class TestJson:
    def test_readable_and_whole(self, tmp_path):
        write_json(tmp_path / "a.json", {"label": "Hämangiom", "n": [1, None]})
        text = (tmp_path / "a.json").read_text(encoding="utf-8")
        assert "Hämangiom" in text
        assert text.endswith("}\n")

    def test_nan_is_an_error_and_leaves_the_old(self, tmp_path):
        write_json(tmp_path / "a.json", {"auc": 0.5})
        before = (tmp_path / "a.json").read_text()
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(tmp_path / "a.json", {"auc": float("nan")})
        assert (tmp_path / "a.json").read_text() == before
        assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_run_had_set_aside_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / ".partial-old-release"
    aside.mkdir()
    (aside / "a.txt").write_text("kept")
    (tmp_path / ".partial-7-release").mkdir()
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    assert (tmp_path / "release" / "a.txt").read_text() == "kept"
