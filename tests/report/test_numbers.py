"""Every number on the page is one of the files: the page invents none."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from markup import Element, change, read, report
from test_tasks_section import task

import medaug.report.page

RESULTS = ("scores", "comparisons", "fidelity", "tasks", "folds", "protocol")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def leaves(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        yield from document
        for value in document.values():
            yield from leaves(value)
    elif isinstance(document, list):
        for value in document:
            yield from leaves(value)
    else:
        yield document


def numbers_of(document: Any) -> set[float]:
    found = {float(v) for v in leaves(document) if isinstance(v, int | float)}
    # A dose or a level may be the name of an entry.
    return found | {float(v) for v in leaves(document) if str(v).replace(".", "", 1).isdigit()}


def words_of(document: Any) -> set[str]:
    return {n for v in leaves(document) if isinstance(v, str) for n in _NUMBER.findall(v)}


def written() -> set[str]:
    """Numbers that the prose of the templates and the page's words hold."""
    folder = Path(medaug.report.page.__file__).parent
    prose = [
        re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|<[^>]*>", " ", path.read_text(), flags=re.DOTALL)
        for path in (folder / "templates").glob("*.j2")
    ]
    prose += [(folder / "likeness.py").read_text()]
    return {number for text in prose for number in _NUMBER.findall(text)}


def untraced(element: Element, known: set[float], words: set[str]) -> Iterator[str]:
    """What is shown inside and stands in no document."""
    if element.tag == "svg":  # axes; dots and curves are tested where they are drawn
        return
    if element.tag == "data":
        if float(element.attributes["value"] or "nan") not in known:
            yield f"{element.attributes['value']} shown as {element.text}"
        return
    for child in element.inside:
        if isinstance(child, Element):
            yield from untraced(child, known, words)
        else:
            yield from (
                f"{n} in '{child.strip()}'" for n in _NUMBER.findall(child) if n not in words
            )


def add_all(run: Path) -> None:
    """What the other states of the fake run lack: folds, tasks, calibration, another site."""
    document = read(run, "evaluation.json")
    interval = {"value": 0.7123, "low": 0.6456, "high": 0.7987}
    row = {"share": 0.5, "patients": 43.0, "classifier": "frid-adar-2018", "worth_patients": 77.0}
    row |= dict.fromkeys(("with", "without", "difference"), interval)
    site = {"name": "elsewhere", "test": {"patients": 9, "patches": 31}, "arms": document["arms"]}
    folds = {key: document[key] for key in ("arms", "comparisons", "classifiers")}
    folds |= {
        "folds": 2,
        "verdict": {"word": "no evidence", "sentence": "No evidence: +1.234 points."},
        "protocol": ["Folds by patient, 47 times."],
        "caveats": [],
        "doses": {
            name: [{"dose": 0.75, "auc": [0.7123, 0.6911], "chosen": 2}]
            for name in document["classifiers"]
        },
        "learning_curve": {"rows": [row], "left_out": {"0.1": "too few: 13"}},
        "external": [site],
    }
    tasks = {
        "segmentation": task("dice", 0.711, ("cyst", "metastasis")),
        "detection": task("mean sensitivity", 0.611, ("0.125", "1")),
    }
    change(run, "evaluation.json", folds=folds, tasks=tasks)


@pytest.mark.parametrize("study", ["liver", "breast"])
class TestNumbers:
    def test_of_results_are_those_of_the_evaluation(
        self, build_run: Callable[..., Path], study: str
    ) -> None:
        run = build_run("complete", study)
        add_all(run)
        root = report(run).root
        evaluation = read(run, "evaluation.json")
        known = numbers_of(evaluation)
        # Classes and folds are counted; a fold is shown by its number from 1.
        words = words_of(evaluation) | written() | {str(len(evaluation["test"]["classes"]))}
        words |= {str(fold + 1) for fold in range(2)}
        sections = [(name, root.find("section", id=name)[0]) for name in RESULTS]
        assert [s for name, e in sections for s in untraced(e, known, words)] == []
        assert sum(len(e.find("data")) for _, e in sections) > 300

    def test_of_every_section_are_in_the_report_as_data(
        self, build_run: Callable[..., Path], study: str
    ) -> None:
        run = build_run("complete", study)
        add_all(run)
        root, document = report(run).root, read(run, "report.json")
        known = numbers_of(document)
        decision = document["decision"]
        known |= {float(sum(decision[name].values())) for name in ("accepted", "drawn")}
        classes = document["cohort"]["found"]["classes"].values()
        known |= {float(sum(each["lesions"] for each in classes))}
        figures = set(root.find("data"))
        lost = [d for d in figures if float(d.attributes["value"] or "nan") not in known]
        assert [(d.attributes["value"], d.text) for d in lost] == []
        assert document["evaluation"] == read(run, "evaluation.json")

    def test_a_page_that_invents_one_is_found(
        self, build_run: Callable[..., Path], study: str
    ) -> None:
        run = build_run("complete", study)
        add_all(run)
        root = report(run).root
        known, words = numbers_of(read(run, "evaluation.json")), written() | {"2"}
        found = [s for e in root.find("section", id="cohort") for s in untraced(e, known, words)]
        assert found


def test_the_data_name_no_patient_and_no_path(build_run: Callable[..., Path]) -> None:
    run = build_run("complete")
    report(run)
    text = (run / "report.json").read_text()
    assert str(run) not in text
    assert "nifti/" not in text
    for part in read(run, "split.json")["parts"].values():
        assert not any(token in text for token in part["patients"])
    assert json.loads(text)["note"].startswith("Patient data")


def test_a_refused_run_has_its_report_as_data_too(build_run: Callable[..., Path]) -> None:
    run = build_run("refused")
    report(run)
    document = read(run, "report.json")
    assert document["decision"]["outcome"] == "refused"
    assert document["evaluation"] is None
    assert document["release"] is None
