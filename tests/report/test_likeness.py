"""Likeness on the page: the evaluation's figures, placed beside their baselines, in plain words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from markup import change, read, report

BuildRun = Callable[..., Path]


@pytest.mark.parametrize("study", ["liver", "breast"])
def test_every_figure_of_likeness_is_the_one_of_the_evaluation(
    build_run: BuildRun, study: str
) -> None:
    run = build_run("complete", study)
    section = report(run).root.find(id="fidelity")[0]
    found = read(run, "evaluation.json")["fidelity"]
    assert [table.attributes["data-group"] for table in section.find("table")] == [
        group["label"] or "" for group in found["groups"]
    ]
    for table, group in zip(section.find("table"), found["groups"], strict=True):
        expected = {each["name"]: each for each in group["figures"]}
        if group["similarity"]:
            expected["likeness of pairs"] = group["similarity"]
        rows = {row.attributes.get("data-figure"): row for row in table.find("tbody")[0].find("tr")}
        test = rows.pop("told apart")
        base = group["two_sample_baseline"]
        scores = [0.923, 0.0004] + ([0.518, 0.91] if base else [])
        assert [value for value, _ in test.figures] == scores
        assert ("not computed" in test.text) == (base is None)
        assert "p < 0.001" in test.text
        if group["missing"]:
            assert rows.pop(None).text == f"Not computed: {group['missing'][0]}"
        assert rows.keys() == expected.keys()
        for name, figure in expected.items():
            cells = rows[name].find("td")[:3]
            for cell, key in zip(cells, ("synthetic", "baseline", "difference"), strict=True):
                ends = [figure[key][end] for end in ("value", "low", "high")]
                assert [value for value, _ in cell.figures] == ends
            in_unit = study == "liver" and name.startswith("intensity")
            assert ("(" in rows[name].find("th")[0].text) == (
                in_unit or name in {"kernel distance", "likeness of pairs"}
            )
    assert "arbitrary" not in section.text
    assert ("of 45 patients" in section.text) == (study == "liver")
    assert ("other patients’ real patches" in section.text) == (study == "liver")
    for sentence in (*found["method"], *found["caveats"]):
        assert sentence in section.text
    assert "Copies score best" in section.text


def test_a_figure_right_of_the_band_is_one_that_is_less_alike(build_run: BuildRun) -> None:
    run = build_run("complete")
    section = report(run).root.find(id="fidelity")[0]

    def places(name: str) -> tuple[float, float, float]:
        track = section.find("tr", data_figure=name)[0].find("svg", **{"class": "placed"})[0]
        band, dot = track.find("rect", **{"class": "band"})[0], track.find("circle")[0]
        start, width, at = (
            float(str(place)[:-1])
            for place in (band.attributes["x"], band.attributes["width"], dot.attributes["cx"])
        )
        return start, start + width, at

    for name in ("kernel distance", "recall", "coverage"):
        low, high, dot = places(name)
        assert low < high < dot
    low, high, dot = places("precision")
    assert low < dot < high


def test_only_figures_that_are_shown_are_explained(build_run: BuildRun) -> None:
    run = build_run("complete")
    explained = [e.text for e in report(run).root.find(id="fidelity")[0].find("dt")]
    assert "Fréchet distance" in explained
    assert "Lesion size distance" not in explained
    evaluation = read(run, "evaluation.json")
    del evaluation["fidelity"]["groups"][0]
    change(run, "evaluation.json", **evaluation)
    explained = [e.text for e in report(run).root.find(id="fidelity")[0].find("dt")]
    assert "Fréchet distance" not in explained
    assert "Coverage" in explained


class TestWithoutLikeness:
    """Older runs, small cohorts and those who switched it off have a page all the same."""

    def test_an_older_run(self, build_run: BuildRun) -> None:
        run = build_run("complete")
        evaluation = read(run, "evaluation.json")
        del evaluation["fidelity"]
        (run / "evaluation.json").write_text(json.dumps(evaluation))
        log = run / "generator" / "training.jsonl"
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            for key in ("augment", "distance", "memorised"):
                line.pop(key, None)
        log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        change(run, "generator/config.json", kept_steps=[])
        root = report(run).root
        assert "did not compare patches yet" in root.find(id="fidelity")[0].text
        headings = [each.text for each in root.find(id="training")[0].find("h3")]
        assert headings == ["Loss", "Diversity", "Samples while training"]

    def test_not_computed(self, build_run: BuildRun) -> None:
        run = build_run("complete")
        reasons = ["real patches: cyst: 5 patch(es); needed: at least 10.", "release: <b>none</b>"]
        change(run, "evaluation.json", fidelity={"not_computed": reasons})
        section = report(run).root.find(id="fidelity")[0]
        assert [item.text for item in section.find("li")] == reasons
        assert not section.find("table")


def test_what_tuning_patients_said_of_the_training(build_run: BuildRun) -> None:
    run = build_run("complete")
    training = report(run).root.find(id="training")[0]
    headings = [each.text for each in training.find("h3")]
    assert headings == [
        "Loss",
        "Augmentation",
        "Diversity",
        "Distance to the tuning patients",
        "Learnt by heart?",
        "Samples while training",
    ]
    marks = training.find("line", **{"class": "kept"})
    assert len(marks) == 2 * 3
    assert {mark.attributes["x1"] for mark in marks} == {f"{round(100 * 1500 / 1800, 3)}%"}
    assert training.text.count("kept: step 1 500") == 6
    assert len(training.find("line", **{"class": "reference"})) == 3
    change(run, "generator/config.json", kept_step=1250)
    training = report(run).root.find(id="training")[0]
    assert "kept: step 1 250" in training.text
