"""Somebody with the release folder, and nothing else of the run, trains a classifier on it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "release.md"


def test_in_under_ten_lines_with_the_folder_alone(library, tmp_path) -> None:
    """The lines of the page, in a fresh process, where there is one folder and no home."""
    section = PAGE.read_text(encoding="utf-8").partition("## Train on it")[2]
    lines = re.findall(r"^(?:>>>|\.\.\.) (.*)$", section.partition("```\n")[0], re.MULTILINE)
    assert 5 < len(lines) < 10
    shutil.copytree(library.release_dir, tmp_path / "release")
    code = ["release_dir = __import__('pathlib').Path('release')", *lines]
    code.append("print(classifier.score(images, release.labels), *release.classes)")
    root = Path(__file__).parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    score, *classes = answer.stdout.split()
    assert float(score) > 0.9
    assert tuple(classes) == library.release.classes
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
