"""``training.jsonl``: one line of figures every so many steps, none twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medaug.atomic import replacing

FILE = "training.jsonl"


def append(folder: Path, line: Mapping[str, Any]) -> None:
    """Add a line; NaN is an error."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def cut_back(folder: Path, step: int) -> list[dict[str, Any]]:
    """Drop what lies beyond ``step`` (a killed run may have written on), return the rest."""
    path = folder / FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # A line without its end was cut off by the kill.
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
    return [json.loads(line) for line in kept]
