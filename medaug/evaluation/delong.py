"""The variance of an AUC, or of a paired difference, by formula: DeLong, clustered by patient.

DeLong et al. [1]_ write the AUC as a mean over pairs and take its variance from what each patch
contributes; Obuchowski [2]_ sums the contributions of a patient's patches, which may be of both
classes. With one patch per patient the second is the first. Here a difference is the AUC whose
kernel is the difference of the two arms', and the mean over trainings is treated alike: the
contributions of one patient to all folds and seeds are added.

For two classes. It holds for these trained classifiers: the luck of training is not in it.

.. [1] DeLong, DeLong and Clarke-Pearson 1988, doi:10.2307/2531595
.. [2] Obuchowski 1997, doi:10.2307/2533958
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medaug.evaluation.figures import Draws
from medaug.evaluation.fold_scores import FoldScores
from medaug.evaluation.statistics import Floats, Interval, exceeding


@dataclass(frozen=True)
class Paired:
    """A difference in AUC, its standard error, interval and two-sided p (normal)."""

    error: float
    interval: Interval
    p: float

    def document(self) -> dict[str, float]:
        """As JSON."""
        return {**self.interval.document(), "standard_error": self.error, "p": self.p}


def variance(
    positives: Sequence[Floats], negatives: Sequence[Floats], classes: NDArray[np.int64]
) -> float:
    """Obuchowski's variance of a mean over runs.

    Args:
        positives: per run (patient,) sum over the patient's positives of (V10 − AUC), divided by
            how many positives there are.
        negatives: the same of the negatives and V01.
        classes: (run, patient, 2) how many negatives and positives a patient has.
    """
    ups, downs, cross_ups, cross_downs = (np.zeros(classes.shape[1]) for _ in range(4))
    runs = len(classes)
    for up, down, has in zip(positives, negatives, classes > 0, strict=True):
        down_count, up_count = has.sum(axis=0)
        count = int(has.any(axis=1).sum())
        ups += up * np.sqrt(up_count / max(up_count - 1, 1)) / runs
        downs += down * np.sqrt(down_count / max(down_count - 1, 1)) / runs
        cross_ups += up * np.sqrt(count / (count - 1)) / runs
        cross_downs += down * np.sqrt(count / (count - 1)) / runs
    return float(ups @ ups + downs @ downs + 2 * cross_ups @ cross_downs)


def paired_delong(
    arm: Sequence[FoldScores],
    baseline: Sequence[FoldScores],
    draws: Draws,
    confidence: float,
) -> Paired | None:
    """The difference in AUC of class 1; None unless there are two classes, in every test part."""
    if any(set(run.test.labels.tolist()) != {0, 1} for run in arm):
        return None
    values: list[float] = []
    positives: list[Floats] = []
    negatives: list[Floats] = []
    classes: list[NDArray[np.int64]] = []
    for ours, theirs in zip(arm, baseline, strict=True):
        labels, rows = ours.test.labels, draws.index(ours.test)
        up, down = labels == 1, labels == 0
        first, second = (run.test.probabilities[:, 1].astype(float) for run in (ours, theirs))
        of_up = exceeding(first[up], first[down]) - exceeding(second[up], second[down])
        of_down = exceeding(second[down], second[up]) - exceeding(first[down], first[up])
        value = float(of_up.mean())
        patients = draws.weights.shape[1]
        sums = (
            np.bincount(rows[kind], of - value, minlength=patients) / kind.sum()
            for kind, of in ((up, of_up), (down, of_down))
        )
        counts = [np.bincount(rows[kind], minlength=patients) for kind in (down, up)]
        values.append(value)
        for into, each in zip((positives, negatives), sums, strict=True):
            into.append(each)
        classes.append(np.stack(counts, axis=1))
    value = float(np.mean(values))
    error = float(np.sqrt(max(0.0, variance(positives, negatives, np.stack(classes)))))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    p = float(2 * stats.norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Paired(error, Interval(value, value - half, value + half), p)
