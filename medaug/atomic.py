"""Files that are whole or absent.

Every artefact is written under a temporary name in its own folder and renamed when it
is complete, so that a killed run never leaves half a file that a later run believes.

>>> import tempfile, pathlib
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> with replacing(folder / "a.txt") as temporary:
...     _ = temporary.write_text("whole")
>>> [p.name for p in folder.iterdir()]
['a.txt']
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"
_ASIDE = f"{PARTIAL}old-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success.

    The temporary path keeps the suffix of ``path`` and may become a file or a folder.
    On any exception it is removed and whatever stood at ``path`` is untouched. The data are
    flushed to disk before the rename, so the promise holds over a power cut as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    remove(temporary)
    try:
        yield temporary
        _flush(temporary)
        if temporary.is_dir() and path.exists():
            # A folder cannot be renamed over a full one: set the old aside, then drop it. Killed
            # between the two renames, `remove_partials` puts the old one back.
            aside = path.with_name(f"{_ASIDE}{path.name}")
            remove(aside)
            path.rename(aside)
            try:
                temporary.rename(path)
            except OSError:
                aside.rename(path)
                raise
            remove(aside)
        else:
            temporary.replace(path)
    except BaseException:
        remove(temporary)
        raise


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as indented JSON, atomically; NaN is an error, not ``NaN``."""
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Delete what killed runs left under ``folder``; put back what one had set aside."""
    for aside in folder.rglob(f"{_ASIDE}*"):
        original = aside.with_name(aside.name.removeprefix(_ASIDE))
        if not original.exists():
            aside.rename(original)
    for leftover in sorted(folder.rglob(f"{PARTIAL}*"), reverse=True):
        remove(leftover)


def _flush(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            # Opened for writing: Windows flushes no other handle.
            with file.open("r+b") as handle:
                os.fsync(handle.fileno())
