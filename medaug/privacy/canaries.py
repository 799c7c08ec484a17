"""Phantom patients trained on as canaries: how well does the generator remember them?

Of a pool of about a thousand simulated patches, 8 to 16 are drawn as canaries and trained on; the
rest are references that cost nothing. A canary's exposure [1]_ is the log of the number of
references over its rank among them by likeness to the samples: about a bit where it is forgotten,
9.95 bits with a pool of 1000 where no reference comes as near. Samples that resemble a canary more
than any reference are removed before a release.

Exposures of canaries that left no trace are exponential, with mean 1 in nats; their sum is
Gamma(k), which gives the p-value. Silence is weak evidence: canaries are simulated, and real
patients that differ from them may be remembered better.

.. [1] Carlini et al. 2019, The secret sharer, arXiv:1802.08232
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from medaug.privacy.nearness import correlations
from medaug.privacy.pictures import Floats
from medaug.privacy.scales import at_scales, chunks
from medaug.privacy.threads import one_thread

POOL = 1000
FEWEST, MOST = 8, 16
FOUND_BELOW = 0.01


@dataclass(frozen=True, eq=False)
class Exposure:
    """What the samples say about the canaries.

    Attributes:
        bits: (canary,) log₂((references + 1) / rank).
        p: chance of exposures that sum to as much, had no canary been trained on.
        canary_like: (sample,) whether it resembles a canary more than every reference: remove.
    """

    bits: NDArray[np.float64]
    p: float
    canary_like: NDArray[np.bool_]

    @property
    def found(self) -> bool:
        """Whether the release has to be refused: the generator remembers its canaries."""
        return self.p < FOUND_BELOW


def choose_canaries(count: int, seed: int, pool: int = POOL) -> NDArray[np.int64]:
    """Rows of the pool that are to be trained on, sorted.

    Raises:
        ValueError: for fewer than 8 or more than 16, or a pool not ten times as large.
    """
    if not FEWEST <= count <= MOST or pool < 10 * count:
        raise ValueError(f"{count} of {pool}: expected {FEWEST} to {MOST} of a pool ten times that")
    rng = np.random.default_rng([seed, 0xCA9A])
    return np.sort(rng.choice(pool, count, replace=False))


def exposure(
    samples: Floats, pool: Floats, canaries: NDArray[np.int64], memory_mb: int = 256
) -> Exposure:
    """How far the canaries stand out of the pool.

    Likeness at each of the four scales is ranked by itself and the mean rank decides, so that no
    scale has to be chosen by looking at the canaries.

    Args:
        samples: images (sample, channel, …) drawn from the generator.
        pool: images (patch, channel, …) of canaries and references.
        canaries: rows of ``pool`` that were trained on, from `choose_canaries`.
        memory_mb: working memory.

    Raises:
        ValueError: for NaN or infinity, or without samples.
    """
    if not len(samples) or not np.isfinite(samples).all() or not np.isfinite(pool).all():
        raise ValueError("at least one sample, and finite intensities")
    views = at_scales(pool)
    is_canary = np.isin(np.arange(len(pool)), canaries)
    nearest = np.full((len(views), len(pool)), -np.inf)
    alike = np.zeros(len(samples), bool)
    with one_thread():
        for part in chunks(len(samples), len(pool), memory_mb):
            likeness = correlations(samples[part], views)
            nearest = np.maximum(nearest, likeness.max(axis=1))
            best = likeness[:, :, is_canary].max(axis=2) > likeness[:, :, ~is_canary].max(axis=2)
            alike[part] = best.sum(axis=0) >= 2
    ranks = np.argsort(np.argsort(-nearest, axis=1), axis=1).mean(axis=0)
    references = ranks[~is_canary]
    rank = 1 + (references[None, :] <= ranks[is_canary][:, None]).sum(axis=1)
    nats = np.log((len(references) + 1) / rank)
    return Exposure(nats / np.log(2), float(gamma.sf(nats.sum(), len(nats))), alike)
