"""The page for inside: every figure of the review, and what was not assessed."""

import json
from pathlib import Path

from medaug.forbidden import forbidden_words
from medaug.report.internal import write_internal

DECISION = {
    "outcome": "released",
    "policy": {"per_class": 12, "checks": ["format", "copy"]},
    "checks": [{"name": "copy", "passed": True, "value": 3.25, "limit": 4.5625}],
    "drawn": {"cyst": 13},
    "accepted": {"cyst": 12},
    "rejections": {"copy": 1},
    "statements": [],
    "reasons": [],
    "calibration": {"limit": 4.5625, "patients": 22},
    "closest": [{"label": "<cyst>", "score": 3.25}],
}
LEDGER = [{"entry": 1, "at": "2026", "kind": "attempt", "run": "r1", "words": "of a1"}]


def page(run: Path, **changes: object) -> str:
    (run / "review").mkdir(exist_ok=True)
    (run / "review" / "decision.json").write_text(json.dumps({**DECISION, **changes}))
    (run / "review" / "ledger.json").write_text(json.dumps(LEDGER))
    path = write_internal(run)
    assert path == run / "INTERNAL.html"
    return path.read_text()


def test_before_a_decision_there_is_none(tmp_path: Path) -> None:
    assert write_internal(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_figures_and_what_was_not_assessed(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "must not leave the hospital" in text
    for figure in ("4.5625", "3.25", "&lt;cyst&gt;", "of a1", "EDPB Opinion 28/2024", "WP216"):
        assert figure in text
    assert "<h2>Attacks</h2>not assessed" in text
    assert "<h2>Differential privacy</h2>not assessed" in text
    assert "not audited" in text
    assert forbidden_words(text) == []


def test_audits_and_costs_are_shown_as_they_come(tmp_path: Path) -> None:
    text = page(tmp_path, audit={"attacks": [{"auc": 0.5125}]}, cost={"epsilon": 3.125})
    assert "0.5125" in text
    assert "3.125" in text
    assert "not audited" not in text


def test_a_refusal_says_why(tmp_path: Path) -> None:
    text = page(tmp_path, outcome="refused", reasons=["Too near."], checks=[], calibration=None)
    assert "<h1>Refused</h1>" in text
    assert "Too near." in text
    assert "<h2>Copy limit</h2>not assessed" in text
    assert "not assessed.</li>" in text
