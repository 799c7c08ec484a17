"""Rendered lesions as patients of a cohort: what the benches of the privacy gate measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Drawn, PatchLocation, PatchSet, PatientKey, TrainingRecord, Unit, Window
from medaug.phantom import lesion_renderer
from medaug.progress import Progress

CLASSES = ("cyst", "metastasis")
WINDOW = Window(-100.0, 250.0)
Images = NDArray[np.float32]

_RENDER = lesion_renderer({name: name for name in CLASSES}, "CT", Unit.HOUNSFIELD, (1, 64, 64), 1.0)


def rendered(numbers: Sequence[int], slices: int = 1, progress: Progress | None = None) -> PatchSet:
    """Patients with one lesion each; further slices are shifted by up to 1 px, with noise."""
    images, labels, keys = [], [], []
    for number in numbers:
        label = int(number) % len(CLASSES)
        plain = _RENDER(CLASSES[label], [int(number)])[0][0, 0]
        for at in range(slices):
            rng = np.random.default_rng([int(number), at])
            rows, columns = rng.integers(-1, 2, 2) * (at > 0)
            moved = np.roll(plain, (int(rows), int(columns)), (0, 1))
            images.append(moved[None] + (at > 0) * rng.normal(0, 8, (1, 64, 64)))
            labels.append(label)
            keys.append(int(number))
        if progress is not None:
            progress.advance()
    return PatchSet(
        images=np.array(images, np.float32),
        masks=None,
        labels=np.asarray(labels, np.int64),
        classes=CLASSES,
        patients=tuple(PatientKey(f"{number:032x}") for number in keys),
        locations=tuple(
            PatchLocation(f"case{row}", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 1.0)
            for row in range(len(images))
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


def dealt(pool: PatchSet, sizes: Sequence[int], rng: np.random.Generator) -> list[PatchSet]:
    """Disjoint random parts of the pool."""
    order = rng.permutation(len(pool))
    ends = np.cumsum(sizes)
    return [pool.select(order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


@dataclass(frozen=True)
class HonestPhantom:
    """The phantom as a `Sampler`: fresh lesions, nothing learnt."""

    record: TrainingRecord
    classes: tuple[str, ...] = CLASSES

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        """One lesion of each seed, within the window."""
        return Drawn(_RENDER(label, seeds)[0].clip(WINDOW.low, WINDOW.high))
