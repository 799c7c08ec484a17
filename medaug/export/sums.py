"""``SHA256SUMS``: one line per file, as ``sha256sum -c SHA256SUMS`` reads it.

The text is a pure function of the folder, so a check can rebuild it and compare all of it. Its
signature, if there is one, lies beside it and is the one file that it does not list.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from medaug.export.signing import SecretKey, sign

SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.minisig"


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under ``folder`` but `SUMS` and its signature, by path, sorted."""
    found = {}
    for name in sorted(entries_of(folder)[0]):
        if name not in (SUMS, SIGNATURE):
            found[name] = _digest(folder / name)
    return found


def _digest(path: Path) -> str:
    """As `hashlib.file_digest`, which for every small file clears a large buffer first."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            total.update(piece)
    return total.hexdigest()


def entries_of(folder: Path) -> tuple[list[str], list[str]]:
    """Files under ``folder`` by relative path, and what is neither a file nor a folder.

    Links are followed nowhere and are among the second.
    """
    files: list[str] = []
    odd: list[str] = []
    waiting = [(folder, "")]
    while waiting:
        place, start = waiting.pop()
        with os.scandir(place) as listing:
            for entry in listing:
                name = start + entry.name
                if entry.is_file(follow_symlinks=False):
                    files.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((place / entry.name, f"{name}/"))
                else:
                    odd.append(name)
    return files, sorted(odd)


def sums_text(digests: Mapping[str, str]) -> str:
    """The file's content."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def write_sums(folder: Path, release: str, key: SecretKey | None) -> None:
    """Write `SUMS` over what lies in ``folder``, and its signature where there is a key.

    Args:
        folder: of a release that is being written.
        release: its digest, which the signature names.
        key: to sign with.
    """
    text = sums_text(digests_of(folder)).encode()
    (folder / SUMS).write_bytes(text)
    if key is not None:
        signature = sign(key, text, f"medaug release {release}")
        (folder / SIGNATURE).write_text(signature, encoding="utf-8", newline="\n")
