"""The page: whole, self-contained, true to the files, whatever state the run is in."""

import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from markup import change, read, report

from medaug.errors import RunFolderError
from medaug.report.page import write_report

BuildRun = Callable[..., Path]
STATES = ("cut", "training", "trained", "refused", "released", "complete")


def rounded(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "−")


@pytest.mark.parametrize(
    ("state", "study"),
    [
        *((state, "liver") for state in STATES),
        ("complete", "breast"),
        ("refused", "breast"),
        ("complete", "lung"),
    ],
)
class TestEveryPage:
    """Holds for a run in any state, of any classes."""

    def test_needs_nothing_but_itself(self, build_run: BuildRun, state: str, study: str) -> None:
        page = report(build_run(state, study))
        identifiers = {element.attributes.get("id") for element in page.root.walk()}
        for element in page.root.walk():
            assert element.tag not in {"script", "link", "iframe", "object", "embed", "base"}
            for name, value in element.attributes.items():
                assert not name.startswith("on")
                assert name not in {"srcset", "action", "background", "poster", "xlink:href"}
                if name == "src":
                    assert str(value).startswith("data:image/png;base64,")
                if name == "href":
                    assert str(value)[0] == "#"
                    assert str(value)[1:] in identifiers
        style = page.root.find("style")[0].text
        assert not re.search(r"url\(|@import|@font-face", style)
        assert not re.search(r"https?://", page.source)

    def test_is_the_same_wherever_and_whenever_it_is_written(
        self, build_run: BuildRun, state: str, study: str, tmp_path: Path
    ) -> None:
        run = build_run(state, study)
        first = write_report(run).read_bytes()
        assert write_report(run).read_bytes() == first
        elsewhere = shutil.copytree(run, tmp_path / "else" / "where")
        assert write_report(elsewhere).read_bytes() == first

    def test_can_be_read_aloud(self, build_run: BuildRun, state: str, study: str) -> None:
        root = report(build_run(state, study)).root
        levels = [int(e.tag[1]) for e in root.walk() if re.fullmatch("h[1-6]", e.tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert all(element.attributes.get("alt") for element in root.find("img"))
        assert all(element.attributes.get("scope") for element in root.find("th"))
        assert all(table.find("caption")[0].text for table in root.find("table"))
        hidden = [svg for svg in root.find("svg") if svg.attributes.get("aria-hidden") != "true"]
        outer = [svg for svg in hidden if svg.attributes.get("preserveaspectratio") != "none"]
        assert all(svg.attributes.get("aria-label") for svg in outer)
        identifiers = [e.attributes["id"] for e in root.walk() if "id" in e.attributes]
        assert len(set(identifiers)) == len(identifiers)

    def test_says_that_it_holds_patient_data(
        self, build_run: BuildRun, state: str, study: str
    ) -> None:
        root = report(build_run(state, study)).root
        assert "must not leave the hospital" in root.find("p")[0].text

    def test_claims_nothing_about_patients_that_are_not_known(
        self, build_run: BuildRun, state: str, study: str
    ) -> None:
        root = report(build_run(state, study)).root
        boxes = root.find("aside")
        assert len(boxes) == (study == "breast")
        if boxes:
            assert "does not say which patches belong to one patient" in boxes[0].text
            assert not [cell for cell in root.find("th") if cell.text == "patients"]


@pytest.mark.parametrize("study", ["lung", "breast"])
def test_every_score_is_the_one_of_the_evaluation(build_run: BuildRun, study: str) -> None:
    run = build_run("complete", study)
    root, evaluation = report(run).root, read(run, "evaluation.json")
    rows = [row for row in root.find("tr") if "data-arm" in row.attributes]
    expected: dict[tuple[str | None, ...], list[tuple[float, str]]] = {}

    def expect(key: tuple[str | None, ...], of: dict[str, float], digits: int, sign: str) -> None:
        ends = (of["value"], of["low"], of["high"])
        expected[key] = [(end, rounded(end, digits, sign)) for end in ends]

    for arm in evaluation["arms"]:
        where = (arm["classifier"], arm["arm"])
        for metric in ("auc", "balanced_accuracy", "brier", "calibration_error"):
            expect((*where, None, None, metric), arm[metric], 3, "")
        for label, scores in arm["per_class"].items():
            for metric, score in scores.items():
                expect((*where, label, None, metric), score, 2, "")
    for each in evaluation["comparisons"]:
        where = (each["classifier"], each["arm"], None, each["baseline"])
        expect((*where, "difference"), each["difference"], 3, "+")
        p, smallest = each["p_holm"], each["smallest_difference"]
        expected[*where, "p_holm"] = [(p, "< 0.001" if p < 0.001 else rounded(p, 3))]
        expected[*where, "smallest_difference"] = [(smallest, rounded(smallest, 3))]
        if formula := each["delong"]:
            expect((*where, "delong"), formula, 3, "+")
            expected[*where, "delong p"] = [(formula["p"], rounded(formula["p"], 3))]

    names = ("data-classifier", "data-arm", "data-class", "data-baseline")
    shown = {
        (*(row.attributes.get(name) for name in names), cell.attributes["data-metric"]): (
            cell.figures
        )
        for row in rows
        for cell in row.find("td")
        if "data-metric" in cell.attributes
    }
    assert shown == expected


def test_dots_and_intervals_lie_where_the_axis_says(build_run: BuildRun) -> None:
    run = build_run("complete")
    root, evaluation = report(run).root, read(run, "evaluation.json")
    for table, metrics in [
        *((table, ("auc", "balanced_accuracy")) for table in root.find(**{"class": "forest"})),
        *((table, ("difference",)) for table in root.find(**{"class": "forest differences"})),
    ]:
        axes = [
            [
                (float(text.text.replace("−", "-")), float((text.attributes["x"] or "")[:-1]))
                for text in scale.find("text")
            ]
            for scale in table.find("svg", **{"class": "scale"})
        ]
        assert len(axes) == len(metrics)
        for row in table.find("tbody")[0].find("tr"):
            at = row.attributes
            source = evaluation["comparisons" if metrics == ("difference",) else "arms"]
            record = next(
                each
                for each in source
                if each["classifier"] == at["data-classifier"]
                and each["arm"] == at["data-arm"]
                and each.get("baseline") == at.get("data-baseline")
            )
            tracks = row.find("svg", **{"class": "whisker"})
            for metric, ticks, track in zip(metrics, axes, tracks, strict=True):
                (low, x_low), (high, x_high) = ticks[0], ticks[-1]
                span, dot = track.find("line", **{"class": "span"})[0], track.find("circle")[0]
                drawn = [span.attributes["x1"], dot.attributes["cx"], span.attributes["x2"]]
                places = [float(str(place)[:-1]) for place in drawn]
                values = [low + (x - x_low) / (x_high - x_low) * (high - low) for x in places]
                expected = [record[metric][end] for end in ("low", "value", "high")]
                assert values == pytest.approx(expected, abs=1e-4)


def test_every_check_is_the_one_of_the_gate(build_run: BuildRun) -> None:
    run = build_run("complete")
    decision = read(run, "review/decision.json")
    decision["checks"][1]["passed"] = False
    change(run, "review/decision.json", **decision)
    gate = report(run).root.find(id="gate")[0]
    for check in decision["checks"]:
        (row,) = gate.find("tr", data_check=check["name"])
        shown = [value for value, _ in row.figures]
        assert shown == [check["value"], check["limit"], check["rejected"]]
        assert row.find("td")[0].text == ("passed" if check["passed"] else "failed")
        assert row.find("td")[-1].text == check["detail"]
    for label, drawn in decision["drawn"].items():
        (row,) = gate.find("tr", data_class=label)
        accepted = decision["accepted"][label]
        assert [value for value, _ in row.figures] == [drawn, accepted]
        assert f"{100 * accepted / drawn:.0f} %" in row.text
        assert row.find(**{"class": "part"})[0].attributes["width"] == (
            f"{round(100 * accepted / drawn, 2)}%"
        )
    pairs = [figure.figures for figure in gate.find("figure")]
    closest = decision["closest"]
    assert [[value for value, _ in pair] for pair in pairs] == [
        [pair["score"], pair["limit"]] for pair in closest
    ]
    words = ["Accepted" if p["outcome"] == "accepted" else "Rejected: copy" for p in closest]
    assert [figure.find("strong")[0].text for figure in gate.find("figure")] == words


def test_counts_are_those_of_the_files(build_run: BuildRun) -> None:
    run = build_run("complete")
    cohort = report(run).root.find(id="cohort")[0]
    inventory, summary = read(run, "inventory.json"), read(run, "patches/summary.json")
    parts = read(run, "split.json")["parts"].values()
    rows = {row.find("th")[0].text: row.figures for row in cohort.find("table")[0].find("tr")}
    for label in inventory["classes"]:
        found = inventory["classes"][label]
        expected = [found["lesions"], found["patients"], summary["classes"][label]["patches"]]
        for part in parts:
            expected += [part["classes"][label]["patients"], part["classes"][label]["patches"]]
        assert [value for value, _ in rows[label]] == expected
    total = sum(found["lesions"] for found in inventory["classes"].values())
    assert [value for value, _ in rows["all"]][:3] == [total, 90, summary["patches"]]
    files = cohort.find("table")[2]
    assert [value for value, _ in files.figures] == [14, 3, 1]
    for entry in inventory["refused"]:
        assert entry["reason"] in files.text
        # Folders and files are named after people.
        assert entry["path"] not in cohort.text
    assert inventory["notes"][0] in cohort.text


def test_long_lists_are_summed_up_and_say_so(build_run: BuildRun) -> None:
    run = build_run("cut")
    refused = [
        {"path": f"{number}.dcm", "reason": "truncated", "files": 2} for number in range(500)
    ]
    change(run, "inventory.json", refused=refused)
    cohort = report(run).root.find(id="cohort")[0]
    assert [value for value, _ in cohort.find("table")[2].figures] == [1000]
    assert ".dcm" not in cohort.text


class TestHeadline:
    """The verdict comes first, in the evaluation's own words; a refusal before all else."""

    def test_verdict(self, build_run: BuildRun) -> None:
        run = build_run("complete")
        header = report(run).root.find("header")[0]
        opening, _, figures = read(run, "evaluation.json")["verdict"]["sentence"].partition(": ")
        assert header.find("h1")[0].text == f"{opening}."
        assert header.find("p", **{"class": "lead"})[0].text.lower() == figures.lower()

    def test_refusal(self, build_run: BuildRun) -> None:
        run = build_run("refused")
        root = report(run).root
        assert "refused" in root.find("h1")[0].text
        (reason,) = read(run, "review/decision.json")["reasons"]
        assert [item.text for item in root.find("header")[0].find("li")] == [reason]
        for section in ("released", "gate", "scores", "comparisons"):
            assert "refused" in root.find(id=section)[0].text

    def test_refusal_before_anything_was_drawn(self, build_run: BuildRun) -> None:
        run = build_run("refused")
        change(
            run,
            "review/decision.json",
            calibration=None,
            drawn={},
            accepted={},
            rejections={},
            closest=[],
            reasons=["class cyst: 12 patients", "class haemangioma: 9 patients"],
        )
        root = report(run).root
        assert len(root.find("header")[0].find("li")) == 2
        assert not root.find(id="gate")[0].find("table")

    def test_stopped(self, build_run: BuildRun) -> None:
        root = report(build_run("training")).root
        assert "No verdict yet" in root.find("h1")[0].text
        assert "medaug train" in root.find(id="training")[0].text
        assert "700 steps" in root.find(id="training")[0].text
        assert "medaug release" in root.find(id="released")[0].text
        assert "medaug evaluate" in root.find(id="scores")[0].text


def test_losses_of_a_noisy_training_are_not_awaited(build_run: BuildRun) -> None:
    """They would be figures of patients' data: with differential privacy none are written."""
    run = build_run("complete")
    (run / "generator" / "training.jsonl").unlink()
    config = read(run, "run.json")["config"]
    config["privacy"]["mode"] = "dp-vote"
    change(run, "run.json", config=config)
    text = write_report(run).read_text(encoding="utf-8")
    assert "nothing was charged for" in text
    assert "Training is not done yet" not in text


@pytest.mark.parametrize(
    "name",
    [
        "inventory.json",
        "patches/summary.json",
        "split.json",
        "generator/training.jsonl",
        "generator/config.json",
        "review/decision.json",
        "evaluation.json",
        "sheets/real_cyst.png",
        "sheets/synthetic_cyst.png",
        "review/closest/00_nearest.png",
    ],
)
def test_what_is_missing_is_named(build_run: BuildRun, name: str) -> None:
    run = build_run("complete")
    before = report(run).root
    (run / name).unlink()
    after = report(run).root
    assert len(after.find("p", **{"class": "pending"})) > len(
        before.find("p", **{"class": "pending"})
    )


def test_a_class_name_cannot_become_markup(build_run: BuildRun) -> None:
    run = build_run("complete", "lung")
    page, labels = report(run), sorted(read(run, "inventory.json")["classes"])
    assert any("<script>" in label for label in labels)
    assert "<script" not in page.source
    titles = [heading.text for heading in page.root.find(id="pictures")[0].find("h3")]
    assert titles == labels
    for label in labels:
        assert page.root.find("img", alt=f"Contact sheet of real patches, class {label}")
        assert len(page.root.find("tr", data_class=label)) == 1 + 10


def test_figures_that_could_not_be_estimated_are_called_so(build_run: BuildRun) -> None:
    run = build_run("complete")
    evaluation = read(run, "evaluation.json")
    nothing = {"value": None, "low": None, "high": None}
    evaluation["arms"][0]["auc"] = nothing
    evaluation["arms"][0]["per_class"]["cyst"]["sensitivity"] = nothing
    change(run, "evaluation.json", **evaluation)
    rows = report(run).root.find("tr", data_classifier="frid-adar-2018", data_arm="real")
    assert [row.text.count("not estimable") for row in rows[:2]] == [1, 1]
    assert "None" not in rows[0].text + rows[1].text


class TestDamagedFolder:
    """A file that medaug did not write so is an error that names it; the old page stays."""

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("evaluation.json", '{"arms": [', "evaluation.json: this is not JSON"),
            ("evaluation.json", '{"arms": []}', "lacks what the report shows"),
            ("inventory.json", '{"cases": []}', "lacks what the report shows"),
            ("generator/training.jsonl", '{"step": 1\n{"step": 2}\n', "line 1 is not JSON"),
            ("generator/training.jsonl", '{"step": 1}\n', "lacks what the report shows"),
        ],
    )
    def test_damage(self, build_run: BuildRun, name: str, content: str, said: str) -> None:
        run = build_run("complete")
        before = write_report(run).read_bytes()
        (run / name).write_text(content, encoding="utf-8")
        with pytest.raises(RunFolderError, match=said):
            write_report(run)
        assert (run / "report.html").read_bytes() == before

    def test_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunFolderError, match=r"no run\.json"):
            write_report(tmp_path)

    def test_a_picture_that_is_none_is_not_embedded(self, build_run: BuildRun) -> None:
        run = build_run("complete")
        (run / "sheets" / "real_cyst.png").write_text("<svg onload='alert(1)'/>")
        page = report(run)
        assert "not in the run folder" in page.root.find(id="pictures")[0].text
