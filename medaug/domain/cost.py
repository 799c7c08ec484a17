"""What a release costs in privacy: a differential-privacy guarantee and what it does not cover."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PrivacyCost:
    """An (ε, δ) guarantee with everything that it needs to be read, or composed with another.

    Attributes:
        mechanism: "dp-vote" or "dp-sgd".
        epsilon, delta: of the guarantee, rounded up.
        mu: of Gaussian differential privacy (Dong et al. 2019, arXiv:1905.02383): no test tells the
            presence of one patient better than N(0, 1) is told from N(mu, 1).
        sigma: noise of one round, in units of what one patient can change in it (L2).
        rate: probability of each patient to take part in a round.
        rounds: looks at the patients' data.
        unit: whose data may differ.
        relation: how they may differ.
        accountant: what computed epsilon.
        excluded: what was not charged, a phrase each.
        forced: made although so little signal is left that the result is not expected to be of use.
    """

    mechanism: str
    epsilon: float
    delta: float
    mu: float
    sigma: float
    rate: float
    rounds: int
    accountant: str
    excluded: tuple[str, ...]
    unit: str = "patient"
    relation: str = "add or remove one patient of the training part"
    forced: bool = False

    def __post_init__(self) -> None:
        figures = (self.epsilon, self.delta, self.mu, self.sigma, self.rate, self.rounds)
        if not all(math.isfinite(figure) and figure > 0 for figure in figures):
            raise ValueError(f"a cost is made of positive numbers, got {figures}")
        if self.delta >= 1 or self.rate > 1:
            raise ValueError(
                f"delta is below 1 and a rate at most 1, got {self.delta}, {self.rate}"
            )
