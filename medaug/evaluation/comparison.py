"""Does an arm beat its baseline? Fixed before any score is seen.

The figure is the macro AUC: it needs no threshold. The main comparison, which alone gives the
verdict, is `MAIN`: what synthetic patches add on top of classical augmentation, since classical
augmentation costs nothing and is what they must beat. The other pairs are shown beside it.

Two tests must agree: the bootstrap over patients with the luck of seeds and training sets
(`uncertainty`), and the permutation of the arms within patients (`permutation`), which is exact
in small cohorts. p is the larger of the two. Holm's correction runs over every pair of every
classifier, so that "helps" or "hurts" is wrongly said anywhere in the document with a chance of
at most 1 - confidence, as far as the luck shows: that of a single split and its generator does
not. DeLong's formula, where it applies, and the corrected resampled t test of
the folds stand beside p and decide nothing: the first knows nothing of training luck, the second
takes its whole variance from a handful of folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from medaug.evaluation.delong import Paired, paired_delong
from medaug.evaluation.figures import Draws, Figures
from medaug.evaluation.fold_scores import FoldScores
from medaug.evaluation.permutation import per_patient, sign_flip_p
from medaug.evaluation.policies import ArmName
from medaug.evaluation.statistics import Floats, Interval, holm
from medaug.evaluation.uncertainty import (
    POWER,
    Design,
    Resampled,
    Spread,
    corrected_resampled,
    p_value,
)

Word = Literal["helps", "no evidence", "hurts"]
Pair = tuple[ArmName, ArmName]
Classifier = TypeVar("Classifier", bound=str)
Arm = TypeVar("Arm", bound=str)

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
FLIPS = 9999
"""Of the permutation test: its smallest p is 0.0001."""


@dataclass(frozen=True)
class Judged:
    """One arm with one classifier: the scores of its trainings, and its figures."""

    folds: Sequence[FoldScores]
    figures: Figures


@dataclass(frozen=True)
class Comparison:
    """One arm against its baseline, with one classifier.

    Attributes:
        classifier: which.
        arm: what is judged.
        baseline: what it must beat.
        difference: of macro AUC, arm minus baseline; the interval is not corrected.
        p: two-sided, not corrected: the larger of the next two.
        p_bootstrap: over patients, seeds and training sets.
        p_permutation: over patients, of these trainings.
        p_holm: corrected for every comparison made.
        smallest: the true difference that this cohort and these trainings would have shown with
            80 % power at the strictest level that Holm's correction may ask for.
        room: by how much the baseline's macro AUC can rise at all.
        verdict: "helps" or "hurts" only if ``p_holm`` is below 1 - confidence.
        delong: by formula, of these trainings; None unless there are two classes.
        resampled: the corrected resampled t test; None for a single training set.
        others: differences in the other figures; nothing is tested on them.
        per_class: class to figure to difference.
    """

    classifier: str
    arm: str
    baseline: str
    difference: Interval
    p: float
    p_bootstrap: float
    p_permutation: float
    p_holm: float
    smallest: float
    room: float
    verdict: Word
    delong: Paired | None
    resampled: Resampled | None
    others: dict[str, Interval]
    per_class: dict[str, dict[str, Interval]]

    @property
    def detectable(self) -> str:
        """What stands beside "no evidence"."""
        found = (
            "the smallest difference this cohort could have shown is about "
            f"{100 * self.smallest:.1f} points"
        )
        if self.smallest > self.room:
            found += f", and there is room above the baseline for {100 * self.room:.1f} only"
        return found

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
            "p_bootstrap": self.p_bootstrap,
            "p_permutation": self.p_permutation,
            "p_holm": self.p_holm,
            "smallest_difference": self.smallest,
            "power": POWER,
            "verdict": self.verdict,
            "delong": None if self.delong is None else self.delong.document(),
            "corrected_resampled": None if self.resampled is None else self.resampled.document(),
            **{name: interval.document() for name, interval in self.others.items()},
            "per_class": {
                label: {name: interval.document() for name, interval in figures.items()}
                for label, figures in self.per_class.items()
            },
        }


def compare(
    arms: Mapping[tuple[Classifier, Arm], Judged],
    classes: Sequence[str],
    draws: Draws,
    confidence: float,
    rng: np.random.Generator,
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> tuple[Comparison, ...]:
    """Every pair whose arms are there, for every classifier.

    Args:
        arms: of (classifier, arm), all on the same replicates and with the same folds and seeds.
        classes: their names.
        draws: the replicates.
        confidence: of intervals; verdicts are at 1 - confidence.
        rng: of the luck and the permutations.
        pairs: (arm, baseline).

    Raises:
        ValueError: if the two arms of a pair were not tested on the same folds.
    """
    named = {(str(classifier), str(arm)): judged for (classifier, arm), judged in arms.items()}
    asked = [
        (name, pair)
        for name in dict.fromkeys(name for name, _ in named)
        for pair in pairs
        if all((name, arm) in named for arm in pair)
    ]
    alpha = 1 - confidence
    tested = [
        _test(named[name, arm], named[name, baseline], draws, rng)
        for name, (arm, baseline) in asked
    ]
    corrected = holm([max(test.p_bootstrap, test.p_permutation) for test in tested])
    return tuple(
        Comparison(
            classifier=name,
            arm=arm,
            baseline=baseline,
            difference=test.spread.interval(test.drawn, confidence, least=-1.0),
            p=max(test.p_bootstrap, test.p_permutation),
            p_bootstrap=test.p_bootstrap,
            p_permutation=test.p_permutation,
            p_holm=p_holm,
            smallest=test.spread.smallest_difference(alpha / len(asked), rng),
            room=1 - float(theirs.figures.macro_auc[0].mean()),
            verdict=_word(test.spread.value, p_holm < alpha),
            delong=paired_delong(ours.folds, theirs.folds, draws, confidence),
            resampled=corrected_resampled(test.per_set, ours.figures.design.overlap, confidence),
            others=_others(ours.figures, theirs.figures, confidence, rng),
            per_class=_per_class(ours.figures, theirs.figures, classes, confidence, rng),
        )
        for (name, (arm, baseline)), test, p_holm in zip(asked, tested, corrected, strict=True)
        for ours, theirs in [(named[name, arm], named[name, baseline])]
    )


@dataclass(frozen=True, eq=False)
class _Test:
    """What decides on one pair; ``per_set`` is the difference on each training set."""

    spread: Spread
    drawn: Floats
    p_bootstrap: float
    p_permutation: float
    per_set: Floats


def _test(ours: Judged, theirs: Judged, draws: Draws, rng: np.random.Generator) -> _Test:
    places = [
        [(run.fold, run.seed, run.test.patients) for run in each.folds] for each in (ours, theirs)
    ]
    if places[0] != places[1]:
        raise ValueError("two arms can be compared on the same folds and seeds only")
    design = ours.figures.design
    arm, baseline = ours.figures.macro_auc, theirs.figures.macro_auc
    spread = Spread.between(arm, baseline, design)
    drawn = spread.draws(rng)
    shares = per_patient(ours.folds, theirs.folds, draws)
    return _Test(
        spread,
        drawn,
        p_value(drawn),
        sign_flip_p(shares, FLIPS, rng),
        design.averages((arm - baseline)[:1])[0],
    )


def _difference(
    arm: Floats, baseline: Floats, design: Design, confidence: float, rng: np.random.Generator
) -> Interval:
    spread = Spread.between(arm, baseline, design)
    return spread.interval(spread.draws(rng), confidence, least=-2.0, most=2.0)


def _others(
    ours: Figures, theirs: Figures, confidence: float, rng: np.random.Generator
) -> dict[str, Interval]:
    """Differences of the cohort's other figures."""
    figures = {
        "balanced_accuracy": (ours.balanced_accuracy, theirs.balanced_accuracy, ours.design),
        "brier": (ours.brier, theirs.brier, ours.design),
        "calibration_error": (ours.calibration_error, theirs.calibration_error, ours.pooled),
    }
    return {
        name: _difference(arm, baseline, design, confidence, rng)
        for name, (arm, baseline, design) in figures.items()
    }


def _per_class(
    ours: Figures,
    theirs: Figures,
    classes: Sequence[str],
    confidence: float,
    rng: np.random.Generator,
) -> dict[str, dict[str, Interval]]:
    found: dict[str, dict[str, Interval]] = {}
    for at, label in enumerate(classes):
        found[label] = {}
        for name in ("sensitivity", "specificity", "auc"):
            arm, baseline = (getattr(each, name)[:, :, at] for each in (ours, theirs))
            there = np.isfinite(arm[0])
            found[label][name] = _difference(
                arm[:, there], baseline[:, there], ours.design.select(there), confidence, rng
            )
    return found


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
