"""Would the arms have differed as much had their scores been dealt out by chance?

If two arms score equally well, then within each patient their scores may be swapped. Following
Bandos et al. [1]_ scores become ranks within a training first, so that the arms share a scale,
and all patches of a patient are swapped together, in every fold and seed. Let ψ(a, b) be 1 where
a positive's score a exceeds a negative's score b (one half for a tie). With ε = ±1 for each
patient, the difference of the swapped arms is linear in ε: positive i and negative j contribute

    [(ψ(Ai,Aj) − ψ(Bi,Bj)) (εi + εj) + (ψ(Ai,Bj) − ψ(Bi,Aj)) (εi − εj)] / 2,

so that each patient has one number, their sum is the observed difference, and the test flips
signs. It asks about these trained classifiers; the luck of training is not in it.

.. [1] Bandos, Rockette and Gur 2005, doi:10.1002/sim.2149
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medaug.evaluation.figures import Draws
from medaug.evaluation.fold_scores import FoldScores
from medaug.evaluation.statistics import Floats, exceeding


def contributions(first: Floats, second: Floats, positive: NDArray[np.bool_]) -> Floats:
    """(patch,) what each adds to AUC(first) − AUC(second), and takes away when swapped.

    Args:
        first: (patch,) scores of one arm.
        second: (patch,) of the other, on the same patches.
        positive: (patch,); both kinds occur.
    """
    a, b = (stats.rankdata(scores) for scores in (first, second))
    up, down = positive, ~positive
    # The mean over negatives of ψ(., j) for each positive, and over positives for each negative.
    added = np.empty(len(a))
    added[up] = (
        exceeding(a[up], a[down])
        - exceeding(b[up], b[down])
        + exceeding(a[up], b[down])
        - exceeding(b[up], a[down])
    ) / (2 * up.sum())
    added[down] = (
        -exceeding(a[down], a[up])
        + exceeding(b[down], b[up])
        - exceeding(a[down], b[up])
        + exceeding(b[down], a[up])
    ) / (2 * down.sum())
    return added


def per_patient(arm: Sequence[FoldScores], baseline: Sequence[FoldScores], draws: Draws) -> Floats:
    """(patient,) contributions to the difference in macro AUC, mean over runs."""
    total = np.zeros(draws.weights.shape[1])
    for ours, theirs in zip(arm, baseline, strict=True):
        rows, labels = draws.index(ours.test), ours.test.labels
        truths = [
            (at, labels == at)
            for at in range(ours.test.probabilities.shape[1])
            if 0 < (labels == at).sum() < len(labels)
        ]
        for at, positive in truths:
            first, second = (run.test.probabilities[:, at].astype(float) for run in (ours, theirs))
            added = contributions(first, second, positive)
            np.add.at(total, rows, added / (len(truths) * len(arm)))
    return total


def sign_flip_p(of_patients: Floats, flips: int, rng: np.random.Generator) -> float:
    """Two-sided p of "their sum is 0" over ``flips`` random signs; never 0."""
    signs = rng.integers(2, size=(flips, len(of_patients))) * 2.0 - 1
    # As far from 0 up to rounding counts as far.
    reached = np.abs(signs @ of_patients) >= abs(of_patients.sum()) - 1e-12
    return float((1 + reached.sum()) / (1 + flips))
