"""The page as PDF, where a browser is installed; where none is, what to do."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medaug.errors import SettingsError
from medaug.report import pdf
from medaug.report.page import write_report

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="a script stands for the browser")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<h1>Report</h1>")
    return path


def only(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str | None) -> None:
    """No browser but ``script``, if any."""
    folder.mkdir()
    if script is not None:
        (folder / "chromium").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "chromium").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(pdf, "_PLACES", ())


def test_without_a_browser(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, tmp_path / "bin", None)
    with pytest.raises(SettingsError, match=r"(?s)no Chromium.*open report\.html in any browser"):
        pdf.write_pdf(page)


@needs_posix
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 3", "ended with 3"),
        ('for a; do case $a in --print-to*) echo no > "${a#*=}";; esac; done', "wrote no PDF"),
    ],
)
def test_a_browser_that_does_not_print(
    script: str, says: str, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, tmp_path / "bin", script)
    with pytest.raises(SettingsError, match=says):
        pdf.write_pdf(page)
    assert not page.with_suffix(".pdf").exists()


@pytest.mark.slow
@pytest.mark.skipif(pdf._browser() is None, reason="no Chromium here")
def test_the_report_as_pdf(build_run: Callable[..., Path]) -> None:
    page = write_report(build_run("complete"))
    printed = pdf.write_pdf(page).read_bytes()
    assert max(map(int, re.findall(rb"/Count (\d+)", printed))) > 5
