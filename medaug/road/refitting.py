"""Generators inside the folds of a cross-validation: trained as the released one was, drawn from.

Nothing of them leaves the run folder, so that neither gate nor ledger takes part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medaug.config import PipelineConfig
from medaug.domain import Candidates, PatchSet, Release, Rescale, Window, deal_folds, digest_of
from medaug.evaluation.refits import Refit, Refitted
from medaug.progress import Progress
from medaug.road.tuning import judged_by

if TYPE_CHECKING:
    from medaug.evaluation.bench import External
    from medaug.generators.refined import RefinedGenerator, Renderer
    from medaug.generators.settings import RefinerSettings
    from medaug.generators.trained import TrainedGenerator

    Generator = TrainedGenerator | RefinedGenerator

_AT_ONCE = 256
QUICK_IMAGES = 8000
"""Real patches that a fold's generator is shown at most, where the evaluation is to be quick."""


def cross_validated(
    config: PipelineConfig,
    patches: PatchSet,
    folder: Path,
    progress: Progress,
    external: Sequence[External],
    release: Release,
) -> dict[str, Any]:
    """What stands under ``folds`` in ``evaluation.json``.

    Args:
        config: the study.
        patches: of the whole cohort.
        folder: keeps generators and scores.
        progress: who is told.
        external: test sets of other sites.
        release: none of its patches may judge.
    """
    from medaug.evaluation.crossed import document
    from medaug.evaluation.frid_adar import sweep
    from medaug.evaluation.nested import cross_validate

    settings, seed = config.evaluation.as_asked(), config.seed
    splits = deal_folds(patches, settings.folds, seed, settings.tuning_share)
    refit, window = refitter(config, progress), Window(*config.generator.window)
    if settings.table == "frid-adar-2018":
        phantom = config.data is not None and (config.data / "phantom.json").is_file()
        return sweep(
            patches, splits, refit, settings, window, seed, folder, phantom, progress, (release,)
        )
    found = cross_validate(
        patches,
        splits,
        refit,
        settings,
        window,
        seed,
        folder,
        progress,
        external,
        (release,),
    )
    return document(found, patches, settings, seed, external)


def refitter(config: PipelineConfig, progress: Progress) -> Refit:
    """A `Refit` that trains by the pipeline's settings and draws from what that gives."""

    def refit(
        training: PatchSet,
        tuning: PatchSet,
        seed: int,
        folder: Path,
        wanted: Mapping[str, int],
    ) -> Refitted:
        generator = _retrained(config, training, tuning, seed, folder, progress)
        window = Window(*config.generator.window)
        return Refitted(_drawn(generator, window, seed, wanted), generator.record)

    return refit


def _retrained(
    config: PipelineConfig,
    training: PatchSet,
    tuning: PatchSet,
    seed: int,
    folder: Path,
    progress: Progress,
) -> Generator:
    from medaug.generators.refining import train_refiner
    from medaug.generators.settings import GeneratorSettings, RefinerSettings
    from medaug.generators.training import train_generator

    settings = config.generator
    assert isinstance(settings, GeneratorSettings | RefinerSettings)  # as the configuration asks
    if config.evaluation.quick:
        settings = settings.model_copy(update={"images": min(settings.images, QUICK_IMAGES)})
    # Other settings or patients are another generator: what stands there is not to be mixed up.
    parts = [training.digest, tuning.digest, settings.recipe(), seed]
    folder = folder.with_name(f"{folder.name}_{digest_of(*parts)[:12]}")
    if isinstance(settings, RefinerSettings):
        render = renderer(training, settings)
        return train_refiner(training, settings, seed, folder, render, progress)
    judge = judged_by(tuning, Window(*settings.window))
    return train_generator(training, settings, seed, folder, progress, tuning=judge)


def _drawn(
    generator: Generator, window: Window, seed: int, wanted: Mapping[str, int]
) -> Candidates:
    """As many candidates of each class as are wanted, stored as a release stores them."""
    rescale = Rescale.of(generator.unit, window)
    pixels, labels, seeds = [], [], []
    for at, label in enumerate(generator.classes):
        first = int(digest_of("candidates", seed, label)[:7], 16)
        own = np.arange(first, first + wanted[label])
        for part in np.array_split(own, -(-len(own) // _AT_ONCE)):
            drawn = generator.draw(label, part.tolist())
            pixels += [rescale.store(drawn.images)]
        labels.append(np.full(len(own), at))
        seeds.append(own)
    return Candidates(
        pixels=np.concatenate(pixels),
        labels=np.concatenate(labels).astype(np.int64),
        classes=generator.classes,
        rescale=rescale,
        unit=generator.unit,
        modality=generator.modality,
        mm_per_pixel=generator.mm_per_pixel,
        seeds=np.concatenate(seeds).astype(np.int64),
    )


def renderer(patches: PatchSet, settings: RefinerSettings) -> Renderer:
    """What draws the lesions that are refined to look like ``patches``."""
    from medaug.phantom.rendering import lesion_renderer

    sizes = Counter(place.mm_per_pixel for place in patches.locations)
    return lesion_renderer(
        {label: settings.render.get(label, label) for label in patches.classes},
        patches.modality,
        patches.unit,
        patches.images.shape[1:],
        sizes.most_common(1)[0][0],
    )
