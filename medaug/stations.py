"""The stops of the road: what each station reads, what it leaves, and how it is called.

The only module that knows all stations; `medaug.pipeline` decides which of them run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medaug import canary_road, dp_road, twin_road
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
    Window,
    digest_of,
)
from medaug.domain.cohort import PARTS
from medaug.errors import CohortError, Fault
from medaug.generators.processes import ALONE, Processes
from medaug.progress import Progress
from medaug.refitting import cross_validated, renderer
from medaug.tuning import judged_by

if TYPE_CHECKING:
    # Importing a station may import torch; only the station that runs needs its own.
    from medaug.domain import Release
    from medaug.evaluation.bench import External
    from medaug.evaluation.protocol import Evaluation
    from medaug.evaluation.settings import EvaluationSettings
    from medaug.generators.refined import RefinedGenerator
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
    """A pipeline and the folder its results go to.

    ``dask`` is as in `medaug.workers`, ``processes`` as in `medaug.generators.processes`.
    """

    config: PipelineConfig
    folder: Path
    progress: Progress
    dask: str | None = None
    processes: Processes = ALONE

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
            return load_refiner(folder, renderer(self.patches, settings))
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
    summary |= _shape_of(run.patches)
    write_json(run.folder / "patches" / "summary.json", summary)
    for label in run.patches.classes:
        few = run.patches.of_class(label).select(
            range(min(64, summary["classes"][label]["patches"]))
        )
        _draw_sheets(run, "real", label, few.images, few.masks)


def _shape_of(patches: PatchSet) -> dict[str, Any]:
    """What the report says of the slices of a patch, and of the lesions' diameters."""
    channels, *size = patches.images.shape[1:]
    known = np.array([place.diameter_mm for place in patches.locations])
    diameters = {}
    for at, label in enumerate(patches.classes):
        mine = known[(patches.labels == at) & (known > 0)]
        if len(mine):
            diameters[label] = [float(mine.min()), float(np.median(mine)), float(mine.max())]
    return {
        "spatial_dims": len(size),
        "slices": size[0] if len(size) == 3 else channels,
        "diameters_mm": diameters,
    }


def _draw_sheets(
    run: Run, kind: str, label: str, images: NDArray[np.float32], masks: NDArray[np.bool_] | None
) -> None:
    """The sheet of a class; of volumes also one that shows a few from three sides."""
    from medaug.report.sheets import sheet_name, three_planes, write_sheet

    folder = run.folder / "sheets"
    write_sheet(folder / sheet_name(kind, label), images, run.window, masks=masks)
    if images.ndim == 5:
        planes = three_planes(images[:8])
        outlines = None if masks is None else three_planes(masks[:8, None])[:, 0]
        path = folder / sheet_name(f"{kind}-planes", label)
        write_sheet(path, planes, run.window, columns=6, masks=outlines)


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
    _refuse_withdrawn(run)
    document = {"seed": config.seed, "fractions": list(config.cohort.fractions), "parts": parts}
    write_json(run.folder / "split.json", document)


def _refuse_withdrawn(run: Run) -> None:
    """Before anything is learnt: nobody who has withdrawn may stand in any part."""
    from medaug.site import ledger_path, open_ledger

    config = run.config
    if not ledger_path(config.ledger, config.site_key).exists():
        return
    ledger = open_ledger(config.ledger, config.site_key)
    if gone := ledger.withdrawn(key.token for key in run.patches.patient_order):
        raise CohortError(
            *(
                Fault(
                    f"patient {token}",
                    "has withdrawn: see the ledger of this site",
                    "patients who have not",
                    "take the patient's files out of the sources and run with --redo",
                )
                for token in sorted(gone)
            )
        )


def _train(run: Run) -> None:
    from medaug.generators.settings import GeneratorSettings, RefinerSettings

    settings = run.config.generator
    if run.config.privacy.mode != "empirical":
        training = run.split.part(run.patches, "training")
        dp_road.train(run.config, training, run.folder / "generator", run.progress)
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
        canary_road.with_canaries(run.config, training, run.progress),
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
    training = canary_road.with_canaries(run.config, training, run.progress)

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


def _release(run: Run) -> None:
    from medaug.releasing import review_and_record

    for sheet in (run.folder / "sheets").glob("synthetic*"):
        sheet.unlink()
    config, private = run.config, run.config.privacy.mode != "empirical"
    folder = run.folder / "generator"
    split = None if private else run.split
    beside = twin_road.findings(config, run.patches, split, folder, run.progress)
    found = review_and_record(
        config, run.generator, run.patches, split, folder, run.progress, beside
    )
    write_json(run.folder / "review" / "ledger.json", found.history)
    document = found.outcome.document()
    if private:
        document["cost"] = dp_road.cost_in(folder)
    else:
        _draw_closest(run, document["closest"], found.outcome)
    write_json(run.folder / "review" / "decision.json", document)
    _leave(run, found.outcome.release_or_raise(), found.anchor)


def _draw_closest(run: Run, rows: list[dict[str, Any]], outcome: Review) -> None:
    """Beside each of the closest candidates the training patch that it is close to."""
    from medaug.report.sheets import write_sheet

    training = run.split.part(run.patches, "training")
    for number, (row, close) in enumerate(zip(rows, outcome.closest, strict=True)):
        for name, image in (
            ("candidate", close.image),
            ("nearest", training.images[close.row]),
        ):
            row[name] = f"closest/{number:02d}_{name}.png"
            path = run.folder / "review" / row[name]
            write_sheet(path, image[None], run.window, scale=3)


def _leave(run: Run, release: Release, anchor: tuple[int, str] | None) -> None:
    """Write what the review let through."""
    from medaug.export.write import write_release

    config = run.config
    write_release(
        release,
        run.folder / "release",
        config.export,
        name=config.name,
        # Identifiers follow from the seed, yet nobody can read the seed from them.
        seed=int(digest_of("identifiers", config.seed, release.digest), 16),
        window=run.window,
        slice_mm=config.patching.slice_mm,
        progress=run.progress,
        ledger=anchor,
    )
    for at, label in enumerate(release.classes):
        rows = np.flatnonzero(release.labels == at)[:64]
        masks = None if release.masks is None else release.masks[rows]
        _draw_sheets(run, "synthetic", label, release.images[rows], masks)


def _evaluate(run: Run) -> None:
    from medaug.evaluation.features import extractor
    from medaug.evaluation.protocol import evaluate
    from medaug.evaluation.settings import SearchSettings
    from medaug.evaluation.tasks import evaluate_lesions
    from medaug.evaluation.unseen import likeness_to_unseen

    settings = run.config.evaluation.as_asked()
    if settings.fidelity.enabled:
        # A weight file that cannot be used is refused before any classifier is trained.
        extractor(settings.fidelity.features, settings.fidelity.features_sha256)
    outside = list(_external(run))
    training, tuning, test = (run.split.part(run.patches, part) for part in PARTS)

    record = run.generator.record

    def judged(patches: PatchSet, settings: EvaluationSettings, folder: Path) -> Evaluation:
        return evaluate(
            training,
            tuning,
            HeldOut(patches, lineage=(record,)),
            run.release,
            settings,
            run.window,
            run.config.seed,
            run.progress,
            folder,
        )

    evaluation = judged(test, settings, run.folder / "evaluation")
    # After the verdict, and nothing is chosen by it: the test patients may be looked at again.
    tasks = evaluate_lesions(
        training,
        tuning,
        HeldOut(test, lineage=(record,)),
        run.release,
        settings,
        run.window,
        run.config.seed,
        run.progress,
        folder=run.folder / "evaluation",
    )
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
    document = evaluation.document() | {"tasks": tasks, "fidelity": alike}
    if settings.folds:
        document["folds"] = cross_validated(
            run.config, run.patches, run.folder / "folds", run.progress, outside, run.release
        )
    else:
        # The same seeds give the same classifiers; curve and search have been made.
        once = settings.model_copy(update={"dose_curve": (), "search": SearchSettings()})
        document["external"] = []
        for one in outside:
            found = judged(one.patches, once, run.folder / "external" / one.name / "evaluation")
            shown = {key: found.document()[key] for key in ("test", "arms", "comparisons")}
            document["external"].append({"name": one.name, **shown})
    write_json(run.folder / "evaluation.json", document)


def _external(run: Run) -> Iterator[External]:
    """The test sets of other sites, read and cut as the pipeline's own."""
    from medaug.evaluation.bench import External
    from medaug.evaluation.nested import refuse_external

    for one in run.config.evaluation.external:
        sources = one.sources or run.config.sources
        config = run.config.model_copy(update={"data": one.data, "sources": sources})
        elsewhere = replace(run, config=config, folder=run.folder / "external" / one.name)
        _extract(elsewhere)
        external = External(one.name, elsewhere.patches)
        refuse_external(run.patches, external)
        yield external


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
