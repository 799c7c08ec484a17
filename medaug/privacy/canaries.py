"""Phantom patients trained on as canaries: how well does the generator remember them?

Of a pool of about a thousand simulated patches, 8 to 16 are drawn as canaries and trained on; the
rest are references that cost nothing. A canary's exposure [1]_ is the log of the number of
references over its rank among them by likeness to the samples: about a bit where it is forgotten,
9.95 bits with a pool of 1000 where no reference comes as near. Samples that resemble a canary more
than any reference are removed before a release. On the road a `CanaryWatch` looks at every
candidate that the gate draws, also at those that other rules turn away: a filter hides no canary.

Exposures of canaries that left no trace are exponential, with mean 1 in nats; their sum is
Gamma(k), which gives the p-value. Silence is weak evidence: canaries are simulated, and real
patients that differ from them may be remembered better.

.. [1] Carlini et al. 2019, The secret sharer, arXiv:1802.08232
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from medaug.domain import CheckResult
from medaug.privacy.audit_words import SILENCE, rounded_p
from medaug.privacy.memory import MEMORY_MB
from medaug.privacy.nearness import correlations
from medaug.privacy.pictures import Floats
from medaug.privacy.scales import chunks, kept_at_scales
from medaug.privacy.tested import FOUND_BELOW, Tested
from medaug.privacy.threads import one_thread

POOL = 1000
FEWEST, MOST = 8, 16
_FORGOTTEN = 1 / np.log(2)  # bits, the mean of an exponential law of mean 1 nat


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
    samples: Floats, pool: Floats, canaries: NDArray[np.int64], memory_mb: int = MEMORY_MB
) -> Exposure:
    """How far the canaries stand out of the pool.

    Args:
        samples: images (sample, channel, …) drawn from the generator.
        pool: images (patch, channel, …) of canaries and references.
        canaries: rows of ``pool`` that were trained on, from `choose_canaries`.
        memory_mb: working memory.

    Raises:
        ValueError: for NaN or infinity, or without samples.
    """
    if not len(samples) or not np.isfinite(samples).all():
        raise ValueError("at least one sample, and finite intensities")
    watch = CanaryWatch(pool, canaries, memory_mb)
    alike = watch.look(samples)
    bits, p = watch.exposure()
    return Exposure(bits, p, alike)


class CanaryWatch:
    """Looks at samples as they are drawn, and remembers how near they came to the pool.

    Likeness at each of the four scales is ranked by itself and the mean rank decides, so that no
    scale has to be chosen by looking at the canaries. The order of the samples changes nothing.
    """

    def __init__(
        self, pool: Floats, canaries: NDArray[np.int64], memory_mb: int = MEMORY_MB
    ) -> None:
        """Prepare the pool.

        Args:
            pool: images (patch, channel, …) of canaries and references.
            canaries: rows of ``pool`` that were trained on, from `choose_canaries`.
            memory_mb: working memory.

        Raises:
            ValueError: for NaN or infinity.
        """
        if not np.isfinite(pool).all():
            raise ValueError("a pool of canaries has finite intensities")
        self._views = kept_at_scales(pool)
        self._is_canary = np.isin(np.arange(len(pool)), canaries)
        self._nearest = np.full((len(self._views), len(pool)), -np.inf)
        self._memory_mb = memory_mb
        self._seen = 0

    @property
    def canaries(self) -> int:
        """How many were trained on."""
        return int(self._is_canary.sum())

    def look(self, samples: Floats) -> NDArray[np.bool_]:
        """(sample,) whether each resembles a canary more than every reference; all are counted."""
        alike = np.zeros(len(samples), bool)
        with one_thread():
            for part in chunks(len(samples), len(self._is_canary), self._memory_mb):
                likeness = correlations(samples[part], self._views)
                self._nearest = np.maximum(self._nearest, likeness.max(axis=1))
                best = likeness[:, :, self._is_canary].max(axis=2)
                other = likeness[:, :, ~self._is_canary].max(axis=2)
                alike[part] = (best > other).sum(axis=0) >= 2
        self._seen += len(samples)
        return alike

    def exposure(self) -> tuple[NDArray[np.float64], float]:
        """(canary,) bits, and their p-value, over all samples so far."""
        ranks = np.argsort(np.argsort(-self._nearest, axis=1), axis=1).mean(axis=0)
        references = ranks[~self._is_canary]
        rank = 1 + (references[None, :] <= ranks[self._is_canary][:, None]).sum(axis=1)
        nats = np.log((len(references) + 1) / rank)
        return nats / np.log(2), float(gamma.sf(nats.sum(), len(nats)))

    def finding(self, removed: int) -> CanaryFinding:
        """What all samples so far say; ``removed`` of them resembled a canary and were withheld."""
        bits, p = self.exposure()
        return CanaryFinding(
            canaries=self.canaries,
            pool=len(self._is_canary),
            looked_at=self._seen,
            removed=removed,
            p=p if self._seen else 1.0,
            bits=tuple(float(one) for one in bits) if self._seen else (),
        )


@dataclass(frozen=True, kw_only=True)
class CanaryFinding(Tested):
    """What the gate says of the canaries. Internal; `statements` and `check` may be said outside.

    Attributes:
        canaries, pool: how many were trained on, of how many.
        looked_at: samples that were looked at, whatever became of them.
        removed: of these, withheld because they resembled a canary.
        p: as in `Exposure`; 1 where nothing was looked at.
        bits: of each canary.
    """

    canaries: int
    pool: int
    looked_at: int
    removed: int
    bits: tuple[float, ...]

    def reason(self) -> str:
        """Why the release is refused, where it is."""
        return (
            f"The generator remembers its canaries: {self.canaries} simulated patients of "
            f"{self.pool} were trained on, and {self.looked_at} samples tell which, "
            f"p = {rounded_p(self.p)}, below {FOUND_BELOW:g}; exposure {self._mean:.1f} bits on "
            f"average, {self._most:.1f} at most. What it does to simulated patients it does to "
            "real ones: train shorter, on more patients, or with stronger augmentation."
        )

    @property
    def statements(self) -> tuple[str, ...]:
        """The sentences that may be said outside, figures rounded."""
        said = (
            f"{self.canaries} simulated canary patients, drawn at random from {self.pool}, were "
            "trained on with the real ones; the samples tell them from the others with p = "
            f"{rounded_p(self.p)} (mean exposure {self._mean:.1f} bits; a canary of which nothing "
            f"is left has about {_FORGOTTEN:.1f}, one that is repeated {self._ceiling:.1f}). "
            f"{self.removed} samples that resembled a canary were withheld. {SILENCE}"
        )
        return (said,)

    @property
    def check(self) -> CheckResult:
        """As one of the gate's checks; it fails below its limit, a p-value."""
        detail = (
            f"Exposure of {self.canaries} canaries among {self.pool} simulated patients: p = "
            f"{rounded_p(self.p)}; it fails below {FOUND_BELOW:g}. {SILENCE}"
        )
        return self.as_check("canary", self.removed, detail)

    def document(self) -> dict[str, Any]:
        """Everything, for the hospital's own report."""
        return {**super().document(), "bits": [round(one, 2) for one in self.bits]}

    @property
    def _mean(self) -> float:
        return sum(self.bits) / len(self.bits) if self.bits else 0.0

    @property
    def _most(self) -> float:
        return max(self.bits, default=0.0)

    @property
    def _ceiling(self) -> float:
        return float(np.log2(self.pool - self.canaries + 1))
