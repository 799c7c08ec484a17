"""The stops of the road: what each station reads, what it leaves, and how it is called.

The only module that knows all stations; `medaug.pipeline` decides which of them run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medaug import dp_road
from medaug.atomic import write_json
from medaug.config import PipelineConfig, require_data
from medaug.domain import (
    Case,
    Drawn,
    HeldOut,
    LesionPatch,
    PatchSet,
    PatientKey,
    PatientSplit,
    Rescale,
    Window,
    digest_of,
)
from medaug.domain.cohort import PARTS
from medaug.progress import Progress

if TYPE_CHECKING:
    # Importing a station may import torch; only the station that runs needs its own.
    from medaug.domain import Release
    from medaug.generators.evidence import Distance
    from medaug.generators.refined import RefinedGenerator, Renderer
    from medaug.generators.refining import Pair
    from medaug.generators.settings import GeneratorSettings, RefinerSettings
    from medaug.generators.trained import TrainedGenerator
    from medaug.patching.extract import SkippedLesion
    from medaug.patching.settings import PatchingSettings
    from medaug.privacy.verdict import Review
    from medaug.privacy.voted import VotedGenerator
    from medaug.readers.source import Source
    from medaug.spread import Spread

_GONE = "since it was inspected, its mask has changed"


@dataclass(frozen=True)
class Run:
    """A pipeline and the folder its results go to; ``dask`` as in `medaug.workers`."""

    config: PipelineConfig
    folder: Path
    progress: Progress
    dask: str | None = None

    @property
    def window(self) -> Window:
        """The intensities that the study is about."""
        return Window(*self.config.generator.window)

    @cached_property
    def patches(self) -> PatchSet:
        """Every patch of the cohort."""
        from medaug.patching.store import read_patches

        return read_patches(self.folder / "patches" / "patches.h5")

    @cached_property
    def split(self) -> PatientSplit:
        """Who trains, tunes and judges."""
        parts = json.loads((self.folder / "split.json").read_text())["parts"]
        members = (frozenset(map(PatientKey, parts[part]["patients"])) for part in PARTS)
        return PatientSplit(*members)

    @cached_property
    def generator(self) -> TrainedGenerator | RefinedGenerator | VotedGenerator:
        """The trained generator."""
        from medaug.generators.refined import load_refiner
        from medaug.generators.settings import RefinerSettings, SimulatorSettings
        from medaug.generators.trained import load_generator

        folder, settings = self.folder / "generator", self.config.generator
        if isinstance(settings, RefinerSettings):
            return load_refiner(folder, _renderer(self.patches, settings))
        if isinstance(settings, SimulatorSettings):
            return dp_road.open_voted(self.config, settings, self.patches, folder)
        return load_generator(folder)

    @cached_property
    def release(self) -> Release:
        """What the gate let through."""
        from medaug.export.release import load_release

        return load_release(self.folder / "release")


def _extract(run: Run) -> None:
    from medaug.patching.store import summarise
    from medaug.readers.identity import load_site_key
    from medaug.readers.source import scan
    from medaug.report.sheets import sheet_name, write_sheet
    from medaug.workers import workers

    config = run.config
    root = require_data(config, config.name)
    store = run.folder / "patches" / "patches.h5"
    with workers(run.dask, root) as spread:
        key = load_site_key(config.site_key)
        source = scan(config.sources, root, key, run.progress, spread)
        write_json(run.folder / "inventory.json", source.inventory.document())
        _cut_patches(run, source, spread, store)
    summary = summarise(store)
    summary["window"] = list(config.generator.window)
    write_json(run.folder / "patches" / "summary.json", summary)
    for label in run.patches.classes:
        images = run.patches.of_class(label).images[:64]
        write_sheet(run.folder / "sheets" / sheet_name("real", label), images, run.window)


def _cut_patches(run: Run, source: Source, spread: Spread, store: Path) -> None:
    """Fill the store: every lesion of the inventory ends as patches, or skipped for a reason."""
    from medaug.patching.extract import SkippedLesion
    from medaug.patching.store import PatchStoreWriter
    from medaug.readers.files import Refusal

    run.progress.start("cutting patches", source.size, "B")
    results = source.each(partial(_patches_of, run.config.patching), spread, run.progress)
    with PatchStoreWriter(store, patients_known=source.patients_known) as writer:
        for entry, result in results:
            found, reason = ([], result.reason) if isinstance(result, Refusal) else (result, _GONE)
            met: set[str] = set()
            for patch in found:
                if isinstance(patch, SkippedLesion):
                    met.add(patch.lesion)
                    writer.skip(patch)
                else:
                    met.add(patch.location.lesion)
                    writer.append(patch)
            for lesion in entry.lesions:
                if lesion.tracking_uid not in met:
                    writer.skip(
                        SkippedLesion(lesion.tracking_uid, lesion.label, entry.case, reason)
                    )


def _patches_of(settings: PatchingSettings, case: Case) -> list[LesionPatch | SkippedLesion]:
    from medaug.patching.extract import extract_patches

    return list(extract_patches(case, settings))


def _split(run: Run) -> None:
    config, patches = run.config, run.patches
    split = dp_road.deal_patients(config, patches)
    parts = {}
    for part in PARTS:
        here = split.part(patches, part)
        patients = here.patients_per_class()
        parts[part] = {
            "patients": [key.token for key in here.patient_order],
            "patches": len(here),
            "classes": {
                label: {"patients": patients[label], "patches": len(here.of_class(label))}
                for label in patches.classes
            },
        }
    document = {"seed": config.seed, "fractions": list(config.cohort.fractions), "parts": parts}
    write_json(run.folder / "split.json", document)


def _train(run: Run) -> None:
    from medaug.generators.settings import GeneratorSettings, RefinerSettings

    settings = run.config.generator
    if run.config.privacy.mode != "empirical":
        training = run.split.part(run.patches, "training")
        dp_road.train(run.config, training, run.folder / "generator", run.progress)
    elif isinstance(settings, RefinerSettings):
        _train_refiner(run, settings)
    elif isinstance(settings, GeneratorSettings):
        _train_from_scratch(run, settings)


def _train_from_scratch(run: Run, settings: GeneratorSettings) -> None:
    from medaug.generators.evidence import Tuning
    from medaug.generators.training import train_generator
    from medaug.report.sheets import sample_name, write_sheet

    folder = run.folder / "generator"

    def draw_sheets(step: int, samples: dict[str, Drawn]) -> None:
        for label, drawn in samples.items():
            path = folder / "samples" / sample_name(step, label)
            write_sheet(path, drawn.images, run.window, masks=drawn.masks)

    training, tuning = (run.split.part(run.patches, part) for part in ("training", "tuning"))
    train_generator(
        training,
        settings,
        run.config.seed,
        folder,
        run.progress,
        draw_sheets,
        Tuning(tuning, _distances(tuning, run.window)),
    )


def _distances(tuning: PatchSet, window: Window) -> dict[str, Distance]:
    """Of each class, how far patches lie from those of the tuning patients."""
    from medaug.evaluation.fidelity import distance_to
    from medaug.generators.evidence import FEWEST

    distances: dict[str, Distance] = {}
    for label in tuning.classes:
        of_class = window.to_signed(tuning.of_class(label).images)
        if len(of_class) >= FEWEST:
            distances[label] = _of_images(distance_to(of_class))
    return distances


def _of_images(distance: Callable[[Any, None], float]) -> Distance:
    return lambda images: distance(images, None)


def _train_refiner(run: Run, settings: RefinerSettings) -> None:
    from medaug.generators.refining import train_refiner
    from medaug.report.sheets import sample_name, write_sheet

    folder = run.folder / "generator"
    training = run.split.part(run.patches, "training")

    def draw_sheets(step: int, samples: dict[str, Pair]) -> None:
        """Three rows: rendered only, refined, real."""
        for label, pair in samples.items():
            of_class = training.of_class(label).images
            columns = min(len(pair[0]), len(of_class))
            rows = np.concatenate([images[:columns] for images in (*pair, of_class)])
            write_sheet(folder / "samples" / sample_name(step, label), rows, run.window, columns)

    render = _renderer(run.patches, settings)
    seed = run.config.seed
    train_refiner(training, settings, seed, folder, render, run.progress, draw_sheets)


def _renderer(patches: PatchSet, settings: RefinerSettings) -> Renderer:
    """What draws the lesions that are refined to look like ``patches``."""
    from medaug.phantom.rendering import lesion_renderer

    sizes = Counter(place.mm_per_pixel for place in patches.locations)
    channels, rows, columns = patches.images.shape[1:]
    return lesion_renderer(
        {label: settings.render.get(label, label) for label in patches.classes},
        patches.modality,
        patches.unit,
        (channels, rows, columns),
        sizes.most_common(1)[0][0],
    )


def _release(run: Run) -> None:
    for sheet in (run.folder / "sheets").glob("synthetic_*"):
        sheet.unlink()
    if run.config.privacy.mode == "empirical":
        _leave(run, _review(run))
        return
    folder = run.folder / "generator"
    outcome = dp_road.review(run.config, run.generator, run.patches, folder, run.progress)
    write_json(run.folder / "review" / "decision.json", outcome.document())
    _leave(run, outcome)


def _review(run: Run) -> Review:
    """Hold the generator against training data."""
    from medaug.generators.refined import RefinedGenerator
    from medaug.generators.trained import TrainedGenerator
    from medaug.privacy.gate import review
    from medaug.report.sheets import write_sheet

    config, generator = run.config, run.generator
    if not isinstance(generator, TrainedGenerator | RefinedGenerator):
        raise TypeError(f"the mode empirical draws from a trained generator, not {generator}")
    training, tuning = (run.split.part(run.patches, part) for part in ("training", "tuning"))
    outcome = review(
        generator,
        config.privacy.policy(),
        training=training,
        calibration=tuning,
        rescale=Rescale.of(generator.unit, run.window),
        window=run.window,
        mm_per_pixel=generator.mm_per_pixel,
        seed=config.seed,
        memory_mb=config.privacy.memory_mb,
        progress=run.progress,
    )
    document = outcome.document()
    for number, (row, close) in enumerate(zip(document["closest"], outcome.closest, strict=True)):
        for name, image in (
            ("candidate", close.image),
            ("nearest", training.images[close.row]),
        ):
            row[name] = f"closest/{number:02d}_{name}.png"
            path = run.folder / "review" / row[name]
            write_sheet(path, image[None], run.window, scale=3)
    write_json(run.folder / "review" / "decision.json", document)
    return outcome


def _leave(run: Run, outcome: Review) -> None:
    """Write what the review let through, or raise its reasons."""
    from medaug.export.write import write_release
    from medaug.report.sheets import sheet_name, write_sheet

    config, release = run.config, outcome.release_or_raise()
    write_release(
        release,
        run.folder / "release",
        config.export,
        name=config.name,
        # Identifiers follow from the seed, yet nobody can read the seed from them.
        seed=int(digest_of("identifiers", config.seed, release.digest), 16),
        window=run.window,
        progress=run.progress,
    )
    for at, label in enumerate(release.classes):
        rows = np.flatnonzero(release.labels == at)[:64]
        masks = None if release.masks is None else release.masks[rows]
        path = run.folder / "sheets" / sheet_name("synthetic", label)
        write_sheet(path, release.images[rows], run.window, masks=masks)


def _evaluate(run: Run) -> None:
    from medaug.evaluation.features import extractor
    from medaug.evaluation.protocol import evaluate
    from medaug.evaluation.unseen import likeness_to_unseen

    settings = run.config.evaluation
    if settings.fidelity.enabled:
        # A weight file that cannot be used is refused before any classifier is trained.
        extractor(settings.fidelity.features, settings.fidelity.features_sha256)
    training, tuning, test = (run.split.part(run.patches, part) for part in PARTS)
    evaluation = evaluate(
        training,
        tuning,
        HeldOut(test, lineage=(run.generator.record,)),
        run.release,
        settings,
        run.window,
        run.config.seed,
        run.progress,
        folder=run.folder / "evaluation",
    )
    # After the verdict, and nothing is chosen by it: the test patients may be looked at again.
    alike = likeness_to_unseen(
        run.patches,
        run.split,
        run.release,
        settings,
        run.window,
        run.config.seed,
        run.progress,
        masks=run.release.masks,
    )
    write_json(run.folder / "evaluation.json", evaluation.document() | {"fidelity": alike})


@dataclass(frozen=True)
class Station:
    """One stop: the settings it reads, the artefacts it leaves, and its work."""

    name: str
    reads: tuple[str, ...]
    leaves: tuple[str, ...]
    work: Callable[[Run], None]


DP = "differential privacy"  # that part of ``privacy`` which decides more than the review
STATIONS = (
    Station(
        "extract",
        ("sources", "patching"),
        ("inventory.json", "patches/patches.h5", "patches/summary.json"),
        _extract,
    ),
    Station("split", ("cohort", DP), ("split.json",), _split),
    Station("train", ("generator", DP), ("generator/generator.safetensors",), _train),
    Station(
        "release",
        ("privacy", "export"),
        ("release/release.json", "review/decision.json"),
        _release,
    ),
    Station("evaluate", ("evaluation",), ("evaluation.json",), _evaluate),
)
