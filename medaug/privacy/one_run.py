"""A lower bound on ε from a single training run.

Patients (or canaries) are taken in or left out by the fall of a fair coin each. The attacker
guesses of some who was in. Were training (ε, δ)-private, right guesses could not be more frequent
than these coins allow; from how many were right follows an ε below which the run cannot have
been private, with 95 % confidence (Steinke, Nasr, Jagielski [1]_, theorem 5.2 and appendix D).

The bound is small by construction: with m guesses all right it cannot exceed `ceiling`. A low bound
is no evidence of privacy.

>>> [round(ceiling(m), 2) for m in (50, 100, 200)]
[2.78, 3.49, 4.19]
>>> epsilon_bound(100, 50, 25).epsilon
0.0

.. [1] Steinke, Nasr, Jagielski 2023, Privacy auditing with one (1) training run, arXiv:2305.08846
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

_HIGHEST = 50.0


@dataclass(frozen=True)
class OneRunBound:
    """What one run shows.

    Attributes:
        epsilon: the run is not (ε', δ)-private for any ε' below, at the confidence asked for.
        ceiling: what ``epsilon`` would be, were every guess right.
        examples, guesses, right: coins thrown, guesses made, guesses that were right.
        delta: of the (ε, δ).
    """

    epsilon: float
    ceiling: float
    examples: int
    guesses: int
    right: int
    delta: float


def ceiling(guesses: int, confidence: float = 0.95) -> float:
    """ε that ``guesses``, all right, would show, for δ = 0: ln(q / (1 − q)), q = (1 − c)^(1/m)."""
    q = (1 - confidence) ** (1 / guesses)
    return float(max(0.0, np.log(q / (1 - q))))


def epsilon_bound(
    examples: int, guesses: int, right: int, delta: float = 0.0, confidence: float = 0.95
) -> OneRunBound:
    """The bound from counts.

    Args:
        examples: coins thrown, m.
        guesses: how many of them were guessed, fixed before looking.
        right: how many guesses were right.
        delta: of the (ε, δ).
        confidence: that the bound holds.

    Raises:
        ValueError: unless 0 ≤ right ≤ guesses ≤ examples, guesses ≥ 1 and 0 ≤ δ < 1.
    """
    if not (0 <= right <= guesses <= examples and guesses >= 1 and 0 <= delta < 1):
        raise ValueError(f"{right} right of {guesses} guesses of {examples} examples, δ {delta}")
    epsilon = _epsilon(examples, guesses, right, delta, 1 - confidence)
    best = _epsilon(examples, guesses, guesses, delta, 1 - confidence)
    return OneRunBound(epsilon, best, examples, guesses, right, delta)


def guess(
    scores: NDArray[np.float64], taken_in: NDArray[np.bool_], guesses: int | None = None
) -> tuple[int, int]:
    """Guess the highest scores as taken in, as many lowest as left out; (guesses, right).

    Args:
        scores: (example,) finite; the higher, the more like one that was taken in.
        taken_in: (example,) the coins.
        guesses: even, fixed before looking; all if not given (one fewer where that is odd).
    """
    if not np.isfinite(scores).all():
        raise ValueError("NaN or infinity among the scores of an audit")
    each = (len(scores) if guesses is None else guesses) // 2
    order = np.argsort(scores, kind="stable")
    right = int(taken_in[order[len(order) - each :]].sum() + (~taken_in[order[:each]]).sum())
    return 2 * each, right


def _epsilon(examples: int, guesses: int, right: int, delta: float, p: float) -> float:
    def excess(epsilon: float) -> float:
        return _p_value(examples, guesses, right, epsilon, delta) - p

    if excess(0.0) >= 0:
        return 0.0
    if excess(_HIGHEST) < 0:
        return _HIGHEST
    return float(brentq(excess, 0.0, _HIGHEST, xtol=1e-9))


def _p_value(examples: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Highest chance of ``right`` or more right guesses under (ε, δ)-privacy."""
    q = 1 / (1 + np.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, q))
    if delta == 0 or right == 0:
        return beta
    steps = np.arange(1, right + 1)
    below = np.cumsum(binom.pmf(right - steps, guesses, q))
    return min(1.0, beta + 2 * examples * delta * float((below / steps).max()))
