"""Which candidates noisy votes speak for: maximum-entropy weights.

Late in the search the votes spread evenly and each single count drowns in the noise; all of them
together still say where the patients are. What a picture of known origin would vote for is public,
because it can be drawn as often as one likes. So candidates are weighted such that pictures drawn
by these weights would have voted as the patients did, in every round so far, no better than the
noise allows and as evenly as possible: the weights w minimise

    1/2 sum over rounds |h - n U'w|² / variance + strength · KL(w, even weights)

with the noisy votes h and the votes U of each picture. Everything here is post-processing.
The idea of fitting a law to noisy means of features is that of DP-MERF [1]_; votes are features
that move to where the patients are.

.. [1] Harder, Adamczewski, Park 2021, arXiv:2002.11603
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax

Floats = NDArray[np.float64]

_STRENGTH = 10.0  # pseudo-patients of the even weights
_STEPS = 500


@dataclass(frozen=True, eq=False)
class Asked:
    """One round of one class: (candidate, feature), and the noisy votes (candidate,) for each."""

    candidates: Floats
    noisy: Floats


def ballots(patches: Floats, candidates: Floats, nearest: int) -> Floats:
    """(patch, candidate): each patch votes for its ``nearest`` candidates, in all with L2 norm 1.

    Votes for one candidate alone say little more than noise where candidates lie close; a vote
    of 1/√k for each of k has the same L2 norm and is heard k times.
    """
    return _for_the_least(cdist(patches, candidates), nearest)


def weigh(
    pictures: Floats, asked: Sequence[Asked], nearest: int, sigma: float, most: int
) -> Floats:
    """(picture,) weights that sum to 1.

    Args:
        pictures: (picture, feature); those of the last round of ``asked``, or others.
        asked: every round so far, of one class.
        nearest: as in `ballots`.
        sigma: standard deviation of the noise in each count.
        most: patients that there can be at most.
    """
    total = np.mean([each.noisy.sum() for each in asked]) / np.sqrt(nearest)
    patients = float(np.clip(total, 1.0, most))
    expected, seen = [], []
    for each in asked:
        distance = cdist(pictures, each.candidates)
        if pictures is each.candidates:
            np.fill_diagonal(distance, np.inf)  # nobody votes for himself
        scale = np.sqrt(sigma**2 + patients / len(each.noisy))
        expected.append(patients * _for_the_least(distance, nearest) / scale)
        seen.append(each.noisy / scale)
    return _most_even(np.concatenate(expected, axis=1), np.concatenate(seen))


def _most_even(expected: Floats, seen: Floats) -> Floats:
    """The minimum over w of 1/2 |seen - expected' w|² + strength · KL(w, even).

    By its dual, one number for each count, which is smooth and well conditioned: at its minimum
    w is the softmax of expected · y / strength.
    """

    def dual(y: Floats) -> tuple[float, Floats]:
        logits = expected @ y / _STRENGTH
        grown = float(logsumexp(logits) - np.log(len(logits)))
        slope = y - seen + softmax(logits) @ expected
        return float(0.5 * y @ y - y @ seen + _STRENGTH * grown), slope

    options = {"maxiter": _STEPS, "gtol": 1e-3}
    found = minimize(dual, np.zeros(len(seen)), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(softmax(expected @ found.x / _STRENGTH))


def _for_the_least(distance: Floats, nearest: int) -> Floats:
    ballot = np.zeros_like(distance)
    chosen = np.argpartition(distance, nearest - 1, axis=1)[:, :nearest]
    np.put_along_axis(ballot, chosen, 1 / np.sqrt(nearest), axis=1)
    return ballot
