"""A generator that is trained anew inside a fold, and what is refused of it.

`evaluation` trains no generator: the caller passes a `Refit`, called with the training and the
tuning part of a fold, never with its test part. What comes back is `Refitted`: candidates, and the
record of what their generator saw, by which it is judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from medaug.domain import Candidates, PatchSet, TrainingRecord
from medaug.errors import CohortError, Fault, LeakageError


@dataclass(frozen=True, eq=False)
class Refitted:
    """Synthetic patches, and what their generator saw.

    Attributes:
        candidates: as the generator drew them; no gate has looked at them.
        record: of the training.
    """

    candidates: Candidates
    record: TrainingRecord


class Refit(Protocol):
    """Trains a generator on ``training`` alone and draws from it."""

    def __call__(
        self,
        training: PatchSet,
        tuning: PatchSet,
        seed: int,
        folder: Path,
        wanted: Mapping[str, int],
    ) -> Refitted:
        """Train, or open what a stopped call left in ``folder``.

        Args:
            training: what the generator learns from.
            tuning: what may choose among its weights.
            seed: of training and samples.
            folder: of this generator alone.
            wanted: candidates of each class.
        """


def wanted_for(training: PatchSet, dose: float) -> dict[str, int]:
    """Candidates of each class for ``dose`` synthetic patches per real one."""
    counts = np.bincount(training.labels, minlength=len(training.classes))
    return {
        label: math.ceil(dose * count)
        for label, count in zip(training.classes, counts, strict=True)
    }


def refuse_unfit(
    made: Refitted, training: PatchSet, tuning: PatchSet, wanted: Mapping[str, int]
) -> None:
    """Refuse candidates that are not those of a generator trained on ``training`` alone.

    Raises:
        LeakageError: if the generator saw a tuning patient, or other patches than ``training``.
        CohortError: if the candidates do not fit the real patches, or do not suffice.
    """
    record, candidates = made.record, made.candidates
    shared = len(record.patients & set(tuning.patients))
    leaks = []
    if shared:
        leaks.append(
            Fault(
                "generator of the fold",
                f"it was trained on {shared} of the patients who tune",
                "the training part of the fold alone",
            )
        )
    if record.patches_digest != training.digest:
        leaks.append(
            Fault(
                "generator of the fold",
                "it was trained on other patches than the training part of this fold",
                "a generator that was refitted inside the fold",
            )
        )
    if leaks:
        raise LeakageError(*leaks)
    faults = [
        Fault("candidates", f"{what} {came}", f"as in the training part: {expected}")
        for what, came, expected in (
            ("classes", candidates.classes, training.classes),
            ("unit", candidates.unit, training.unit),
            ("patch shape", candidates.pixels.shape[1:], training.images.shape[1:]),
        )
        if came != expected
    ]
    found = candidates.per_class()
    faults += [
        Fault(f"candidates: {label}", f"{found.get(label, 0)} patches", f"at least {count}")
        for label, count in wanted.items()
        if found.get(label, 0) < count
    ]
    if faults:
        raise CohortError(*faults)
