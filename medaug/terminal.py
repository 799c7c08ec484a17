"""How the command line speaks to a person: bars on stderr, tables on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

_LINE_EVERY_S = 15.0
_MOST_ROWS = 25


class TerminalProgress:
    """A `medaug.progress.Progress` on stderr: a bar on a terminal, plain lines in a log."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._lines = not sys.stderr.isatty()
        self._what = ""
        self._total = self._done = 0
        self._began = self._said = 0.0
        self._task: Any = None

    def __enter__(self) -> Self:
        if not self._lines:
            self._bars = Bars(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bars:
            self._bars.stop()
        elif kind is None:
            self._finish()

    def start(self, what: str, total: int) -> None:
        """Begin a piece of work of ``total`` steps."""
        self._finish()
        self._what, self._total, self._done = what, total, 0
        self._began = self._said = time.monotonic()
        if self._bars:
            self._task = self._bars.add_task(what, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """``steps`` more are done."""
        self._done += steps
        if self._bars:
            self._bars.update(self._task, advance=steps)
            if note:
                self._bars.update(self._task, note=note)
        elif time.monotonic() - self._said > _LINE_EVERY_S:
            self._said = time.monotonic()
            self._say(f"{self._what}: {self._done}/{self._total} {note}".rstrip())

    def _finish(self) -> None:
        if self._what and self._lines:
            self._say(f"{self._what}: done in {time.monotonic() - self._began:.0f} s")
        self._what = ""

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def show_inventory(document: dict[str, Any]) -> None:
    """Print what `readers` found as tables: series, lesions, classes, refusals."""
    console = Console()
    cases, files = document["cases"], document["files"]
    console.print(
        f"{len(cases)} series of {document['patients']} patient(s); "
        f"{files['used']} of {files['seen']} files used"
    )
    _table(
        console,
        "Series, those of one kind together",
        ("series", "patients", "type", "voxels", "mm", "files", "lesions"),
        _series_rows(cases),
    )
    _table(
        console,
        "Lesions",
        ("patient", "class", "voxels", "volume (ml)"),
        [
            (case["patient"][:8], lesion["label"], lesion["voxels"], f"{volume / 1000:.2f}")
            for case in cases
            for lesion in case["lesions"]
            if (volume := lesion["volume_mm3"]) is not None
        ],
    )
    classes = document["classes"].items()
    _table(
        console,
        "Classes",
        ("class", "lesions", "patients"),
        [(label, counts["lesions"], counts["patients"]) for label, counts in classes],
    )
    refused = document["refused"]
    _table(
        console,
        "Not used",
        ("files", "where", "why"),
        [(row["files"], row["path"], row["reason"]) for row in refused],
    )
    for note in document["notes"]:
        console.print(f"Note: {note}", markup=False)


def _series_rows(cases: Sequence[dict[str, Any]]) -> list[tuple[object, ...]]:
    """One row for all series that agree in modality, unit, matrix and spacing."""
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for case in cases:
        spacing = case["spacing_mm"]
        kind = (
            f"{case['modality']}, {case['unit']}",
            "x".join(map(str, case["shape"])),
            " x ".join(f"{length:.4g}" for length in spacing) if spacing else "none",
        )
        kinds.setdefault(kind, []).append(case)
    return [
        (
            len(members),
            len({case["patient"] for case in members}),
            *kind,
            sum(case["files"] for case in members),
            sum(len(case["lesions"]) for case in members),
        )
        for kind, members in kinds.items()
    ]


def _table(
    console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Print a table unless it is empty; long ones are cut and say so."""
    if not rows:
        return
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if isinstance(rows[0][at], int) else "left")
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(Text(str(entry)) for entry in row))
    console.print(table)
    if len(rows) > _MOST_ROWS:
        console.print(f"… and {len(rows) - _MOST_ROWS} more (all with --json)")
