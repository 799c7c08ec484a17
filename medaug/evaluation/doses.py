"""How many synthetic patches per real one, chosen on the tuning part.

A dose of 2 means twice as many synthetic patches as real ones, of every class, and two thirds of
every batch. The dose is chosen for each classifier by the macro AUC on the tuning part, in the arm
of the main comparison, with one training of each dose from the same seed; the other arms that mix
take the same. Of equally good doses the smallest is taken.

>>> share(2.0, 30), share(0.5, 30)
(20, 10)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.training import Diet


def share(dose: float, batch: int) -> int:
    """Places of a batch that synthetic patches take."""
    return min(max(round(batch * dose / (1 + dose)), 1), batch - 1)


def at_dose(
    diet: Diet, settings: EvaluationSettings, dose: float
) -> tuple[Diet, EvaluationSettings]:
    """Diet and settings with ``dose`` synthetic patches per real one of each class.

    The first candidates of a class are taken, so that a larger dose holds the smaller ones.
    """
    if dose <= 0:
        raise ValueError(f"a dose above 0, got {dose:g}")
    rows = []
    for at in range(diet.classes):
        real = int((diet.labels == at).sum())
        rows.append((diet.synthetic_labels == at).nonzero().flatten()[: math.ceil(dose * real)])
    chosen = torch.cat(rows)
    smaller = replace(
        diet, synthetic=diet.synthetic[chosen], synthetic_labels=diet.synthetic_labels[chosen]
    )
    mixed = share(dose, settings.batch) / settings.batch
    return smaller, settings.model_copy(update={"synthetic_share": mixed, "dose": {}})


def best(reached: Mapping[float, float]) -> float:
    """The dose with the largest figure; of equal ones the smallest.

    >>> best({0: 0.8, 1: 0.9, 2: 0.9})
    1
    """
    return min(reached, key=lambda dose: (-reached[dose], dose))
