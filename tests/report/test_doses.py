"""The dose curve on the page: its dots and intervals are the evaluation's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from markup import read, report

DOSES = (0, 0.5, 10)


def test_dots_intervals_and_doses(build_run: Callable[..., Path]) -> None:
    run = build_run("complete")
    assert "Dose" not in [heading.text for heading in report(run).root.find("h3")]
    rows = [
        {
            "classifier": "frid-adar-2018",
            "arm": arm,
            "dose": dose,
            "different": {"cyst": at, "haemangioma": 2 * at},
            "auc": {"value": 0.7 + 0.05 * at, "low": 0.62, "high": 0.88 + 0.01 * at},
            "tuning_auc": 0.75 + 0.02 * at,
        }
        for arm in ("real+gan", "real+classical+gan")
        for at, dose in enumerate(DOSES)
    ]
    document = read(run, "evaluation.json") | {"dose_curve": rows}
    (run / "evaluation.json").write_text(json.dumps(document))
    figures = [
        figure
        for figure in report(run).root.find("figure")
        if "AUC over doses" in str([svg.attributes.get("aria-label") for svg in figure.find("svg")])
    ]
    titles = [figure.find("h4")[0].text for figure in figures]
    assert titles == ["real + GAN, frid-adar-2018", "real + classical + GAN, frid-adar-2018"]
    for figure in figures:
        texts = figure.find("text")
        ticks = [
            (float(tick.text), 1 - (float(str(tick.attributes["y"])) - 4) / 150)
            for tick in texts
            if tick.attributes.get("text-anchor") == "end"
        ]
        doses = [text.text for text in texts if text.attributes.get("text-anchor") == "middle"]
        assert doses == ["0", "0.5", "10"]
        (low, bottom), (high, top) = ticks[0], ticks[-1]

        def value(place: str | None) -> float:
            share = 1 - float(str(place)[:-1]) / 100
            return low + (share - bottom) / (top - bottom) * (high - low)  # noqa: B023

        dots = [value(dot.attributes["cy"]) for dot in figure.find("circle")]
        assert dots == pytest.approx([0.7, 0.75, 0.8], abs=1e-4)
        spans = figure.find("line", **{"class": "span"})
        assert [value(span.attributes["y1"]) for span in spans] == pytest.approx(
            [0.62] * 3, abs=1e-4
        )
        ends = [value(span.attributes["y2"]) for span in spans]
        assert ends == pytest.approx([0.88, 0.89, 0.9], abs=1e-4)
        assert [number for number, _ in figure.figures] == [0, 3, 6]
