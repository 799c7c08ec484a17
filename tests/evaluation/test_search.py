"""Searched policies, dose curves and a second source: what they may look at, and going on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medaug.domain import HeldOut, Window
from medaug.errors import LeakageError, SettingsError
from medaug.evaluation import search as searching
from medaug.evaluation.policies import Policy
from medaug.evaluation.protocol import Evaluation, evaluate
from medaug.evaluation.recipes import Classical
from medaug.evaluation.search import Found, search
from medaug.evaluation.settings import EvaluationSettings, SearchSettings
from medaug.evaluation.training import train_and_score

pytest.importorskip("optuna")

WINDOW = Window(-100.0, 200.0)
MakeStudy = Callable[..., Any]
FEWEST = ("real+classical", "real+classical+gan")


def run(cohort: Any, settings: EvaluationSettings, **more: Any) -> Evaluation:
    return evaluate(
        cohort.training, cohort.tuning, cohort.test, cohort.release, settings, WINDOW, 0, **more
    )


@pytest.fixture
def fewest(quick: EvaluationSettings) -> EvaluationSettings:
    return quick.model_copy(update={"arms": FEWEST})


def found(trials: int, score: Callable[[Policy, int], float], seed: int = 0) -> Found:
    first = Policy(dose=(0.5, 0.5), recipe=Classical())
    settings = SearchSettings(trials=trials, seeds=2)
    return search("frid-adar-2018", 2, first, settings, seed, score)


class TestSearch:
    def test_finds_what_it_is_told_to_like(self) -> None:
        """Many of class 0, few of class 1, classical operations: worth 1."""

        def liking(policy: Policy, run: int) -> float:
            assert isinstance(policy.dose, tuple)
            liked = policy.dose[0] / 10 - policy.dose[1] / 10 + isinstance(policy.recipe, Classical)
            return liked / 2 + 0.01 * run

        result = found(40, liking)
        assert len(result.reached) == 40
        assert result.reached[0] == pytest.approx(0.505)  # the main arm comes first
        assert max(result.reached) > 0.8
        assert isinstance(result.policy.recipe, Classical)
        assert liking(result.policy, 0) == pytest.approx(max(result.reached) - 0.005)

    def test_same_seed_same_search(self) -> None:
        def score(policy: Policy, run: int) -> float:
            return float(policy.dose[0]) * run  # type: ignore[index]

        assert found(6, score) == found(6, score)
        assert found(6, score) != found(6, score, seed=1)

    def test_off_by_default(self) -> None:
        assert EvaluationSettings().search.trials == 0

    def test_without_optuna_the_message_says_what_to_install(
        self, study: MakeStudy, fewest: EvaluationSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(searching.importlib.util, "find_spec", lambda _: None)
        asked = fewest.model_copy(update={"search": SearchSettings(trials=1)})
        with pytest.raises(SettingsError, match=r"medaug\[search\]"):
            run(study(), asked)


class TestTuningPatientsAlone:
    def test_other_test_patients_change_nothing_that_is_found(
        self, study: MakeStudy, fewest: EvaluationSettings
    ) -> None:
        asked = fewest.model_copy(update={"search": SearchSettings(trials=3)})
        cohort = study()
        document = run(cohort, asked).document()
        other = study(contrast=5.0).held
        cohort.test = HeldOut(replace(cohort.held, images=other.images), cohort.test.lineage)
        again = run(cohort, asked).document()
        assert again["arms"] != document["arms"]
        assert again["searches"] == document["searches"]
        assert document["searches"][0]["trials"] == 3
        names = [arm["arm"] for arm in document["arms"]]
        assert names == [*FEWEST, "real+searched"]
        pairs = {(each["arm"], each["baseline"]) for each in document["comparisons"]}
        assert ("real+searched", "real+classical") in pairs
        assert any("3 trials" in sentence for sentence in document["protocol"])
        json.dumps(document, allow_nan=False)

    def test_goes_on_where_it_was_stopped(
        self,
        study: MakeStudy,
        fewest: EvaluationSettings,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        searches = {"search": SearchSettings(trials=4), "classifiers": ("resnet-10-narrow",)}
        asked = fewest.model_copy(update=searches)
        cohort = study()
        unbroken = run(cohort, asked).document()
        trained = 0

        def stopping(*given: Any) -> Any:
            nonlocal trained
            if trained == 2:
                raise KeyboardInterrupt
            trained += 1
            return train_and_score(*given)

        monkeypatch.setattr(searching, "train_and_score", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(cohort, asked, folder=tmp_path)
        trained = 0
        assert run(cohort, asked, folder=tmp_path).document() == unbroken
        assert trained == 2


class TestDoseCurve:
    def test_every_arm_at_every_dose(self, study: MakeStudy, quick: EvaluationSettings) -> None:
        arms = ("real", "real+classical", "real+classical+gan", "real+gan")
        asked = quick.model_copy(update={"arms": arms, "dose_curve": (0.0, 1.0, 10.0)})
        cohort = study()
        document = run(cohort, asked).document()
        rows = document["dose_curve"]
        assert [(row["arm"], row["dose"]) for row in rows] == [
            (arm, dose) for arm in ("real+gan", "real+classical+gan") for dose in (0, 1, 10)
        ]
        # 10 real patches of each class, 30 released.
        assert [row["different"]["cyst"] for row in rows[:3]] == [0, 10, 30]
        of_arms = {arm["arm"]: arm["auc"] for arm in document["arms"]}
        assert rows[0]["auc"] == of_arms["real"]
        assert rows[3]["auc"] == of_arms["real+classical"]
        assert rows[1]["auc"] != rows[2]["auc"]
        assert all(0 <= row["tuning_auc"] <= 1 for row in rows)
        without = run(cohort, asked.model_copy(update={"dose_curve": ()})).document()
        assert without["dose_curve"] == []
        for key in ("arms", "comparisons", "verdict"):
            assert without[key] == document[key]

    def test_a_dose_of_a_class_that_is_not_there(
        self, study: MakeStudy, fewest: EvaluationSettings
    ) -> None:
        asked = fewest.model_copy(update={"dose": {"cysts": 2.0}})
        with pytest.raises(SettingsError, match=r"evaluation\.dose\.cysts"):
            run(study(), asked)


class TestRefined:
    """A second release, made by simulate-and-refine."""

    def test_it_is_an_arm_where_it_is_given(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        asked = quick.model_copy(update={"arms": (*FEWEST, "real+classical+refined")})
        cohort = study()
        without = run(cohort, asked).document()
        assert "simulate-and-refine" in without["arms_left_out"]["real+classical+refined"]
        refined = study(seed=4).release
        document = run(cohort, asked, refined=refined).document()
        assert document["arms"][-1]["arm"] == "real+classical+refined"
        assert document["arms"][:-1] == without["arms"][:2]
        assert document["arms_left_out"] == {}

    def test_its_generator_may_not_have_seen_the_test_patients_either(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        cohort = study()
        stranger = replace(study(seed=4).release, generator_digest="e" * 64)
        with pytest.raises(LeakageError, match="lineage"):
            run(cohort, quick, refined=stranger)
