"""The gate of the modes with differential privacy: no patient gets in, and the cost gets out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from medaug.domain import (
    Drawn,
    PatchSet,
    PrivacyCost,
    Release,
    ReleasePolicy,
    TrainingRecord,
    Unit,
    Window,
    deal_independently,
)
from medaug.errors import CohortError, DisclosureError, SettingsError
from medaug.export.release import load_release
from medaug.export.settings import ExportSettings
from medaug.export.verify import verify_release
from medaug.export.write import write_release
from medaug.forbidden import forbidden_words
from medaug.privacy.accounting import cost_of, rounds_for, statements
from medaug.privacy.dp_release import PatchForm, release_dp
from medaug.privacy.settings import PrivacySettings

FORM = PatchForm((1, 32, 32), Window(-100, 250), Unit.HOUNSFIELD, "CT", 2.0)
COST = cost_of(rounds_for(3, 1e-5, 3), 1e-5, "dp-vote")
POLICY = PrivacySettings(mode="dp-vote", epsilon=3, per_class=6).policy()


@dataclass(frozen=True)
class Waves:
    """Draws smooth pictures; ``kinds`` of them, then they repeat."""

    kinds: int = 2**62
    classes: tuple[str, ...] = ("a", "b")

    @property
    def record(self) -> TrainingRecord:
        return TrainingRecord(frozenset(), "0" * 64, "1" * 64, {}, 0, 0)

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        images = np.zeros((len(seeds), 1, 32, 32), np.float32)
        for row, seed in enumerate(seeds):
            rng = np.random.default_rng([seed % self.kinds, ord(label)])
            images[row, 0] = 400 * np.kron(rng.standard_normal((8, 8)), np.ones((4, 4)))
        masks = np.ones((len(seeds), 32, 32), bool)
        return Drawn(images, masks)


def test_no_argument_takes_a_patch_of_a_patient() -> None:
    assert PatchSet not in get_type_hints(release_dp).values()


class TestRelease:
    def test_its_paper_carries_the_cost(self, tmp_path: Path) -> None:
        review = release_dp(Waves(), POLICY, COST, FORM, seed=0)
        release = review.release_or_raise()
        assert release.per_class() == {"a": 6, "b": 6}
        write_release(
            release, tmp_path / "r", ExportSettings(), name="n", seed=1, window=FORM.window
        )
        paper = json.loads((tmp_path / "r" / "release.json").read_text())
        assert paper["mode"] == "dp-vote"
        assert {check["name"] for check in paper["checks"]} == {"format", "duplicate"}
        assert (
            PrivacyCost(**{**paper["cost"], "excluded": tuple(paper["cost"]["excluded"])}) == COST
        )
        assert set(statements(COST)) <= set(paper["statements"])
        assert forbidden_words(" ".join(paper["statements"])) == []
        found = verify_release(tmp_path / "r")
        assert found.ok, found.problems
        assert load_release(tmp_path / "r").decision.cost == COST
        assert review.document()["calibration"] is None

    def test_a_generator_that_repeats_itself_is_refused(self) -> None:
        review = release_dp(Waves(kinds=2), POLICY, COST, FORM, seed=0)
        assert review.outcome == "refused"
        assert "repeats itself" in review.reasons[0]

    def test_a_check_that_would_see_patients_is_refused(self) -> None:
        checks = (*POLICY.checks, "copy")
        with pytest.raises(SettingsError, match="ends differential privacy"):
            release_dp(Waves(), replace(POLICY, checks=checks), COST, FORM, seed=0)
        with pytest.raises(SettingsError, match=r"privacy\.mode"):
            release_dp(Waves(), replace(POLICY, mode="dp-sgd"), COST, FORM, seed=0)

    @pytest.mark.parametrize("mode", ["empirical", "dp-sgd"])
    def test_a_mode_without_its_own_cost_is_no_release(self, mode: str) -> None:
        release = release_dp(Waves(), POLICY, COST, FORM, seed=0).release_or_raise()
        decision = replace(release.decision, policy=replace(POLICY, mode=mode))
        with pytest.raises(DisclosureError, match="cost in privacy"):
            replace(release, decision=decision)
        without = replace(release.decision, cost=None)
        with pytest.raises(DisclosureError, match="cost in privacy"):
            Release(**{**vars_of(release), "decision": without})


def vars_of(release: Release) -> dict[str, object]:
    return {name: getattr(release, name) for name in release.__dataclass_fields__}


class TestSettings:
    def test_the_policy_asks_for_nothing_that_sees_patients(self) -> None:
        assert POLICY.checks == ("format", "duplicate")
        assert POLICY.min_calibration_patients == 0
        assert POLICY.min_patients_per_class == ReleasePolicy(1).min_patients_per_class

    @pytest.mark.parametrize(
        "given",
        [
            {"epsilon": 3},
            {"mode": "dp-vote"},
            {"mode": "dp-sgd", "epsilon": 0},
            {"mode": "dp-vote", "epsilon": 3, "patch_level_only": True},
        ],
    )
    def test_what_makes_no_sense(self, given: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"epsilon|patch_level_only"):
            PrivacySettings.model_validate(given)


class TestDealing:
    """One patient more moves nobody else."""

    def test_a_patient_more_moves_nobody(self, make_patch_set: Callable[..., PatchSet]) -> None:
        def cohort(patients: int) -> PatchSet:
            images = np.zeros((patients, 1, 8, 8))
            return make_patch_set(images, np.zeros(patients), ("a",), np.arange(patients))

        before = deal_independently(cohort(400), (0.5, 0.25, 0.25), 3)
        after = deal_independently(cohort(401), (0.5, 0.25, 0.25), 3)
        for part in ("training", "tuning", "test"):
            assert before.patients(part) <= after.patients(part)
        assert 170 <= len(before.training) <= 230
        assert deal_independently(cohort(400), (0.5, 0.25, 0.25), 4) != before
        with pytest.raises(CohortError, match="empty part"):
            deal_independently(cohort(2), (0.5, 0.25, 0.25), 3)
