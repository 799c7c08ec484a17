"""Two halves of the real patches with no patient in common, and as many synthetic patches.

What a distance means depends on how many patches it was taken from, so synthetic patches are held
against real ones at the size at which real ones can be held against other real ones: one half.
Patients are dealt to both halves at random, again and again; synthetic patches are drawn each time.

A random half differs from all as much as all do from the population (sampling a half without
replacement has the variance of the whole sample for a mean), so that the spread over deals is that
of a figure of this size.

Where patients have several patches, two of one patient may lie in one half and are more alike than
others; the baseline, with two such halves, is then slightly above that of independent patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Deal:
    """Rows of one deal for one group of patches; all three of one length and class mix.

    Attributes:
        first: into the real patches.
        second: into the real patches, of other patients.
        synthetic: into the synthetic patches.
    """

    first: Rows
    second: Rows
    synthetic: Rows


def deal_halves(real: PatchSet, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(deal, patch) whether a patch is in the first half; balanced in patches of every class."""
    shows = np.zeros((len(real.patient_order), len(real.classes)))
    np.add.at(shows, (real.patient_index, real.labels), 1)
    weight = 1 / np.maximum(shows.sum(axis=0), 1)
    halves = np.empty((count, len(real)), dtype=bool)
    for at in range(count):
        # What the first half has more of each class than the second, as shares.
        lead = np.zeros(len(real.classes))
        first = np.empty(len(shows), dtype=bool)
        for patient in rng.permutation(len(shows)):
            gain = shows[patient] * weight
            balance = float(lead @ gain)
            first[patient] = balance < 0 or (balance == 0 and rng.random() < 0.5)
            lead += gain if first[patient] else -gain
        halves[at] = first[real.patient_index]
    return halves


def rooms(
    halves: NDArray[np.bool_], real: NDArray[np.int64], synthetic: NDArray[np.int64], classes: int
) -> tuple[list[int], list[int]]:
    """Patches of each class that every half holds, and that there are synthetic ones of.

    Args:
        halves: from `deal_halves`.
        real: (patch,) labels.
        synthetic: (patch,) labels.
        classes: how many.
    """
    in_half = [
        int(
            min(halves[:, real == at].sum(axis=1).min(), (~halves[:, real == at]).sum(axis=1).min())
        )
        for at in range(classes)
    ]
    return in_half, [int((synthetic == at).sum()) for at in range(classes)]


def sizes_of(
    group: Sequence[int], in_half: Sequence[int], made: Sequence[int], most: int
) -> dict[int, int]:
    """Patches of each class of the group in every sample: the real class mix, at most ``most``.

    >>> sizes_of([0, 1], in_half=[400, 100], made=[300, 300], most=1000)
    {0: 300, 1: 75}
    """
    share = min(most / sum(in_half[at] for at in group), 1.0)
    share = min(share, *(made[at] / in_half[at] for at in group))
    return {at: int(in_half[at] * share + 1e-9) for at in group}


def deal(
    half: NDArray[np.bool_],
    real: NDArray[np.int64],
    synthetic: NDArray[np.int64],
    sizes: Mapping[int, int],
    rng: np.random.Generator,
) -> Deal:
    """Draw the rows of one deal; ``sizes`` maps class to patches."""
    sides = {
        "first": [half & (real == at) for at in sizes],
        "second": [~half & (real == at) for at in sizes],
        "synthetic": [synthetic == at for at in sizes],
    }
    drawn = {
        name: np.concatenate(
            [
                rng.permutation(np.flatnonzero(there))[:size]
                for there, size in zip(of_classes, sizes.values(), strict=True)
            ]
        )
        for name, of_classes in sides.items()
    }
    return Deal(**drawn)


def one_per_patient(real: PatchSet, among: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
    """A random row of each patient that has one ``among`` the rows marked."""
    order = rng.permutation(np.flatnonzero(among))
    _, first = np.unique(real.patient_index[order], return_index=True)
    return np.asarray(order[first])
