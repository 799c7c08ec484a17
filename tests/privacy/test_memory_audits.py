"""Twins, canaries and the bound from one run: null, power and golden values of each."""

import numpy as np
import planted
import pytest

from medaug.privacy.canaries import choose_canaries, exposure
from medaug.privacy.nearness import rows_of
from medaug.privacy.one_run import ceiling, epsilon_bound, guess
from medaug.privacy.twins import audit_twins, calibrate, deal_twins, scores_of_twins


class TestTwins:
    def scores(self, run: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([1, run])
        halves = deal_twins(50, 12, run)
        # Patients differ far more among each other than by being members.
        return rng.normal(0, 5, 50) + rng.normal(size=halves.shape) + shift * halves, halves

    def test_pairs_are_complementary_halves(self) -> None:
        halves = deal_twins(51, 14, 0)
        assert (halves[::2] ^ halves[1::2]).all()
        assert set(halves.sum(axis=1)) == {25, 26}
        assert (halves.sum(axis=0) == 7).all()

    def test_nothing_leaked(self) -> None:
        p = [audit_twins(*self.scores(run, 0), run, deals=99).p for run in range(120)]
        assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.11

    def test_small_shifts_are_found_though_patients_differ(self) -> None:
        found = [audit_twins(*self.scores(run, 0.35), run, deals=99).p for run in range(20)]
        assert np.mean(np.array(found) <= 0.05) >= 0.9

    def test_calibration_is_fair_to_those_who_are_out(self) -> None:
        """A non-member's own score is no part of its mean: both sides then scatter alike."""
        spreads = []
        for run in range(30):
            scores, halves = self.scores(run, 0)
            calibrated = calibrate(scores, halves)
            spreads.append(calibrated[halves].std() / calibrated[~halves].std())
        assert np.mean(spreads) == pytest.approx(1, abs=0.04)

    def test_rate_at_one_percent_needs_three_hundred_pairs(self) -> None:
        found = audit_twins(*self.scores(0, 8), 0, deals=99)
        assert found.at_one_percent == pytest.approx(1, abs=0.05)
        few = deal_twins(40, 12, 0)
        small = audit_twins(np.random.default_rng(0).normal(size=few.shape), few, 0, deals=99)
        assert small.at_one_percent is None

    def test_a_procedure_that_repeats_one_patient_in_five(self) -> None:
        patches = planted.patients(range(20))
        halves = deal_twins(20, 12, 0)

        def procedure(seen, twin: int) -> np.ndarray:
            free = [planted.lesion(1000 * twin + at, "cyst") for at in range(16)]
            return np.concatenate([np.stack(free), seen.images[:2]])

        found = audit_twins(scores_of_twins(patches, halves, procedure), halves, 0, deals=999)
        assert found.p < 0.01

    def test_halves_that_overlap_are_refused(self) -> None:
        with pytest.raises(ValueError, match="share no patient"):
            audit_twins(np.zeros((12, 20)), np.ones((12, 20), bool), 0)


class TestCanaries:
    POOL = np.stack([planted.lesion(70_000_000 + at, "cyst") for at in range(160)])
    HONEST = np.stack([planted.lesion(80_000_000 + at, "cyst") for at in range(40)])

    def test_forgotten_canaries(self) -> None:
        p, lost = [], []
        for run in range(40):
            found = exposure(self.HONEST, self.POOL, choose_canaries(10, run, 160))
            p.append(found.p)
            lost.append(found.canary_like.mean())
        assert np.mean(np.array(p) < 0.05) <= 0.15
        assert 0.2 < np.mean(p) < 0.8
        assert np.mean(lost) < 0.15

    def test_remembered_canaries(self) -> None:
        """Figure P5: as many bits as the pool has to give, and every repetition is removed."""
        chosen = choose_canaries(10, 0, 160)
        samples = np.concatenate([self.HONEST, self.POOL[chosen]])
        found = exposure(samples, self.POOL, chosen)
        assert found.bits == pytest.approx(np.full(10, np.log2(151)))
        assert found.found
        assert found.canary_like[40:].all()

    def test_some_remembered(self) -> None:
        chosen = choose_canaries(10, 1, 160)
        samples = np.concatenate([self.HONEST, self.POOL[chosen[:5]]])
        assert exposure(samples, self.POOL, chosen).found

    def test_choice(self) -> None:
        assert (choose_canaries(12, 3) == choose_canaries(12, 3)).all()
        assert len(set(choose_canaries(16, 3).tolist())) == 16
        with pytest.raises(ValueError, match="8 to 16"):
            choose_canaries(7, 0)


class TestOneRun:
    @pytest.mark.parametrize(("guesses", "epsilon"), [(50, 2.78), (100, 3.49), (200, 4.19)])
    def test_ceiling(self, guesses: int, epsilon: float) -> None:
        """Golden values of the design: no run can show more."""
        assert round(ceiling(guesses), 2) == epsilon
        found = epsilon_bound(guesses, guesses, guesses)
        assert found.epsilon == pytest.approx(ceiling(guesses), abs=1e-6) == found.ceiling

    def test_delta_lowers_the_bound(self) -> None:
        exact, loose = (epsilon_bound(200, 100, 90, delta).epsilon for delta in (0, 1e-5))
        assert 0 < loose < exact

    def test_published_code(self) -> None:
        """The p-value of appendix D, term by term, at the bound."""
        from scipy.stats import binom

        m, r, v, delta = 200, 100, 85, 1e-4
        epsilon = epsilon_bound(m, r, v, delta).epsilon
        q = 1 / (1 + np.exp(-epsilon))
        alpha = total = 0.0
        for i in range(1, v + 1):
            total += binom.pmf(v - i, r, q)
            alpha = max(alpha, total / i)
        assert binom.sf(v - 1, r, q) + alpha * delta * 2 * m == pytest.approx(0.05, abs=1e-6)

    def test_never_above_the_truth_but_in_one_of_twenty(self) -> None:
        """Randomised response at ε = 1 is exactly (1, 0)-private."""
        above = []
        for run in range(400):
            rng = np.random.default_rng([2, run])
            coins = rng.random(60) < 0.5
            told = np.where(rng.random(60) < 1 / (1 + np.exp(-1)), coins, ~coins)
            above.append(epsilon_bound(60, *guess(told + rng.random(60) / 2, coins)).epsilon > 1)
        assert np.mean(above) <= 0.08

    def test_guesses_are_the_extremes(self) -> None:
        scores = np.arange(10.0)
        assert guess(scores, scores >= 5) == (10, 10)
        assert guess(scores, (scores >= 8) | (scores == 3), 4) == (4, 4)
        with pytest.raises(ValueError, match="right"):
            epsilon_bound(10, 8, 9)


class TestStandardisedRows:
    def test_a_plain_sample_says_nothing_about_anybody(self) -> None:
        """A sample like everybody, and one like nobody, count the same after standardisation."""
        patches = planted.patients(range(6), 2)
        likeness = np.random.default_rng(0).random((4, 3, 12)).astype(np.float32)
        rows = rows_of(patches, likeness)
        assert rows.shape == (4, 3, 6)
        assert rows.mean(axis=2) == pytest.approx(np.zeros((4, 3)), abs=1e-6)
        assert rows == pytest.approx(rows_of(patches, 0.1 * likeness + 0.9), abs=1e-4)
