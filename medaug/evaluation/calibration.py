"""Does a probability of 0.8 mean right in 8 of 10?

Two figures, both 0 at best. The *Brier score* is the mean over patches of the squared distance
between probabilities and the truth, summed over classes: 0 to 2 [1]_ (of two classes it is twice
scikit-learn's). The *expected calibration error* (ECE) is the mean over 15 bins of confidence of
|confidence - accuracy| of the class with the largest probability, 0 to 1 [2]_. ECE is too large
in few patches: compare arms by it, on the same patients, rather than against 0.

.. [1] Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
.. [2] Guo et al. 2017, arXiv:1706.04599
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medaug.evaluation.statistics import Floats

BINS = 15


def brier(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """(patch,) squared distance to the truth; ``probabilities`` is (patch, class).

    >>> brier(np.array([[0.8, 0.2], [0.0, 1.0]]), np.array([0, 0])).round(2).tolist()
    [0.08, 2.0]
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return np.asarray(((probabilities - truth) ** 2).sum(axis=1))


def gaps(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """(replicate, bin) sum of weight * (confidence - right): they add up over folds.

    Args:
        probabilities: (patch, class).
        labels: (patch,).
        weights: (replicate, patch).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # A confidence on the edge of two bins belongs to the lower one, as in the paper.
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return np.asarray(weights @ (np.eye(BINS)[place] * (confidence - right)[:, None]))


def calibration_error(summed: Floats, weight: Floats) -> Floats:
    """(replicate,) ECE of `gaps` that were summed over ``weight`` (replicate,) patches."""
    return np.asarray(np.abs(summed).sum(axis=1) / weight)
