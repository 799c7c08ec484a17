"""Station three: the generator learns from the training part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medaug.domain import Drawn
from medaug.road import canaries, private
from medaug.road.refitting import renderer
from medaug.road.run import Run
from medaug.road.tuning import judged_by

if TYPE_CHECKING:
    from medaug.generators.refining import Pair
    from medaug.generators.settings import GeneratorSettings, RefinerSettings


def train(run: Run) -> None:
    """Leave the generator: from scratch, a refiner, or under differential privacy."""
    from medaug.generators.settings import GeneratorSettings, RefinerSettings

    settings = run.config.generator
    if run.config.privacy.mode != "empirical":
        training = run.split.part(run.patches, "training")
        private.train(run.config, training, run.folder / "generator", run.progress)
        return
    with run.processes.training():
        if isinstance(settings, RefinerSettings):
            _train_refiner(run, settings)
        elif isinstance(settings, GeneratorSettings):
            _train_from_scratch(run, settings)


def _train_from_scratch(run: Run, settings: GeneratorSettings) -> None:
    from medaug.generators.training import train_generator
    from medaug.report.sheets import sample_name, write_sheet

    folder = run.folder / "generator"

    def draw_sheets(step: int, samples: dict[str, Drawn]) -> None:
        for label, drawn in samples.items():
            path = folder / "samples" / sample_name(step, label)
            write_sheet(path, drawn.images, run.window, masks=drawn.masks)

    training, tuning = (run.split.part(run.patches, part) for part in ("training", "tuning"))
    train_generator(
        canaries.with_canaries(run.config, training, run.progress),
        settings,
        run.config.seed,
        folder,
        run.progress,
        draw_sheets,
        judged_by(tuning, run.window),
        run.processes,
    )


def _train_refiner(run: Run, settings: RefinerSettings) -> None:
    from medaug.generators.refining import train_refiner
    from medaug.report.sheets import sample_name, write_sheet

    folder = run.folder / "generator"
    training = run.split.part(run.patches, "training")
    training = canaries.with_canaries(run.config, training, run.progress)

    def draw_sheets(step: int, samples: dict[str, Pair]) -> None:
        """Three rows: rendered only, refined, real."""
        for label, pair in samples.items():
            of_class = training.of_class(label).images
            columns = min(len(pair[0]), len(of_class))
            rows = np.concatenate([images[:columns] for images in (*pair, of_class)])
            write_sheet(folder / "samples" / sample_name(step, label), rows, run.window, columns)

    render = renderer(run.patches, settings)
    seed = run.config.seed
    train_refiner(training, settings, seed, folder, render, run.progress, draw_sheets)
