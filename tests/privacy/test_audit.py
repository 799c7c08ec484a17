"""The audit tells members from others where samples leak them, and only there."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import planted
import pytest
from planted import CLASSES, WINDOW, patients
from scipy.ndimage import gaussian_filter, zoom

from medaug.domain import Candidates, PatchSet, ReleasePolicy, Rescale, Unit
from medaug.errors import CohortError, LeakageError, SettingsError
from medaug.forbidden import forbidden_words
from medaug.privacy.audit import AuditResult, audit, strata
from medaug.privacy.gate import review

TRAINING = patients(range(40))
HELD_OUT = patients(range(1000, 1040))
REFERENCE = patients(range(2000, 2024))
SAMPLES = 80


def fresh(count: int = SAMPLES, first: int = 50_000_000) -> np.ndarray:
    return np.stack([planted.lesion(first + at, CLASSES[at % 2]) for at in range(count)])


HONEST = fresh()


def drawn(of: Callable[[int, str], np.ndarray], count: int = SAMPLES) -> np.ndarray:
    seeds = np.random.default_rng(0).integers(0, 2**40, count)
    return np.stack([of(int(seed), CLASSES[at % 2]) for at, seed in enumerate(seeds)])


def audited(images: np.ndarray, rounds: int = 0, **parts: PatchSet) -> AuditResult:
    inputs = {"training": TRAINING, "held_out": HELD_OUT, "reference": REFERENCE, **parts}
    return audit(images.astype(np.float32), seed=0, rounds=rounds, deals=999, **inputs)


def low_pass(seed: int, label: str) -> np.ndarray:
    """A training patch without its fine detail, under the noise of another."""
    kept = gaussian_filter(planted.copied(TRAINING, seed, label)[0], 2.5)
    other = planted.lesion(seed, label)[0]
    return (kept + (other - gaussian_filter(other, 2.5)))[None]


def hole_maker() -> np.ndarray:
    """Learnt the whole hospital by heart, and a filter then took the members' copies away."""
    return HELD_OUT.images[np.random.default_rng(0).integers(0, 40, SAMPLES)]


def wrong_label(seed: int, label: str) -> np.ndarray:
    return planted.copied(TRAINING, seed, CLASSES[1 - CLASSES.index(label)])


class TestLeaksAreFound:
    @pytest.mark.parametrize(
        "of",
        [
            lambda seed, label: planted.copied(TRAINING, seed, label),
            planted.transform_memoriser(TRAINING).one,
            low_pass,
            wrong_label,
        ],
        ids=["exact memoriser", "transform memoriser", "low-pass memoriser", "label leaker"],
    )
    def test_memorisers_are_refused(self, of: Callable[[int, str], np.ndarray]) -> None:
        found = audited(drawn(of))
        assert found.p < 0.01
        assert not found.passed
        assert not found.check.passed
        assert found.statistic != "lower"
        assert found.auc > 0.75 > found.control

    def test_memoriser_reaches_the_top(self) -> None:
        """Figure P5."""
        found = audited(TRAINING.images.repeat(3, axis=0))
        assert found.auc >= 0.99
        assert found.ahead == 40
        assert found.ahead_interval[0] > 0.9

    def test_holes_are_evidence_too(self) -> None:
        found = audited(hole_maker())
        assert found.p < 0.01
        assert found.statistic == "lower"
        assert "keep away" in found.reasons[0]

    def test_a_low_pass_leak_shows_where_pixels_hide_it(self) -> None:
        aucs = {one.name: one.auc for one in audited(drawn(low_pass)).channels}
        assert aucs["low, maximum"] > aucs["band, maximum"] + 0.1

    def test_leak_in_three_dimensions_and_another_size(self) -> None:
        """By the middle slice, on the grid of 64x64."""

        def grown(images: np.ndarray) -> np.ndarray:
            plane = zoom(images, (1, 1, 0.75, 0.75), order=1)
            deep = np.zeros((len(plane), 1, 8, 48, 48), np.float32)
            deep[:, :, 4] = plane
            return deep

        training, held_out, reference = (
            dataclasses.replace(part, images=grown(part.images))
            for part in (TRAINING, HELD_OUT, REFERENCE)
        )
        parts = {"training": training, "held_out": held_out, "reference": reference}
        assert audited(training.images, **parts).p < 0.01
        assert audited(grown(HONEST), **parts).p > 0.01


class TestNothingLeaked:
    def test_the_honest_pass_and_say_what_would_have_been_found(self) -> None:
        found = audited(HONEST, rounds=20)
        assert found.passed
        assert found.power is not None
        assert found.power.smallest is not None
        assert 5 <= found.power.smallest <= 20
        assert f"{found.power.smallest} leaked patients" in " ".join(found.statements)
        assert "can never be seen" in " ".join(found.statements)
        assert found.auc - found.control < 0.1

    @pytest.mark.slow
    def test_what_is_said_to_be_found_is_found(self) -> None:
        """The power comes from planting, so copies that are put in by hand must be found too."""
        power = audited(HONEST, rounds=20).power
        assert power is not None
        assert power.smallest is not None
        copies = TRAINING.images[np.random.default_rng(1).permutation(40)[: power.smallest + 3]]
        assert audited(np.concatenate([HONEST, copies])).p < 0.01
        assert audited(np.concatenate([HONEST, copies[: power.smallest // 3]])).p > 0.01

    def test_one_leaked_patient_is_not_seen(self) -> None:
        images = HONEST.copy()
        images[:5] = TRAINING.images[7]
        assert audited(images).p > 0.01

    def test_a_collapsed_generator_passes(self) -> None:
        """It looks private; the statement says so, and duplicates are another check's business."""
        found = audited(drawn(planted.collapsed(TRAINING).one))
        assert found.p > 0.01
        assert "one picture only" in " ".join(found.statements)

    def test_constant_samples_pass_without_a_warning(self) -> None:
        assert audited(np.full((3, 1, 64, 64), 40.0)).p > 0.5

    def test_same_seed_same_result(self) -> None:
        assert audited(HONEST[:30]) == audited(HONEST[:30])

    def test_memory_does_not_change_the_result(self) -> None:
        one, other = (
            audit(
                HONEST[:40],
                TRAINING,
                HELD_OUT,
                0,
                reference=REFERENCE,
                rounds=0,
                deals=99,
                memory_mb=size,
            )
            for size in (5, 500)
        )
        assert one.p == other.p
        assert one.auc == pytest.approx(other.auc)


class TestUnit:
    def test_patients_are_tested_not_patches(self) -> None:
        """A member with 100 patches stays one of 40 patients: nothing is shown by it."""
        many = patients(range(39)), patients([39], per_patient=100)
        training = dataclasses.replace(
            many[0],
            images=np.concatenate([part.images for part in many]),
            labels=np.concatenate([part.labels for part in many]),
            patients=many[0].patients + many[1].patients,
            locations=many[0].locations + many[1].locations,
        )
        images = HONEST.copy()
        images[:60] = many[1].images[:60]
        found = audited(images, training=training)
        assert (found.members, found.others) == (40, 40)
        assert found.p > 0.01

    def test_labels_are_exchanged_among_patients_who_show_the_same(self) -> None:
        both = patients(range(6))
        assert strata(both).tolist() == [1, 0, 1, 0, 1, 0]

    def test_without_known_patients_it_speaks_of_patches(self) -> None:
        parts = [patients(range(at, at + 40), known=False) for at in (0, 1000)]
        said = " ".join(audited(HONEST, training=parts[0], held_out=parts[1]).statements)
        assert "held-out patches" in said
        assert "training patients" not in said


class TestRefusals:
    def test_a_blind_audit_does_not_pass(self) -> None:
        """Five members and three others can be told apart by chance in 1 of 56 deals."""
        found = audited(
            HONEST,
            training=patients([0, 2, 4, 6, 8]),
            held_out=HELD_OUT.select([0, 2, 4]),
            rounds=9,
        )
        assert not found.passed
        assert "blind" in found.reasons[0]

    @pytest.mark.parametrize("shared", ["training", "reference"])
    def test_auditing_on_patients_who_served_before(self, shared: str) -> None:
        parts = {"training": TRAINING, "reference": REFERENCE}
        with pytest.raises(LeakageError, match="cannot judge"):
            audited(HONEST, held_out=parts[shared])

    def test_all_faults_at_once(self) -> None:
        held_out = dataclasses.replace(HELD_OUT.select([0]), classes=("cyst", "mass"))
        with pytest.raises(CohortError) as caught:
            audited(np.full((2, 1, 32, 32), np.nan), held_out=held_out)
        for said in ("NaN", "1 patients", "'mass'", "32"):
            assert said in str(caught.value)


class TestWords:
    def test_statements_and_document(self) -> None:
        found = audited(HONEST, rounds=10)
        text = json.dumps(found.document(), allow_nan=False)
        assert forbidden_words(text) == []
        assert "not estimable with 40 held-out patients" in " ".join(found.statements)
        assert not any(key.token in text for key in TRAINING.patients)

    @pytest.mark.slow
    def test_one_percent_needs_three_hundred_others(self) -> None:
        crowd = patients(range(5000, 5300))
        found = audited(HONEST[:40], held_out=crowd)
        assert found.at_one_percent is not None
        assert "1 % false positives: not" not in " ".join(found.statements)


class TestInTheGate:
    POLICY = ReleasePolicy(per_class=15)
    RESCALE = Rescale.of(Unit.HOUNSFIELD, WINDOW)

    def reviewed(self, sampler: planted.Planted, audit_on: PatchSet | None, **changes: object):
        inputs = {
            "policy": self.POLICY,
            "training": TRAINING,
            "calibration": REFERENCE,
            "rescale": self.RESCALE,
            "window": WINDOW,
            "mm_per_pixel": 1.0,
            "seed": 0,
        }
        return review(sampler, **{**inputs, **changes}, audit=self.audit_on(audit_on))

    def audit_on(self, held_out: PatchSet | None) -> Callable[[Candidates], AuditResult] | None:
        if held_out is None:
            return None
        return lambda them: audit(them.images, TRAINING, held_out, 0, reference=REFERENCE)

    @pytest.mark.slow
    def test_the_audit_is_a_check_of_the_release(self) -> None:
        verdict = self.reviewed(planted.honest(TRAINING), HELD_OUT)
        release = verdict.release_or_raise()
        assert release.decision.policy.checks[-1] == "audit"
        assert release.decision.results[-1].name == "audit"
        said = " ".join(release.decision.statements)
        assert "Membership attacks on this release" in said
        assert "No membership-inference attack" not in said
        assert verdict.audit is not None
        assert verdict.document()["audit"]["p"] == verdict.audit.p

    @pytest.mark.slow
    def test_a_finding_refuses_the_whole_release(self) -> None:
        """Whatever passed the rules: here honest patches, and the finding about a leak."""
        leak = np.stack([low_pass(seed, "cyst") for seed in range(45)]).astype(np.float32)
        found = audited(leak)
        assert not found.passed
        sampler = planted.honest(TRAINING)
        shared = {"training": TRAINING, "calibration": REFERENCE, "rescale": self.RESCALE}
        verdict = review(
            sampler,
            self.POLICY,
            **shared,
            window=WINDOW,
            mm_per_pixel=1.0,
            seed=0,
            audit=lambda _: found,
        )
        assert verdict.outcome == "refused"
        assert verdict.release is None
        assert verdict.audit is found
        assert "The audit tells training patients from others" in verdict.reasons[0]

    @pytest.mark.slow
    def test_without_an_audit_it_is_said(self) -> None:
        release = self.reviewed(planted.honest(TRAINING), None).release_or_raise()
        assert any("No membership-inference" in said for said in release.decision.statements)

    def test_an_audit_that_is_asked_for_needs_patients(self) -> None:
        policy = dataclasses.replace(self.POLICY, checks=("copy", "audit"))
        with pytest.raises(SettingsError, match="unknown check 'audit'"):
            self.reviewed(planted.honest(TRAINING), None, policy=policy)
