"""Could the labels "member" and "not a member" have fallen on these patients by chance?

Every audit gives each patient a score, once for every channel (a scale, an attack). Under the
hypothesis that the release says nothing about who was trained on, members and others are
exchangeable, because the split dealt them at random. The labels are therefore dealt again, within
each stratum of the split, and what was observed is held against all these deals. Nothing is
assumed about the scores, so the size is right whatever the number of patients.

Three statistics of every channel:

- ``higher``: sum of Savage scores [1]_ over the members; few members very high, or many a little.
- ``lower``: the same of the reversed ranks. A release that keeps away from its members tells on
  them too.
- ``ahead``: members that score above every other patient: true positives without a false one.

Which of them is most extreme is decided over channels and statistics together: the smallest p-value
is held against the smallest p-values of the other deals (Westfall and Young [2]_, single step).

Many channels cost power, and copies of few members need every bit of it: nothing is as telling as
the run of members at the top of one channel, and eight of fifty there are p = 0.003 before any
correction. So one channel may *lead*: two thirds of the error are for its run alone, and what is
left for everything else. P-values are weighted [3]_ and again held against those of other deals,
so that the size stays what it is.

>>> scores = np.random.default_rng(0).normal(size=(2, 40))
>>> member = np.arange(40) < 20
>>> scores[:, :9] += 9  # nine members stick out
>>> found = permutation_test(scores, member, np.zeros(40, int), seed=0)
>>> found.p < 0.01, found.statistic, found.ahead
(True, 'ahead', (9, 9))

.. [1] Savage 1956, Contributions to the theory of rank order statistics,
   doi:10.1214/aoms/1177728170
.. [2] Westfall, Young 1993, Resampling-Based Multiple Testing, Wiley
.. [3] Genovese, Roeder, Wasserman 2006, False discovery control with p-value weighting,
   doi:10.1093/biomet/93.3.509
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]
Strata = NDArray[np.int64]

DEALS = 9999
STATISTICS = ("higher", "lower", "ahead")
_NUMBERS = 1_000_000  # of 8 bytes, that deals become at a time
LEAD = 2 / 3  # share of the error that is for the run of the channel that leads


@dataclass(frozen=True)
class Finding:
    """What a permutation test found.

    Attributes:
        p: over all channels and statistics.
        channel: index of the channel with the smallest p-value of its own.
        statistic: one of `STATISTICS`, of that channel.
        by_channel: of each channel, its smallest p-value, not corrected for the others.
        ahead: of each channel, members that score above every other patient.
    """

    p: float
    channel: int
    statistic: str
    by_channel: tuple[float, ...]
    ahead: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Deals:
    """Labels as observed, in the first row, and dealt again at random: (deal, patient) bool."""

    labels: Labels

    @classmethod
    def of(cls, member: Labels, strata: Strata, seed: int, deals: int = DEALS) -> Deals:
        """Deal the labels of each stratum again, ``deals`` times."""
        rng = np.random.default_rng([seed, 0xDEA1])
        labels = np.tile(member, (deals + 1, 1))
        for stratum in np.unique(strata):
            at = np.flatnonzero(strata == stratum)
            labels[1:, at] = rng.permuted(labels[1:, at], axis=1)
        return cls(labels)

    def test(self, scores: Scores, lead: int | None = None) -> Finding:
        """Hold the observed labels against the others.

        Args:
            scores: (channel, patient); the higher, the more like a member.
            lead: index of the channel that leads; None where all weigh alike.

        Raises:
            ValueError: for NaN or infinity: a rank would hide them.
        """
        sums, runs = self._statistics(scores)
        values = np.concatenate([sums, runs])
        own = np.mean(values >= values[:, :1], axis=1).reshape(len(STATISTICS), len(scores))
        smallest = _smallest(sums, runs)
        statistic, channel = (int(at) for at in np.unravel_index(int(own.argmin()), own.shape))
        if lead is not None:
            leading, rest = _share_at_least(runs[lead]), _among_deals(smallest)
            smallest = weighted(leading, smallest)
            if leading[0] / LEAD < rest[0] / (1 - LEAD):
                statistic, channel = STATISTICS.index("ahead"), lead
        return Finding(
            overall(smallest),
            channel,
            STATISTICS[statistic],
            tuple(float(p) for p in own.min(axis=0)),
            tuple(int(count) for count in runs[:, 0]),
        )

    def smallest(self, scores: Scores) -> Scores:
        """(deal,) smallest p-value of every deal, as if it were the observed one."""
        return _smallest(*self._statistics(scores))

    def leading(self, channel: Scores) -> Scores:
        """(deal,) p-value of the run of the channel that leads, (patient,)."""
        return _share_at_least(self._ahead(channel))

    def _statistics(self, scores: Scores) -> tuple[Scores, Scores]:
        """Sums (higher, then lower, of each channel; deal) and runs (channel, deal)."""
        if not np.isfinite(scores).all():
            raise ValueError("NaN or infinity among the scores of an audit")
        ranked = [_savage(channel) for channel in scores]
        ranked += [_savage(-channel) for channel in scores]
        # Rounded, so that equal sums in another order of addition stay equal.
        stacked = np.stack(ranked)
        sums = np.concatenate(
            [np.round(stacked @ labels.T, 9) for labels in self._in_parts()], axis=1
        )
        return sums, np.stack([self._ahead(channel) for channel in scores])

    def _ahead(self, channel: Scores) -> Scores:
        """Length of the run of members at the top; a tie with another patient ends it."""
        rank = np.unique(channel, return_inverse=True)[1] + 1
        runs = []
        for labels in self._in_parts():
            others = np.where(labels, 0, rank).max(axis=1)
            runs.append((labels & (rank > others[:, None])).sum(axis=1))
        return np.concatenate(runs).astype(np.float64)

    def _in_parts(self) -> Iterator[Labels]:
        """The deals, so many at a time as take a few megabytes as numbers."""
        size = max(1, _NUMBERS // self.labels.shape[1])
        for start in range(0, len(self.labels), size):
            yield self.labels[start : start + size]


def weighted(leading: Scores, smallest: Scores) -> Scores:
    """(deal,) of the p-values of the run that leads, and of the smallest of everything else.

    Args:
        leading: from `Deals.leading`.
        smallest: from `Deals.smallest`, or the lowest of several.
    """
    return np.asarray(np.minimum(leading / LEAD, _among_deals(smallest) / (1 - LEAD)))


def overall(smallest: Scores) -> float:
    """The share of deals whose smallest p-value is as small as the observed, the first."""
    return float(np.mean(smallest <= smallest[0]))


def permutation_test(
    scores: Scores, member: Labels, strata: Strata, seed: int, deals: int = DEALS
) -> Finding:
    """`Deals.of` and `Deals.test` in one.

    Args:
        scores: (channel, patient).
        member: (patient,) whether the patient was trained on.
        strata: (patient,) labels are exchanged within these.
        seed: of the deals.
        deals: how many.
    """
    return Deals.of(member, strata, seed, deals).test(scores)


def auc(scores: Scores, member: Labels) -> float:
    """Chance that a member scores higher than another patient; ties count half."""
    above = np.sign(scores[member][:, None] - scores[~member][None, :])
    return float((above.mean() + 1) / 2)


def auc_interval(
    scores: Scores, member: Labels, seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95 % bootstrap interval of the `auc`; patients are resampled, members and others apart."""
    rng = np.random.default_rng([seed, 0xB007])
    wins = (np.sign(scores[member][:, None] - scores[~member][None, :]) + 1) / 2
    members, others = wins.shape
    rows = rng.multinomial(members, np.full(members, 1 / members), size=resamples)
    columns = rng.multinomial(others, np.full(others, 1 / others), size=resamples)
    drawn = ((rows @ wins) * columns).sum(axis=1) / (members * others)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def highest_auc_among_members(
    scores: Scores, member: Labels, seed: int, splits: int = 200
) -> float:
    """The member-only control: what the best channel reaches where there is nothing to find.

    Members are split at random into as many "others" as there really are (half of them at most)
    and the rest; of every split the highest AUC over channels is taken, as it is for the real one.

    Returns:
        The 95 % quantile over the splits.
    """
    rng = np.random.default_rng([seed, 0xC0])
    count = int(member.sum())
    others = min(int((~member).sum()), count // 2)
    best = np.zeros(splits)
    order = np.arange(count)
    for at in range(splits):
        pretended = np.isin(order, rng.permutation(count)[others:])
        best[at] = max(auc(channel[member], pretended) for channel in scores)
    return float(np.quantile(best, 0.95))


def clopper_pearson(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a share.

    >>> low, high = clopper_pearson(0, 59)
    >>> low, round(high, 3)
    (0.0, 0.061)
    """
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, of - hits)) if hits < of else 1.0
    return low, high


def _savage(scores: Scores) -> Scores:
    """Savage scores of the ranks, centred; tied patients share the mean of theirs."""
    count = len(scores)
    by_rank = np.cumsum(1 / np.arange(count, 0, -1)) - 1
    order = np.argsort(scores, kind="stable")
    given = np.empty(count)
    given[order] = by_rank
    _, group = np.unique(scores, return_inverse=True)
    return np.asarray((np.bincount(group, given) / np.bincount(group))[group])


def _smallest(sums: Scores, runs: Scores) -> Scores:
    """(deal,): the smallest p-value over statistics and channels.

    A p-value is the share of deals *and channels* that reach as far: every channel ranks the
    same patients, so that its sums, standardised, and its runs follow the same law. Each channel
    for itself could not go below 1 / (deals + 1), where a strong finding ties with the luckiest
    deal of every other channel.
    """
    centred = sums - sums.mean(axis=1, keepdims=True)
    spread = sums.std(axis=1, keepdims=True)
    alike = np.where(spread > 1e-9, centred / np.maximum(spread, 1e-9), 0)
    p_values = np.concatenate([_share_at_least(alike), _share_at_least(runs)])
    return np.asarray(p_values.min(axis=0))


def _among_deals(smallest: Scores) -> Scores:
    """(deal,): the share of deals that are as small; a p-value of its own."""
    return np.searchsorted(np.sort(smallest), smallest, side="right") / len(smallest)


def _share_at_least(values: Scores) -> Scores:
    """Of each value, the share of all values that are as high or higher."""
    ascending = np.sort(values, axis=None)
    below = np.searchsorted(ascending, values - 1e-9, side="left")
    return np.asarray(1 - below / values.size)
