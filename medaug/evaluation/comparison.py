"""Does an arm beat its baseline? Fixed before any score is seen.

The figure is the macro AUC: it needs no threshold. The main comparison, which alone gives the
verdict, is `MAIN`: what synthetic patches add on top of classical augmentation, since classical
augmentation costs nothing and is what they must beat. The other pairs are shown beside it. Holm's
correction runs over every pair of every classifier, so that "helps" or "hurts" is wrongly said
anywhere in the document with a chance of at most 1 - confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medaug.evaluation.settings import ArmName
from medaug.evaluation.statistics import Interval, Spread, holm, p_value

Word = Literal["helps", "no evidence", "hurts"]
Pair = tuple[ArmName, ArmName]

METRIC = "auc"
MAIN: Pair = ("real+classical+gan", "real+classical")
PAIRS: tuple[Pair, ...] = (
    MAIN,
    ("real+classical", "real"),
    ("real+randaugment", "real"),
    ("real+trivialaugment", "real"),
    ("real+gan", "real"),
    ("real+classical+refined", "real+classical"),
    ("real+searched", "real+classical"),
    ("gan", "real"),
)
"""(arm, baseline), in the order of the report."""


@dataclass(frozen=True)
class Comparison:
    """One arm against its baseline, with one classifier.

    Attributes:
        classifier: which.
        arm: what is judged.
        baseline: what it must beat.
        difference: of macro AUC, arm minus baseline; the interval is not corrected.
        p: two-sided, not corrected.
        p_holm: corrected for every comparison made.
        smallest: the true difference that this cohort and these seeds would have shown with
            80 % power at the strictest level that Holm's correction may ask for.
        verdict: "helps" or "hurts" only if ``p_holm`` is below 1 - confidence.
    """

    classifier: str
    arm: str
    baseline: str
    difference: Interval
    p: float
    p_holm: float
    smallest: float
    verdict: Word

    @property
    def is_main(self) -> bool:
        """Whether the verdict rests on it."""
        return (self.arm, self.baseline) == MAIN

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "classifier": self.classifier,
            "arm": self.arm,
            "baseline": self.baseline,
            "metric": METRIC,
            "main": self.is_main,
            "difference": self.difference.document(),
            "p": self.p,
            "p_holm": self.p_holm,
            "smallest_difference": self.smallest,
            "verdict": self.verdict,
        }


def compare(
    spreads: Mapping[tuple[str, str], Spread], confidence: float, rng: np.random.Generator
) -> tuple[Comparison, ...]:
    """Every pair of `PAIRS` whose arms are there, for every classifier.

    Args:
        spreads: macro AUC of (classifier, arm), all on the same replicates.
        confidence: of intervals; verdicts are at 1 - confidence.
        rng: of the training luck.
    """
    classifiers = dict.fromkeys(name for name, _ in spreads)
    asked = [
        (name, pair)
        for name in classifiers
        for pair in PAIRS
        if all((name, arm) in spreads for arm in pair)
    ]
    differences = [spreads[name, arm] - spreads[name, base] for name, (arm, base) in asked]
    drawn = [difference.draws(rng) for difference in differences]
    plain = [p_value(draws) for draws in drawn]
    alpha = 1 - confidence
    return tuple(
        Comparison(
            classifier=name,
            arm=arm,
            baseline=baseline,
            difference=difference.interval(draws, confidence, least=-1.0),
            p=p,
            p_holm=corrected,
            smallest=difference.smallest_difference(alpha / len(asked)),
            verdict=_word(difference.value, corrected < alpha),
        )
        for (name, (arm, baseline)), difference, draws, p, corrected in zip(
            asked, differences, drawn, plain, holm(plain), strict=True
        )
    )


def _word(difference: float, shown: bool) -> Word:
    if not shown:
        return "no evidence"
    return "helps" if difference > 0 else "hurts"


def overall(comparisons: Sequence[Comparison]) -> Word:
    """The verdict: what the main comparison shows with at least one classifier.

    Classifiers that contradict one another are no evidence.
    """
    words = {each.verdict for each in comparisons if each.is_main} - {"no evidence"}
    return words.pop() if len(words) == 1 else "no evidence"
