from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug.phantom.dealing import BLOCK, KINDS, MOST_LESIONS, kinds_of, lesions_of

seeds = st.integers(0, 2**32 - 1)


def shown(seed: int, patients: int) -> Counter[str]:
    return Counter(kind for number in range(patients) for kind in kinds_of(seed, number))


class TestBalancedByDesign:
    """Each kind is shown by at least 55 % of the patients, whatever the seed, from 12 patients."""

    @given(seed=seeds, patients=st.integers(12, 400))
    def test_of_any_cohort(self, seed: int, patients: int) -> None:
        counts = shown(seed, patients)
        assert min(counts[kind] for kind in KINDS) >= 0.55 * patients

    @given(seed=seeds)
    def test_of_the_demo(self, seed: int) -> None:
        # Half the patients train, and every class is to have 20 of them.
        assert min(shown(seed, 90).values()) >= 2 * 20

    @given(seed=seeds, block=st.integers(0, 50))
    def test_a_block_shows_one_two_and_three_kinds(self, seed: int, block: int) -> None:
        numbers = range(block * BLOCK, (block + 1) * BLOCK)
        assert Counter(len(kinds_of(seed, number)) for number in numbers) == {1: 6, 2: 9, 3: 5}

    @given(seed=seeds)
    def test_both_formats_get_one_two_and_three_kinds(self, seed: int) -> None:
        for parity in (0, 1):
            counts = Counter(len(kinds_of(seed, n)) for n in range(parity, 90, 2))
            assert min(counts[size] for size in (1, 2, 3)) >= 8


class TestLesions:
    @given(seed=seeds, number=st.integers(0, 10_000))
    def test_every_kind_at_least_once_and_four_at_most(self, seed: int, number: int) -> None:
        lesions = lesions_of(seed, number)
        assert set(lesions) == set(kinds_of(seed, number))
        assert len(lesions) <= MOST_LESIONS

    def test_seeds_differ(self) -> None:
        assert [kinds_of(0, n) for n in range(20)] != [kinds_of(1, n) for n in range(20)]

    @pytest.mark.parametrize("kind", KINDS)
    def test_kinds_have_about_as_many_lesions(self, kind: str) -> None:
        counts = Counter(k for n in range(400) for k in lesions_of(0, n))
        assert counts[kind] / counts.total() == pytest.approx(1 / 3, abs=0.03)
