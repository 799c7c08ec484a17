"""Patients, seeds and training sets: each against a definition, scipy, or a known truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medaug.domain import PatientKey
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.uncertainty import (
    Design,
    Luck,
    Spread,
    corrected_resampled,
    p_value,
    patient_weights,
)


class TestResampling:
    """A replicate draws patients, as many as there are, and keeps every class."""

    @given(st.integers(0, 100))
    @settings(max_examples=20)
    def test_every_class_stays(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        patients = rng.permutation(np.repeat(np.arange(8), 3))
        labels = (patients < 2).astype(np.int64)
        weights = patient_weights(patients, labels, 50, rng)
        assert weights.shape == (51, 8)
        assert (weights[0] == 1).all()
        assert (weights.sum(axis=1) == 8).all()
        assert (weights[:, :2].sum(axis=1) > 0).all()

    def test_every_patient_is_drawn_once_on_average(self) -> None:
        rng = np.random.default_rng(0)
        weights = patient_weights(np.arange(20), np.arange(20) % 2, 4000, rng)
        assert weights[1:].mean(axis=0) == pytest.approx(np.ones(20), abs=0.1)
        assert weights[1:].var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.12)


def runs_of(places: list[tuple[int, int, range, range]]) -> list[FoldScores]:
    """(fold, seed, test patients, tuning patients) without scores worth mentioning."""

    def scored(patients: range) -> Scored:
        keys = tuple(PatientKey(f"{at:032x}") for at in patients)
        return Scored(np.zeros((len(keys), 2), np.float32), np.zeros(len(keys), np.int64), keys)

    return [FoldScores(fold, seed, scored(a), scored(b)) for fold, seed, a, b in places]


class TestDesign:
    """Trainings on one training set are told from trainings on another."""

    def test_folds_that_stay(self) -> None:
        parts = [range(10), range(10, 20), range(20, 30), range(30, 40), range(40, 50)]
        found = Design.of(
            runs_of([(k, s, parts[k], parts[(k + 1) % 5]) for s in range(2) for k in range(5)])
        )
        assert found.training_set.tolist() == [0, 1, 2, 3, 4] * 2
        assert found.overlap == pytest.approx(10 / 30)

    def test_folds_dealt_anew_are_other_training_sets(self) -> None:
        halves = [range(20), range(20, 40)], [range(10, 30), range(30, 50)]
        found = Design.of(
            runs_of([(k, s, halves[s][k], range(0)) for s in range(2) for k in range(2)])
        )
        assert found.sets == 4

    def test_one_split_has_no_overlap(self) -> None:
        found = Design.of(runs_of([(0, s, range(9), range(9, 12)) for s in range(3)]))
        assert (found.sets, found.overlap) == (1, 0.0)

    def test_an_external_test_set_keeps_the_folds_apart(self) -> None:
        found = Design.of(runs_of([(k, 0, range(9), range(9, 12)) for k in range(4)]))
        assert (found.sets, found.overlap) == (4, pytest.approx(1 / 3))


ONE = Design(np.zeros(4, dtype=np.int64), 0.0)


class TestTrainingLuck:
    """Variance between seeds counts, less the part that resampled patients already explain."""

    def test_identical_seeds_have_none(self) -> None:
        figures = np.repeat(np.random.default_rng(0).normal(size=(200, 1)), 4, axis=1)
        assert Spread.of(figures, ONE).luck[0].variance == 0

    def test_what_the_patients_explain_is_not_counted_twice(self) -> None:
        rng = np.random.default_rng(1)
        # Each seed errs on its own patients: seeds differ by as much as the replicates do.
        found = [Spread.of(rng.normal(size=(500, 4)), ONE).luck[0].variance for _ in range(300)]
        assert np.median(found) < 0.05
        assert np.mean(found) < 0.15

    def test_a_true_shift_between_seeds_is_found(self) -> None:
        rng = np.random.default_rng(2)
        shifts = rng.normal(0, 3, size=(300, 1, 4))
        drawn = [Spread.of(rng.normal(size=(500, 4)) + shift, ONE) for shift in shifts]
        assert np.mean([each.luck[0].variance for each in drawn]) == pytest.approx(9 / 4, rel=0.15)

    def test_the_seeds_of_both_arms_count_in_a_difference(self) -> None:
        rng = np.random.default_rng(3)
        arms = rng.normal(0, 3, size=(2, 1, 4)) + rng.normal(size=(2, 500, 4))
        each = [Spread.of(arm, ONE).luck[0] for arm in arms]
        both = Spread.between(*arms, ONE).luck[0]
        assert both.variance == pytest.approx(each[0].variance + each[1].variance)
        assert both.freedom == 6


class TestTrainingSets:
    """Folds share training patients: their mean varies by more than the n-th of one fold."""

    FOLDS = Design(np.repeat(np.arange(5), 2), 0.25)

    def test_the_variance_between_folds_counts_with_the_correction(self) -> None:
        rng = np.random.default_rng(4)
        of_folds = []
        for _ in range(300):
            sets = np.repeat(rng.normal(0, 3, size=5), 2)
            seeds = rng.normal(0, 1, size=10)
            figures = sets + seeds + rng.normal(0, 0.5, size=(300, 10))
            by_seeds, by_sets = Spread.of(figures, self.FOLDS).luck
            assert (by_seeds.freedom, by_sets.freedom) == (5, 4)
            of_folds.append(by_sets.variance)
        assert np.mean(of_folds) == pytest.approx(9 * (1 / 5 + 0.25), rel=0.15)

    def test_what_folds_share_with_the_baseline_is_not_luck(self) -> None:
        rng = np.random.default_rng(5)
        shared = np.repeat(rng.normal(0, 3, size=5), 2)
        arms = [shared + rng.normal(0, 1e-6, size=(300, 10)) for _ in range(2)]
        assert Spread.between(*arms, self.FOLDS).luck[-1].variance < 1e-10


class TestCorrectedResampled:
    """Nadeau and Bengio 2003: Student's t, but for the variance of folds that overlap."""

    def test_without_overlap_it_is_students(self) -> None:
        values = np.random.default_rng(0).normal(0.3, 1, size=7)
        found = corrected_resampled(values, 0.0, 0.9)
        theirs = stats.ttest_1samp(values, 0.0)
        assert found is not None
        assert found.p == pytest.approx(theirs.pvalue)
        interval = theirs.confidence_interval(0.9)
        assert (found.interval.low, found.interval.high) == pytest.approx(tuple(interval))

    def test_a_hand_made_case(self) -> None:
        found = corrected_resampled(np.array([1.0, 2.0, 3.0]), 0.5, 0.95)
        assert found is not None
        # sqrt((1/3 + 1/2) * 1) = 0.913; t = 2.19 with 2 degrees of freedom
        assert found.p == pytest.approx(2 * stats.t.sf(2 / np.sqrt(5 / 6), 2))

    def test_correlated_folds_deceive_students_test_and_not_this(self) -> None:
        """Correlation tested/(tested + trained), which is what the correction is made for."""
        rng = np.random.default_rng(1)
        overlap = 1 / 9
        shared = overlap / (1 + overlap)
        false = {0.0: 0, overlap: 0}
        for _ in range(2000):
            values = np.sqrt(shared) * rng.normal() + np.sqrt(1 - shared) * rng.normal(size=10)
            for correction in false:
                found = corrected_resampled(values, correction, 0.95)
                assert found is not None
                false[correction] += found.p < 0.05
        assert 70 <= false[overlap] <= 130
        assert false[0.0] > 200

    def test_one_training_set_tells_nothing(self) -> None:
        assert corrected_resampled(np.array([0.3]), 0.2, 0.95) is None


class TestPower:
    """A true difference of the stated size is found with the stated power."""

    @pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.0125, 0.8), (0.05, 0.9)])
    def test_it_is_that_of_the_normal_law_without_luck(self, alpha: float, power: float) -> None:
        draws = np.random.default_rng(0).normal(0.3, 2.0, size=400_000)
        expected = 2 * (stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
        spread = Spread(0.3, draws)
        found = spread.smallest_difference(alpha, np.random.default_rng(1), power)
        assert found == pytest.approx(expected, rel=0.04)

    @pytest.mark.parametrize("freedom", [2, 4, 200])
    def test_it_is_that_of_students_test_where_luck_is_all(self, freedom: int) -> None:
        """The noncentral t law, because every study estimates its luck anew."""
        typical = stats.chi2.median(freedom) / freedom  # so that the variance is likely 4
        spread = Spread(0.0, np.zeros(2000), (Luck(4.0 * typical, 0.0, 1.0, freedom),))
        found = spread.smallest_difference(0.05, np.random.default_rng(0))
        shown = stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, found / 2)
        assert shown == pytest.approx(0.8, abs=0.04)


def test_p_is_never_zero_and_one_for_no_difference() -> None:
    assert p_value(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert p_value(np.zeros(999)) == 1.0
    assert p_value(-np.full(999, 0.1)) == p_value(np.full(999, 0.1))
