"""The permutation test has the right size, sees both directions, and says what it counted."""

import numpy as np
import pytest

from medaug.privacy.permutation import (
    Deals,
    auc,
    auc_interval,
    clopper_pearson,
    highest_auc_among_members,
    permutation_test,
)

MEMBER = np.arange(100) < 50
ALIKE = np.zeros(100, np.int64)


def correlated(rng: np.random.Generator, channels: int = 6) -> np.ndarray:
    return rng.normal(size=100) + rng.normal(size=(channels, 100))


class TestSize:
    """With nothing leaked, p ≤ 0.05 in about 5 % of audits, whatever the scores look like."""

    @pytest.mark.parametrize("kind", ["plain", "tied", "by class"])
    def test_nothing_leaked(self, kind: str) -> None:
        # The classes differ, and are dealt out in exact shares, as the split does it.
        classes = np.arange(100) % 2 if kind == "by class" else ALIKE
        deals = Deals.of(MEMBER, classes, 0, 399)
        p = []
        for run in range(250):
            rng = np.random.default_rng([1, run])
            scores = correlated(rng) + 5 * classes
            p.append(deals.test(np.round(scores) if kind == "tied" else scores).p)
        assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09
        assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.1)

    def test_classes_in_unequal_shares_are_no_finding(self) -> None:
        """Members mostly of one class: only labels within a class may be exchanged."""
        classes = np.where(MEMBER, np.arange(100) % 5 > 0, np.arange(100) % 5 == 0).astype(int)
        scores = np.random.default_rng(2).normal(size=(3, 100)) + 5 * classes
        assert permutation_test(scores, MEMBER, classes, 0, 999).p > 0.05
        assert permutation_test(scores, MEMBER, ALIKE, 0, 999).p < 0.01


class TestPower:
    @pytest.mark.parametrize(("sign", "statistic"), [(1, {"higher", "ahead"}), (-1, {"lower"})])
    def test_both_directions(self, sign: int, statistic: set[str]) -> None:
        scores = correlated(np.random.default_rng(3))
        scores[:, :25] += sign * 4
        found = permutation_test(scores, MEMBER, ALIKE, 0, 999)
        assert found.p < 0.01
        assert found.statistic in statistic

    def test_one_channel_among_many_is_named(self) -> None:
        scores = correlated(np.random.default_rng(4), 20)
        scores[13, :20] += 20
        found = permutation_test(scores, MEMBER, ALIKE, 0, 999)
        assert (found.p < 0.01, found.channel, found.ahead[13] >= 20) == (True, 13, True)

    def test_many_channels_cost(self) -> None:
        """The p-value over channels is never below that of the best one alone."""
        scores = np.random.default_rng(5).normal(size=(20, 100))
        found = permutation_test(scores, MEMBER, ALIKE, 0, 999)
        assert found.p > 2 * min(found.by_channel)

    def test_few_leaks_cannot_be_seen(self) -> None:
        scores = correlated(np.random.default_rng(6))
        scores[:, 0] += 50
        assert permutation_test(scores, MEMBER, ALIKE, 0, 999).p > 0.05


class TestLead:
    """Two thirds of the error are for the run of one channel; the size stays."""

    def test_nothing_leaked(self) -> None:
        deals = Deals.of(MEMBER, ALIKE, 0, 399)
        p = [deals.test(correlated(np.random.default_rng([10, run])), 0).p for run in range(250)]
        assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09
        assert np.mean(np.array(p) <= 0.5) <= 0.6  # a run has few values, and ties make p larger

    def test_eight_at_the_top_of_it_are_refused(self) -> None:
        """Figure P4; in a channel that does not lead, they are not."""
        scores = correlated(np.random.default_rng(11), 25)
        scores[0, :8] += 20
        found = permutation_test(scores, MEMBER, ALIKE, 0, 1999)
        assert found.p > 0.01
        led = Deals.of(MEMBER, ALIKE, 0, 1999).test(scores, 0)
        assert led.p < 0.01
        assert (led.channel, led.statistic, led.ahead[0] >= 8) == (0, "ahead", True)


class TestFigures:
    def test_a_tie_with_another_patient_is_no_true_positive(self) -> None:
        scores = np.zeros((1, 100))
        scores[0, :3], scores[0, 99] = 9, 8
        assert permutation_test(scores, MEMBER, ALIKE, 0, 99).ahead == (3,)
        scores[0, 99] = 9
        assert permutation_test(scores, MEMBER, ALIKE, 0, 99).ahead == (0,)

    def test_auc_against_counting(self) -> None:
        scores = np.random.default_rng(7).integers(0, 6, 100).astype(float)
        pairs = [(a > b) + (a == b) / 2 for a in scores[MEMBER] for b in scores[~MEMBER]]
        assert auc(scores, MEMBER) == pytest.approx(np.mean(pairs))

    def test_interval_covers_the_truth(self) -> None:
        hits = 0
        for run in range(200):
            scores = np.random.default_rng([8, run]).normal(size=100) + MEMBER
            low, high = auc_interval(scores, MEMBER, run, 400)
            hits += low <= 0.7602 <= high  # Φ(1 / √2)
        assert 0.89 <= hits / 200 <= 0.99

    def test_control_is_what_the_best_of_many_reaches_by_chance(self) -> None:
        rng = np.random.default_rng(9)
        one, many = (rng.normal(size=(count, 100)) for count in (1, 20))
        assert 0.5 < highest_auc_among_members(one, MEMBER, 0) < 0.68
        assert highest_auc_among_members(many, MEMBER, 0) > highest_auc_among_members(
            one, MEMBER, 0
        )

    def test_clopper_pearson(self) -> None:
        assert clopper_pearson(59, 59)[0] == pytest.approx(0.025 ** (1 / 59))
        assert clopper_pearson(3, 45) == pytest.approx((0.01396, 0.18267), abs=1e-4)

    def test_nan_is_not_ranked(self) -> None:
        with pytest.raises(ValueError, match="NaN"):
            permutation_test(np.full((1, 100), np.nan), MEMBER, ALIKE, 0, 9)
