"""``SHA256SUMS``: one line per file, as ``sha256sum -c SHA256SUMS`` reads it.

The text is a pure function of the folder, so a check can rebuild it and compare all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

SUMS = "SHA256SUMS"


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under ``folder`` but `SUMS`, by relative path, sorted."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != SUMS:
            with path.open("rb") as handle:
                found[name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return dict(sorted(found.items()))


def sums_text(digests: Mapping[str, str]) -> str:
    """The file's content."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())
