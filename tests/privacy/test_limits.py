"""The limit keeps its promise to new patients with 95 % confidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from medaug.privacy.limits import allowed_above, limit_of, share_above


class TestOrderStatistic:
    """P(false rejection <= 5 %) >= 95 %: K = 59 takes the maximum, 93 the second, 124 the third."""

    @pytest.mark.parametrize(
        ("patients", "above"),
        [(19, None), (58, None), (59, 0), (92, 0), (93, 1), (123, 1), (124, 2), (153, 3)],
    )
    def test_wilks_table(self, patients: int, above: int | None) -> None:
        assert allowed_above(patients) == above

    @given(st.integers(1, 600), st.floats(0.01, 0.3))
    def test_is_the_largest_that_the_binomial_allows(self, patients: int, share: float) -> None:
        above = allowed_above(patients, share)
        allowed = [r for r in range(patients) if binom.cdf(r, patients, share) <= 0.05]
        assert above == (max(allowed) if allowed else None)

    def test_takes_that_order_statistic(self) -> None:
        scores = np.random.default_rng(0).permutation(124).astype(float)
        assert limit_of(scores, 0.05) == 121
        assert limit_of(scores[:58], 0.05) == scores[:58].max()

    @given(st.integers(1, 300))
    def test_bound_of_the_maximum(self, patients: int) -> None:
        assert share_above(patients, 0) == pytest.approx(1 - 0.05 ** (1 / patients))

    @given(st.integers(59, 500))
    def test_bound_keeps_what_was_wanted(self, patients: int) -> None:
        above = allowed_above(patients)
        assert above is not None
        assert share_above(patients, above) <= 0.05 < share_above(patients, above + 1)

    def test_everybody_above_bounds_nothing(self) -> None:
        assert share_above(20, 20) == 1


class TestPromise:
    """Simulated: scores uniform on [0, 1], so that the share above a limit x is 1 - x."""

    RUNS = 4000

    @pytest.mark.parametrize("patients", [22, 59, 80, 124])
    def test_order_statistic_fails_in_at_most_5_percent(self, patients: int) -> None:
        draws = np.random.default_rng(1).random((self.RUNS, patients))
        limits = np.array([limit_of(scores, 0.05) for scores in draws])
        bound = share_above(patients, allowed_above(patients) or 0)
        failures = np.mean(1 - limits > bound)
        assert failures <= 0.062
        if patients in (22, 59):
            assert failures >= 0.035, "the maximum's bound is sharp; a loose one is a wrong one"

    @pytest.mark.parametrize("second", [0.88, 0.93, 0.95, 0.97, 0.99])
    def test_smaller_of_two_limits_keeps_the_bound_too(self, second: float) -> None:
        draws = np.random.default_rng(2).random((self.RUNS, 80))
        failures = 0
        for scores in draws:
            limit = min(limit_of(scores, 0.05), second)
            failures += 1 - limit > share_above(80, int((scores > limit).sum()))
        assert failures / self.RUNS <= 0.062

    def test_a_lower_order_statistic_would_break_it(self) -> None:
        draws = np.random.default_rng(3).random((self.RUNS, 59))
        second_highest = np.sort(draws, axis=1)[:, -2]
        assert np.mean(1 - second_highest > 0.05) > 0.15
