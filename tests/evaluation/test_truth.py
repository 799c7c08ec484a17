"""Simulated studies whose truth is known: are the intervals and verdicts right?

Few studies here; `benchmarks/evaluation/verdicts.py` judges 500 of each kind. Wrong variants of
the method are run on the same studies, and must fail.
"""

from dataclasses import replace

import numpy as np
import pytest

from medaug.bench.verdicts import CLASSES, Tally, World, tally
from medaug.evaluation.comparison import MAIN
from medaug.evaluation.judging import judge
from medaug.evaluation.statistics import Floats
from medaug.evaluation.uncertainty import Design, Spread

FOLDED = World(patients=80, folds=4, seeds=2)
SPLIT = World(patients=60, folds=1, seeds=3, seed_luck=0.2, fold_luck=0.0, influence=0.0)
"""One split, one generator: what it says is of these alone."""
TWO = (MAIN[1], MAIN[0])


@pytest.fixture(scope="module")
def folded() -> Tally:
    """Studies with folds, whose two arms differ by luck alone."""
    return tally(FOLDED, range(60), arms=TWO)


class TestNull:
    """Where synthetic patches change nothing, "helps" or "hurts" is rarely said."""

    def test_false_verdicts_are_rare(self, folded: Tally) -> None:
        assert folded.words.get("no evidence", 0) >= 54
        assert folded.held >= 53

    def test_who_takes_the_trainings_as_given_is_deceived(self, folded: Tally) -> None:
        assert min(folded.alone["permutation"], folded.alone["DeLong"]) > 6

    def test_over_all_arms_of_a_split_one_false_word_is_rare(self) -> None:
        assert tally(SPLIT, range(40)).anywhere <= 4

    def test_without_luck_false_verdicts_are_common(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The wrong method: as if these few trainings were all there could be."""
        between = Spread.between

        def as_given(arm: Floats, baseline: Floats, design: Design) -> Spread:
            return replace(between(arm, baseline, design), luck=())

        monkeypatch.setattr(Spread, "between", as_given)
        found = tally(SPLIT, range(60), arms=TWO)
        assert found.words.get("no evidence", 0) < 54


class TestPower:
    """A planted gain is found, in its direction; the stated smallest difference is honest."""

    @pytest.mark.parametrize(("gain", "word"), [(1.6, "helps"), (-1.6, "hurts")])
    def test_a_large_gain_is_found(self, gain: float, word: str) -> None:
        found = tally(FOLDED, range(10), gain=gain, arms=TWO).words
        # Four folds know their own luck badly, and what is not known counts against a verdict.
        assert found[word] >= 6
        assert set(found) <= {word, "no evidence"}

    def test_a_gain_of_the_smallest_difference_is_found_with_its_power(self) -> None:
        stated = tally(SPLIT, range(1000, 1030), arms=TWO).smallest
        found = tally(SPLIT, range(2000, 2050), SPLIT.gain_of(stated), arms=TWO)
        assert 0.6 * 50 <= found.words["helps"] <= 0.95 * 50


def test_the_same_seed_gives_the_same_judgement() -> None:
    documents = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        study = FOLDED.study(dict.fromkeys(TWO, 0.0), rng)
        judged = judge(study, CLASSES, 500, 0.95, rng)
        documents.append([each.document() for each in (*judged.arms, *judged.comparisons)])
    assert documents[0] == documents[1]
