"""The bench of the audits: it goes on where it stopped, and says what does not hold."""

import csv
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from medaug.bench.audit_rows import Bench
from medaug.progress import Silent

# Its package has a command of the same name.
bench = import_module("medaug.bench.audit")

# One round of each measurement, as good as promised, and as bad.
GOOD: dict[str, Any] = {
    "P3": 0.5,
    "P4 3": 0.2,
    "P4 5": 0.2,
    "P4 8": 0.004,
    "P4 12": 0.001,
    "P5": {
        "auc": 1.0,
        "p": 0.001,
        "refused": True,
        "bits": 9.95,
        "removed": 1.0,
        "found": True,
    },
    "canaries": {"silent": 0.5, "lost": 0.01, "four": 0.001},
    "twins": [0.5, 0.1, 0.01],
    "one run": 0.8,
    "P6": {
        "low": 0.9,
        "pixels": 0.6,
        "p": 0.001,
        "refused": True,
        "samples": 300,
        "copies": 0,
    },
    "P7": [],
}
BAD = GOOD | {
    "P4 8": 0.06,
    "P5": GOOD["P5"] | {"auc": 0.9, "refused": False, "bits": 5.0, "found": False},
    "one run": 1.2,
    "P6": GOOD["P6"] | {"pixels": 0.85, "refused": False, "copies": 3},
    "P7": ["too near"],
}


def measured(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, out: Path) -> dict[str, Any]:
    def one(name: str) -> Any:
        if name == "P3":  # p-values as they should be: even
            return lambda _, run: (run + 0.5) / 200
        return lambda *_: found[name]

    fast = tuple(replace(each, one=one(each.name)) for each in bench.MEASUREMENTS)
    short = tuple(replace(each, rounds=min(each.rounds, 200)) for each in fast)
    monkeypatch.setattr(bench, "MEASUREMENTS", short)
    figures = bench.bench_audit(out, Silent())
    return {f"{one.name} {one.what}": one for one in figures}


def test_every_promise_can_hold_and_can_break(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = measured(GOOD, monkeypatch, tmp_path / "good")
    assert {one.holds for one in good.values()} == {None, True}
    bad = measured(BAD, monkeypatch, tmp_path / "bad")
    broken = {name for name, one in bad.items() if one.holds is False}
    assert {name.split()[0] for name in broken} == {"P4", "P5", "one", "P6", "P7"}
    assert len(broken) == 10
    refused = [one.came for one in bad.values() if one.what == "refused"]
    assert refused == ["100 x: too near"]
    with (tmp_path / "good" / "audit.csv").open(encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == len(good) + 1
    assert (tmp_path / "good" / "audit.png").read_bytes()[:4] == b"\x89PNG"


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    asked: list[int] = []

    def one(_: Bench, run: int) -> int:
        asked.append(run)
        if asked == [0, 1, 2]:
            raise KeyboardInterrupt
        return 10 * run

    what = bench.Measurement("P4 8", 5, 2, one)
    shared = Bench(tmp_path, Silent())
    with pytest.raises(KeyboardInterrupt):
        bench.measured(what, 5, shared, tmp_path, Silent())
    assert json.loads((tmp_path / "P4_8.json").read_text()) == [0, 10]
    assert bench.measured(what, 5, shared, tmp_path, Silent()) == [0, 10, 20, 30, 40]
    assert asked == [0, 1, 2, 2, 3, 4]
    assert bench.measured(what, 2, shared, tmp_path, Silent()) == [0, 10]
