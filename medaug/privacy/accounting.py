"""How much a mechanism gives away about one patient, in numbers.

Both mechanisms of this package add a Gaussian to a sum to which one patient adds at most 1 (L2),
round after round, each patient taking part with probability ``rate``. With ``rate`` = 1 the rounds
are one Gaussian mechanism, whose ε is known exactly [1]_; with less, the privacy loss distribution
is composed numerically, from above, by dp-accounting [2]_ (the extra ``medaug[dp]``).

>>> whole = Rounds(sigma=20, rounds=1000)
>>> round(epsilon_of(whole, 1e-5), 3), round(mu_of(whole), 3)
(7.511, 1.581)
>>> round(rounds_for(3, 1e-5, rounds=3).sigma, 3)
2.409

.. [1] Balle and Wang 2018, arXiv:1805.06530, theorem 8
.. [2] Doroshenko et al. 2022, arXiv:2207.04380 (connect the dots)
.. [3] Dong, Roth, Su 2019, arXiv:1905.02383
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from medaug.domain.cost import PrivacyCost
from medaug.errors import Fault, SettingsError

DELTA = 1e-5
SMALLEST_DELTA = 1e-6  # of the profile that `mu_of` covers; attacks below this rate are not bounded
_INTERVAL = 1e-3  # of the privacy loss; a tenth of it changes epsilon by less than 0.1 %

EXCLUDED = (
    "the choice of settings, mode and seed, if patients' data were looked at for it",
    "number of patients, class names, patch size, unit and intensity window, taken as public",
    "a refusal for too few patients",
    "earlier releases from the same patients",
    "what stays inside the institution: evaluation, report, sheets of patches",
    "the rounding of floating-point noise, which is not hardened against attacks",
)
"""What no ε of this package covers."""


@dataclass(frozen=True)
class Rounds:
    """What is done to the data: rounds of a sum with Gaussian noise.

    Attributes:
        sigma: standard deviation of the noise; one patient changes the sum by at most 1 (L2).
        rounds: how often.
        rate: probability of each patient to take part in a round, drawn anew for each.
    """

    sigma: float
    rounds: int
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and self.rounds >= 1 and 0 < self.rate <= 1):
            raise ValueError(f"sigma > 0, rounds >= 1, 0 < rate <= 1 are needed, got {self}")


def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ of a Gaussian mechanism with sensitivity/σ = ``mu`` at ε (equation 6 of [1]_)."""
    with_it = float(log_ndtr(mu / 2 - epsilon / mu))
    without = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return math.exp(with_it) * -math.expm1(min(without - with_it, 0.0))


def epsilon_of(what: Rounds, delta: float) -> float:
    """ε at ``delta``, from above.

    Raises:
        SettingsError: if patients are sampled and dp-accounting is not installed.
    """
    if what.rate == 1:
        mu = math.sqrt(what.rounds) / what.sigma
        return _least(lambda epsilon: gaussian_delta(mu, epsilon) <= delta, 1.0)
    return float(_loss(what).get_epsilon_for_delta(delta))


def epsilon_of_events(events: Sequence[Mapping[str, Any]], delta: float) -> float:
    """ε at ``delta``, from above, of everything that was ever done to one patient's data.

    Args:
        events: as the ledger keeps them: ``sigma``, ``rounds``, ``rate``, and ``noise``, which two
            entries share where the second only released what the first had made.
        delta: of the sum.

    Raises:
        SettingsError: as `epsilon_of`.
    """
    each = {
        one["noise"]: Rounds(one["sigma"], one["rounds"], one["rate"]) for one in events
    }.values()
    if len(each) < 2:
        return sum(epsilon_of(one, delta) for one in each)
    whole = math.sqrt(sum(one.rounds / one.sigma**2 for one in each if one.rate == 1))
    sampled = [_loss(one) for one in each if one.rate < 1]
    if not sampled:
        return epsilon_of(Rounds(1 / whole, 1), delta)
    if whole:
        sampled.append(_loss(Rounds(1 / whole, 1)))
    together = functools.reduce(lambda one, other: one.compose(other), sampled)
    return float(together.get_epsilon_for_delta(delta))


def mu_of(what: Rounds) -> float:
    """The μ of Gaussian differential privacy that covers the rounds [3]_.

    Without sampling it is exact. With sampling the mechanism is no Gaussian: this is the least
    μ whose δ(ε) lies nowhere below the mechanism's, at every ε where that is above
    `SMALLEST_DELTA` (64 points). The central-limit μ of [3]_ is an approximation and no bound.
    """
    if what.rate == 1:
        return math.sqrt(what.rounds) / what.sigma
    loss = _loss(what)
    last = float(loss.get_epsilon_for_delta(SMALLEST_DELTA))
    grid = np.linspace(0, last, 64)
    profile = np.asarray(loss.get_delta_for_epsilon(grid), dtype=np.float64)

    # Between two points δ falls: a μ that covers the left δ at the right ε covers both.
    def covers(mu: float) -> bool:
        at = (*grid[1:], last)
        return all(
            gaussian_delta(mu, float(epsilon)) >= delta
            for epsilon, delta in zip(at, profile, strict=True)
        )

    return _least(covers, 1.0)


def rounds_for(epsilon: float, delta: float, rounds: int, rate: float = 1.0) -> Rounds:
    """The least noise, to four digits and rounded up, that costs no more than (ε, δ).

    Raises:
        SettingsError: as `epsilon_of`.
    """

    def affords(sigma: float) -> bool:
        return epsilon_of(Rounds(sigma, rounds, rate), delta) <= epsilon

    sigma = _least(affords, 1.0, digits=5)
    scale = 10.0 ** (3 - math.floor(math.log10(sigma)))
    return Rounds(math.ceil(sigma * scale) / scale, rounds, rate)


def cost_of(what: Rounds, delta: float, mechanism: str, forced: bool = False) -> PrivacyCost:
    """What a release by these rounds says of its cost; figures are rounded up."""
    analytic = "analytic Gaussian (Balle and Wang 2018)"
    return PrivacyCost(
        mechanism=mechanism,
        epsilon=_up(epsilon_of(what, delta)),
        delta=delta,
        mu=_up(mu_of(what)),
        sigma=what.sigma,
        rate=what.rate,
        rounds=what.rounds,
        accountant=analytic if what.rate == 1 else f"PLD, dp-accounting {version('dp-accounting')}",
        excluded=EXCLUDED,
        forced=forced,
    )


def refuse_delta(delta: float, patients: int) -> None:
    """Raise where δ is so large that publishing one patient outright would be allowed.

    Raises:
        SettingsError: if ``delta`` > 1 / (10 n).
    """
    if delta > 1 / (10 * patients):
        raise SettingsError(
            Fault(
                "privacy.delta",
                f"{delta:g} for {patients} training patients",
                f"at most 1 / (10 n) = {1 / (10 * patients):.2g}",
                "lower it",
            )
        )


def found_at_most(mu: float, false_positive_rate: float) -> float:
    """Share of members that any membership test finds at this false-positive rate, at most [3]_."""
    return float(ndtr(mu + ndtri(false_positive_rate)))


def auc_at_most(mu: float) -> float:
    """Area under the ROC curve of any membership test on one patient, at most."""
    return float(ndtr(mu / math.sqrt(2)))


def statements(cost: PrivacyCost) -> tuple[str, ...]:
    """The sentences that may be said of a cost."""
    who = cost.unit
    guarantee = (
        f"{who.capitalize()}-level (ε, δ)-differential privacy, ε = {cost.epsilon:g}, "
        f"δ = {cost.delta:g}, relation: {cost.relation}; accountant: {cost.accountant}; "
        f"mechanism: {cost.mechanism}, {cost.rounds} rounds, noise {cost.sigma:g} times what one "
        f"{who} can change, each {who} in a round with probability {cost.rate:g}."
    )
    bounds = (
        f"It bounds every attack on the presence of one {who} (μ = {cost.mu:g}): at 1 % false "
        f"positives at most {found_at_most(cost.mu, 0.01):.1%} of those present are found, and "
        f"the area under the ROC curve is at most {auc_at_most(cost.mu):.3f}."
    )
    path = (
        "No check of this release compared it with patients' data: it was drawn from the output of "
        "the mechanism and from public models alone."
    )
    said = [guarantee, f"Not covered: {'; '.join(cost.excluded)}.", bounds, path]
    if cost.forced:
        said.append(
            "The signal is so small against the noise that this setting is refused unless it is "
            "forced, and it was forced."
        )
    return tuple(said)


def _loss(what: Rounds) -> Any:
    """The privacy loss distribution of the rounds (an object of dp-accounting)."""
    try:
        from dp_accounting.pld import privacy_loss_distribution as distributions
    except ImportError:
        raise SettingsError(
            Fault(
                "privacy.mode",
                "sampled patients can only be accounted for with dp-accounting, which is missing",
                "",
                "pip install 'medaug[dp]'",
            )
        ) from None
    one = distributions.from_gaussian_mechanism(
        what.sigma, sampling_prob=what.rate, value_discretization_interval=_INTERVAL
    )
    return one.self_compose(what.rounds)


def _least(holds: Callable[[float], bool], start: float, digits: int = 12) -> float:
    """The least x > 0 for which a growing condition holds, from above."""
    high = start
    while not holds(high):
        high *= 2
    low = high / 2
    while low > 1e-9 and holds(low):
        high, low = low, low / 2
    while high - low > high * 10.0**-digits:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _up(figure: float) -> float:
    """Rounded up to four decimals."""
    return math.ceil(figure * 1e4 - 1e-9) / 1e4
