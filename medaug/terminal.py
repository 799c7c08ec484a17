"""How the command line speaks to a person: bars on stderr, tables on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

_LINE_EVERY_S = 15.0
_MOST_ROWS = 25
_NARROW = ("series", "patients", "files", "lesions", "voxels", "patient", "what")


class TerminalProgress:
    """A `medaug.progress.Progress` on stderr: a bar on a terminal, plain lines in a log."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._lines = not sys.stderr.isatty()
        self._what = self._unit = ""
        self._total = self._done = 0
        self._began = self._said = 0.0
        self._task: Any = None

    def __enter__(self) -> Self:
        if not self._lines:
            self._bars = Bars(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                TextColumn("{task.fields[amount]}"),
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

    def start(self, what: str, total: int, unit: str = "") -> None:
        """Begin a piece of work of ``total`` steps, or bytes where ``unit`` is "B"."""
        self._finish()
        self._what, self._total, self._unit, self._done = what, total, unit, 0
        self._began = self._said = time.monotonic()
        if self._bars:
            self._task = self._bars.add_task(what, total=total, note="", amount=self._amount())

    def advance(self, steps: int = 1, note: str = "") -> None:
        """``steps`` more are done."""
        self._done += steps
        if self._bars:
            self._bars.update(self._task, advance=steps, amount=self._amount())
            if note:
                self._bars.update(self._task, note=note)
        elif time.monotonic() - self._said > _LINE_EVERY_S:
            self._said = time.monotonic()
            self._say(f"{self._what}: {self._amount()} {note}".rstrip())

    def _amount(self) -> str:
        if self._unit != "B":
            return f"{self._done}/{self._total}"
        return f"{self._done / 1e6:.1f}/{self._total / 1e6:.1f} MB"

    def _finish(self) -> None:
        if self._what and self._lines:
            self._say(f"{self._what}: done in {time.monotonic() - self._began:.0f} s")
        self._what = ""

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def show_inventory(document: dict[str, Any]) -> None:
    """Print what `readers` found: what is used, whose it is, what is refused, what to look at."""
    # The width of a pipe is nobody's; a path cut in the middle helps nobody either.
    console = Console() if sys.stdout.isatty() else Console(width=100)
    cases, files = document["cases"], document["files"]
    console.print(
        f"{len(cases)} series of {document['patients']} patient(s); "
        f"{files['used']} of {files['seen']} files used",
        highlight=False,
    )
    for rule in document["patient_rules"]:
        if rule["patients"] or rule["without"]:
            _show_patients(console, rule)
    _table(
        console,
        "Series and pictures, those of one kind together",
        ("series", "patients", "type", "voxels", "mm", "files", "lesions"),
        _series_rows(cases),
    )
    classes = document["classes"].items()
    _table(
        console,
        "Classes",
        ("class", "lesions", "patients"),
        [(label, counts["lesions"], counts["patients"]) for label, counts in classes],
    )
    _table(console, "Lesions", *_lesion_rows(cases))
    _table(
        console,
        "Contradictions",
        ("what", "allowed", "where", "and"),
        [
            (row["kind"], "yes" if row["allowed"] else "no", row["paths"][0], row["paths"][1])
            for row in document["conflicts"]
        ],
    )
    _table(
        console,
        "Not used",
        ("files", "where", "why"),
        [(row["files"], row["path"], row["reason"]) for row in document["refused"]],
    )
    for note in document["notes"]:
        _note(console, note)


def _show_patients(console: Console, rule: dict[str, Any]) -> None:
    where = "" if rule["source"] == "." else f" in {rule['source']}"
    without = f"; {rule['without']} file(s) name nobody and are not used" if rule["without"] else ""
    console.print(
        f"Patients{where}: {rule['patients']}, told apart by {rule['rule']}{without}",
        markup=False,
        highlight=False,
    )
    for remark in rule["remarks"]:
        _note(console, remark)


def _note(console: Console, text: str) -> None:
    console.print(f"Note: {text}", markup=False, highlight=False)


def _lesion_rows(
    cases: Sequence[dict[str, Any]],
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """One row per lesion that has an outline or a size; a column that nothing fills is left out."""
    rows = [
        (
            case["patient"][:8],
            lesion["label"],
            lesion["voxels"],
            "" if lesion["volume_mm3"] is None else f"{lesion['volume_mm3'] / 1000:.2f}",
            "" if lesion["diameter_mm"] is None else f"{lesion['diameter_mm']:.1f}",
            "" if lesion["mean"] is None else f"{lesion['mean']:.1f}",
        )
        for case in cases
        for lesion in case["lesions"]
        if lesion["volume_mm3"] is not None or lesion["diameter_mm"] is not None
    ]
    headings = ("patient", "class", "voxels", "volume (ml)", "diameter (mm)", "mean")
    filled = [at for at in range(len(headings)) if any(row[at] != "" for row in rows)]
    return tuple(headings[at] for at in filled), [tuple(row[at] for at in filled) for row in rows]


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
        number = str(rows[0][at]).replace(".", "", 1).removeprefix("-").isdecimal()
        table.add_column(
            heading,
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=heading in _NARROW,
        )
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(Text(str(entry)) for entry in row))
    console.print(table)
    if len(rows) > _MOST_ROWS:
        console.print(f"… and {len(rows) - _MOST_ROWS} more (all with --json)")
