"""A limit from K patients, and what it promises about the next one.

Scores of K calibration patients and of one new patient are taken as draws from one population.
If the limit is the (r+1)-th highest of the K, the share of the population above it is at most b
with confidence 95 % as soon as P(Binomial(K, b) <= r) <= 5 % (Wilks 1941 [1]_; training-conditional
conformal prediction, Vovk 2012 [2]_). At b = 5 %:

>>> [allowed_above(patients) for patients in (58, 59, 92, 93, 123, 124)]
[None, 0, 0, 1, 1, 2]
>>> round(share_above(59, 0), 3), round(share_above(22, 0), 3)
(0.05, 0.127)

.. [1] doi:10.1214/aoms/1177731788
.. [2] proceedings.mlr.press/v25/vovk12.html
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom, hypergeom

CONFIDENCE = 0.95
_BEYOND_CHANCE = 0.01
# With K patients, even the maximum is exceeded by a new one with probability 1 / (K + 1).
FEWEST_PATIENTS = 19


def allowed_above(patients: int, share: float = 0.05, confidence: float = CONFIDENCE) -> int | None:
    """How many of K calibration patients may lie above a limit that promises ``share``.

    None where not even the maximum keeps the promise.
    """
    above = int(binom.ppf(1 - confidence, patients, share))
    while above >= 0 and binom.cdf(above, patients, share) > 1 - confidence:
        above -= 1
    return None if above < 0 else above


def limit_of(scores: NDArray[np.float64], share: float, confidence: float = CONFIDENCE) -> float:
    """The order statistic of patients' scores that `allowed_above` names, else the maximum."""
    above = allowed_above(len(scores), share, confidence) or 0
    return float(np.sort(scores)[-1 - above])


def disagree(held_out: NDArray[np.float64], left_out: NDArray[np.float64], share: float) -> bool:
    """Whether more held-out scores lie above the limit of the others than chance would put there.

    Were both samples of one population, the ``above`` highest of all would be dealt out by chance:
    Fisher's exact test of "above the limit" against "from which part", at 1 %: what follows is a
    promise that is hard to
    keep.
    """
    limit = limit_of(left_out, share)
    above = int((held_out > limit).sum())
    every, marked = len(held_out) + len(left_out), above + int((left_out > limit).sum())
    return bool(hypergeom.sf(above - 1, every, marked, len(held_out)) <= _BEYOND_CHANCE)


def share_above(patients: int, above: int, confidence: float = CONFIDENCE) -> float:
    """Upper confidence bound (Clopper-Pearson) of the share of new patients above a limit.

    For the maximum this is 1 - 0.05 ** (1 / K). It holds for the limit of `limit_of`, for a limit
    chosen without the K patients, and for the smaller of the two: let the second limit have
    the true share p. If p <= b, only the order statistic can fail; if p > b, both ways to fail
    imply that no more of the K patients lie above the second limit than happens in 5 % of draws.
    """
    return 1.0 if above >= patients else float(beta.ppf(confidence, above + 1, patients - above))
