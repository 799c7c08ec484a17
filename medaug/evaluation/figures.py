"""The figures of one arm, on the cohort and on every replicate of it.

Scores of different trainings are on scales of their own: AUC, thresholds and rates are computed
for each training on the test part of its fold, and averaged. Only probabilities claim a common
scale: the calibration error of a seed is over the patches of all its folds.

A replicate in which a fold lacks a class says nothing of that fold's figure; the fold's own stands
there. A fold that lacks a class altogether has no figure of that class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatientKey
from medaug.evaluation.calibration import brier, calibration_error, gaps
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.statistics import Floats, auc, decide
from medaug.evaluation.uncertainty import Design, patient_weights


@dataclass(frozen=True, eq=False)
class Draws:
    """The patients of every test part, and how often each occurs in each replicate.

    Attributes:
        number: of each patient, the column of ``weights``.
        weights: (1 + replicate, patient); row 0 is the cohort.
    """

    number: Mapping[PatientKey, int]
    weights: Floats

    @classmethod
    def of(cls, folds: Iterable[FoldScores], replicates: int, rng: np.random.Generator) -> Draws:
        """Resample every patient that a fold tests."""
        tests = [run.test for run in folds]
        number: dict[PatientKey, int] = {}
        for test in tests:
            for key in test.patients:
                number.setdefault(key, len(number))
        rows = np.array([number[key] for test in tests for key in test.patients])
        labels = np.concatenate([test.labels for test in tests])
        return cls(number, patient_weights(rows, labels, replicates, rng))

    def index(self, test: Scored) -> NDArray[np.int64]:
        """(patch,) the column of each patch's patient."""
        return np.array([self.number[key] for key in test.patients])


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of one arm on the cohort (row 0) and on every replicate.

    Attributes:
        auc: (replicate, run, class) one class against the rest; NaN where a fold lacks it.
        sensitivity: (replicate, run, class).
        specificity: (replicate, run, class).
        brier: (replicate, run).
        calibration_error: (replicate, seed).
        design: which runs share a training set.
        seed: (run,) the number of the seed among the seeds.
    """

    auc: Floats
    sensitivity: Floats
    specificity: Floats
    brier: Floats
    calibration_error: Floats
    design: Design
    seed: NDArray[np.int64]

    @property
    def macro_auc(self) -> Floats:
        """(replicate, run): mean of the classes' AUC."""
        return _over_classes(self.auc)

    @property
    def balanced_accuracy(self) -> Floats:
        """(replicate, run): mean of the classes' sensitivity."""
        return _over_classes(self.sensitivity)

    @property
    def pooled(self) -> Design:
        """The design of `calibration_error`: one figure per seed."""
        return Design(np.zeros(self.calibration_error.shape[1], dtype=np.int64), 0.0)


def _over_classes(figures: Floats) -> Floats:
    there = np.isfinite(figures[0])
    return np.asarray(np.where(there, figures, 0.0).sum(axis=2) / there.sum(axis=1))


def figures_of(folds: Sequence[FoldScores], draws: Draws) -> Figures:
    """Every figure of one arm on every replicate."""
    classes = folds[0].test.probabilities.shape[1]
    shape = (len(draws.weights), len(folds), classes)
    area, hit, spared, distance = (np.empty(shape) for _ in range(4))
    seeds, of_seed = np.unique([run.seed for run in folds], return_inverse=True)
    summed = [np.zeros(()) for _ in seeds]
    patches = [np.zeros(()) for _ in seeds]
    for at, run in enumerate(folds):
        weights = draws.weights[:, draws.index(run.test)]
        scores = run.test.probabilities.astype(np.float64)
        labels = run.test.labels
        decided = decide(scores, run.tuning.probabilities.astype(np.float64), run.tuning.labels)
        truth = labels[:, None] == np.arange(classes)
        given = decided[:, None] == np.arange(classes)
        for each in range(classes):
            area[:, at, each] = auc(scores[:, each], truth[:, each], weights)
        # A fold may have no patient left in a replicate, or none of a class.
        with np.errstate(invalid="ignore"):
            hit[:, at] = weights @ (given & truth) / (weights @ truth)
            spared[:, at] = weights @ (~given & ~truth) / (weights @ ~truth)
            distance[:, at] = ((weights @ brier(scores, labels)) / weights.sum(axis=1))[:, None]
        summed[of_seed[at]] = summed[of_seed[at]] + gaps(scores, labels, weights)
        patches[of_seed[at]] = patches[of_seed[at]] + weights.sum(axis=1)
    errors = [calibration_error(*each) for each in zip(summed, patches, strict=True)]
    return Figures(
        auc=_stand_in(area),
        sensitivity=_stand_in(hit),
        specificity=_stand_in(spared),
        brier=_stand_in(distance)[:, :, 0],
        calibration_error=np.stack(errors, axis=1),
        design=Design.of(folds),
        seed=of_seed,
    )


def _stand_in(figures: Floats) -> Floats:
    """The fold's own figure where a replicate has none."""
    return np.where(np.isnan(figures), figures[:1], figures)
