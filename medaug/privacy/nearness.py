"""How near every real patient comes to a set of samples.

Likeness of a sample to a patient is the highest correlation over the sample's eight poses and the
patient's patches. Each sample's likenesses are standardised over all patients, members and
others: a plain sample is like everybody, which says nothing about anybody. A patient keeps its ten
highest; the whole table (sample, patient) is never held, so that memory does not grow with the
release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet
from medaug.privacy.memory import MEMORY_MB
from medaug.privacy.pictures import Floats
from medaug.privacy.scales import SCALES, chunks, highest_per_patient, in_poses, kept_at_scales
from medaug.privacy.threads import one_thread

TOP = 10
# Samples and patches that are multiplied together.
_SAMPLES, _PATCHES = 64, 1024
_AS_GOOD_AS_EQUAL = 0.02  # of a distance; a correlation of 0.9998

Table = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Nearness:
    """What is kept of the likenesses of all samples.

    Attributes:
        top: (scale, patient, rank) highest standardised likenesses, falling; at most `TOP`.
        closest: (scale, patient) highest correlation with any sample.
    """

    top: Table
    closest: Table

    def leading(self) -> Table:
        """(patient,): minus the log of the distance to the nearest sample, mean over the scales.

        A copy is at hardly any distance at every scale, and far ahead of whoever is alike by
        chance. Standardised likenesses do not see that: where all patients are alike, as after a
        low-pass, a copy is few spreads above the others.
        """
        distance = np.sqrt(np.maximum(2 - 2 * self.closest, 0))
        return np.asarray(-np.log(distance + _AS_GOOD_AS_EQUAL).mean(axis=0))

    def channels(self) -> Table:
        """(channel, patient): `leading`, then maximum and mean of the top ten of each scale."""
        return np.concatenate([self.leading()[None], self.top[:, :, 0], self.top.mean(axis=2)])

    def with_samples(self, rows: Table, likeness: NDArray[np.floating]) -> Nearness:
        """The same with further samples.

        Args:
            rows: (scale, sample, patient), from `rows_of`.
            likeness: (scale, sample, patient), highest correlation with the patient's patches.
        """
        top = np.concatenate([self.top, rows.transpose(0, 2, 1)], axis=2)
        return Nearness(
            -np.sort(-top, axis=2)[:, :, : self.top.shape[2]],
            np.maximum(self.closest, likeness.max(axis=1).astype(np.float64)),
        )


CHANNELS = (
    "all scales, nearest",
    *(f"{scale}, maximum" for scale in SCALES),
    *(f"{scale}, top ten" for scale in SCALES),
)
LEADS = 0  # in `CHANNELS`


def correlations(samples: Floats, views: Mapping[str, NDArray[np.float16]]) -> NDArray[np.float32]:
    """(scale, sample, patch): highest correlation over the sample's poses.

    Args:
        samples: images (sample, channel, …).
        views: of the patches, from `kept_at_scales`.
    """
    patches = len(views[SCALES[0]])
    found = np.empty((len(SCALES), len(samples), patches), np.float32)
    for first in range(0, len(samples), _SAMPLES):
        few = slice(first, first + _SAMPLES)
        poses = in_poses(samples[few])
        for at, scale in enumerate(SCALES):
            # One product of all poses: eight would read the patches eight times.
            rows = np.concatenate([pose[scale] for pose in poses])
            for start in range(0, patches, _PATCHES):
                some = slice(start, start + _PATCHES)
                alike = rows @ views[scale][some].astype(np.float32).T
                found[at, few, some] = alike.reshape(len(poses), -1, alike.shape[1]).max(axis=0)
    return found


def rows_of(patches: PatchSet, likeness: NDArray[np.float32]) -> Table:
    """(scale, sample, patient): standardised over patients; a row without spread is 0.

    Args:
        patches: of members and others.
        likeness: (scale, sample, patch).
    """
    table = highest_per_patient(patches, likeness).astype(np.float64)
    centred = table - table.mean(axis=2, keepdims=True)
    spread = table.std(axis=2, keepdims=True)
    return np.asarray(np.where(spread > 1e-9, centred / np.maximum(spread, 1e-9), 0))


def nearness(samples: Floats, patches: PatchSet, memory_mb: int = MEMORY_MB) -> Nearness:
    """Compare all samples with all patients.

    Args:
        samples: images (sample, channel, …), in the unit of ``patches``.
        patches: of members and others.
        memory_mb: working memory.
    """
    views = kept_at_scales(patches.images)
    kept = min(TOP, len(samples))
    found = Nearness(
        np.full((len(SCALES), len(patches.patient_order), kept), -np.inf),
        np.full((len(SCALES), len(patches.patient_order)), -1.0),
    )
    with one_thread():
        for part in chunks(len(samples), len(patches), memory_mb):
            likeness = correlations(samples[part], views)
            found = found.with_samples(
                rows_of(patches, likeness), highest_per_patient(patches, likeness)
            )
    return found
