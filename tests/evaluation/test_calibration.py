"""Brier score against sklearn, calibration error against an obvious twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from medaug.evaluation.calibration import BINS, brier, calibration_error, gaps


def slow_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, patch by patch."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities, labels, strict=True):
        (at,) = [at for at in range(BINS) if at / BINS < max(row) <= (at + 1) / BINS + 1e-15][:1]
        bins.setdefault(at, []).append((max(row), int(row.argmax()) == label))
    return sum(
        len(bin_) / len(labels) * abs(np.mean([c for c, _ in bin_]) - np.mean([r for _, r in bin_]))
        for bin_ in bins.values()
    )


@given(st.integers(0, 200), st.integers(2, 4))
def test_calibration_error_is_that_of_the_paper(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.5), size=40)
    labels = rng.integers(classes, size=40)
    times = rng.integers(0, 3, size=40)
    times[0] = 1
    weights = np.stack([np.ones(40), times.astype(float)])
    found = calibration_error(gaps(probabilities, labels, weights), weights.sum(axis=1))
    repeated = np.repeat(probabilities, times, axis=0), np.repeat(labels, times)
    assert found == pytest.approx([slow_error(probabilities, labels), slow_error(*repeated)])


def test_half_the_patches_right_at_full_confidence_is_an_error_of_one_half() -> None:
    probabilities = np.tile([1.0, 0.0], (10, 1))
    labels = np.arange(10) % 2
    weights = np.ones((1, 10))
    assert calibration_error(gaps(probabilities, labels, weights), np.array([10.0])) == 0.5


def test_the_brier_score_is_twice_that_of_sklearn_for_two_classes() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet([1, 1], size=50), rng.integers(2, size=50)
    theirs = metrics.brier_score_loss(labels, probabilities[:, 1])
    assert brier(probabilities, labels).mean() == pytest.approx(2 * theirs)
