"""What may be spent: ε over all runs on a patient, and how small a p-value can get."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ledger_worker import KEY, PATIENTS, booking

from medaug.config import load_pipeline
from medaug.domain import PatchSet
from medaug.errors import DisclosureError, SettingsError
from medaug.privacy.accounting import rounds_for
from medaug.privacy.audit import least_p
from medaug.privacy.ledger import Ledger
from medaug.road.private import cap

VOTE = (
    "privacy.mode=dp-vote",
    "privacy.epsilon=3",
    "generator={preset: dp-vote, window: [-100, 250]}",
    "patching.mm_per_pixel=2.0",
)


class TestEpsilonCap:
    """``privacy.epsilon_cap`` holds for all runs of the site together, and for DP alone."""

    @pytest.mark.parametrize(("changes", "allowed"), [((), 1), (("privacy.epsilon_cap=5",), 2)])
    def test_so_many_runs_of_epsilon_3(
        self, tmp_path: Path, changes: tuple[str, ...], allowed: int
    ) -> None:
        """Two Gaussian mechanisms of ε = 3 compose to 4.4, three to 5.6."""
        ledger = Ledger(tmp_path / "ledger.sqlite", KEY)
        limit = cap(load_pipeline("phantom", [*VOTE, *changes]))
        rounds = rounds_for(3, 1e-5, 3)
        event = {"mechanism": "dp-vote", "sigma": rounds.sigma, "rounds": 3, "rate": 1.0}
        for run in range(allowed):
            ledger.reserve(booking(f"r{run}", event={**event, "noise": str(run)}), limit)
        before = ledger.entries()
        with pytest.raises(DisclosureError, match=f"over {allowed + 1} runs, the cap is"):
            ledger.reserve(booking("more", event={**event, "noise": "more"}), limit)
        assert ledger.entries() == before
        spent = ledger.spent(min(PATIENTS), limit.compose)
        assert spent == pytest.approx((3, 4.4)[allowed - 1], abs=0.1)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            (("privacy.epsilon_cap=5",), "none is set"),
            ((*VOTE, "privacy.epsilon_cap=2"), "this one alone spends epsilon: 3"),
        ],
    )
    def test_a_cap_that_means_nothing(self, changes: tuple[str, ...], says: str) -> None:
        with pytest.raises(SettingsError, match=says):
            load_pipeline("phantom", changes)


class TestLeastP:
    """One deal of all that keep, for each kind of patient, how many were trained on."""

    @pytest.mark.parametrize(
        ("training", "held_out"), [("aab", "ab"), ("aaa", "a"), ("a", "b"), ("aabbbc", "abbc")]
    )
    def test_is_that_of_counting(
        self, training: str, held_out: str, make_patch_set: Callable[..., PatchSet]
    ) -> None:
        """Letters are patients by the class that they show."""

        def part(shows: str, first: int) -> PatchSet:
            labels = np.array(["abc".index(one) for one in shows])
            images = np.zeros((len(shows), 1, 8, 8))
            return make_patch_set(images, labels, ("a", "b", "c"), first + np.arange(len(shows)))

        everybody = training + held_out
        deals = [
            members
            for members in itertools.combinations(range(len(everybody)), len(training))
            if sorted(everybody[at] for at in members) == sorted(training)
        ]
        assert least_p(part(training, 0), part(held_out, 100)) == pytest.approx(1 / len(deals))
