"""Figures against sklearn, an obvious twin, or a definition."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from medaug.evaluation.statistics import (
    Spread,
    auc,
    decide,
    holm,
    macro_auc,
    p_value,
    patient_weights,
    replicate,
    youden_cut,
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, both classes, and integer weights that leave neither class empty."""
    count = draw(st.integers(4, 30))
    values = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    positive = np.arange(count) % draw(st.integers(2, 3)) == 0
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    weights[:2] += 1
    return np.array(values) / 6, positive, weights.astype(float)


class TestAreaUnderTheCurve:
    """The probability that a positive scores above a negative; a tie counts one half."""

    @given(scored())
    def test_agrees_with_sklearn(self, case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        scores, positive, weights = case
        ours = auc(scores, positive, weights[None])[0]
        assert ours == pytest.approx(metrics.roc_auc_score(positive, scores, sample_weight=weights))

    @given(scored())
    def test_a_weight_is_a_repetition(
        self, case: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> None:
        scores, positive, weights = case
        times = weights.astype(int)
        repeated = np.repeat(scores, times), np.repeat(positive, times)
        whole = np.ones((1, times.sum()))
        assert auc(scores, positive, weights[None])[0] == pytest.approx(auc(*repeated, whole)[0])

    def test_macro_is_the_mean_of_one_against_the_rest(self) -> None:
        rng = np.random.default_rng(0)
        labels = np.arange(60) % 3
        scores = rng.dirichlet([1, 1, 1], size=60)
        expected = metrics.roc_auc_score(labels, scores, multi_class="ovr", average="macro")
        assert macro_auc(scores, labels) == pytest.approx(expected)


class TestDecisions:
    """A patch is given the class whose probability is the largest multiple of its threshold."""

    @given(scored())
    def test_youden_is_the_best_of_all_cuts(
        self, case: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> None:
        scores, positive, _ = case
        false, true, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
        above = scores > youden_cut(scores, positive)
        gained = above[positive].mean() - above[~positive].mean()
        # sklearn's curve also holds the two ends, where everything is on one side.
        inner = (true - false)[1:-1]
        if len(inner):
            assert gained == pytest.approx(inner.max())

    @given(st.integers(0, 1000))
    def test_two_classes_share_one_threshold(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        labels = np.arange(20) % 2
        first = rng.uniform(0.01, 0.99, size=20)
        scores = np.stack([1 - first, first], axis=1)
        cut = youden_cut(first, labels == 1)
        assert np.array_equal(decide(scores, scores, labels), first > cut)

    def test_thresholds_come_from_tuning_alone(self) -> None:
        tuning = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        decided = decide(np.array([[0.77, 0.23], [0.72, 0.28]]), tuning, np.array([0, 0, 1, 1]))
        assert decided.tolist() == [0, 1]

    @pytest.mark.parametrize("classes", [2, 3, 4])
    def test_rates_agree_with_sklearn(self, classes: int) -> None:
        rng = np.random.default_rng(classes)
        labels = np.arange(48) % classes
        scores = rng.dirichlet(np.ones(classes), size=(2, 48))
        decided = rng.integers(classes, size=(2, 48))
        weights = np.stack([np.ones(48), rng.integers(1, 4, 48).astype(float)])
        found = replicate(scores, decided, labels, weights)
        for row, weight in enumerate(weights):
            for seed in range(2):
                given_ = decided[seed]
                for at in range(classes):
                    truth, said = labels == at, given_ == at
                    assert found.sensitivity[row, seed, at] == pytest.approx(
                        metrics.recall_score(truth, said, sample_weight=weight)
                    )
                    assert found.specificity[row, seed, at] == pytest.approx(
                        metrics.recall_score(~truth, ~said, sample_weight=weight)
                    )
                    assert found.auc[row, seed, at] == pytest.approx(
                        metrics.roc_auc_score(truth, scores[seed, :, at], sample_weight=weight)
                    )
                assert found.balanced_accuracy[row, seed] == pytest.approx(
                    metrics.balanced_accuracy_score(labels, given_, sample_weight=weight)
                )


class TestResampling:
    """A replicate draws patients; all patches of a patient move together."""

    @given(st.integers(0, 100))
    @settings(max_examples=20)
    def test_patients_move_whole_and_every_class_stays(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        patients = rng.permutation(np.repeat(np.arange(8), 3))
        labels = (patients < 2).astype(np.int64)
        weights = patient_weights(patients, labels, 50, rng)
        assert (weights[0] == 1).all()
        for patient in range(8):
            of_patient = weights[:, patients == patient]
            assert (of_patient == of_patient[:, :1]).all()
        assert (weights[:, ::1].sum(1) == 24).all()
        assert (weights @ (labels == 1) > 0).all()
        assert (weights @ (labels == 0) > 0).all()

    def test_every_patient_is_drawn_once_on_average(self) -> None:
        rng = np.random.default_rng(0)
        weights = patient_weights(np.arange(20), np.arange(20) % 2, 4000, rng)
        assert weights[1:].mean(axis=0) == pytest.approx(np.ones(20), abs=0.1)
        assert weights[1:].var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.12)


class TestTrainingLuck:
    """Variance between seeds counts, less the part that resampled patients already explain."""

    def test_identical_seeds_have_none(self) -> None:
        figures = np.repeat(np.random.default_rng(0).normal(size=(200, 1)), 3, axis=1)
        assert Spread.of(figures).luck == 0

    def test_what_the_patients_explain_is_not_counted_twice(self) -> None:
        rng = np.random.default_rng(1)
        # Each seed errs on its own patients: seeds differ by as much as the replicates do.
        found = [Spread.of(rng.normal(size=(500, 4))).luck for _ in range(300)]
        assert np.median(found) < 0.05
        assert np.mean(found) < 0.15

    def test_a_true_shift_between_seeds_is_found(self) -> None:
        rng = np.random.default_rng(2)
        shifts = rng.normal(0, 3, size=(300, 1, 4))
        found = [Spread.of(rng.normal(size=(500, 4)) + shift).luck for shift in shifts]
        assert np.mean(found) == pytest.approx(9 / 4, rel=0.15)

    def test_smallest_difference_is_2_8_standard_errors_without_luck(self) -> None:
        replicates = np.random.default_rng(0).normal(0, 2.0, size=100_000)
        spread = Spread(0.0, replicates, luck=0.0, freedom=4)
        assert spread.smallest_difference(0.05) == pytest.approx(2.8 * 2.0, rel=0.01)
        few = Spread(0.0, replicates, luck=4.0, freedom=2).smallest_difference(0.05)
        assert few > 2.8 * np.sqrt(8.0)


class TestHolm:
    """Holm's procedure is the closed test of Bonferroni: checked over all subsets."""

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
    def test_is_the_closed_bonferroni_test(self, p: list[float]) -> None:
        subsets = [
            subset for size in range(1, len(p) + 1) for subset in combinations(range(len(p)), size)
        ]
        closed = [
            max(min(1.0, len(s) * min(p[at] for at in s)) for s in subsets if here in s)
            for here in range(len(p))
        ]
        assert holm(p) == pytest.approx(closed)


def test_p_is_never_zero_and_one_for_no_difference() -> None:
    assert p_value(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert p_value(np.zeros(999)) == 1.0
    assert p_value(-np.full(999, 0.1)) == p_value(np.full(999, 0.1))
