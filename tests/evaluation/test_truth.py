"""Simulated cohorts whose truth is known: are the intervals and verdicts right?

A score is ``strength * class + patient + patient of this training + noise``; a training's strength
has luck of its own. Nothing is trained. "Wrong" variants of the method are run on the same
cohorts, and must fail.
"""

import numpy as np
import pytest
from scipy.stats import norm

from medaug.evaluation.comparison import MAIN, Comparison, compare
from medaug.evaluation.statistics import Spread, auc, patient_weights

STRENGTH = 1.2
REPLICATES = 400


class Simulation:
    """One cohort of test patients scored by several trainings of each arm."""

    def __init__(
        self,
        seed: int,
        patients: int = 60,
        patches: int = 2,
        luck: float = 0.12,
        seeds: int = 3,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.patient_index = np.repeat(np.arange(patients), patches)
        of_patient = self.rng.permutation(np.arange(patients) % 2)
        self.labels = of_patient[self.patient_index]
        self.patient = self.rng.normal(size=patients)
        self.luck, self.seeds = luck, seeds

    def arm(self, gain: float = 0.0) -> np.ndarray:
        """(seed, patch) scores; expected AUC is `true_auc(gain)` up to the curvature in luck."""
        rng = self.rng
        strengths = rng.normal(STRENGTH + gain, self.luck, size=(self.seeds, 1))
        own = rng.normal(0, 0.4, size=(self.seeds, len(self.patient)))
        noise = rng.normal(0, 0.3, size=(self.seeds, len(self.labels)))
        patient = (self.patient + own)[:, self.patient_index]
        return strengths * self.labels + patient + noise

    def spread(self, scores: np.ndarray, weights: np.ndarray) -> Spread:
        areas = [auc(of_seed, self.labels == 1, weights) for of_seed in scores]
        return Spread.of(np.stack(areas, axis=1))

    def weights(self) -> np.ndarray:
        return patient_weights(self.patient_index, self.labels, REPLICATES, self.rng)


def true_auc(gain: float = 0.0, luck: float = 0.12) -> float:
    variance = 2 * (1 + 0.4**2 + 0.3**2)
    strengths = norm(STRENGTH + gain, luck).ppf((np.arange(1000) + 0.5) / 1000)
    return float(norm.cdf(strengths / np.sqrt(variance)).mean())


def without_luck(spread: Spread) -> Spread:
    """The wrong method: as if these few trainings were all there could be."""
    return Spread(spread.value, spread.replicates, 0.0, spread.freedom)


class TestIntervals:
    """A 95 % interval holds the true AUC in about 95 of 100 cohorts."""

    def coverage(self, as_patients: bool, patches: int, patients: int) -> float:
        inside = 0
        for seed in range(200):
            cohort = Simulation(seed, patients=patients, patches=patches)
            index = cohort.patient_index if as_patients else np.arange(len(cohort.labels))
            weights = patient_weights(index, cohort.labels, REPLICATES, cohort.rng)
            spread = cohort.spread(cohort.arm(), weights)
            found = spread.interval(spread.draws(cohort.rng), 0.95)
            inside += found.low <= true_auc() <= found.high
        return inside / 200

    def test_over_patients_they_cover(self) -> None:
        assert 0.90 <= self.coverage(as_patients=True, patches=6, patients=40) <= 0.99

    def test_over_patches_of_few_patients_they_do_not(self) -> None:
        assert self.coverage(as_patients=False, patches=6, patients=40) < 0.80


Pairs = list[tuple[Spread, Spread, np.random.Generator]]


@pytest.fixture(scope="module")
def null_pairs() -> Pairs:
    """200 cohorts, each with two arms that differ by luck alone."""
    made = []
    for seed in range(200):
        cohort = Simulation(1000 + seed)
        weights = cohort.weights()
        made.append(
            (
                cohort.spread(cohort.arm(), weights),
                cohort.spread(cohort.arm(), weights),
                cohort.rng,
            )
        )
    return made


class TestNull:
    """Where synthetic patches change nothing, "helps" or "hurts" is rarely said."""

    def test_false_verdicts_are_rare(self, null_pairs: Pairs) -> None:
        words = [verdict(with_gan, without, rng) for with_gan, without, rng in null_pairs]
        assert sum(word != "no evidence" for word in words) <= 14  # 7 % of 200

    def test_without_training_luck_they_are_common(self, null_pairs: Pairs) -> None:
        words = [
            verdict(without_luck(with_gan), without_luck(without), rng)
            for with_gan, without, rng in null_pairs
        ]
        assert sum(word != "no evidence" for word in words) > 20

    def test_over_all_arms_one_false_word_is_rare(self) -> None:
        wrong = 0
        arms = ("real", "real+classical", "real+gan", "real+classical+gan", "gan")
        for seed in range(100):
            cohort = Simulation(5000 + seed)
            weights = cohort.weights()
            spreads = {("net", arm): cohort.spread(cohort.arm(), weights) for arm in arms}
            compared = compare(spreads, 0.95, cohort.rng)
            assert len(compared) == 4
            wrong += any(each.verdict != "no evidence" for each in compared)
        assert wrong <= 7


class TestPower:
    """A planted gain is found, in its direction; the stated smallest difference is honest."""

    @pytest.mark.parametrize(("gain", "word"), [(0.9, "helps"), (-0.9, "hurts")])
    def test_a_large_gain_is_found(self, gain: float, word: str) -> None:
        words = []
        for seed in range(40):
            cohort = Simulation(2000 + seed)
            weights = cohort.weights()
            arms = [cohort.spread(cohort.arm(shift), weights) for shift in (gain, 0.0)]
            words.append(verdict(arms[0], arms[1], cohort.rng))
        assert words.count(word) >= 36
        assert set(words) <= {word, "no evidence"}

    def test_a_gain_of_the_smallest_difference_is_found_with_its_power(self) -> None:
        stated = np.median([self.smallest(seed) for seed in range(60)])
        gains = np.linspace(0, 1.5, 301)
        planted = gains[np.argmax([true_auc(gain) - true_auc() >= stated for gain in gains])]
        assert planted > 0
        found = 0
        for seed in range(100):
            cohort = Simulation(4000 + seed)
            weights = cohort.weights()
            arms = [cohort.spread(cohort.arm(shift), weights) for shift in (planted, 0.0)]
            found += verdict(arms[0], arms[1], cohort.rng) == "helps"
        assert 65 <= found <= 97

    def smallest(self, seed: int) -> float:
        cohort = Simulation(3000 + seed)
        weights = cohort.weights()
        arms = [cohort.spread(cohort.arm(), weights) for _ in range(2)]
        return compared(arms[0], arms[1], cohort.rng).smallest


def compared(with_gan: Spread, without: Spread, rng: np.random.Generator) -> Comparison:
    spreads = {("net", MAIN[0]): with_gan, ("net", MAIN[1]): without}
    return compare(spreads, 0.95, rng)[0]


def verdict(with_gan: Spread, without: Spread, rng: np.random.Generator) -> str:
    return str(compared(with_gan, without, rng).verdict)
