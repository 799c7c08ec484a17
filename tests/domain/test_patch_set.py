"""Selecting is exact, and the digest tells any two sets apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug.domain import PatchLocation, PatchSet, PatientKey, Unit, central, digest_of

CLASSES = ("a", "b", "c")


def numbered(patients: list[int], masked: bool = True) -> PatchSet:
    """Patch number n holds the value n, so that a mix-up shows."""
    count = len(patients)
    rows = np.arange(count)
    return PatchSet(
        images=np.broadcast_to(rows[:, None, None, None], (count, 1, 2, 2)).astype(np.float32),
        masks=np.broadcast_to(rows[:, None, None] % 2 == 0, (count, 2, 2)) if masked else None,
        labels=rows % 3,
        classes=CLASSES,
        patients=tuple(PatientKey(f"{number:032x}") for number in patients),
        locations=tuple(
            PatchLocation("case", f"2.25.{n}", n, (0, 0, n), 1.0) for n in range(count)
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


cohorts = st.lists(st.integers(0, 5), min_size=1, max_size=12)


class TestSelect:
    @given(cohorts, st.data())
    def test_every_column_follows(self, patients, data):
        patches = numbered(patients)
        rows = data.draw(st.lists(st.integers(0, len(patches) - 1)))
        found = patches.select(rows)
        assert found.images[:, 0, 0, 0].tolist() == rows
        assert [place.lesion for place in found.locations] == [f"2.25.{row}" for row in rows]
        assert found.labels.tolist() == [row % 3 for row in rows]
        assert [key.token for key in found.patients] == [f"{patients[row]:032x}" for row in rows]
        assert found.masks.any(axis=(1, 2)).tolist() == [row % 2 == 0 for row in rows]

    @given(cohorts, st.data())
    def test_selecting_twice_is_selecting_once(self, patients, data):
        patches = numbered(patients)
        first = data.draw(st.lists(st.integers(0, len(patches) - 1), min_size=1))
        second = data.draw(st.lists(st.integers(0, len(first) - 1)))
        twice = patches.select(first).select(second)
        assert twice.digest == patches.select([first[row] for row in second]).digest

    @given(cohorts)
    def test_patients_and_classes_take_the_set_apart(self, patients):
        patches = numbered(patients)
        for pieces in (
            [patches.of_patients({key}) for key in patches.patient_order],
            [patches.of_class(label) for label in CLASSES],
        ):
            values = np.concatenate([piece.images[:, 0, 0, 0] for piece in pieces])
            assert sorted(values.tolist()) == list(range(len(patches)))

    @given(cohorts)
    def test_counts(self, patients):
        patches = numbered(patients)
        expected = {
            label: len({who for row, who in enumerate(patients) if row % 3 == number})
            for number, label in enumerate(CLASSES)
        }
        assert patches.patients_per_class() == expected
        order = [patches.patient_order[at] for at in patches.patient_index]
        assert tuple(order) == patches.patients


class TestDigest:
    def test_the_same_content_has_the_same_digest(self):
        assert numbered([1, 2, 3]).digest == numbered([1, 2, 3]).digest

    def test_any_change_shows(self):
        patches = numbered([1, 1, 2, 3])
        pixel = patches.images.copy()
        pixel[2, 0, 1, 1] += 1e-3
        masks = patches.masks.copy()
        masks[0, 0, 0] ^= True
        moved = (*patches.locations[:3], replace(patches.locations[3], scale=0.5))
        others = [
            replace(patches, images=pixel),
            replace(patches, masks=masks),
            replace(patches, masks=None),
            replace(patches, labels=patches.labels[::-1].copy()),
            replace(patches, classes=("a", "b", "d")),
            replace(patches, patients=patches.patients[::-1]),
            replace(patches, locations=moved),
            replace(patches, unit=Unit.SUV),
            replace(patches, patients_known=False),
            patches.select([1, 0, 2, 3]),
            patches.select([0, 1, 2]),
        ]
        digests = {patches.digest, *(other.digest for other in others)}
        assert len(digests) == 1 + len(others)

    def test_layout_and_byte_order_in_memory_do_not(self):
        array = np.arange(12, dtype=np.float32).reshape(3, 4)
        assert digest_of(array) == digest_of(np.asfortranarray(array))
        assert digest_of(array) == digest_of(array.astype(">f4"))
        assert digest_of(array) != digest_of(array.reshape(4, 3))
        assert digest_of(array) != digest_of(array.view(np.int32))

    def test_nan_has_no_json(self):
        with pytest.raises(ValueError, match="JSON compliant"):
            digest_of(float("nan"))


class TestRefusals:
    @pytest.mark.parametrize(
        "change",
        [
            {"images": np.zeros((3, 1, 2, 2))},
            {"images": np.zeros((3, 2, 2), np.float32)},
            {"images": np.zeros((2, 1, 2, 2), np.float32)},
            {"masks": np.zeros((2, 2, 2), bool)},
            {"labels": np.array([0, 1, 3])},
            {"labels": np.array([0, -1, 1])},
            {"labels": np.array([0, 1])},
            {"patients": ()},
            {"locations": ()},
        ],
    )
    def test_no_such_set(self, change):
        with pytest.raises(ValueError, match=r"float32|one entry per patch|no class"):
            replace(numbered([1, 2, 3]), **change)

    @pytest.mark.parametrize("token", ["", "4711", "G" * 32, "A" * 32, "0" * 33])
    def test_a_patient_id_is_no_key(self, token):
        with pytest.raises(ValueError, match="made by a reader"):
            PatientKey(token)


class TestTheMiddleSlice:
    @pytest.mark.parametrize("channels", [1, 3, 5])
    def test_of_adjacent_slices(self, channels):
        images = np.random.default_rng(0).normal(size=(4, channels, 32, 40))
        np.testing.assert_array_equal(central(images)[:, 0], images[:, channels // 2])
        assert central(images).shape == (4, 1, 32, 40)

    def test_of_a_cube(self):
        images = np.random.default_rng(0).normal(size=(4, 1, 32, 40, 48))
        np.testing.assert_array_equal(central(images)[:, 0], images[:, 0, 16])
        assert central(images).shape == (4, 1, 40, 48)

    def test_of_nothing_else(self):
        with pytest.raises(ValueError, match="channel"):
            central(np.zeros((32, 32)))
