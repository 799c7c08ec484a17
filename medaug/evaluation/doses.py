"""How many synthetic patches per real one, chosen on the tuning part.

A dose of 2 means twice as many synthetic patches as real ones, of every class, and two thirds of
every batch. The dose is chosen for each classifier by the macro AUC on the tuning part, in the arm
of the main comparison, with one training of each dose from the same seed; the other arms that mix
take the same. Of equally good doses the smallest is taken.
"""

from __future__ import annotations

from collections.abc import Mapping


def best(reached: Mapping[float, float]) -> float:
    """The dose with the largest figure; of equal ones the smallest.

    >>> best({0: 0.8, 1: 0.9, 2: 0.9})
    1
    """
    return min(reached, key=lambda dose: (-reached[dose], dose))
