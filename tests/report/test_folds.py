"""The section on folds: their verdict, what was chosen, other sites, and the rows of the paper."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medaug.report.page import write_report

SENTENCE = "No evidence that synthetic patches of refitted generators help: folds say so."


def with_folds(run: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> str:
    path = run / "evaluation.json"
    document = json.loads(path.read_text())
    figures = {key: document[key] for key in ("arms", "comparisons", "classifiers")}
    folds = {
        **figures,
        "folds": 2,
        "verdict": {"word": "no evidence", "sentence": SENTENCE},
        "protocol": ["Folds by patient."],
        "caveats": [],
    }
    change(folds, document)
    path.write_text(json.dumps(document | {"folds": folds}))
    return write_report(run).read_text()


def test_without_folds_the_page_says_how_to_ask(build_run: Callable[..., Path]) -> None:
    assert "evaluation.folds" in write_report(build_run("complete")).read_text()


def test_what_folds_found(build_run: Callable[..., Path]) -> None:
    interval = {"value": 0.71, "low": 0.64, "high": 0.79}

    def add(folds: dict[str, Any], document: dict[str, Any]) -> None:
        folds["doses"] = {
            name: [
                {"dose": 0, "auc": [0.7123, 0.69], "chosen": 0},
                {"dose": 0.5, "auc": [0.7, 0.7345], "chosen": 2},
            ]
            for name in document["classifiers"]
        }
        row = {"share": 0.5, "patients": 41.0, "classifier": "frid-adar-2018"}
        row |= dict.fromkeys(("with", "without", "difference"), interval)
        folds["learning_curve"] = {
            "rows": [row | {"worth_patients": 77.0}, row | {"worth_patients": None}],
            "left_out": {"0.1": "too few of class cyst"},
        }
        site = {"name": "elsewhere", "test": {"patients": 9, "patches": 31}}
        folds["external"] = [site | {"arms": document["arms"]}]

    page = with_folds(build_run("complete"), add)
    for words in (SENTENCE, "Folds by patient.", '<data value="0.7345">0.735', "beyond the curve"):
        assert words in page
    for words in ('<data value="77.0">77', "too few of class cyst", 'elsewhere: <data value="9">9'):
        assert words in page


@pytest.mark.parametrize("label", ["phantom patients", "the cohort of this run"])
def test_the_rows_of_the_paper_beside_ours(build_run: Callable[..., Path], label: str) -> None:
    def add(folds: dict[str, Any], _: dict[str, Any]) -> None:
        ours = {"value": 0.8123, "low": 0.7, "high": 0.9}
        both = dict.fromkeys(("sensitivity", "specificity"), ours)
        row = {"row": "classical", "paper_percent": {"sensitivity": 78.6, "specificity": 88.4}}
        folds["table"] = {"label": label, "rows": [row | {"ours": both}]}
        folds["choices"] = [{"fold": 0, "chosen_copies": 5.0, "chosen_synthetic": 0.5}]

    page = with_folds(build_run("complete"), add)
    assert page.count(f"Ours: {label}") == 2
    assert '<data value="78.6">78.6' in page
    assert '<data value="0.8123">0.812' in page
