"""Scores to figures: the area under the ROC curve, thresholds, rates, and Holm's correction.

How sure the figures are is asked in `uncertainty`; they come over replicates of the cohort, as
one weight per patch and replicate, which is what makes them cheap to resample.

>>> scores = np.array([0.1, 0.4, 0.35, 0.8])
>>> auc(scores, np.array([False, False, True, True]), np.ones((1, 4))).tolist()
[0.75]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate between two limits."""

    value: float
    low: float
    high: float

    def document(self) -> dict[str, float]:
        """As JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction; keeps the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p)
    largest = 0.0
    for rank, at in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[at]))
        corrected[at] = largest
    return corrected


def auc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under the ROC curve for each row of weights; a tie counts one half.

    Args:
        scores: (patch,) higher means more positive.
        positive: (patch,).
        weights: (replicate, patch).

    Returns:
        (replicate,), NaN where one of the two kinds has no weight.
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    positives = np.flatnonzero(positive)
    below = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
    ranks = [
        np.searchsorted(scores[negatives], scores[positives], side) for side in ("left", "right")
    ]
    won = (below[:, ranks[0]] + below[:, ranks[1]]) / 2
    of_positives = weights[:, positives]
    pairs = of_positives.sum(1) * below[:, -1]
    with np.errstate(invalid="ignore"):
        return np.asarray((of_positives * won).sum(1) / pairs)


def exceeding(of: Floats, against: Floats) -> Floats:
    """For each score of ``of``, the share of ``against`` below it; a tie counts one half."""
    ordered = np.sort(against)
    below, up_to = (np.searchsorted(ordered, of, side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(against)))


def macro_auc(scores: Floats, labels: NDArray[np.int64]) -> float:
    """Mean over classes of one-against-the-rest AUC; ``scores`` is (patch, class)."""
    whole = np.ones((1, len(labels)))
    classes = range(scores.shape[1])
    return float(np.mean([auc(scores[:, at], labels == at, whole)[0] for at in classes]))


def youden_cut(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950).

    Candidates lie midway between neighbouring scores; of equally good ones, the middle one.
    """
    values = np.unique(scores)
    if len(values) == 1:
        return float(values[0])
    cuts = (values[1:] + values[:-1]) / 2
    missed = np.searchsorted(np.sort(scores[positive]), cuts) / positive.sum()
    spared = np.searchsorted(np.sort(scores[~positive]), cuts) / (~positive).sum()
    gain = spared - missed
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def decide(scores: Floats, tuning: Floats, tuning_labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """One class per patch, with thresholds chosen on tuning patches.

    Each class has its Youden threshold, one class against the rest; a patch is given the class
    whose probability is the largest multiple of its threshold. For two classes that is "above
    the threshold or not". With one class per patch, sensitivity, specificity and balanced
    accuracy belong to one confusion matrix, as in Frid-Adar et al. 2018.

    Args:
        scores: (patch, class) probabilities of the patches to decide on.
        tuning: (patch, class) probabilities of tuning patches.
        tuning_labels: (patch,); every class occurs.
    """
    classes = range(tuning.shape[1])
    cuts = np.array([youden_cut(tuning[:, at], tuning_labels == at) for at in classes])
    if len(cuts) == 2:
        cuts[0] = 1 - cuts[1]
    return np.asarray(np.argmax(scores / np.maximum(cuts, 1e-12), axis=1), dtype=np.int64)
