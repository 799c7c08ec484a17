"""How far apart are two sets of patches, as points in a feature space?

Rows are patches, columns are standardised features; both sets are assumed to be independent draws.

The kernel distance (KID [1]_) is unbiased: it is 0 on average for two sets from one source,
whatever their size. The Fréchet distance [2]_ is not: two sets of n patches from one source are
about trace(covariance) * (1/n + 1/m) apart and more, which is why it is refused for few patches and
given extrapolated to n = ∞ [3]_ as well. Precision, recall [4]_, density and coverage [5]_ look at
neighbours: do synthetic patches lie where real ones do, and do they lie everywhere real ones do?

>>> rng = np.random.default_rng(0)
>>> a, b = rng.normal(size=(2, 100, 4))
>>> round(kernel_distance(a, b), 2), round(kernel_distance(a, b + 1), 2)
(-0.08, 9.22)

.. [1] Bińkowski et al. 2018, arXiv:1801.01401
.. [2] Heusel et al. 2017, arXiv:1706.08500; on radiomic features: Konz et al. 2024,
   arXiv:2412.01496
.. [3] Chong and Forsyth 2020, arXiv:1911.07023
.. [4] Kynkäänniemi et al. 2019, arXiv:1904.06991
.. [5] Naeem et al. 2020, arXiv:2002.09797
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Floats = NDArray[np.float64]

NEIGHBOURS = 5
"""k of precision, recall, density and coverage; that of Naeem et al."""
LEAST_PER_FEATURE = 2
"""Patches per feature below which a covariance, and so the Fréchet distance, says nothing."""
_ROWS = 1024


def kernel_distance(a: Floats, b: Floats) -> float:
    """KID: unbiased squared maximum mean discrepancy, kernel (x·y / features + 1)³ [1]_.

    Deterministic and of the order of len(a) * len(b); may be negative.

    Args:
        a: (patch, feature), at least 2.
        b: (patch, feature), at least 2.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("a kernel distance needs two patches on either side")
    return _kernel_mean(a) + _kernel_mean(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def _kernel_sum(a: Floats, b: Floats) -> float:
    return float(
        sum(
            ((a[start : start + _ROWS] @ b.T / a.shape[1] + 1) ** 3).sum()
            for start in range(0, len(a), _ROWS)
        )
    )


def _kernel_mean(a: Floats) -> float:
    """Over pairs of different patches."""
    own = (((a**2).sum(axis=1) / a.shape[1] + 1) ** 3).sum()
    return float((_kernel_sum(a, a) - own) / (len(a) * (len(a) - 1)))


def frechet_distance(a: Floats, b: Floats) -> float:
    """Squared Fréchet distance of the normal distributions fitted to both [2]_.

    |mean - mean|² + trace(A + B - 2 (AB)^½), where the trace of the root is the sum of the roots of
    the eigenvalues of the symmetric A^½ B A^½. Biased upwards; see `frechet_at_infinity`.
    """
    first, second = (np.cov(each, rowvar=False) for each in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    crossed = np.linalg.eigvalsh(root @ second @ root)
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    traces = np.trace(first) + np.trace(second) - 2 * np.sqrt(np.clip(crossed, 0, None)).sum()
    return float(apart + traces)


def frechet_at_infinity(a: Floats, b: Floats, rng: np.random.Generator, sizes: int = 6) -> float:
    """The Fréchet distance of infinitely many patches, extrapolated linearly in 1/n [3]_.

    Both sets are thinned to the same share, from all down to a half; may be negative.
    """
    shares = np.linspace(0.5, 1.0, sizes)
    orders = [rng.permutation(len(each)) for each in (a, b)]
    distances = [
        frechet_distance(
            *(
                each[order[: round(share * len(each))]]
                for each, order in zip((a, b), orders, strict=True)
            )
        )
        for share in shares
    ]
    return float(np.polyfit(1 / shares, distances, 1)[1])


def frechet_estimable(count: int, features: int) -> bool:
    """Whether ``count`` patches on either side suffice for a Fréchet distance."""
    return count >= LEAST_PER_FEATURE * features


@dataclass(frozen=True)
class Neighbourhood:
    """Four shares; `density` alone may exceed 1.

    Attributes:
        precision: of synthetic patches that lie within reach of a real one.
        recall: of real patches that lie within reach of a synthetic one.
        density: real reaches that hold a synthetic patch, on average, over k.
        coverage: of real patches with a synthetic one within their reach.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhood(real: Floats, synthetic: Floats, k: int = NEIGHBOURS) -> Neighbourhood:
    """Precision, recall [4]_, density and coverage [5]_.

    A patch's reach is the distance to the k-th nearest other patch of its own set.

    Args:
        real: (patch, feature), more than k.
        synthetic: (patch, feature), more than k.
        k: neighbours.
    """
    if min(len(real), len(synthetic)) <= k:
        raise ValueError(f"{k} neighbours need more than {k} patches on either side")
    reach, reach_synthetic = _reach(real, k), _reach(synthetic, k)
    distances = cdist(real, synthetic)
    within = distances < reach[:, None]
    return Neighbourhood(
        precision=float(within.any(axis=0).mean()),
        recall=float((distances < reach_synthetic).any(axis=1).mean()),
        density=float(within.sum(axis=0).mean() / k),
        coverage=float((distances.min(axis=1) < reach).mean()),
    )


def _reach(points: Floats, k: int) -> Floats:
    """(patch,) distance to the k-th nearest other; column 0 is the patch itself."""
    return np.asarray(np.partition(cdist(points, points), k, axis=1)[:, k])
