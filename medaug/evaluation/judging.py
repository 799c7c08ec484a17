"""From the scores of every fold to the figures of every arm and the comparisons between arms.

The one door to the statistics: `judge` takes, for each classifier and arm, the `FoldScores` of
its trainings (a single split is one fold) and returns what ``evaluation.json`` holds of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medaug.errors import CohortError, Fault
from medaug.evaluation.comparison import PAIRS, Arm, Classifier, Comparison, Judged, compare
from medaug.evaluation.figures import Draws, Figures, figures_of
from medaug.evaluation.fold_scores import FoldScores
from medaug.evaluation.settings import SANITY_LINES
from medaug.evaluation.statistics import Floats, Interval
from medaug.evaluation.uncertainty import Design, Spread


@dataclass(frozen=True)
class ArmResult:
    """Figures of one arm with one classifier.

    Attributes:
        classifier: which.
        arm: which.
        auc: macro AUC.
        balanced_accuracy: mean sensitivity of the classes.
        brier: Brier score, 0 to 2, lower is better.
        calibration_error: expected calibration error, 0 to 1, lower is better.
        per_class: class to figure to interval.
        per_seed: macro AUC, mean over folds.
        per_fold: macro AUC of each fold, mean over seeds.
    """

    classifier: str
    arm: str
    auc: Interval
    balanced_accuracy: Interval
    brier: Interval
    calibration_error: Interval
    per_class: dict[str, dict[str, Interval]]
    per_seed: tuple[float, ...]
    per_fold: tuple[float, ...]

    @property
    def figures(self) -> tuple[Interval, ...]:
        """Every interval of a rate or an AUC shown of this arm."""
        by_class = [each for figures in self.per_class.values() for each in figures.values()]
        return (self.auc, self.balanced_accuracy, *by_class)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "arm": self.arm,
            "classifier": self.classifier,
            "auc": self.auc.document(),
            "balanced_accuracy": self.balanced_accuracy.document(),
            "brier": self.brier.document(),
            "calibration_error": self.calibration_error.document(),
            "per_class": {
                label: {name: interval.document() for name, interval in figures.items()}
                for label, figures in self.per_class.items()
            },
            "per_seed": list(self.per_seed),
            "per_fold": list(self.per_fold),
        }


@dataclass(frozen=True)
class Judgement:
    """Every arm, every comparison between two of them, and what they rest on.

    ``patients`` and ``patches`` count what was tested, once; ``folds`` and ``seeds`` trainings.
    """

    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    patients: int
    patches: int
    folds: int
    seeds: int


def judge(
    scores: Mapping[tuple[Classifier, Arm], Sequence[FoldScores]],
    classes: Sequence[str],
    bootstrap: int,
    confidence: float,
    rng: np.random.Generator,
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> Judgement:
    """Figures, intervals and comparisons.

    Args:
        scores: of (classifier, arm), the trainings; the same folds and seeds for every arm.
        classes: their names, in the order of the probabilities.
        bootstrap: replicates.
        confidence: of intervals; verdicts are at 1 - confidence.
        rng: of everything random.
        pairs: (arm, baseline) to compare; the main one is `comparison.MAIN`.

    Raises:
        CohortError: if a class is in no test part, or lacks in a tuning part, or if there is one
            training alone, whose luck nobody can tell from gain.
        ValueError: if the arms were not tested on the same folds.
    """
    _refuse(scores, classes)
    first = next(iter(scores.values()))
    draws = Draws.of(first, bootstrap, rng)
    judged = {key: Judged(folds, figures_of(folds, draws)) for key, folds in scores.items()}
    arms = tuple(
        _arm_result(classifier, arm, each, classes, confidence, rng)
        for (classifier, arm), each in judged.items()
    )
    seeds = {run.seed for run in first}
    compared = {key: each for key, each in judged.items() if key[0] not in SANITY_LINES}
    return Judgement(
        arms=arms,
        comparisons=compare(compared, classes, draws, confidence, rng, pairs),
        patients=len(draws.number),
        patches=sum(len(run.test.labels) for run in first if run.seed == min(seeds)),
        folds=len({run.fold for run in first}),
        seeds=len(seeds),
    )


def _refuse(
    scores: Mapping[tuple[Classifier, Arm], Sequence[FoldScores]], classes: Sequence[str]
) -> None:
    faults = []
    for (classifier, arm), folds in scores.items():
        where = f"{classifier}, {arm}"
        if len(folds) < 2:
            faults.append(Fault(where, f"{len(folds)} training", "at least 2", "add seeds"))
        tested = {int(label) for run in folds for label in run.test.labels}
        for at, label in enumerate(classes):
            if at not in tested or len(tested) < 2:
                faults.append(Fault(where, f"no test patch of {label}, or no other", "both"))
            lacking = {run.fold for run in folds if at not in run.tuning.labels}
            faults += [
                Fault(f"{where}, fold {fold}", f"no tuning patch of {label}", "every class")
                for fold in sorted(lacking)
            ]
    if faults:
        raise CohortError(*faults)


def _arm_result(
    classifier: str,
    arm: str,
    judged: Judged,
    classes: Sequence[str],
    confidence: float,
    rng: np.random.Generator,
) -> ArmResult:
    figures = judged.figures

    def interval(of: Floats, design: Design, most: float = 1.0) -> Interval:
        spread = Spread.of(of, design)
        return spread.interval(spread.draws(rng), confidence, most=most)

    return ArmResult(
        classifier=classifier,
        arm=arm,
        auc=interval(figures.macro_auc, figures.design),
        balanced_accuracy=interval(figures.balanced_accuracy, figures.design),
        brier=interval(figures.brier, figures.design, most=2.0),
        calibration_error=_calibration_error(figures, confidence, rng),
        per_class={
            label: {
                name: interval(of[:, there, at], figures.design.select(there))
                for name, of in (
                    ("sensitivity", figures.sensitivity),
                    ("specificity", figures.specificity),
                    ("auc", figures.auc),
                )
                for there in [np.isfinite(of[0, :, at])]
            }
            for at, label in enumerate(classes)
        },
        per_seed=_means(figures.macro_auc[0], figures.seed),
        per_fold=_means(figures.macro_auc[0], np.array([run.fold for run in judged.folds])),
    )


def _calibration_error(figures: Figures, confidence: float, rng: np.random.Generator) -> Interval:
    """ECE grows when patients are repeated: the interval is moved by as much as that."""
    spread = Spread.of(figures.calibration_error, figures.pooled)
    draws = spread.draws(rng)
    return spread.interval(draws - spread.replicates.mean() + spread.value, confidence)


def _means(values: Floats, of: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[float, ...]:
    return tuple(float(values[of == at].mean()) for at in np.unique(of))
