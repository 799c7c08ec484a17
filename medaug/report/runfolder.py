"""Reading a run folder that may stop half-way: what is not there yet is None, not an error."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from medaug.errors import Fault, RunFolderError

_PNG = b"\x89PNG\r\n\x1a\n"


def read_json(path: Path) -> Any:
    """The document at ``path``, or None if there is no such file.

    Raises:
        RunFolderError: if it is not JSON; medaug writes whole files only, so someone else did.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(_damaged(path, f"this is not JSON: {error}")) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a log with one JSON document per line; none if there is no such file.

    A last line without its line break was being written when the run was stopped: it is left
    out.

    Raises:
        RunFolderError: if any other line is not JSON.
    """
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise RunFolderError(_damaged(path, f"line {number} is not JSON: {error}")) from None
    return records


def picture(path: Path) -> str | None:
    """A PNG as a ``data:`` URI, or None if there is no such file or it is no PNG."""
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(_PNG):
        return None
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _damaged(path: Path, came: str) -> Fault:
    return Fault(
        path.name,
        came,
        "a file as medaug wrote it",
        "delete it and run the station that writes it again",
    )
