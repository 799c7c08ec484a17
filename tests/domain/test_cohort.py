"""Disjoint by patient, or it does not exist."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medaug.domain import (
    Candidates,
    CheckResult,
    HeldOut,
    PatchLocation,
    PatchSet,
    PatientKey,
    PatientSplit,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    TrainingRecord,
    Unit,
    split_patients,
)
from medaug.domain.cohort import PARTS
from medaug.errors import CohortError, LeakageError


def key(number: int) -> PatientKey:
    return PatientKey(f"{number:032x}")


def cohort(shows: list[set[int]], classes: int = 3, first: int = 0) -> PatchSet:
    """Patient n shows the classes ``shows[n]``, one patch each."""
    rows = [(who, label) for who, labels in enumerate(shows) for label in sorted(labels)]
    images = np.random.default_rng(0).normal(50, 9, (len(rows), 1, 4, 4)).astype(np.float32)
    return PatchSet(
        images=images,
        masks=None,
        labels=np.array([label for _, label in rows], dtype=np.int64),
        classes=tuple("abcdef"[:classes]),
        patients=tuple(key(first + who) for who, _ in rows),
        locations=tuple(PatchLocation("c", str(n), 0, (0, 0, 0), 1.0) for n in range(len(rows))),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


several_classes = st.sets(st.integers(0, 2), min_size=1)
cohorts = st.lists(several_classes, min_size=3, max_size=100)
shares = st.sampled_from([(0.5, 0.25, 0.25), (0.6, 0.2, 0.2), (0.7, 0.15, 0.15)])


class TestTheSplit:
    @given(cohorts, shares, st.integers(0, 2**31))
    def test_parts_are_disjoint_cover_all_and_none_is_empty(self, shows, fractions, seed):
        patches = cohort(shows)
        split = split_patients(patches, fractions, seed)
        members = [split.patients(part) for part in PARTS]
        assert all(members)
        assert sum(map(len, members)) == len(shows)
        assert frozenset().union(*members) == set(patches.patients)
        assert sum(len(split.part(patches, part)) for part in PARTS) == len(patches)

    @settings(max_examples=300)
    @given(st.lists(several_classes, min_size=12, max_size=100), shares, st.integers(0, 2**31))
    def test_every_class_has_its_share_within_three_patients(self, shows, fractions, seed):
        patches = cohort(shows)
        split = split_patients(patches, fractions, seed)
        overall = patches.patients_per_class()
        for part, fraction in zip(PARTS, fractions, strict=True):
            here = split.part(patches, part).patients_per_class()
            for label, count in overall.items():
                assert abs(here[label] - fraction * count) <= 3
            assert abs(len(split.patients(part)) - fraction * len(shows)) <= 3

    def test_a_rare_class_reaches_every_part(self):
        shows = [{0}] * 80 + [{1}] * 8 + [{0, 2}] * 8
        for seed in range(20):
            patches = cohort(shows)
            split = split_patients(patches, seed=seed)
            for part in PARTS:
                assert min(split.part(patches, part).patients_per_class().values()) >= 1

    @given(cohorts, st.integers(0, 2**31))
    def test_tokens_do_not_matter(self, shows, seed):
        """Two sites' keys give the same split."""
        one = split_patients(cohort(shows), seed=seed)
        other = split_patients(cohort(shows, first=10**9), seed=seed)
        for part in PARTS:
            moved = {key(int(who.token, 16) + 10**9) for who in one.patients(part)}
            assert moved == other.patients(part)

    def test_the_seed_alone_decides(self):
        patches = cohort([{n % 3} for n in range(60)])
        splits = [split_patients(patches, seed=seed) for seed in (1, 1, 2, 3, 4)]
        assert splits[0] == splits[1]
        assert len(set(splits)) == 4

    @pytest.mark.parametrize("count", [1, 2])
    def test_too_few_patients_says_how_many(self, count):
        with pytest.raises(CohortError, match=f"{count} patient") as caught:
            split_patients(cohort([{0, 1}] * count))
        assert "at least 3" in str(caught.value)

    @pytest.mark.parametrize("wrong", [(0.5, 0.5), (0.5, 0.5, 0.5), (1, 0, 0), (1.2, -0.1, -0.1)])
    def test_shares_sum_to_one(self, wrong):
        with pytest.raises(ValueError, match="positive fractions"):
            split_patients(cohort([{0}] * 9), wrong)

    def test_a_patient_in_two_parts_does_not_exist(self):
        with pytest.raises(LeakageError, match="1 patients stand in two parts"):
            PatientSplit(frozenset({key(1)}), frozenset({key(2)}), frozenset({key(1)}))

    @pytest.mark.parametrize("empty", range(3))
    def test_an_empty_part_does_not_exist(self, empty):
        parts = [frozenset({key(number)}) for number in range(3)]
        parts[empty] = frozenset()
        with pytest.raises(CohortError, match=PARTS[empty]):
            PatientSplit(*parts)


def record(*patients: int) -> TrainingRecord:
    return TrainingRecord(frozenset(map(key, patients)), "0", "0", {}, 0, 100)


def released(images: np.ndarray) -> Release:
    pixels = Rescale(1.0, 0.0).store(images)
    policy = ReleasePolicy(1, checks=("copy",))
    columns = {
        "pixels": pixels,
        "labels": np.zeros(len(pixels), np.int64),
        "classes": ("a",),
        "rescale": Rescale(1.0, 0.0),
        "unit": Unit.HOUNSFIELD,
        "modality": "CT",
        "mm_per_pixel": 1.0,
    }
    digest = Candidates(**columns, seeds=np.zeros(len(pixels), np.int64)).digest
    result = CheckResult("copy", True, 0.1, 0.5, 0, "")
    decision = ReleaseDecision(policy, digest, (result,), {}, {}, ())
    return Release(**columns, decision=decision, generator_digest="0")


class TestHeldOut:
    """What judges has been seen by nobody."""

    patches = cohort([{0}, {1}, {2}])

    def test_unseen_patients_may_judge(self):
        held_out = HeldOut(self.patches, (record(7, 8), record(9)))
        assert held_out.patches is self.patches
        held_out.refuse_patients([key(7)])
        held_out.refuse_images(released(np.zeros((3, 1, 4, 4))))

    def test_nothing_synthetic_may_judge(self):
        with pytest.raises(LeakageError, match="a Release"):
            HeldOut(released(self.patches.images), ())

    @pytest.mark.parametrize("lineage", [(record(2),), (record(7), record(8, 0, 1))])
    def test_a_patient_that_any_generator_saw(self, lineage):
        with pytest.raises(LeakageError, match="were trained on"):
            HeldOut(self.patches, lineage)

    def test_a_patient_that_the_classifier_saw(self):
        with pytest.raises(LeakageError, match="1 of its patients"):
            HeldOut(self.patches, ()).refuse_patients([key(5), key(1)])

    def test_a_synthetic_picture_among_the_real(self):
        synthetic = np.concatenate([np.zeros((2, 1, 4, 4)), np.rint(self.patches.images[1:2])])
        with pytest.raises(LeakageError, match="1 synthetic patches"):
            HeldOut(self.patches, ()).refuse_images(released(synthetic))
        planted = replace(self.patches, images=released(synthetic).images)
        with pytest.raises(LeakageError, match="3 synthetic patches"):
            HeldOut(planted, ()).refuse_images(released(synthetic))
