"""The learning curve: what synthetic patches are worth when there are fewer patients.

A share of the training patients of a fold trains a generator of its own, and classifiers with and
without its patches; tuning and test part stay as they are. Smaller shares are part of larger ones.
The dose is the best one above 0 of the fold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaug.domain import PatchSet
from medaug.evaluation.fold_scores import FoldScores


@dataclass(frozen=True)
class Shares:
    """What was scored with each share of the training patients.

    Attributes:
        scores: share to (classifier, arm) to one entry per fold and seed.
        patients: share to how many patients trained, in each fold.
        left_out: share to why some fold could not be trained with it.
    """

    scores: dict[float, dict[tuple[str, str], list[FoldScores]]]
    patients: dict[float, dict[int, int]]
    left_out: dict[float, str]


def subset(training: PatchSet, share: float, seed: int) -> PatchSet:
    """The patches of ``share`` of the patients, of each class about as many as in all.

    Patients are ordered at random once, class by class in turn, so that a smaller share lies
    within a larger one; a patient of several classes counts to his rarest.
    """
    order = training.patient_order
    shows = np.zeros((len(order), len(training.classes)), dtype=bool)
    shows[training.patient_index, training.labels] = True
    rarity = np.where(shows, shows.sum(axis=0), len(order) + 1)
    rng = np.random.default_rng((seed, 0x6C63))
    kept = set()
    for label in range(len(training.classes)):
        mine = rng.permutation(np.flatnonzero(rarity.argmin(axis=1) == label))
        kept |= {order[at] for at in mine[: math.ceil(share * len(mine))]}
    return training.of_patients(kept)


def worth(patients: Sequence[float], without: Sequence[float], reached: float) -> float | None:
    """How many real patients alone reach what ``reached`` is, on the curve ``without``.

    Linear between the points, in the logarithm of the patients; a curve that falls is held at its
    highest point so far. None beyond the curve.

    >>> round(worth([10, 100], [0.6, 0.8], 0.7))
    32
    """
    rising = np.maximum.accumulate(without)
    if not rising[0] <= reached <= rising[-1]:
        return None
    at = int(np.searchsorted(rising, reached))
    if at == 0 or rising[at] == rising[at - 1]:
        return float(patients[at])
    part = (reached - rising[at - 1]) / (rising[at] - rising[at - 1])
    low, high = np.log(patients[at - 1]), np.log(patients[at])
    return float(np.exp(low + part * (high - low)))
