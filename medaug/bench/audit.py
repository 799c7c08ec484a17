"""What audits find and what they miss, on phantom lesions and with fixed seeds.

``medaug bench audit --out DIR`` writes ``audit.csv`` (a row for each figure: what came, what must
hold), ``audit_power.csv`` and ``audit.png``. The figures:

- P3 nothing leaked: how often p ≤ 0.05, over 200 releases; the same for twins and canaries;
- P4 power: exact copies of 3 to 12 of 50 members among 150 samples;
- P5 a generator that repeats its training patches; canaries that are repeated;
- P6 a DCGAN overfitted on 25 patients;
- P7 the phantom itself as the generator, through the whole gate.

Every round is kept in ``rounds/`` when it is done: stopped at any time, the same command goes on
where it was. With ``--quick`` there are fewer rounds and no P6 and P7: the shares are then coarse.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medaug.atomic import replacing, write_json
from medaug.bench import audit_rows as rows
from medaug.bench.audit_figures import LEAKED, Figure, figures_of
from medaug.progress import Progress


@dataclass(frozen=True)
class Measurement:
    """What is measured, how often, how often with ``--quick``, and one round of it."""

    name: str
    rounds: int
    quick: int
    one: Callable[[rows.Bench, int], Any]


MEASUREMENTS = (
    Measurement("P3", 200, 20, rows.NULL),
    *(
        Measurement(f"P4 {leaked}", 60, 10, partial(rows.audited, leaked=leaked, stream=4))
        for leaked in LEAKED
    ),
    Measurement("P5", 1, 1, rows.memoriser),
    Measurement("canaries", 100, 10, rows.canaries),
    Measurement("twins", 200, 20, rows.twins),
    Measurement("one run", 1000, 100, rows.one_run),
    Measurement("P6", 1, 0, rows.overfit),
    Measurement("P7", 100, 0, rows.phantom),
)


def bench_audit(out: Path, progress: Progress, *, quick: bool = False) -> tuple[Figure, ...]:
    """Measure what was not measured yet, and write CSV and plot into ``out``.

    Args:
        out: a folder; made if need be.
        progress: told of every round.
        quick: a tenth of the rounds, without P6 and P7.
    """
    bench = rows.Bench(out, progress)
    found = {
        each.name: measured(
            each, each.quick if quick else each.rounds, bench, out / "rounds", progress
        )
        for each in MEASUREMENTS
    }
    figures = figures_of(found)
    lines = [
        [one.name, one.what, one.came, one.wanted, {None: "", True: "yes", False: "no"}[one.holds]]
        for one in figures
    ]
    _write_csv(out / "audit.csv", ["figure", "what", "came", "wanted", "holds"], lines)
    shares = [
        [str(leaked), f"{_below(found, leaked, 0.05):.3f}", f"{_below(found, leaked, 0.01):.3f}"]
        for leaked in LEAKED
    ]
    _write_csv(out / "audit_power.csv", ["leaked of 50", "p <= 0.05", "refused, p < 0.01"], shares)
    _plot(out / "audit.png", found)
    return figures


def measured(
    what: Measurement, rounds: int, bench: rows.Bench, folder: Path, progress: Progress
) -> list[Any]:
    """One result for each round; those that are in ``folder`` are taken from there."""
    path = folder / f"{what.name.replace(' ', '_')}.json"
    found: list[Any] = json.loads(path.read_text()) if path.is_file() else []
    for run in range(len(found), rounds):
        progress.start(f"{what.name}: round {run + 1} of {rounds}", 1)
        found.append(what.one(bench, run))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
        progress.advance()
    return found[:rounds]


def _below(found: Mapping[str, Sequence[float]], leaked: int, limit: float) -> float:
    p = np.array(found[f"P4 {leaked}"])
    return float(np.mean(p <= limit) if limit == 0.05 else np.mean(p < limit))


def _write_csv(path: Path, head: list[str], lines: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *lines])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _plot(path: Path, found: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(page)
    left, right = page.subplots(1, 2)
    p = np.sort(found["P3"])
    left.plot([0, 1], [0, 1], color="0.7", label="wanted")
    left.step(p, np.arange(1, len(p) + 1) / len(p), where="post", label="measured")
    left.set(xlabel="p of audits with nothing leaked", ylabel="share at most so high")
    for limit, style, label in ((0.05, "o-", "p ≤ 0.05"), (0.01, "s--", "refused, p < 0.01")):
        shares = [_below(found, leaked, limit) for leaked in LEAKED]
        right.plot(LEAKED, shares, style, label=label)
    right.set(xlabel="leaked patients of 50", ylabel="share of audits that find them", ylim=(0, 1))
    for axes in (left, right):
        axes.legend()
    with replacing(path) as temporary:
        page.savefig(temporary, dpi=150, format="png", metadata={"Software": None})
