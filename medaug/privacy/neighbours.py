"""Whose patches does a picture lie near, at the scale where anatomy shows?

A generator may lean on one patient without ever copying a patch. Pictures are compared through a
Gaussian of 2 px at 64x64, at the points of a 16x16 grid under the circular mask, in the 8 poses of
the square; the distance of two standardised pictures is the root of 2 − 2 NCC. Of every patient
the nearest patch counts, d₁ is the distance to the nearest patient, d₅ to the fifth nearest.

- NEAR: d₁ is below what is usual among real patients.
- SINGLE_SUPPORT: d₁/d₅ is: the picture lies near one patient and no other.

Both limits are quantiles over real patients, each at its nearest patch: training patients
compared with the other training patients, held-out ones with all. How many of them share one
nearest patient is counted too: a plain lesion is the nearest to many (`crowd`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet
from medaug.privacy.limits import share_above
from medaug.privacy.pictures import (
    SIDE,
    Floats,
    planes,
    resized,
    smooth,
    standardised,
    unit_contrast,
)
from medaug.privacy.poses import in_square_poses, sampling
from medaug.privacy.threads import one_thread

_SMOOTHING = 2.0
_FIFTH = 4


@dataclass(frozen=True)
class Place:
    """Where a picture lies: d₁, d₁/d₅, and the row of `PatchSet.patient_order` that is nearest."""

    nearest: float
    ratio: float
    patient: int


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Training patients as neighbours, and how near real patients lie to them.

    Attributes:
        vectors: (patch, point) standardised low-pass pictures.
        owners: (patch,) row of the patch's patient.
        near_limit: a smaller d₁ is NEAR.
        single_limit: a smaller d₁/d₅ is SINGLE_SUPPORT.
        crowd: at most this share of new real patients has one nearest patient, with 95 %
            confidence (Clopper-Pearson, of the patient who is nearest to most).
    """

    vectors: Floats
    owners: NDArray[np.int64]
    near_limit: float
    single_limit: float
    crowd: float = 0.0

    @classmethod
    def fit(cls, training: PatchSet, calibration: PatchSet, share: float) -> Neighbours:
        """Limits below which ``share`` of the real patients lie, for each of the two rules."""
        vectors = np.stack([_vectors(image)[0] for image in training.images])
        open_ended = cls(vectors, training.patient_index, 0.0, 0.0)
        lowest, nearest = [], []
        for part, own in ((training, True), (calibration, False)):
            places = np.full((len(part.patient_order), 2), np.inf)
            who = np.zeros(len(places), np.int64)
            for image, patient in zip(part.images, part.patient_index, strict=True):
                place = open_ended.place(image, int(patient) if own else None)
                if place.nearest < places[patient, 0]:
                    who[patient] = place.patient
                places[patient] = np.minimum(places[patient], (place.nearest, place.ratio))
            lowest.append(places)
            nearest.append(who)
        near, single = np.quantile(np.concatenate(lowest), share, axis=0, method="lower")
        every = np.concatenate(nearest)
        crowd = share_above(len(every), int(np.bincount(every).max()))
        return cls(vectors, training.patient_index, float(near), float(single), crowd)

    def place(self, image: Floats, without: int | None = None) -> Place:
        """Where an image (channel, [slice,] row, column) lies, ``without`` one of the patients."""
        with one_thread():
            alike = (_vectors(image) @ self.vectors.T).max(axis=0)
        best = np.full(int(self.owners.max()) + 1, -1.0)
        np.maximum.at(best, self.owners, alike)
        if without is not None:
            best[without] = -np.inf
        patient = int(best.argmax())
        distances = np.sqrt(np.maximum(2 - 2 * np.sort(best)[::-1][: _FIFTH + 1], 0))
        fifth = max(float(distances[_FIFTH]), 1e-6)
        return Place(float(distances[0]), float(distances[0]) / fifth, patient)


def _vectors(image: Floats) -> Floats:
    """(8, point): an image (channel, [slice,] row, column) in the poses of the square."""
    views = smooth(unit_contrast(resized(planes(image[None])[0], SIDE)), _SMOOTHING)
    posed = [
        (sampling() @ in_square_poses(view).reshape(8, -1).T.astype(np.float32)).T for view in views
    ]
    return standardised(np.concatenate(posed, axis=1), axis=1)
