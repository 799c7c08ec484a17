"""How many leaked patients could an audit have found?

Exact copies of patches of r randomly chosen members, one of each, are put among the samples, and
the audit is asked again; that is done over and over. The smallest r that is found in 80 % of
the rounds is the power of an audit that found nothing. Copies are the plainest of leaks: of
fainter ones more are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medaug.domain import PatchSet
from medaug.privacy.nearness import Nearness, Table, correlations, rows_of
from medaug.privacy.permutation import Deals, Labels, Scores, overall, weighted
from medaug.privacy.scales import highest_per_patient, kept_at_scales
from medaug.privacy.threads import one_thread

WANTED = 0.8
ROUNDS = 60
# So many members at most give a copy, and so many deals are enough for a share of rounds.
MOST_COPIES = 256
DEALS = 999


@dataclass(frozen=True)
class Power:
    """What copies the audit would have found.

    Attributes:
        smallest: leaked members found in `WANTED` of the rounds; None where not even as many
            copies as there are members (or `MOST_COPIES`) are found.
        tried: (leaked members, share of rounds in which they were found), by number.
    """

    smallest: int | None
    tried: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Plant:
    """What it takes to ask the audit again with copies.

    Attributes:
        deals: labels, observed and dealt again; a thousand suffice.
        found: of the samples that leave.
        other: (deal,) smallest p-value over the channels that copies are not put into.
        copies: rows (scale, member, patient) of one patch of each member.
        likeness: (scale, member, patient) of the same, highest correlation.
        limit: p-value below which the audit refuses.
    """

    deals: Deals
    found: Nearness
    other: Scores
    copies: Table
    likeness: Table
    limit: float

    @classmethod
    def of(
        cls,
        deals: Deals,
        found: Nearness,
        other: Scores,
        patches: PatchSet,
        member: Labels,
        limit: float,
        rng: np.random.Generator,
    ) -> Plant:
        """Choose a patch of every member.

        Args:
            deals: of the audit.
            found: of the audit.
            other: (channel, patient) scores of channels that copies are not put into.
            patches: of members and others.
            member: (patient,).
            limit: p-value below which the audit refuses.
            rng: chooses the patches.
        """
        few = Deals(deals.labels[: DEALS + 1])
        chosen = rng.permutation(np.flatnonzero(member))[:MOST_COPIES]
        rows = np.array([rng.choice(np.flatnonzero(patches.patient_index == at)) for at in chosen])
        with one_thread():
            likeness = correlations(patches.images[rows], kept_at_scales(patches.images))
        copies, nearest = rows_of(patches, likeness), highest_per_patient(patches, likeness)
        return cls(few, found, few.smallest(other), copies, nearest.astype(np.float64), limit)

    def share_found(self, leaked: int, rng: np.random.Generator, rounds: int = ROUNDS) -> float:
        """Of ``rounds``, the share in which copies of ``leaked`` members are found."""
        hits = 0
        for _ in range(rounds):
            rows = rng.permutation(self.copies.shape[1])[:leaked]
            planted = self.found.with_samples(self.copies[:, rows], self.likeness[:, rows])
            smallest = np.minimum(self.deals.smallest(planted.channels()), self.other)
            leading = self.deals.leading(planted.leading())
            hits += overall(weighted(leading, smallest)) < self.limit
        return hits / rounds

    def power(self, rng: np.random.Generator, rounds: int = ROUNDS) -> Power:
        """The smallest number that is found; by halving, since more copies are found sooner."""
        most = self.copies.shape[1]
        tried = {most: self.share_found(most, rng, rounds)}
        if tried[most] < WANTED:
            return Power(None, tuple(tried.items()))
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            tried[middle] = self.share_found(middle, rng, rounds)
            low, high = (low, middle) if tried[middle] >= WANTED else (middle, high)
        return Power(high, tuple(sorted(tried.items())))
