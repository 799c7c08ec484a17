"""Canaries on the road: simulated patients who are trained on with the real ones.

With ``privacy.canaries: N`` a pool of 1000 lesions is rendered, N of them drawn at random are added
to the training part, and the gate looks whether the samples tell which (`medaug.privacy.canaries`).
The gate itself, the audit, the ledger and the evaluation go on without them: a canary is no
patient, gives no right to more samples, and calibrates nothing.

Pool and choice follow from the run's seed, so they need not be stored, and nobody without the seed
can tell a canary from a reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medaug.config import PipelineConfig
from medaug.domain import (
    Drawn,
    PatchLocation,
    PatchSet,
    PatientKey,
    Sampler,
    TrainingRecord,
    Unit,
    Window,
    digest_of,
)
from medaug.errors import Fault, SettingsError
from medaug.progress import Progress

if TYPE_CHECKING:
    from medaug.privacy.canaries import CanaryWatch


def with_canaries(config: PipelineConfig, training: PatchSet, progress: Progress) -> PatchSet:
    """What the generator learns from: ``training``, and the canaries if there are any.

    Raises:
        SettingsError: if no lesions can be rendered that could stand among these patches.
    """
    from medaug.privacy.canaries import choose_canaries

    if not config.privacy.canaries:
        return training
    pool = _pool(config, training, progress)
    chosen = choose_canaries(config.privacy.canaries, config.seed, len(pool))
    return _joined(training, pool.select(chosen))


def watch_and_sampler(
    config: PipelineConfig, training: PatchSet, generator: Sampler, progress: Progress
) -> tuple[CanaryWatch | None, Sampler]:
    """What the gate looks for canaries with, and the generator as the gate may know it.

    The gate refuses a generator that saw patches which it does not hold. Where what was seen is
    ``training`` and the canaries, exactly, the canaries are taken out of the record.
    """
    from medaug.privacy.canaries import CanaryWatch, choose_canaries

    if not config.privacy.canaries:
        return None, generator
    pool = _pool(config, training, progress)
    chosen = choose_canaries(config.privacy.canaries, config.seed, len(pool))
    record = generator.record
    if record.patches_digest == _joined(training, pool.select(chosen)).digest:
        real = record.patients.difference(pool.patients)
        record = replace(record, patients=real, patches_digest=training.digest)
    watch = CanaryWatch(pool.images, chosen, config.privacy.memory_mb)
    return watch, _WithoutCanaries(generator, record)


@dataclass(frozen=True)
class _WithoutCanaries:
    """A generator whose record names real patients only."""

    generator: Sampler
    record: TrainingRecord

    @property
    def classes(self) -> tuple[str, ...]:
        return self.generator.classes

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        return self.generator.draw(label, seeds)


def _joined(training: PatchSet, canaries: PatchSet) -> PatchSet:
    masks = None
    if training.masks is not None and canaries.masks is not None:
        masks = np.concatenate([training.masks, canaries.masks])
    return replace(
        training,
        images=np.concatenate([training.images, canaries.images]),
        masks=masks,
        labels=np.concatenate([training.labels, canaries.labels]),
        patients=training.patients + canaries.patients,
        locations=training.locations + canaries.locations,
    )


def _pool(config: PipelineConfig, training: PatchSet, progress: Progress) -> PatchSet:
    """Canaries and references, one patch of each, all classes alike."""
    from medaug.privacy.canaries import POOL

    size = Counter(place.mm_per_pixel for place in training.locations).most_common(1)[0][0]
    kinds = {label: config.privacy.canary_kinds.get(label, label) for label in training.classes}
    asked = _Asked(
        tuple(kinds.items()),
        training.modality,
        training.unit,
        training.images.shape[1:],
        size,
        Window(*config.generator.window),
        int(digest_of("canaries", config.seed), 16) % 2**60,
        POOL,
        progress,
    )
    images, masks = _rendered(asked)
    tokens = [digest_of("canary", config.seed, number)[:32] for number in range(POOL)]
    places = [
        PatchLocation(f"canary {number}", f"canary {number}", -1, (0.0, 0.0, 0.0), size)
        for number in range(POOL)
    ]
    return replace(
        training,
        images=images,
        masks=None if training.masks is None else masks,
        labels=np.arange(POOL) % len(training.classes),
        patients=tuple(map(PatientKey, tokens)),
        locations=tuple(
            replace(place, diameter_mm=_diameter(mask) * size)
            for place, mask in zip(places, masks, strict=True)
        ),
    )


@dataclass(frozen=True)
class _Asked:
    """All that a pool follows from, and who is told of it."""

    kinds: tuple[tuple[str, str], ...]
    modality: str
    unit: Unit
    shape: tuple[int, ...]
    size: float
    window: Window
    first: int
    count: int
    progress: Progress = field(compare=False)


@lru_cache(maxsize=1)
def _rendered(asked: _Asked) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Images and masks of a pool; once for the training and the gate of one run."""
    from medaug.phantom.rendering import lesion_renderer

    classes = [label for label, _ in asked.kinds]
    try:
        render = lesion_renderer(
            dict(asked.kinds), asked.modality, asked.unit, asked.shape, asked.size
        )
    except SettingsError as error:
        raise SettingsError(*map(_about_canaries, error.faults)) from None
    images = np.empty((asked.count, *asked.shape), np.float32)
    masks = np.empty((asked.count, *asked.shape[1:]), bool)
    asked.progress.start("rendering canaries", asked.count)
    for number in range(asked.count):
        image, mask = render(classes[number % len(classes)], [asked.first + number])
        images[number] = image[0].clip(asked.window.low, asked.window.high)
        masks[number] = mask[0]
        asked.progress.advance()
    images.setflags(write=False)
    masks.setflags(write=False)
    return images, masks


def _diameter(mask: NDArray[np.bool_]) -> float:
    """Longest extent of a mask in pixels, over directions 15° apart."""
    rows, columns = np.nonzero(mask)
    angles = np.deg2rad(np.arange(0, 180, 15))
    along = np.outer(np.cos(angles), rows) + np.outer(np.sin(angles), columns)
    return float(np.ptp(along, axis=1).max() + 1)


def _about_canaries(fault: Fault) -> Fault:
    """The renderer's fault, with what to do here."""
    action = (
        "set privacy.canary_kinds to the kind that comes nearest, or privacy.canaries: 0"
        if fault.where.startswith("class ")
        else "set privacy.canaries: 0; canaries are simulated on flat CT patches only"
    )
    return replace(fault, where=f"privacy.canaries: {fault.where}", action=action)
