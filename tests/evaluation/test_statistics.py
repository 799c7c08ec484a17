"""Figures against sklearn, an obvious twin, or a definition."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from medaug.evaluation.statistics import auc, decide, holm, macro_auc, youden_cut


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
