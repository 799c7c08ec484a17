"""Generators for tests of folds: they draw at once and note what they were given."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from medaug.domain import Candidates, PatchSet, Rescale, TrainingRecord, Unit
from medaug.evaluation.refits import Refitted

CLASSES = ("cyst", "haemangioma", "metastasis")


def drawn(wanted: Mapping[str, int], seed: int) -> Candidates:
    """Noise about a value of the class."""
    labels = np.repeat(np.arange(len(wanted)), list(wanted.values()))
    noise = np.random.default_rng(seed).normal(0, 40, size=(len(labels), 1, 16, 16))
    return Candidates(
        pixels=Rescale(1.0, 0.0).store(noise + 30 * labels[:, None, None, None]),
        labels=labels.astype(np.int64),
        classes=tuple(wanted),
        rescale=Rescale(1.0, 0.0),
        unit=Unit.HOUNSFIELD,
        modality="CT",
        mm_per_pixel=1.0,
        seeds=np.arange(len(labels)),
    )


class Generators:
    """A `Refit` that notes what it was given; ``change`` alters what it hands back."""

    def __init__(self, change: Callable[[Refitted], Refitted] = lambda made: made) -> None:
        self.trained_on: list[tuple[PatchSet, PatchSet]] = []
        self.change = change

    def __call__(
        self,
        training: PatchSet,
        tuning: PatchSet,
        seed: int,
        _: Path,
        wanted: Mapping[str, int],
    ) -> Refitted:
        self.trained_on.append((training, tuning))
        record = TrainingRecord(
            frozenset(training.patients), training.digest, "f" * 64, {}, seed, len(training)
        )
        return self.change(Refitted(drawn(wanted, seed), record))
