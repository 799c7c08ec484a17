"""The whole evaluation with tiny networks: equal, repeatable, resumable, and awake."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medaug.domain import HeldOut, Release, Window
from medaug.evaluation import protocol
from medaug.evaluation.policies import arms_of
from medaug.evaluation.protocol import Evaluation, evaluate
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.statements import caveat_sentences
from medaug.evaluation.statistics import Interval
from medaug.evaluation.training import train_and_score
from medaug.progress import Progress

WINDOW = Window(-100.0, 200.0)
ARMS = arms_of(EvaluationSettings())
MakeStudy = Callable[..., Any]


def run(
    cohort: Any,
    settings: EvaluationSettings,
    seed: int = 0,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> Evaluation:
    return evaluate(
        cohort.training,
        cohort.tuning,
        cohort.test,
        cohort.release,
        settings,
        WINDOW,
        seed,
        progress,
        folder,
    )


class Trainings:
    """Counts trainings and, through torch, the optimiser steps of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> None:
        self.steps: dict[str, list[int]] = {}
        step = torch.optim.AdamW.step
        running: list[str] = []

        def counted_step(optimiser: Any, *given: Any) -> Any:
            self.steps[running[-1]][-1] += 1
            return step(optimiser, *given)

        def counted_training(name: Any, arm: Any, *given: Any) -> Any:
            if sum(map(len, self.steps.values())) == stop_after:
                raise KeyboardInterrupt
            running.append(arm.name)
            self.steps.setdefault(arm.name, []).append(0)
            return train_and_score(name, arm, *given)

        monkeypatch.setattr(torch.optim.AdamW, "step", counted_step)
        monkeypatch.setattr(protocol, "train_and_score", counted_training)


class Listener:
    def __init__(self) -> None:
        self.total = self.done = 0
        self.notes: list[str] = []

    def start(self, what: str, total: int) -> None:
        assert what
        self.total += total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.notes.append(note)


class TestFairness:
    """Every arm gets the same number of optimiser steps and class-balanced batches."""

    def test_every_training_takes_the_same_steps(
        self, study: MakeStudy, quick: EvaluationSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted = Trainings(monkeypatch)
        listener = Listener()
        settings = quick.model_copy(update={"steps": 7})
        run(study(), settings, progress=listener)
        assert counted.steps == {arm.name: [7, 7] for arm in ARMS}
        assert listener.done == listener.total == 5 * 2 * 7
        assert "frid-adar-2018, real+gan, seed 2 of 2" in listener.notes


class TestRepeatability:
    """Same arguments, same document; the caller's random numbers are untouched."""

    def test_same_seed_same_document(self, study: MakeStudy, quick: EvaluationSettings) -> None:
        cohort = study()
        torch.manual_seed(11)
        expected = torch.rand(3)
        torch.manual_seed(11)
        first = run(cohort, quick).document()
        assert torch.equal(torch.rand(3), expected)
        torch.rand(5)
        assert run(cohort, quick).document() == first
        assert run(cohort, quick, seed=1).document()["arms"] != first["arms"]

    def test_a_stopped_evaluation_goes_on_where_it_was(
        self,
        study: MakeStudy,
        quick: EvaluationSettings,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        cohort = study()
        unbroken = run(cohort, quick).document()
        with monkeypatch.context() as patched:
            Trainings(patched, stop_after=4)
            with pytest.raises(KeyboardInterrupt):
                run(cohort, quick, folder=tmp_path)
        assert len(list(tmp_path.iterdir())) == 4
        with monkeypatch.context() as patched:
            counted, listener = Trainings(patched), Listener()
            resumed = run(cohort, quick, progress=listener, folder=tmp_path)
            assert sum(map(len, counted.steps.values())) == 6
            assert listener.done == listener.total
        assert resumed.document() == unbroken

    def test_old_scores_are_used_only_where_nothing_they_read_has_changed(
        self,
        study: MakeStudy,
        quick: EvaluationSettings,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        cohort = study()
        run(cohort, quick, folder=tmp_path)

        def retrained(settings: EvaluationSettings = quick, seed: int = 0) -> set[str]:
            with monkeypatch.context() as patched:
                counted = Trainings(patched)
                run(cohort, settings, seed=seed, folder=tmp_path)
                return set(counted.steps)

        everything = {arm.name for arm in ARMS}
        synthetic = {arm.name for arm in ARMS if arm.synthetic}
        assert retrained() == set()
        assert retrained(quick.model_copy(update={"bootstrap": 600})) == set()
        assert retrained(quick.model_copy(update={"synthetic_share": 0.5})) == synthetic - {"gan"}
        assert retrained(quick.model_copy(update={"steps": 6})) == everything
        assert retrained(seed=3) == everything
        assert retrained() == everything
        cohort.release = study(seed=5).release
        assert retrained() == synthetic
        images = cohort.training.images + 1
        cohort.training = replace(cohort.training, images=images)
        assert retrained() == everything

    @pytest.mark.parametrize("rest", [b"", b"garbage", b"PK\x03\x04"])
    def test_a_damaged_score_is_made_again(
        self, study: MakeStudy, quick: EvaluationSettings, tmp_path: Path, rest: bytes
    ) -> None:
        cohort = study()
        whole = run(cohort, quick, folder=tmp_path).document()
        (tmp_path / "frid-adar-2018_real_0.npz").write_bytes(rest)
        assert run(cohort, quick, folder=tmp_path).document() == whole


class TestAwake:
    """Scores follow what the synthetic patches are worth."""

    SETTINGS = EvaluationSettings(
        classifiers=("resnet-10-narrow",),
        seeds=4,
        steps=30,
        batch=24,
        synthetic_share=0.5,
        bootstrap=500,
        device="cpu",
    )

    @staticmethod
    def auc(evaluation: Evaluation, arm: str) -> float:
        (value,) = [each.auc.value for each in evaluation.arms if each.arm == arm]
        return value

    def test_an_informative_release_helps_few_patients(self, study: MakeStudy) -> None:
        cohort = study(sizes=(6, 30, 90), contrast=90.0)
        found = run(cohort, self.SETTINGS)
        (gain,) = [each for each in found.comparisons if each.arm == "real+gan"]
        assert gain.baseline == "real"
        assert gain.difference.value > 0.05
        assert gain.difference.low > 0
        assert found.verdict.word != "hurts"

    def test_a_release_with_wrong_labels_hurts(
        self, study: MakeStudy, make_release: Callable[..., Release]
    ) -> None:
        cohort = study(sizes=(60, 30, 90))
        wrong = (cohort.release.labels + 1) % 3
        cohort.release = make_release(cohort.release.images, wrong)
        found = run(cohort, self.SETTINGS.model_copy(update={"classifiers": ("frid-adar-2018",)}))
        assert self.auc(found, "gan") < 0.6 < self.auc(found, "real")
        words = {(each.arm, each.baseline): each.verdict for each in found.comparisons}
        assert words["gan", "real"] == "hurts"
        assert found.verdict.word != "helps"


class TestDocument:
    """What the report reads."""

    @pytest.mark.parametrize("classes", [2, 3])
    def test_every_figure_lies_in_its_interval_and_is_finite(
        self, study: MakeStudy, quick: EvaluationSettings, classes: int
    ) -> None:
        cohort = study(classes=classes)
        document = run(cohort, quick).document()
        json.dumps(document, allow_nan=False)
        assert [arm["arm"] for arm in document["arms"]] == [arm.name for arm in ARMS]
        for arm in document["arms"]:
            assert len(arm["per_seed"]) == quick.seeds
            assert arm["auc"]["value"] == pytest.approx(np.mean(arm["per_seed"]))
            assert list(arm["per_class"]) == list(cohort.training.classes)
            figures = [arm["auc"], arm["balanced_accuracy"]]
            figures += [each for per in arm["per_class"].values() for each in per.values()]
            for figure in figures:
                assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
        counts = document["test"]["classes"].values()
        assert sum(each["patches"] for each in counts) == len(cohort.held)
        assert document["test"]["patients"] == len(cohort.held.patient_order)
        assert [each["main"] for each in document["comparisons"]] == [True, False, False, False]
        if classes == 2:
            for arm in document["arms"]:
                first, second = arm["per_class"].values()
                assert first["sensitivity"]["value"] == pytest.approx(
                    second["specificity"]["value"]
                )

    def test_one_class_per_patient_in_several_patches(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        cohort = study()
        document = run(cohort, quick).document()
        assert document["test"] == {
            "patients": 20,
            "patches": 60,
            "patients_known": True,
            "classes": {
                label: {"patients": 20, "patches": 20} for label in cohort.training.classes
            },
        }

    def test_unknown_patients_are_said_and_why(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        cohort = study()
        lineage = cohort.test.lineage
        cohort.test = HeldOut(replace(cohort.held, patients_known=False), lineage)
        cohort.training = replace(cohort.training, patients_known=False)
        cohort.tuning = replace(cohort.tuning, patients_known=False)
        found = run(cohort, quick)
        (caveat,) = [each for each in found.caveats if "does not say which patches" in each]
        for words in ("stand in training and test", "over patches", "nothing can be said"):
            assert words in caveat
        prose = " ".join([*found.protocol, found.verdict.sentence])
        assert "test patients" not in prose
        assert "patches of unknown patients" in prose

    def test_few_patients_are_said(self, study: MakeStudy, quick: EvaluationSettings) -> None:
        few = run(study(), quick)
        assert any("20 patients" in each for each in few.caveats)
        many = run(study(sizes=(30, 30, 120)), quick)
        assert not any("intervals from so few" in each for each in many.caveats)

    def test_an_interval_without_width_is_explained(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        test = study().held
        caveats = [
            " ".join(caveat_sentences(test, quick, [Interval(value, low, value)], []))
            for value, low in ((1.0, 1.0), (0.9, 0.8))
        ]
        assert ["without width" in each for each in caveats] == [True, False]

    def test_no_evidence_stands_beside_what_could_have_been_shown(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        found = run(study(), quick)
        (main,) = [each for each in found.comparisons if each.is_main]
        assert found.verdict.word == main.verdict == "no evidence"
        assert f"about {100 * main.smallest:.1f} points" in found.verdict.sentence
        baseline = next(
            arm
            for arm in found.arms
            if (arm.classifier, arm.arm) == (main.classifier, main.baseline)
        )
        assert main.room == pytest.approx(1 - baseline.auc.value)
        for smallest, said in ((main.room + 0.01, True), (main.room - 0.01, False)):
            assert ("there is room" in replace(main, smallest=smallest).detectable) is said
        assert found.verdict.sentence.startswith("No evidence that synthetic patches help")
