"""Diversity within a class: structural similarity of pairs, real against synthetic.

Pairs are matched at random, one patch of each patient at a time, until there are enough; the two
of a pair are never of one patient. A mean over pairs has the same expectation whatever their
number, so that the samples need not be of one size. Intervals come from resampling patients
(synthetic: patches): a pair counts as often as the product of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.evaluation.similarity import similarities
from medaug.evaluation.statistics import Interval

Floats = NDArray[np.float64]
Set = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]
"""Images (patch, ...), the patient of each, and which of them count."""

PAIRS = 256
REPLICATES = 1000


@dataclass(frozen=True)
class Similarity:
    """Mean MS-SSIM of pairs; ``difference`` is synthetic minus real, above 0 where diversity lacks.

    The baseline are pairs of real patches of different patients.
    """

    synthetic: Interval
    baseline: Interval
    difference: Interval

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "synthetic": self.synthetic.document(),
            "baseline": self.baseline.document(),
            "difference": self.difference.document(),
        }


def similarity_of(
    real: Set, synthetic: Set, confidence: float, rng: np.random.Generator
) -> Similarity:
    """Compare the pairs of both; either holds at least two patients."""
    tail = (1 - confidence) / 2

    def interval(value: float, replicates: Floats) -> Interval:
        low, high = np.quantile(replicates, [tail, 1 - tail])
        return Interval(value, float(low), float(high))

    base, base_replicates = _mean(real, rng)
    value, replicates = _mean(synthetic, rng)
    return Similarity(
        interval(value, replicates),
        interval(base, base_replicates),
        interval(value - base, replicates - base_replicates),
    )


def matched(
    owners: NDArray[np.int64], rows: NDArray[np.int64], wanted: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(pair, 2) of ``rows``, no two of one owner; every patient is drawn equally often."""
    pairs: list[NDArray[np.int64]] = []
    while sum(map(len, pairs)) < wanted:
        order = rng.permutation(rows)
        _, first = np.unique(owners[order], return_index=True)
        one_each = rng.permutation(order[first])
        pairs.append(one_each[: len(one_each) // 2 * 2].reshape(-1, 2))
    return np.concatenate(pairs)[:wanted]


def _mean(of: Set, rng: np.random.Generator) -> tuple[float, Floats]:
    """Mean over pairs, and over replicates of resampled owners."""
    images, owners, counting = of
    rows = np.flatnonzero(counting)
    _, owner = np.unique(owners[rows], return_inverse=True)
    patients = int(owner.max()) + 1
    # Few patients have few pairs; the same one again would add nothing.
    wanted = min(PAIRS, max(1, len(rows) * (len(rows) - 1) // 2))
    pairs = matched(owner, np.arange(len(rows)), wanted, rng)
    values = similarities(images[rows[pairs[:, 0]]], images[rows[pairs[:, 1]]])
    drawn = rng.multinomial(patients, np.full(patients, 1 / patients), size=REPLICATES)
    weights = drawn[:, owner[pairs[:, 0]]] * drawn[:, owner[pairs[:, 1]]]
    total = weights.sum(axis=1)
    whole = float(values.mean())
    replicates = np.where(total > 0, weights @ values / np.maximum(total, 1), whole)
    return whole, replicates
