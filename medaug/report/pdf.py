"""The page as PDF, by the print style of the page and a browser that is installed.

Any browser's own print dialogue gives the same pages; this saves the clicks. medaug brings no
browser and no renderer of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from medaug.atomic import replacing
from medaug.errors import Fault, SettingsError

_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
_SECONDS = 180


def write_pdf(page: Path) -> Path:
    """Print ``page`` into a PDF beside it.

    Raises:
        SettingsError: if no Chromium, Chrome or Edge is installed, or it does not print.
    """
    browser = _browser()
    if browser is None:
        raise SettingsError(_fault(page, "no Chromium, Chrome or Edge is installed here"))
    pdf = page.with_suffix(".pdf")
    with tempfile.TemporaryDirectory() as profile, replacing(pdf) as temporary:
        command = [browser, "--headless", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--no-pdf-header-footer", f"--user-data-dir={profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium's sandbox refuses to run as root
        command += [f"--print-to-pdf={temporary.resolve()}", page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
            ended = f"ended with {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            ended = f"did not print: {type(error).__name__}"
        if not temporary.is_file() or not temporary.read_bytes().startswith(b"%PDF-"):
            raise SettingsError(_fault(page, f"{Path(browser).name} {ended} and wrote no PDF"))
    return pdf


def _browser() -> str | None:
    found = [path for name in _NAMES if (path := shutil.which(name))]
    found += [path for path in _PLACES if Path(path).is_file()]
    return found[0] if found else None


def _fault(page: Path, came: str) -> Fault:
    return Fault(
        "--pdf",
        came,
        "a Chromium, Chrome or Edge that can be started",
        f"open {page.name} in any browser and print it to a file: the page has a style for paper",
    )
