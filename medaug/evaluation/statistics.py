"""Scores to figures, and how sure they are.

A cohort is a sample of patients, and a training is a sample of all trainings. Both count here.

*Patients.* A bootstrap replicate draws as many patients as there are, with replacement; all
patches of a patient move together, and every arm and seed is seen on the same draw, which makes
differences paired [1]_. A replicate is an integer weight per patch. One that lacks a class is drawn
again. Row 0 of the weights is the cohort itself.

*Seeds.* The variance between seeds on the fixed test patients, less the part that comes with
the patients (interaction of seed and patient, which the bootstrap already holds), is the
variance of training luck, as in a crossed random-effects model [2]_. It is added to the
replicates as noise with Student's t for the few seeds there are. Leaving it out makes false
verdicts common: `tests/evaluation/test_truth.py` shows how common.

>>> scores = np.array([0.1, 0.4, 0.35, 0.8])
>>> auc(scores, np.array([False, False, True, True]), np.ones((1, 4))).tolist()
[0.75]

.. [1] Obuchowski 1997, doi:10.2307/2533958 (clustered ROC data: the patient is the unit)
.. [2] Owen 2007, doi:10.1214/07-AOAS122 (resampling crossed random effects)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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


@dataclass(frozen=True, eq=False)
class Replicates:
    """Figures of one arm on the cohort (row 0) and on every replicate.

    Attributes:
        auc: (replicate, seed, class) one class against the rest.
        sensitivity: (replicate, seed, class).
        specificity: (replicate, seed, class).
    """

    auc: Floats
    sensitivity: Floats
    specificity: Floats

    @property
    def macro_auc(self) -> Floats:
        """(replicate, seed): mean of the classes' AUC."""
        return np.asarray(self.auc.mean(axis=2))

    @property
    def balanced_accuracy(self) -> Floats:
        """(replicate, seed): mean of the classes' sensitivity."""
        return np.asarray(self.sensitivity.mean(axis=2))


@dataclass(frozen=True, eq=False)
class Spread:
    """What is known of one figure (or one difference): its estimate and its distribution.

    Attributes:
        value: mean over seeds on the cohort itself.
        replicates: (replicate,) mean over seeds, without training luck.
        luck: variance of the mean over seeds that comes from training.
        freedom: degrees of freedom of ``luck``.
    """

    value: float
    replicates: Floats
    luck: float
    freedom: int

    @classmethod
    def of(cls, figures: Floats) -> Spread:
        """From (replicate, seed), at least two seeds; row 0 is the cohort."""
        seeds = figures.shape[1]
        mean = figures.mean(axis=1)
        deviations = (figures - mean[:, None])[1:]
        interaction = deviations.var(axis=0).sum() / (seeds - 1)
        training = max(0.0, float(figures[0].var(ddof=1) - interaction))
        return cls(float(mean[0]), mean[1:], training / seeds, seeds - 1)

    def __sub__(self, baseline: Spread) -> Spread:
        """The paired difference: same replicates, trainings independent of one another."""
        return Spread(
            self.value - baseline.value,
            self.replicates - baseline.replicates,
            self.luck + baseline.luck,
            self.freedom + baseline.freedom,
        )

    def draws(self, rng: np.random.Generator) -> Floats:
        """(replicate,) the replicates with training luck added."""
        luck = rng.standard_t(self.freedom, size=len(self.replicates))
        return np.asarray(self.replicates + np.sqrt(self.luck) * luck)

    def interval(
        self, draws: Floats, confidence: float, least: float = 0.0, most: float = 1.0
    ) -> Interval:
        """Percentile interval from `draws`, within what the figure can be."""
        tail = (1 - confidence) / 2
        low, high = np.clip(np.quantile(draws, [tail, 1 - tail]), least, most)
        return Interval(self.value, float(low), float(high))

    def smallest_difference(self, alpha: float, power: float = 0.8) -> float:
        """The true difference that a two-sided test at ``alpha`` would show with ``power``.

        (t_{1-alpha/2} + t_power) standard errors; 2.8 for alpha 0.05, power 0.8 and no training
        luck. Degrees of freedom after Satterthwaite.
        """
        variance = float(self.replicates.var()) + self.luck
        freedom = self.freedom * (variance / self.luck) ** 2 if self.luck > 0 else np.inf
        quantiles = stats.t.ppf([1 - alpha / 2, power], freedom)
        return float(quantiles.sum() * np.sqrt(variance))


def p_value(draws: Floats) -> float:
    """Two-sided bootstrap p of "the difference is 0": twice the smaller tail, never 0."""
    tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (1 + tail) / (1 + len(draws)))


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


def patient_weights(
    patient_index: NDArray[np.int64],
    labels: NDArray[np.int64],
    replicates: int,
    rng: np.random.Generator,
) -> Floats:
    """How often each patch occurs in each replicate: (1 + replicate, patch), row 0 all ones.

    Args:
        patient_index: (patch,) the patient of each patch, 0 to patients - 1.
        labels: (patch,); every replicate holds every class that occurs here.
        replicates: how many.
        rng: of the draw.
    """
    patients = int(patient_index.max()) + 1
    shows = np.zeros((patients, int(labels.max()) + 1))
    shows[patient_index, labels] = 1
    shows = shows[:, shows.any(axis=0)]
    chance = np.full(patients, 1 / patients)
    drawn = rng.multinomial(patients, chance, size=replicates)
    while (lacking := (drawn @ shows == 0).any(axis=1)).any():
        drawn[lacking] = rng.multinomial(patients, chance, size=int(lacking.sum()))
    whole = np.ones((1, patients))
    return np.asarray(np.concatenate([whole, drawn])[:, patient_index], dtype=np.float64)


def auc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under the ROC curve for each row of weights; a tie counts one half.

    Args:
        scores: (patch,) higher means more positive.
        positive: (patch,).
        weights: (replicate, patch).

    Returns:
        (replicate,).
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
    return np.asarray((of_positives * won).sum(1) / (of_positives.sum(1) * below[:, -1]))


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


def replicate(
    scores: Floats,
    decided: NDArray[np.int64],
    labels: NDArray[np.int64],
    weights: Floats,
) -> Replicates:
    """Every figure of one arm on every replicate.

    Args:
        scores: (seed, patch, class).
        decided: (seed, patch) class given by `decide`.
        labels: (patch,) reference standard; every class occurs.
        weights: (replicate, patch) from `patient_weights`.
    """
    classes = np.arange(scores.shape[2])
    truth = labels[:, None] == classes
    given = decided[:, :, None] == classes
    shape = (len(weights), *scores.shape[::2])
    area, hit, spared = np.empty(shape), np.empty(shape), np.empty(shape)
    for seed, of_seed in enumerate(scores):
        for at in classes:
            area[:, seed, at] = auc(of_seed[:, at], truth[:, at], weights)
        hit[:, seed] = weights @ (given[seed] & truth) / (weights @ truth)
        spared[:, seed] = weights @ (~given[seed] & ~truth) / (weights @ ~truth)
    return Replicates(area, hit, spared)
