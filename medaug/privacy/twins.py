"""Twins: the audit of a training procedure where one run says too little.

With fewer than 150 patients the AUC of one run is mostly chance (0.53 to 0.85 between runs of one
design at n = 50). So the procedure, not the file, is audited: 12 to 16 twins are trained, in pairs
on complementary random halves of the patients. Every patient is then in for half of the
twins and out for the others and is compared with itself: its score as a member is set against the
mean and spread of its own scores as a non-member (the likelihood-ratio attack of Carlini et al.
[1]_, with Gaussians of one spread).

Under the hypothesis that a twin's samples say nothing about its half, the half could have been any
other of the same size: the halves are dealt again, and the p-value is exact.

.. [1] Carlini et al. 2022, Membership inference attacks from first principles, arXiv:2112.03570
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import CheckResult, PatchSet
from medaug.privacy.audit_words import rounded_p
from medaug.privacy.nearness import nearness
from medaug.privacy.permutation import auc
from medaug.privacy.pictures import Floats
from medaug.privacy.tested import FOUND_BELOW, Tested

FEWEST, MOST = 12, 16
DEALS = 9999
_BATCH = 500

Halves = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TwinAudit(Tested):
    """What the twins found.

    Attributes:
        twins, patients: how many.
        p: chance that halves dealt anew raise members as high, over all twins and patients.
        auc: pooled over twins and patients, scores calibrated per patient.
        at_one_percent: pooled true-positive rate at 1 % false positives; None with fewer than 300
            pairs of a twin and a patient that it did not see.
        interval: 95 % of that rate, patients resampled; None with it.
    """

    twins: int
    patients: int
    auc: float
    at_one_percent: float | None
    interval: tuple[float, float] | None

    def reason(self) -> str:
        """Why the release is refused, where it is."""
        return (
            f"Training tells on its patients: {self.twins} twins on random halves of "
            f"{self.patients} training patients give away who was in which, p = "
            f"{rounded_p(self.p)}, below {FOUND_BELOW:g}; AUC {self.auc:.2f}. Train shorter, on "
            "more patients, or with stronger augmentation."
        )

    @property
    def statements(self) -> tuple[str, ...]:
        """The sentences that may be said outside, figures rounded."""
        rate = "not estimable"
        if self.at_one_percent is not None and self.interval is not None:
            low, high = self.interval
            rate = f"{self.at_one_percent:.0%} [{low:.0%}, {high:.0%}]"
        said = (
            f"Twin audit of the training procedure, not of this release: {self.twins} generators "
            f"on complementary random halves of {self.patients} training patients, samples before "
            f"any check; patients compared with themselves: AUC {self.auc:.2f}, p = "
            f"{rounded_p(self.p)}; true-positive rate at 1 % false positives: {rate}. Twins saw "
            "half as many patients, and remember each of them sooner."
        )
        return (said,)

    @property
    def check(self) -> CheckResult:
        """As one of the gate's checks; it fails below its limit, a p-value."""
        detail = (
            f"{self.twins} twins on halves of {self.patients} training patients: p = "
            f"{rounded_p(self.p)}, AUC {self.auc:.2f}; it fails below {FOUND_BELOW:g}."
        )
        return self.as_check("twins", 0, detail)


def deal_twins(patients: int, twins: int, seed: int) -> Halves:
    """(twin, patient) whether the twin trains on the patient; twins 2k and 2k + 1 share none.

    Raises:
        ValueError: unless ``twins`` is even, 12 to 16, and there are four patients.
    """
    if twins % 2 or not FEWEST <= twins <= MOST or patients < 4:
        raise ValueError(f"{twins} twins of {patients} patients: expected 12, 14, 16 of 4 or more")
    return _deal(patients, twins // 2, np.random.default_rng([seed, 0x7319]))


def scores_of_twins(
    patches: PatchSet, halves: Halves, samples_of: Callable[[PatchSet, int], Floats]
) -> Scores:
    """(twin, patient) scores: standardised likeness to the twin's samples, mean over the scales.

    Args:
        patches: of all patients.
        halves: from `deal_twins`.
        samples_of: trains on these patches as the release's generator is trained and gives
            images; its number is the twin's. The whole procedure belongs in it, gate included.
    """
    order = patches.patient_order
    scores = np.empty(halves.shape)
    for twin, half in enumerate(halves):
        seen = patches.of_patients([order[at] for at in np.flatnonzero(half)])
        scores[twin] = nearness(samples_of(seen, twin), patches).top[:, :, 0].mean(axis=0)
    return scores


def audit_twins(scores: Scores, halves: Halves, seed: int, deals: int = DEALS) -> TwinAudit:
    """Compare every patient with itself.

    Args:
        scores: (twin, patient), from `scores_of_twins` or any attack.
        halves: (twin, patient), from `deal_twins`.
        seed: of the deals and the bootstrap.
        deals: how often the halves are dealt again.

    Raises:
        ValueError: for NaN or infinity, or halves that are not complementary.
    """
    if not np.isfinite(scores).all() or scores.shape != halves.shape:
        raise ValueError("one finite score for each twin and patient")
    if not (halves[::2] != halves[1::2]).all():
        raise ValueError("twins 2k and 2k + 1 must share no patient and leave none out")
    rng = np.random.default_rng([seed, 0x7320])
    twins, patients = halves.shape
    observed = _gain(scores, halves[None])[0]
    reached = 1
    for start in range(0, deals, _BATCH):
        count = min(_BATCH, deals - start)
        again = np.stack([_deal(patients, twins // 2, rng, halves) for _ in range(count)])
        reached += int((_gain(scores, again) >= observed - 1e-9).sum())
    calibrated = calibrate(scores, halves)
    rate, interval = _one_percent(calibrated, halves, rng)
    return TwinAudit(
        twins=twins,
        patients=patients,
        p=reached / (deals + 1),
        auc=auc(calibrated.ravel(), halves.ravel()),
        at_one_percent=rate,
        interval=interval,
    )


def calibrate(scores: Scores, halves: Halves) -> Scores:
    """Each score in spreads above the patient's mean score as a non-member.

    Where the score itself is one of a non-member it is left out of that mean: otherwise it would
    pull it and look nearer than it is. The spread is one for all patients, since six scores of
    one patient do not give a spread.
    """
    out = ~halves
    count = out.sum(axis=0)
    total = np.where(out, scores, 0).sum(axis=0)
    others = count - out
    mean = (total - np.where(out, scores, 0)) / others
    # A mean of fewer scores scatters more: brought to one scale.
    apart = (scores - mean) / np.sqrt(1 + 1 / others)
    spread = np.sqrt(np.mean(np.square(apart[out])))
    return np.asarray(apart / max(spread, 1e-12))


def _gain(scores: Scores, halves: Halves) -> Scores:
    """(deal,): mean over patients of mean score in minus mean score out; halves are balanced."""
    centred = scores - scores.mean(axis=0)
    return np.asarray(np.tensordot(halves.astype(np.float64), centred, axes=([1, 2], [0, 1])))


def _deal(
    patients: int, pairs: int, rng: np.random.Generator, like: Halves | None = None
) -> Halves:
    """Random halves and their complements; of the sizes of ``like`` if given."""
    halves = np.empty((2 * pairs, patients), bool)
    for pair in range(pairs):
        size = patients // 2 if like is None else int(like[2 * pair].sum())
        halves[2 * pair] = rng.permutation(patients) < size
        halves[2 * pair + 1] = ~halves[2 * pair]
    return halves


def _one_percent(
    calibrated: Scores, halves: Halves, rng: np.random.Generator
) -> tuple[float | None, tuple[float, float] | None]:
    if (~halves).sum() < 300:
        return None, None

    def rate(chosen: NDArray[np.int64]) -> float:
        values, inside = calibrated[:, chosen], halves[:, chosen]
        others = np.sort(values[~inside])
        limit = others[-1 - int(0.01 * len(others))]
        return float(np.mean(values[inside] > limit))

    patients = halves.shape[1]
    resampled = [rate(rng.integers(patients, size=(patients,))) for _ in range(500)]
    low, high = np.quantile(resampled, (0.025, 0.975))
    return rate(np.arange(patients)), (float(low), float(high))
