"""Simulated studies whose truth is known: how often is the verdict wrong, how often is it right?

Nothing is trained. The score of a patch is

    strength * class + patient + patient of this arm + patient of this training + noise,

a patient's terms are shared by all of its patches, and the patient's own by all arms, which makes
arms correlated. The strength of a training is that of its arm, and luck: of the seed; of the fold,
as when its generator is refitted; and of the training patients, each of whom moves it a little,
so that folds that share patients share luck. Every training has a scale of its own, monotone, as
networks do. Under the null all arms have the same strength: that they differ is luck.

>>> world = World(patients=30, folds=3, seeds=2)
>>> study = world.study({"real": 0.0, "real+classical": 0.0}, np.random.default_rng(0))
>>> len(study["net", "real"])
6
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from medaug.domain import PatientKey, digest_of
from medaug.evaluation.comparison import MAIN
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.judging import Judgement, judge

ARMS = ("real", "real+classical", "real+gan", "real+classical+gan", "gan")
CLASSES = ("benign", "malignant")
Study = dict[tuple[str, str], list[FoldScores]]


@dataclass(frozen=True)
class World:
    """What studies are drawn from; standard deviations are in units of the patients' own.

    Attributes:
        patients: in the cohort, or in the test part of a single split.
        patches: most per patient; 1 to this many.
        folds: 1 is a single split, with training and tuning patients beside the cohort.
        seeds: trainings on every training set.
        redealt: whether every seed deals the folds anew.
        strength: distance between the classes.
        arm: of patients in one arm, whatever the training.
        training: of patients in one training.
        noise: of patches.
        seed_luck: of the strength, between seeds.
        fold_luck: of the strength, between folds of an arm.
        influence: of one training patient on the strength, divided by how many train.
    """

    patients: int = 212
    patches: int = 3
    folds: int = 5
    seeds: int = 5
    redealt: bool = False
    strength: float = 1.2
    arm: float = 0.25
    training: float = 0.4
    noise: float = 0.3
    seed_luck: float = 0.12
    fold_luck: float = 0.06
    influence: float = 0.5

    def auc(self, gain: float = 0.0) -> float:
        """The expected AUC of a training of an arm with this ``gain`` in strength."""
        apart = np.sqrt(2 * (1 + self.arm**2 + self.training**2 + self.noise**2))
        trained = self.patients * (self.folds - 2) / self.folds if self.folds > 1 else self.patients
        luck = np.sqrt(self.seed_luck**2 + self.fold_luck**2 + self.influence**2 / trained)
        strength = stats.norm(self.strength + gain, luck).ppf((np.arange(1000) + 0.5) / 1000)
        return float(stats.norm.cdf(strength / apart).mean())

    def gain_of(self, difference: float) -> float:
        """The gain in strength that raises the AUC by ``difference``, or by nearly that."""
        gains = np.linspace(0, 4, 401)
        reached = np.array([self.auc(gain) for gain in gains]) - self.auc()
        return float(np.interp(difference, reached, gains))

    def study(self, gains: Mapping[str, float], rng: np.random.Generator) -> Study:
        """Scores of every arm in ``gains`` on one cohort."""
        beside = 0 if self.folds > 1 else 2
        everyone = self.patients * (1 + beside)
        owner = np.repeat(np.arange(everyone), rng.integers(1, self.patches + 1, size=everyone))
        labels = rng.permutation(np.arange(everyone) % 2)[owner]
        keys = [PatientKey(digest_of("simulated", at)[:32]) for at in range(everyone)]
        patient = rng.normal(size=everyone)
        deals = [self._deal(owner, labels, rng)] * self.seeds
        if self.redealt:
            deals = [self._deal(owner, labels, rng) for _ in deals]
        found: Study = {}
        for arm, gain in gains.items():
            of_arm = patient + rng.normal(0, self.arm, size=everyone)
            influence = rng.normal(0, self.influence, size=everyone)
            fold_luck = rng.normal(0, self.fold_luck, size=(self.seeds, self.folds))
            for seed, part in enumerate(deals):
                for fold in range(self.folds):
                    tested, tuning, trained = _parts(part, fold, self.folds)
                    strength = self.strength + gain + influence[trained].mean()
                    strength += fold_luck[seed if self.redealt else 0, fold]
                    strength += rng.normal(0, self.seed_luck)
                    own = of_arm + rng.normal(0, self.training, size=everyone)
                    scores = strength * labels + own[owner]
                    scores += rng.normal(0, self.noise, size=len(owner))
                    first = special.expit(rng.uniform(0.5, 1.5) * (scores - strength / 2))
                    both = np.stack([1 - first, first], axis=1).astype(np.float32)
                    scored = (
                        Scored(both[rows], labels[rows], tuple(keys[at] for at in owner[rows]))
                        for rows in (np.flatnonzero(kind[owner]) for kind in (tested, tuning))
                    )
                    found.setdefault(("net", arm), []).append(FoldScores(fold, seed, *scored))
        return found

    def _deal(
        self, owner: NDArray[np.int64], labels: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """(patient,) the part of each: folds of equal size and class; or test, tuning, training."""
        _, first = np.unique(owner, return_index=True)
        parts = max(self.folds, 3)
        order = rng.permutation(len(first))
        order = order[np.argsort(labels[first][order], kind="stable")]
        part = np.empty(len(first), dtype=np.int64)
        part[order] = np.arange(len(first)) % parts
        return part


def _parts(
    part: NDArray[np.int64], fold: int, folds: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """(patient,) who is tested, who tunes, who trains."""
    tested, tuning = part == fold, part == (fold + 1) % max(folds, 3)
    return tested, tuning, ~tested & ~tuning


@dataclass(frozen=True)
class Tally:
    """Verdicts over studies.

    Attributes:
        studies: how many.
        words: of the main comparison.
        anywhere: studies in which any comparison said "helps" or "hurts".
        held: studies whose interval of the main difference held the truth.
        smallest: median over studies of the smallest difference that was stated.
        alone: studies in which each other test, by itself and uncorrected, called the main
            difference significant.
    """

    studies: int
    words: dict[str, int]
    anywhere: int
    held: int
    smallest: float
    alone: dict[str, int]


def tally(
    world: World,
    seeds: range,
    gain: float = 0.0,
    arms: tuple[str, ...] = ARMS,
    bootstrap: int = 500,
) -> Tally:
    """Judge one simulated study per seed; ``gain`` is that of the arm of the main comparison."""
    words: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    anywhere = held = 0
    smallest = []
    truth = world.auc(gain) - world.auc()
    for seed in seeds:
        rng = np.random.default_rng([seed, world.folds, world.seeds, world.patients])
        gains = {arm: gain if arm == MAIN[0] else 0.0 for arm in arms}
        judged = judge(world.study(gains, rng), CLASSES, bootstrap, 0.95, rng)
        main = judged.comparisons[0]
        words[main.verdict] += 1
        anywhere += any(each.verdict != "no evidence" for each in judged.comparisons)
        held += main.difference.low <= truth <= main.difference.high
        smallest.append(main.smallest)
        alone.update(name for name, p in _each_p(judged).items() if p < 0.05)
    return Tally(len(seeds), dict(words), anywhere, held, float(np.median(smallest)), dict(alone))


def _each_p(judged: Judgement) -> dict[str, float]:
    main = judged.comparisons[0]
    found = {"bootstrap with luck": main.p_bootstrap, "permutation": main.p_permutation}
    if main.delong is not None:
        found["DeLong"] = main.delong.p
    if main.resampled is not None:
        found["corrected resampled t"] = main.resampled.p
    return found
