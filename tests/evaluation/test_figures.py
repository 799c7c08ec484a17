"""Figures over folds and seeds: against sklearn, fold by fold."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from medaug.domain import PatientKey
from medaug.errors import CohortError
from medaug.evaluation.figures import Draws, figures_of
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.judging import judge
from medaug.evaluation.statistics import decide


def folds_of(classes: int = 3, folds: int = 2, seeds: int = 2, seed: int = 0) -> list[FoldScores]:
    """24 patients of two patches; each fold tests half of them and tunes on the others."""
    rng = np.random.default_rng(seed)
    labels = np.arange(48) % classes
    owner = np.repeat(np.arange(24), 2)

    def scored(rows: np.ndarray) -> Scored:
        probabilities = rng.dirichlet(np.ones(classes), size=len(rows)).astype(np.float32)
        keys = tuple(PatientKey(f"{at:032x}") for at in owner[rows])
        return Scored(probabilities, labels[rows], keys)

    parts = [np.flatnonzero(owner * folds // 24 == fold) for fold in range(folds)]
    return [
        FoldScores(fold, run, scored(parts[fold]), scored(parts[(fold + 1) % folds]))
        for run in range(seeds)
        for fold in range(folds)
    ]


class TestRuns:
    """Every training is judged on the test part of its fold, at its own tuned thresholds."""

    @pytest.mark.parametrize("classes", [2, 3, 4])
    def test_they_agree_with_sklearn_on_every_replicate(self, classes: int) -> None:
        runs = folds_of(classes)
        draws = Draws.of(runs, 3, np.random.default_rng(1))
        found = figures_of(runs, draws)
        for at, run in enumerate(runs):
            given = decide(run.test.probabilities, run.tuning.probabilities, run.tuning.labels)
            for row, of_patients in enumerate(draws.weights):
                weight = of_patients[draws.index(run.test)]
                for each in range(classes):
                    truth, said = run.test.labels == each, given == each
                    if not 0 < weight[truth].sum() < weight.sum():
                        continue
                    assert found.sensitivity[row, at, each] == pytest.approx(
                        metrics.recall_score(truth, said, sample_weight=weight)
                    )
                    assert found.specificity[row, at, each] == pytest.approx(
                        metrics.recall_score(~truth, ~said, sample_weight=weight)
                    )
                    assert found.auc[row, at, each] == pytest.approx(
                        metrics.roc_auc_score(
                            truth, run.test.probabilities[:, each], sample_weight=weight
                        )
                    )
            assert found.balanced_accuracy[0, at] == pytest.approx(
                metrics.balanced_accuracy_score(run.test.labels, given)
            )

    def test_a_patient_moves_whole_and_through_every_fold_and_seed(self) -> None:
        runs = folds_of()
        draws = Draws.of(runs, 20, np.random.default_rng(0))
        assert draws.weights.shape == (21, 24)
        tested = [key for run in runs for key in run.test.patients]
        assert {draws.number[key] for key in tested} == set(range(24))

    def test_scores_of_different_folds_are_never_ranked_together(self) -> None:
        """One fold's scores moved and stretched: every AUC stays."""
        runs = folds_of(2)
        moved = []
        for run in runs:
            first = run.test.probabilities[:, 1]
            first = 0.9 + first / 10 if run.fold else first / 10
            scored = replace(run.test, probabilities=np.stack([1 - first, first], axis=1))
            moved.append(replace(run, test=scored))
        draws = Draws.of(runs, 5, np.random.default_rng(0))
        expected = figures_of(runs, draws).auc
        assert figures_of(moved, draws).auc == pytest.approx(expected, abs=1e-3)

    def test_a_fold_without_a_class_says_nothing_of_it(self) -> None:
        runs = folds_of(3)
        there = runs[0].test.labels != 2
        without = Scored(
            runs[0].test.probabilities[there],
            runs[0].test.labels[there],
            tuple(np.array(runs[0].test.patients)[there]),
        )
        runs[0] = replace(runs[0], test=without)
        draws = Draws.of(runs, 20, np.random.default_rng(0))
        found = figures_of(runs, draws)
        assert np.isnan(found.auc[:, 0, 2]).all()
        assert np.isfinite(found.macro_auc).all()
        assert found.macro_auc[0, 0] == pytest.approx(found.auc[0, 0, :2].mean())
        (arm,) = judge(
            {("net", "real"): runs}, ("a", "b", "c"), 500, 0.95, np.random.default_rng(0)
        ).arms
        assert arm.per_class["c"]["auc"].value == pytest.approx(found.auc[0, 1:, 2].mean())


class TestRefusals:
    """What cannot be judged is named, everything at once."""

    def test_a_single_training_and_a_class_that_lacks(self) -> None:
        (run,) = folds_of(3, folds=1, seeds=1)
        tuning = replace(run.tuning, labels=run.tuning.labels % 2)
        scores = {("net", "real"): [replace(run, tuning=tuning)]}
        with pytest.raises(CohortError) as refused:
            judge(scores, ("a", "b", "c", "d"), 500, 0.95, np.random.default_rng(0))
        for words in ("at least 2", "no test patch of d", "no tuning patch of c"):
            assert words in str(refused.value)

    def test_arms_of_other_folds_cannot_be_compared(self) -> None:
        scores = {("net", "real"): folds_of(), ("net", "real+gan"): folds_of()[::-1]}
        with pytest.raises(ValueError, match="same folds"):
            judge(scores, ("a", "b", "c"), 500, 0.95, np.random.default_rng(0))
