"""Outlining and finding on the page: every figure is that of ``evaluation.json``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from markup import change, report

BuildRun = Callable[..., Path]


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def task(metric: str, start: float, parts: tuple[str, ...]) -> dict[str, Any]:
    arms = ("real", "real+classical", "real+gan", "real+classical+gan")
    return {
        "not_computed": [],
        "metric": metric,
        "patients": 41,
        "patients_known": True,
        "lesions": 57,
        "arms": [
            {
                "arm": arm,
                "figure": interval(start + at / 100),
                "parts": {part: interval(start - at / 100) for part in parts},
            }
            for at, arm in enumerate(arms)
        ],
        "arms_left_out": {},
        "comparisons": [
            {
                "arm": "real+gan",
                "baseline": "real",
                "main": False,
                "difference": interval(0.0123),
                "p_holm": 0.4567,
                "smallest_difference": 0.0789,
                "verdict": "no evidence",
            }
        ],
        "sentences": ["Each test lesion is outlined by the network."],
    }


def test_every_figure_is_the_one_of_the_evaluation(build_run: BuildRun) -> None:
    run = build_run("complete")
    tasks = {
        "segmentation": task("dice", 0.711, ("cyst", "metastasis")),
        "detection": task("mean sensitivity", 0.611, ("0.125", "1")),
    }
    change(run, "evaluation.json", tasks=tasks)
    (section,) = report(run).root.find("section", id="tasks")
    rows = [row for row in section.find("tr") if "data-task" in row.attributes]
    shown = {
        (
            *(row.attributes.get(name) for name in ("data-task", "data-arm", "data-baseline")),
            metric,
        ): [value for value, _ in cell.figures]
        for row in rows
        for cell in row.find("td")
        if (metric := cell.attributes.get("data-metric"))
    }
    expected: dict[Any, list[float]] = {}
    for name, document in tasks.items():
        for arm in document["arms"]:
            for metric, value in {"figure": arm["figure"], **arm["parts"]}.items():
                expected[name, arm["arm"], None, metric] = list(value.values())
        (each,) = document["comparisons"]
        where = (name, each["arm"], each["baseline"])
        expected[*where, "difference"] = list(each["difference"].values())
        for metric in ("p_holm", "smallest_difference"):
            expected[*where, metric] = [each[metric]]
    assert shown == expected
    assert "outlined by the network" in section.text


def test_why_a_task_was_not_done(build_run: BuildRun) -> None:
    run = build_run("complete")
    assert not report(run).root.find("section", id="tasks")
    reason = "The test patches have no masks: their source marks no outlines."
    change(run, "evaluation.json", tasks={"segmentation": {"not_computed": [reason]}})
    (section,) = report(run).root.find("section", id="tasks")
    assert f"Not done. {reason}" in section.text
