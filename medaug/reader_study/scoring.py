"""How often readers told real from synthetic, with exact intervals.

Of one reader the score is binomial (see `deck`): the interval is Clopper and Pearson's [1]_.
Several readers read the same patches, and a patch that deceives one tends to deceive the next, so
that their answers are not independent: the interval of their mean is Clopper and Pearson's at the
effective number of answers that the spread between patches leaves (Korn and Graubard [2]_). It
holds for these readers on other patches, not for other readers.

>>> exact(5, 10)
Share(value=0.5, low=0.187..., high=0.812...)

.. [1] Clopper, Pearson 1934, doi:10.1093/biomet/26.4.404
.. [2] Korn, Graubard 1998, Confidence intervals for proportions with small expected number of
   positive counts estimated from survey data, Survey Methodology 24
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medaug.reader_study.answers import Answers, Key

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """A share with its interval."""

    value: float
    low: float
    high: float


def exact(right: float, count: float) -> Share:
    """The share ``right / count`` with Clopper and Pearson's interval; neither need be whole."""
    tail = (1 - CONFIDENCE) / 2
    low = float(stats.beta.ppf(tail, right, count - right + 1)) if right > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, right + 1, count - right)) if right < count else 1.0
    return Share(right / count, low, high)


def over_readers(right: NDArray[np.bool_]) -> Share:
    """The mean accuracy of readers, ``right`` (reader, patch), on patches like these."""
    readers, patches = right.shape
    share = float(right.mean())
    spread = float(right.mean(axis=0).var(ddof=1)) / patches
    answers = readers * patches
    # Whatever the correlation, the patches count for no less than themselves, and no more answers
    # count than were given.
    effective = share * (1 - share) / spread if spread > 0 else float(patches)
    effective = min(max(effective, patches), answers)
    return exact(share * effective, effective)


def score(key: Key, answers: Sequence[Answers]) -> dict[str, Any]:
    """Every reader's figures and those of all, as JSON.

    Returns:
        ``readers``: of each how many answers, how many right, accuracy, the shares of real and of
        synthetic patches that were recognised, per class the accuracy, and p (two-sided,
        binomial) of so good or so bad a score by guessing. ``all``: the mean accuracy over the
        patches that everybody answered; None with one reader.
    """
    readers = [_of_reader(key, each) for each in answers]
    together = None
    common = [n for n in key.kinds if all(n in each.given for each in answers)]
    if len(answers) > 1 and len(common) > 1:
        right = np.array([[each.given[n] == key.kinds[n] for n in common] for each in answers])
        share = asdict(over_readers(right))
        together = {"readers": len(answers), "patches": len(common), "accuracy": share}
    return {
        "study": key.study,
        "patches": len(key.kinds),
        "confidence": CONFIDENCE,
        "readers": readers,
        "all": together,
    }


def _of_reader(key: Key, answers: Answers) -> dict[str, Any]:
    given = answers.given
    right = {number: said == key.kinds[number] for number, said in given.items()}
    correct = sum(right.values())
    guessing = float(stats.binomtest(correct, len(right)).pvalue) if right else None
    return {
        "reader": answers.reader,
        "answered": len(right),
        "right": correct,
        "accuracy": _share(list(right.values())),
        "p": guessing,
        "recognised": {
            kind: _share([ok for n, ok in right.items() if key.kinds[n] == kind])
            for kind in ("real", "synthetic")
        },
        "per_class": {
            label: _share([ok for n, ok in right.items() if key.classes[n] == label])
            for label in sorted(set(key.classes.values()))
        },
    }


def _share(right: Sequence[bool]) -> dict[str, float] | None:
    return asdict(exact(sum(right), len(right))) if right else None
