"""A broken protocol is refused before anything is trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from medaug.domain import HeldOut, PatchSet, Unit, Window
from medaug.errors import CohortError, InputError, LeakageError
from medaug.evaluation import protocol
from medaug.evaluation.protocol import evaluate
from medaug.evaluation.settings import EvaluationSettings

WINDOW = Window(-100.0, 200.0)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a classifier was trained")

    monkeypatch.setattr(protocol, "train_and_score", refuse)


@pytest.fixture
def cohort(study: Callable[..., Any]) -> Any:
    return study()


def run(cohort: Any, quick: EvaluationSettings) -> None:
    evaluate(cohort.training, cohort.tuning, cohort.test, cohort.release, quick, WINDOW, 0)


def refused(cohort: Any, quick: EvaluationSettings, kind: type[InputError]) -> str:
    with pytest.raises(kind) as caught:
        run(cohort, quick)
    return str(caught.value)


def test_a_sound_cohort_reaches_the_training(cohort: Any, quick: EvaluationSettings) -> None:
    with pytest.raises(AssertionError, match="a classifier was trained"):
        run(cohort, quick)


class TestLeaks:
    """What judges was not trained on, by anyone."""

    @pytest.mark.parametrize("part", ["training", "tuning"])
    def test_a_test_patient_in_another_part(
        self, cohort: Any, quick: EvaluationSettings, part: str
    ) -> None:
        patches: PatchSet = getattr(cohort, part)
        patients = (cohort.held.patients[0], *patches.patients[1:])
        setattr(cohort, part, replace(patches, patients=patients))
        assert "1 of its patients were trained on" in refused(cohort, quick, LeakageError)

    def test_a_training_patient_in_tuning(self, cohort: Any, quick: EvaluationSettings) -> None:
        patients = (cohort.training.patients[0], *cohort.tuning.patients[1:])
        cohort.tuning = replace(cohort.tuning, patients=patients)
        assert "tuning set" in refused(cohort, quick, LeakageError)

    def test_a_synthetic_patch_in_the_test_set(
        self, cohort: Any, quick: EvaluationSettings
    ) -> None:
        images = cohort.held.images.copy()
        images[4] = cohort.release.images[7]
        cohort.test = HeldOut(replace(cohort.held, images=images), cohort.test.lineage)
        assert "1 synthetic patches" in refused(cohort, quick, LeakageError)

    def test_a_generator_that_saw_a_test_patient(self, cohort: Any) -> None:
        (record,) = cohort.test.lineage
        seen = replace(record, patients=record.patients | {cohort.held.patients[3]})
        with pytest.raises(LeakageError, match="1 of its patients"):
            HeldOut(cohort.held, lineage=(seen,))

    @pytest.mark.parametrize("known", [0, 1])
    def test_a_generator_of_unknown_training(
        self, cohort: Any, quick: EvaluationSettings, known: int
    ) -> None:
        others = tuple(replace(each, weights_digest="0" * 64) for each in cohort.test.lineage)
        cohort.test = HeldOut(cohort.held, lineage=others[:known])
        assert "does not name the generator" in refused(cohort, quick, LeakageError)

    def test_one_seed(self) -> None:
        with pytest.raises(ValidationError, match="seeds"):
            EvaluationSettings(seeds=1)


class TestMisfits:
    """Every reason is named at once."""

    def test_a_class_missing_in_the_test_set(self, cohort: Any, quick: EvaluationSettings) -> None:
        rows = np.flatnonzero(cohort.held.labels != 2)
        cohort.test = HeldOut(cohort.held.select(rows), cohort.test.lineage)
        message = refused(cohort, quick, CohortError)
        assert "test set: metastasis: 0 patient(s) of this class" in message
        assert "at least 2" in message

    def test_one_test_patient_of_a_class(self, cohort: Any, quick: EvaluationSettings) -> None:
        rows = np.r_[np.flatnonzero(cohort.held.labels != 2), 2]
        cohort.test = HeldOut(cohort.held.select(rows), cohort.test.lineage)
        assert "metastasis: 1 patient(s)" in refused(cohort, quick, CohortError)

    def test_all_faults_come_at_once(self, cohort: Any, quick: EvaluationSettings) -> None:
        cohort.tuning = cohort.tuning.select(np.flatnonzero(cohort.tuning.labels != 0))
        cohort.training = cohort.training.select(np.flatnonzero(cohort.training.labels != 1))
        cohort.test = HeldOut(
            replace(cohort.held, unit=Unit.ARBITRARY, images=cohort.held.images[:, :, 1:]),
            cohort.test.lineage,
        )
        with pytest.raises(CohortError) as caught:
            run(cohort, quick)
        named = {(fault.where, fault.came.split()[0]) for fault in caught.value.faults}
        assert named == {
            ("tuning set: cyst", "0"),
            ("training set: haemangioma", "0"),
            ("test set", "unit"),
            ("test set", "patch"),
        }
