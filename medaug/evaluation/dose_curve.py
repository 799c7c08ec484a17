"""How the scores move with the dose: an arm that mixes is trained again at each dose asked for.

A dose of 2 shows twice as many synthetic patches as real ones of every class, and draws them from
the first of the release, twice as many as there are real ones, or all there are. At dose 0 an arm
is its own baseline. The curve shows; nothing is chosen by it. Beside the figure on the test
patients stands that on the tuning patients, the only ones by whom a dose may be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet, Release
from medaug.evaluation.policies import Arm
from medaug.evaluation.statistics import Interval, macro_auc
from medaug.evaluation.training import Scores

BASELINES = {"real+gan": "real", "real+classical+gan": "real+classical"}
"""What each arm of the curve is without synthetic patches."""


@dataclass(frozen=True)
class DosePoint:
    """One arm at one dose with one classifier.

    Attributes:
        classifier: which.
        arm: which.
        dose: synthetic patches shown for each real one.
        different: class to how many different synthetic patches were drawn from.
        auc: macro AUC on the test patients.
        tuning_auc: the same on the tuning patients, mean over seeds.
    """

    classifier: str
    arm: str
    dose: float
    different: dict[str, int]
    auc: Interval
    tuning_auc: float

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def arms_at(arms: Iterable[Arm], doses: Sequence[float]) -> tuple[Arm, ...]:
    """Every arm of the curve at every dose that its baseline does not stand for."""
    there = list(arms)
    names = {arm.name for arm in there}
    return tuple(
        arm.at(dose)
        for arm in there
        if arm.name in BASELINES
        for dose in doses
        if dose > 0 or BASELINES[arm.name] not in names
    )


def curve_of(
    arms: Sequence[Arm],
    doses: Sequence[float],
    classifiers: Sequence[str],
    intervals: Mapping[tuple[str, str], Interval],
    scores: Mapping[tuple[str, str], Sequence[Scores]],
    tuning_labels: NDArray[np.int64],
    different: Mapping[float, dict[str, int]],
) -> Iterator[DosePoint]:
    """The points in order of classifier, arm and dose.

    Args:
        arms: those of the evaluation.
        doses: of the curve.
        classifiers: that trained them.
        intervals: of the macro AUC, of (classifier, arm's label).
        scores: of the same.
        tuning_labels: (patch,).
        different: dose to class to synthetic patches drawn from.
    """
    for classifier in classifiers:
        for arm in arms:
            for dose in doses if arm.name in BASELINES else ():
                own = arm.at(dose).label
                at = (classifier, own if (classifier, own) in scores else BASELINES[arm.name])
                reached = [macro_auc(each.tuning, tuning_labels) for each in scores[at]]
                yield DosePoint(
                    classifier,
                    arm.name,
                    dose,
                    different[dose],
                    intervals[at],
                    float(np.mean(reached)),
                )


def different_at(dose: float, training: PatchSet, release: Release) -> dict[str, int]:
    """How many different synthetic patches of each class a dose draws from."""
    real = np.bincount(training.labels, minlength=len(training.classes))
    released = release.per_class()
    return {
        label: min(math.ceil(dose * count), released.get(label, 0))
        for label, count in zip(training.classes, real.tolist(), strict=True)
    }
