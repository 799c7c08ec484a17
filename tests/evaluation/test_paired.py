"""Permutation and DeLong: against scipy, slow twins, and simulations of known truth."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from medaug.domain import PatientKey
from medaug.evaluation.delong import Paired, paired_delong
from medaug.evaluation.figures import Draws
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.permutation import contributions, per_patient, sign_flip_p


def scores_of(
    first: np.ndarray, labels: np.ndarray, owner: np.ndarray, fold: int = 0, seed: int = 0
) -> FoldScores:
    probabilities = np.stack([1 - first, first], axis=1)
    keys = tuple(PatientKey(f"{at:032x}") for at in owner)
    scored = Scored(probabilities, labels, keys)
    return FoldScores(fold, seed, scored, scored)


def cohort(
    rng: np.random.Generator, patients: int, gain: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels (a patient may have both), owners, and correlated scores of two arms on (0, 1)."""
    owner = np.repeat(np.arange(patients), rng.integers(1, 4, size=patients))
    labels = (rng.random(len(owner)) < np.where(owner % 2, 0.85, 0.15)).astype(np.int64)
    labels[:2], labels[-2:] = (0, 1), (0, 1)
    shared = rng.normal(size=patients)[owner]
    arms = [
        stats.norm.cdf(
            (strength * labels + shared + rng.normal(0, 0.8, size=patients)[owner]) / 2
            + rng.normal(0, 0.1, size=len(owner))
        )
        for strength in (1 + gain, 1)
    ]
    return labels, owner, *arms


def draws_of(*runs: FoldScores) -> Draws:
    return Draws.of(runs, 500, np.random.default_rng(0))


class TestPermutation:
    """Swapping a patient's scores between the arms changes the sign of what he contributes."""

    @given(st.integers(0, 500))
    def test_flipped_signs_are_swapped_scores(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        labels = np.arange(12) % 2
        arms = np.round(rng.random((2, 12)), 1)
        owner = rng.integers(5, size=12)
        swap = rng.random(5) < 0.5
        ranks = np.stack([stats.rankdata(each) for each in arms])
        swapped = np.where(swap[owner], ranks[::-1], ranks)
        expected = roc_auc_score(labels, swapped[0]) - roc_auc_score(labels, swapped[1])
        added = contributions(*arms, labels == 1)
        assert added.sum() == pytest.approx(
            roc_auc_score(labels, arms[0]) - roc_auc_score(labels, arms[1])
        )
        assert (added * np.where(swap[owner], -1, 1)).sum() == pytest.approx(expected)

    def test_p_is_that_of_all_sign_flips_by_scipy(self) -> None:
        shares = np.random.default_rng(0).normal(0.4, 1, size=12)
        exact = stats.permutation_test(
            (shares, np.zeros(12)),
            lambda a, b: np.sum(a - b),
            permutation_type="samples",
            vectorized=False,
            n_resamples=np.inf,
        ).pvalue
        assert 0.02 < exact < 0.9
        assert sign_flip_p(shares, 20_000, np.random.default_rng(1)) == pytest.approx(
            exact, abs=0.01
        )

    def test_under_the_null_p_is_uniform_and_patches_alone_would_deceive(self) -> None:
        by_patient = by_patch = 0
        for seed in range(400):
            rng = np.random.default_rng(seed)
            labels, owner, *arms = cohort(rng, 16)
            runs = [scores_of(each, labels, owner) for each in arms]
            by_patient += (
                sign_flip_p(per_patient(*[[r] for r in runs], draws_of(runs[0])), 399, rng) < 0.1
            )
            by_patch += sign_flip_p(contributions(*arms, labels == 1), 399, rng) < 0.1
        assert 24 <= by_patient <= 58
        assert by_patch > 60

    def test_a_gain_is_seen(self) -> None:
        rng = np.random.default_rng(0)
        labels, owner, *arms = cohort(rng, 80, gain=2.0)
        runs = [scores_of(each, labels, owner) for each in arms]
        shares = per_patient([runs[0]], [runs[1]], draws_of(runs[0]))
        assert sign_flip_p(shares, 999, rng) == pytest.approx(0.001)
        assert shares.sum() == pytest.approx(
            roc_auc_score(labels, arms[0]) - roc_auc_score(labels, arms[1])
        )


def slow_delong(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """Standard error after DeLong 1988: covariances of the placements, pair by pair."""
    up, down = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    wins = np.zeros((2, len(up), len(down)))
    for arm, scores in enumerate((first, second)):
        for (i, a), (j, b) in product(enumerate(up), enumerate(down)):
            wins[arm, i, j] = (scores[a] > scores[b]) + (scores[a] == scores[b]) / 2
    s10, s01 = np.cov(wins.mean(axis=2)), np.cov(wins.mean(axis=1))
    s = s10 / len(up) + s01 / len(down)
    return float(np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1]))


class TestDeLong:
    """With one patch per patient DeLong's; with several, Obuchowski's."""

    def paired(self, labels: np.ndarray, owner: np.ndarray, *arms: np.ndarray) -> Paired:
        runs = [scores_of(each, labels, owner) for each in arms]
        found = paired_delong([runs[0]], [runs[1]], draws_of(runs[0]), 0.95)
        assert found is not None
        return found

    @given(st.integers(0, 200))
    def test_one_patch_per_patient_is_delong(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        labels = np.arange(15) % 2
        arms = np.round(rng.random((2, 15)), 1)
        found = self.paired(labels, np.arange(15), *arms)
        assert found.error == pytest.approx(slow_delong(*arms, labels))
        difference = roc_auc_score(labels, arms[0]) - roc_auc_score(labels, arms[1])
        assert found.interval.value == pytest.approx(difference)

    def test_of_several_patches_it_is_the_spread_over_cohorts(self) -> None:
        made = [cohort(np.random.default_rng(seed), 60) for seed in range(300)]
        found = [self.paired(*each) for each in made]
        alone = [self.paired(labels, np.arange(len(labels)), *arms) for labels, _, *arms in made]
        spread = np.std([each.interval.value for each in found])
        assert np.mean([each.error for each in found]) == pytest.approx(spread, rel=0.12)
        assert np.mean([each.error for each in alone]) < 0.85 * spread
        false = sum(each.p < 0.05 for each in found)
        assert 5 <= false <= 27

    def test_folds_of_other_patients_add_and_repeated_trainings_do_not(self) -> None:
        labels, owner, *arms = cohort(np.random.default_rng(1), 40)
        one = self.paired(labels, owner, *arms)

        def over(places: list[tuple[int, int]]) -> float:
            runs = [
                [scores_of(each, labels, owner + 100 * fold, fold, seed) for fold, seed in places]
                for each in arms
            ]
            found = paired_delong(*runs, draws_of(*runs[0]), 0.95)
            assert found is not None
            return found.error

        assert over([(0, 0), (0, 1), (0, 2)]) == pytest.approx(one.error)
        assert over([(0, 0), (1, 0), (2, 0), (3, 0)]) == pytest.approx(one.error / 2)

    def test_three_classes_have_no_single_auc(self) -> None:
        labels = np.arange(12) % 3
        scored = Scored(np.full((12, 3), 1 / 3, np.float32), labels, (PatientKey("a" * 32),) * 12)
        run = [FoldScores(0, 0, scored, scored)]
        assert paired_delong(run, run, draws_of(*run), 0.95) is None
