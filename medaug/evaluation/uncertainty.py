"""How sure a figure is: other patients, other trainings, other training sets.

A cohort is a sample of patients, a training is a sample of all trainings, and the folds of a
cross-validation share most of what they train on. All three count here.

*Patients.* A bootstrap replicate draws as many patients as there are, with replacement; all
patches of a patient move together through every fold, arm and seed, which makes differences
paired [1]_. A replicate is an integer weight per patient. One that lacks a class is drawn again.
Row 0 of the weights is the cohort itself.

*Seeds.* The variance between trainings on one training set, less the part that comes with the
patients (interaction of seed and patient, which the bootstrap already holds), is the variance of
training luck, as in a crossed random-effects model [2]_.

*Training sets.* The variance between folds, less what patients and seeds explain, is the luck of
a training set, and of the generator that was refitted on it. Training sets overlap, so that their
mean varies by more than an n-th of it: by the factor 1/n + tested/trained of Nadeau and Bengio
[3]_. No unbiased estimate of that variance exists [4]_; how this one does is simulated. A single
split shows nothing of it: what is said there is said of that split and its generator alone.

Luck is added to the replicates as noise with Student's t for the few seeds and folds there are.
Intervals are percentiles. Leaving luck out makes false verdicts common:
`tests/evaluation/test_truth.py` shows how common.

.. [1] Obuchowski 1997, doi:10.2307/2533958 (clustered ROC data: the patient is the unit)
.. [2] Owen 2007, doi:10.1214/07-AOAS122 (resampling crossed random effects)
.. [3] Nadeau and Bengio 2003, doi:10.1023/A:1024068626366
.. [4] Bengio and Grandvalet 2004, JMLR 5:1089-1105
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medaug.evaluation.fold_scores import FoldScores
from medaug.evaluation.statistics import Floats, Interval

POWER = 0.8
"""With which the smallest difference would have been shown."""
LUCKS = 5
"""Draws of luck for each replicate."""
STUDIES, DRAWS = 1000, 2000
"""Imagined studies, and draws in each, behind a smallest difference."""


@dataclass(frozen=True, eq=False)
class Design:
    """Which trainings ("runs") share a training set.

    Attributes:
        training_set: (run,) 0 to training sets - 1.
        overlap: patients tested by those trained on, per fold; 0 for a single training set.
    """

    training_set: NDArray[np.int64]
    overlap: float

    @classmethod
    def of(cls, folds: Sequence[FoldScores]) -> Design:
        """Folds of one arm; the same fold with the same test patients is one training set."""
        tested = [frozenset(run.test.patients) for run in folds]
        number: dict[tuple[int, frozenset[object]], int] = {}
        sets = [
            number.setdefault((run.fold, patients), len(number))
            for run, patients in zip(folds, tested, strict=True)
        ]
        parts = len({run.fold for run in folds})
        if parts == 1:
            return cls(np.array(sets), 0.0)
        everyone = len(frozenset().union(*tested))
        # An external test set is the same in every fold; then its size says nothing.
        tuned = 0.0
        if len(set(tested)) > 1:
            tuned = float(np.mean([len(set(run.tuning.patients)) for run in folds])) / everyone
        return cls(np.array(sets), (1 / parts) / max(1 - 1 / parts - tuned, 1 / parts))

    @property
    def sets(self) -> int:
        """How many training sets there are."""
        return int(self.training_set.max()) + 1

    def select(self, runs: NDArray[np.bool_]) -> Design:
        """These runs alone."""
        _, sets = np.unique(self.training_set[runs], return_inverse=True)
        return Design(sets, self.overlap)

    def averages(self, figures: Floats) -> Floats:
        """(replicate, run) → (replicate, training set)."""
        columns = [figures[:, self.training_set == at].mean(axis=1) for at in range(self.sets)]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Luck:
    """Variance of a mean over runs that comes from training.

    It is ``scale`` times what ``square`` exceeds ``known`` by, if it does.

    Attributes:
        square: mean square between trainings, or between training sets.
        known: what of it has another source.
        scale: from the variance of one to that of the mean.
        freedom: degrees of freedom of ``square``.
    """

    square: float
    known: float
    scale: float
    freedom: int

    @property
    def variance(self) -> float:
        """Of the mean."""
        return max(0.0, self.square - self.known) * self.scale

    @property
    def likely(self) -> Luck:
        """With the mean square that was as likely to come out lower as higher than it did.

        Of few folds most come out below the truth: what is planned with it would be too hopeful.
        """
        typical = float(stats.chi2.median(self.freedom)) / self.freedom
        return replace(self, square=self.square / typical)

    def another(self, rng: np.random.Generator, count: int) -> Floats:
        """(count,) the variances that other studies like this one would have found."""
        squares = self.square * rng.chisquare(self.freedom, count) / self.freedom
        return np.asarray(np.maximum(0.0, squares - self.known) * self.scale)


@dataclass(frozen=True, eq=False)
class Spread:
    """What is known of one figure (or one difference): its estimate and its distribution.

    Attributes:
        value: mean over runs on the cohort itself.
        replicates: (replicate,) mean over runs, without luck.
        luck: of seeds and of training sets.
    """

    value: float
    replicates: Floats
    luck: tuple[Luck, ...] = ()

    @classmethod
    def of(cls, figures: Floats, design: Design) -> Spread:
        """From (replicate, run); row 0 is the cohort."""
        mean = figures.mean(axis=1)
        single = _of_seeds(figures, design)
        return cls(float(mean[0]), mean[1:], _luck([single], figures, design))

    @classmethod
    def between(cls, arm: Floats, baseline: Floats, design: Design) -> Spread:
        """The paired difference of two arms: same replicates, same training sets, other seeds."""
        figures = arm - baseline
        mean = figures.mean(axis=1)
        singles = [_of_seeds(each, design) for each in (arm, baseline)]
        return cls(float(mean[0]), mean[1:], _luck(singles, figures, design))

    def draws(self, rng: np.random.Generator) -> Floats:
        """The replicates with luck added, each `LUCKS` times over: tails need many."""
        drawn = np.repeat(self.replicates, LUCKS)
        for luck in self.luck:
            noise = rng.standard_t(luck.freedom, size=len(drawn))
            drawn += np.sqrt(luck.variance) * noise
        return drawn

    def interval(
        self, draws: Floats, confidence: float, least: float = 0.0, most: float = 1.0
    ) -> Interval:
        """Percentile interval from `draws`, within what the figure can be."""
        tail = (1 - confidence) / 2
        low, high = np.clip(np.quantile(draws, [tail, 1 - tail]), least, most)
        return Interval(self.value, float(low), float(high))

    def smallest_difference(
        self, alpha: float, rng: np.random.Generator, power: float = POWER
    ) -> float:
        """The true difference that ``power`` of studies like this one would show at ``alpha``.

        In each of `STUDIES` imagined studies the mean differs from the truth by patients and luck,
        and the luck is estimated anew: with the few folds there are it is often put too high, and
        then the difference is not shown. Without luck it is 2.8 standard errors for alpha 0.05,
        power 0.8. Like every power computed from the data it is as uncertain as the spread it is
        computed from.
        """
        likely = [luck.likely for luck in self.luck]
        patients = self.replicates - self.replicates.mean()
        missed = rng.choice(patients, STUDIES)
        critical = np.full(STUDIES, np.quantile(np.abs(patients), 1 - alpha))
        if likely:
            lucks = np.stack([luck.another(rng, STUDIES) for luck in likely])
            true = sum(luck.variance for luck in likely)
            missed += np.sqrt(true) * rng.standard_normal(STUDIES)
            drawn = rng.choice(patients, DRAWS)
            noise = np.stack([rng.standard_t(luck.freedom, DRAWS) for luck in self.luck])
            for study in range(STUDIES):
                about = drawn + np.sqrt(lucks[:, study]) @ noise
                critical[study] = np.quantile(np.abs(about), 1 - alpha)
        return float(np.quantile(critical - missed, power))


def _of_seeds(figures: Floats, design: Design) -> tuple[float, float, int]:
    """Mean square of one training on a training set, what patients explain, and its freedom."""
    total, explained, freedom = 0.0, 0.0, 0
    for at in range(design.sets):
        here = figures[:, design.training_set == at]
        if here.shape[1] > 1:
            deviations = here - here.mean(axis=1, keepdims=True)
            total += float((deviations[0] ** 2).sum())
            explained += float(deviations[1:].var(axis=0).sum())
            freedom += here.shape[1] - 1
    square = total / max(freedom, 1)
    return square, min(square, explained / max(freedom, 1)), freedom


def _luck(
    singles: Sequence[tuple[float, float, int]], figures: Floats, design: Design
) -> tuple[Luck, ...]:
    """Luck of the mean over runs: of the seeds of all arms together, and of the training sets."""
    runs = figures.shape[1]
    square, explained, freedom = (sum(each) for each in zip(*singles, strict=True))
    of_seeds = Luck(square, explained, 1 / runs, int(freedom))
    found = [of_seeds] if freedom else []
    if design.sets > 1:
        means = design.averages(figures)
        deviations = means - means.mean(axis=1, keepdims=True)
        between, from_patients = (
            float(each) / (design.sets - 1)
            for each in ((deviations[0] ** 2).sum(), deviations[1:].var(axis=0).sum())
        )
        known = from_patients + of_seeds.variance * design.sets
        found.append(Luck(between, known, 1 / design.sets + design.overlap, design.sets - 1))
    return tuple(found)


@dataclass(frozen=True)
class Resampled:
    """The corrected resampled t test: an interval, p, and how many training sets it rests on."""

    interval: Interval
    p: float
    training_sets: int

    def document(self) -> dict[str, float]:
        """As JSON."""
        return {**self.interval.document(), "p": self.p, "training_sets": self.training_sets}


def corrected_resampled(differences: Floats, overlap: float, confidence: float) -> Resampled | None:
    """Nadeau and Bengio's test of one difference per training set; None for fewer than two.

    t = mean / sqrt((1/n + tested/trained) s²) with n - 1 degrees of freedom. With ``overlap`` 0
    it is Student's t test, which takes folds for independent.

    Args:
        differences: (training set,) mean over seeds.
        overlap: tested/trained, as in `Design`.
        confidence: of the interval.
    """
    count = len(differences)
    if count < 2:
        return None
    mean = float(differences.mean())
    error = float(np.sqrt((1 / count + overlap) * differences.var(ddof=1)))
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * error
    if error == 0:
        p = 1.0 if mean == 0 else 0.0
    else:
        p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Resampled(Interval(mean, mean - half, mean + half), p, count)


def p_value(draws: Floats) -> float:
    """Two-sided bootstrap p of "the difference is 0": twice the smaller tail, never 0."""
    tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (1 + tail) / (1 + len(draws)))


def patient_weights(
    patient_index: NDArray[np.int64],
    labels: NDArray[np.int64],
    replicates: int,
    rng: np.random.Generator,
) -> Floats:
    """How often each patient occurs in each replicate: (1 + replicate, patient), row 0 all ones.

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
    return np.asarray(np.concatenate([np.ones((1, patients)), drawn]), dtype=np.float64)
