"""Can a classifier tell synthetic patches from real ones?

The classifier two-sample test of Lopez-Paz and Oquab [1]_: a classifier is trained on one half of
both sets and judged on the other half. If both come from one source, its held-out accuracy is 0.5
on average. The p value is exact: given the classifier, held-out labels are exchangeable, so the
number of real patches among those called real is hypergeometric.

Rows must be independent: one patch per real patient. Since one division into halves is luck, the
test is repeated over several, and twice the median p is a valid p value whatever the dependence
between them [2]_ (conservative: it rejects less often than its level under the null).

.. [1] arXiv:1610.06545
.. [2] Rüger 1978; Meinshausen, Meier and Bühlmann 2009, doi:10.1198/jasa.2009.tm08647
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.ensemble import ExtraTreesClassifier

Floats = NDArray[np.float64]

DIVISIONS = 11
TREES = 100
LEAST = 8
"""Patches of either kind; with 4 held out of each, a p of 0.014 is the best that can be reached."""


@dataclass(frozen=True)
class TwoSample:
    """Held-out accuracy (mean over divisions), p, and the number of patches of either kind."""

    accuracy: float
    p: float
    count: int

    def document(self) -> dict[str, float]:
        """As JSON."""
        return {"accuracy": self.accuracy, "p": self.p, "count": self.count}


def two_sample_test(a: Floats, b: Floats, rng: np.random.Generator) -> TwoSample:
    """Test whether ``a`` and ``b`` (row, feature) come from one source; the larger is thinned.

    Raises:
        ValueError: with fewer than 8 rows on either side.
    """
    count = min(len(a), len(b))
    if count < LEAST:
        raise ValueError(f"a two-sample test needs {LEAST} patches of either kind, got {count}")
    results = [_divide(a, b, count, rng) for _ in range(DIVISIONS)]
    accuracy = float(np.mean([accuracy for accuracy, _ in results]))
    p = min(1.0, 2 * float(np.median([p for _, p in results])))
    return TwoSample(accuracy, p, count)


def _divide(a: Floats, b: Floats, count: int, rng: np.random.Generator) -> tuple[float, float]:
    """Accuracy and one-sided p of one division into halves."""
    first, second = rng.permutation(len(a))[:count], rng.permutation(len(b))[:count]
    seen = count - count // 2
    trees = ExtraTreesClassifier(
        TREES, min_samples_leaf=2, n_jobs=1, random_state=int(rng.integers(2**31))
    )
    labels = np.repeat([0, 1], seen)
    trees.fit(np.concatenate([a[first[:seen]], b[second[:seen]]]), labels)
    held = np.concatenate([a[first[seen:]], b[second[seen:]]])
    called = trees.predict_proba(held)[:, 1] > 0.5
    half = count // 2
    hits = int(called[half:].sum())  # synthetic ones called synthetic
    right = hits + half - int(called[:half].sum())
    p = stats.hypergeom.sf(hits - 1, 2 * half, int(called.sum()), half)
    return right / (2 * half), float(p)
