"""What a mechanism costs, held against figures that others computed."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medaug.errors import SettingsError
from medaug.forbidden import forbidden_words
from medaug.privacy.accounting import (
    Rounds,
    auc_at_most,
    cost_of,
    epsilon_of,
    epsilon_of_events,
    found_at_most,
    gaussian_delta,
    mu_of,
    refuse_delta,
    rounds_for,
    statements,
)

# (rate, sigma, rounds, delta, epsilon): dp-accounting 0.6.0, from_gaussian_mechanism with
# value_discretization_interval=1e-4 (ten times finer than ours), self_compose.
SAMPLED = [
    (0.1, 1, 2000, 1e-5, 39.588384),
    (0.32, 4, 2000, 1e-5, 21.421786),
    (32 / 300, 4, 2000, 1e-5, 5.517451),
    (32 / 300, 4, 2000, 1e-4, 4.815477),
    (0.05, 2, 500, 1e-5, 2.532034),
    (0.01, 0.8, 1000, 1e-5, 3.141018),
    (0.2, 6, 1000, 1e-6, 5.271139),
    (0.5, 10, 300, 1e-5, 3.734917),
    (0.02, 1.2, 3000, 1e-4, 4.375399),
    (0.9, 20, 100, 1e-5, 1.774095),
]
WHOLE = [
    (20, 1000, 1e-5),
    (1, 1, 1e-5),
    (2.409, 3, 1e-5),
    (6.462, 3, 1e-5),
    (1.04, 3, 1e-5),
    (50, 3, 1e-6),
    (0.5, 1, 1e-4),
    (4, 2000, 1e-5),
    (10, 10, 1e-8),
    (100, 5000, 1e-3),
]


class TestEpsilon:
    """Within 1 % of the reference and never below."""

    @pytest.mark.parametrize("row", SAMPLED)
    def test_sampled(self, row: tuple[float, float, int, float, float]) -> None:
        pytest.importorskip("dp_accounting")
        rate, sigma, rounds, delta, reference = row
        epsilon = epsilon_of(Rounds(sigma, rounds, rate), delta)
        assert reference - 1e-6 <= epsilon <= 1.01 * reference

    @pytest.mark.parametrize("row", WHOLE)
    def test_without_sampling(self, row: tuple[float, int, float]) -> None:
        dp_accounting = pytest.importorskip("dp_accounting")
        sigma, rounds, delta = row
        reference = dp_accounting.get_epsilon_gaussian(sigma / rounds**0.5, delta)
        epsilon = epsilon_of(Rounds(sigma, rounds), delta)
        assert reference * (1 - 1e-9) <= epsilon <= 1.01 * reference

    def test_the_golden_values(self) -> None:
        pytest.importorskip("dp_accounting")
        golden = [(0.1, 1, 2000, 39.59), (0.32, 4, 2000, 21.42), (1, 20, 1000, 7.511)]
        for rate, sigma, rounds, epsilon in golden:
            found = epsilon_of(Rounds(sigma, rounds, rate), 1e-5)
            assert found == pytest.approx(epsilon, rel=3e-4)


class TestNoise:
    """The noise that is asked for costs no more than allowed, and not much less."""

    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.1, 20), st.sampled_from([1e-6, 1e-5, 1e-3]), st.sampled_from([1, 3, 1000]))
    def test_without_sampling(self, epsilon: float, delta: float, rounds: int) -> None:
        what = rounds_for(epsilon, delta, rounds)
        assert epsilon_of(what, delta) <= epsilon
        assert epsilon_of(Rounds(what.sigma * 0.998, rounds), delta) > epsilon

    def test_sampled(self) -> None:
        pytest.importorskip("dp_accounting")
        what = rounds_for(3, 1e-5, 500, 0.05)
        assert epsilon_of(what, 1e-5) <= 3
        assert epsilon_of(Rounds(what.sigma * 0.998, 500, 0.05), 1e-5) > 3

    def test_without_dp_accounting_votes_are_still_accounted_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "dp_accounting.pld", None)
        assert cost_of(rounds_for(3, 1e-5, 3), 1e-5, "dp-vote").epsilon <= 3
        with pytest.raises(SettingsError, match=r"medaug\[dp\]"):
            epsilon_of(Rounds(1, 10, 0.1), 1e-5)


def event(noise: str, what: Rounds) -> dict[str, object]:
    return {"noise": noise, "sigma": what.sigma, "rounds": what.rounds, "rate": what.rate}


class TestSeveralRuns:
    """What was done to one patient in several runs adds up as one mechanism does."""

    def test_gaussians_compose_to_one(self) -> None:
        both = [event("a", Rounds(4.0, 3)), event("b", Rounds(4.0, 5))]
        assert epsilon_of_events(both, 1e-5) == pytest.approx(epsilon_of(Rounds(4.0, 8), 1e-5))

    def test_one_noise_is_charged_once(self) -> None:
        """A release from noise that was charged before spends nothing."""
        once = event("a", Rounds(4.0, 3))
        assert epsilon_of_events([once, dict(once)], 1e-5) == epsilon_of(Rounds(4.0, 3), 1e-5)
        assert epsilon_of_events([], 1e-5) == 0

    def test_sampled_and_whole(self) -> None:
        """More than either alone, and at most what adding ε and δ gives."""
        pytest.importorskip("dp_accounting")
        sampled, whole = Rounds(2.0, 100, 0.05), Rounds(4.0, 3)
        both = [event("a", sampled), event("b", whole)]
        together = epsilon_of_events(both, 2e-5)
        each = [epsilon_of(what, 1e-5) for what in (sampled, whole)]
        assert max(epsilon_of(what, 2e-5) for what in (sampled, whole)) < together <= sum(each)
        reverse = epsilon_of_events(both[::-1], 2e-5)
        assert reverse == pytest.approx(together, rel=1e-6)


class TestBounds:
    """No membership test does better than the bounds say, and the best one reaches them."""

    def test_the_best_test_on_a_gaussian_reaches_them(self) -> None:
        rng = np.random.default_rng(0)
        mu = mu_of(Rounds(2.0, 4))
        absent, present = rng.normal(0, 1, 400_000), rng.normal(mu, 1, 400_000)
        found = float((present > np.quantile(absent, 0.99)).mean())
        assert found == pytest.approx(found_at_most(mu, 0.01), rel=0.03)
        auc = float((present[:200_000] > absent[:200_000]).mean())
        assert auc == pytest.approx(auc_at_most(mu), abs=0.005)

    def test_sampled_rounds_stay_below_them_and_half_the_noise_does_not(self) -> None:
        pytest.importorskip("dp_accounting")
        rate, rounds, rng = 0.2, 20, np.random.default_rng(0)

        def excess(sigma: float) -> float:
            """By how much the likelihood-ratio test beats the bounds for sigma = 1."""

            def score(present: bool) -> np.ndarray:
                shift = (rng.random((40_000, rounds)) < rate) * float(present)
                seen = shift + sigma * rng.standard_normal((40_000, rounds))
                ratio = 1 - rate + rate * np.exp((seen - 0.5) / sigma**2)
                return np.asarray(np.log(ratio).sum(axis=1))

            absent, present = score(False), score(True)
            return max(
                float((present > np.quantile(absent, 1 - false)).mean()) - found_at_most(mu, false)
                for false in (0.3, 0.1, 0.01)
            )

        mu = mu_of(Rounds(1.0, rounds, rate))
        assert excess(1.0) < 0.01
        assert excess(0.5) > 0.05

    def test_it_covers_the_whole_profile(self) -> None:
        pld = pytest.importorskip("dp_accounting.pld.privacy_loss_distribution")
        what = Rounds(1.0, 20, 0.2)
        loss = pld.from_gaussian_mechanism(1.0, sampling_prob=0.2).self_compose(20)
        mu = mu_of(what)
        for epsilon in np.linspace(0.05, float(loss.get_epsilon_for_delta(2e-6)), 17):
            assert gaussian_delta(mu, float(epsilon)) >= loss.get_delta_for_epsilon(float(epsilon))


class TestStatement:
    """Unit, relation, accountant and what is excluded are always said; nothing more is."""

    def test_everything_is_said(self) -> None:
        cost = cost_of(rounds_for(3, 1e-5, 3), 1e-5, "dp-vote")
        said = " ".join(statements(cost))
        for part in (
            "Patient-level",
            "add or remove one patient",
            "analytic Gaussian",
            "δ = 1e-05",
        ):
            assert part in said
        assert all(phrase in said for phrase in cost.excluded)
        assert forbidden_words(said) == []
        assert 2.99 < cost.epsilon <= 3

    def test_delta_may_not_publish_a_patient(self) -> None:
        refuse_delta(1e-3, 100)
        with pytest.raises(SettingsError, match=r"at most 1 / \(10 n\)"):
            refuse_delta(1.01e-3, 100)
