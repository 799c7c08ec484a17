"""The road: wires the stations, leaves a stamped artefact after each, and resumes.

A station is done when its outputs are there and ``run.json`` has it as finished under its
stamp: a digest of the settings it reads, of the seed, and of the stamp before it. The same
settings over the same files therefore find everything done; other settings find a mismatch and
are refused, so that no result is overwritten by mistake (``redo=True`` overrides).
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medaug.atomic import remove, remove_partials, write_json
from medaug.config import PipelineConfig, require_data
from medaug.domain import (
    HeldOut,
    PatchSet,
    PatientKey,
    PatientSplit,
    Rescale,
    Window,
    digest_of,
    split_patients,
)
from medaug.domain.cohort import PARTS
from medaug.errors import CohortError, DisclosureError, Fault, RunFolderError
from medaug.progress import Progress, Silent

if TYPE_CHECKING:
    # Importing a station may import torch; only the station that runs needs its own.
    from medaug.domain import Release
    from medaug.generators.trained import TrainedGenerator

_README = """This folder holds patient data: real patches, and pictures of them in report.html.
Only what is inside release/ went through the gate and may leave, once your site agrees.
"""
_PACKAGES = ("medaug", "torch", "monai", "numpy", "scipy", "pydicom", "nibabel", "SimpleITK")


@dataclass(frozen=True)
class Run:
    """A pipeline and the folder its results go to."""

    config: PipelineConfig
    folder: Path
    progress: Progress

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
    def generator(self) -> TrainedGenerator:
        """The trained generator."""
        from medaug.generators.trained import load_generator

        return load_generator(self.folder / "generator")

    @cached_property
    def release(self) -> Release:
        """What the gate let through."""
        from medaug.export.release import load_release

        return load_release(self.folder / "release")


def _extract(run: Run) -> None:
    from medaug.patching.extract import SkippedLesion, extract_patches
    from medaug.patching.store import PatchStoreWriter, summarise
    from medaug.readers.identity import load_site_key
    from medaug.readers.source import scan
    from medaug.report.sheets import sheet_name, write_sheet

    config = run.config
    root = require_data(config, config.name)
    source = scan(config.sources, root, load_site_key(config.site_key), run.progress)
    inventory = source.inventory.document()
    write_json(run.folder / "inventory.json", inventory)

    store = run.folder / "patches" / "patches.h5"
    run.progress.start("cutting patches", len(inventory["cases"]))
    with PatchStoreWriter(store, patients_known=inventory["patients_known"]) as writer:
        for case in source.cases():
            for patch in extract_patches(case, config.patching):
                if isinstance(patch, SkippedLesion):
                    writer.skip(patch)
                else:
                    writer.append(patch)
            run.progress.advance()
    summary = summarise(store)
    summary["window"] = list(config.generator.window)
    write_json(run.folder / "patches" / "summary.json", summary)
    for label in run.patches.classes:
        images = run.patches.of_class(label).images[:64]
        write_sheet(run.folder / "sheets" / sheet_name("real", label), images, run.window)


def _split(run: Run) -> None:
    config, patches = run.config, run.patches
    split = split_patients(patches, config.cohort.fractions, config.seed)
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
    from medaug.generators.training import train_generator
    from medaug.report.sheets import sample_name, write_sheet

    config, folder = run.config, run.folder / "generator"

    def draw_sheets(step: int, samples: dict[str, NDArray[np.float32]]) -> None:
        for label, images in samples.items():
            write_sheet(folder / "samples" / sample_name(step, label), images, run.window)

    training = run.split.part(run.patches, "training")
    train_generator(training, config.generator, config.seed, folder, run.progress, draw_sheets)


def _release(run: Run) -> None:
    from medaug.export.write import write_release
    from medaug.privacy.gate import review
    from medaug.report.sheets import sheet_name, write_sheet

    config, generator = run.config, run.generator
    for sheet in (run.folder / "sheets").glob("synthetic_*"):
        sheet.unlink()
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
    release = outcome.release_or_raise()
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
        images = release.images[release.labels == at][:64]
        write_sheet(run.folder / "sheets" / sheet_name("synthetic", label), images, run.window)


def _evaluate(run: Run) -> None:
    from medaug.evaluation.protocol import evaluate

    training, tuning, test = (run.split.part(run.patches, part) for part in PARTS)
    evaluation = evaluate(
        training,
        tuning,
        HeldOut(test, lineage=(run.generator.record,)),
        run.release,
        run.config.evaluation,
        run.window,
        run.config.seed,
        run.progress,
        folder=run.folder / "evaluation",
    )
    write_json(run.folder / "evaluation.json", evaluation.document())


@dataclass(frozen=True)
class Station:
    """One stop: the settings it reads, the artefacts it leaves, and its work."""

    name: str
    reads: tuple[str, ...]
    leaves: tuple[str, ...]
    work: Callable[[Run], None]


STATIONS = (
    Station(
        "extract",
        ("sources", "patching"),
        ("inventory.json", "patches/patches.h5", "patches/summary.json"),
        _extract,
    ),
    Station("split", ("cohort",), ("split.json",), _split),
    Station("train", ("generator",), ("generator/generator.safetensors",), _train),
    Station(
        "release",
        ("privacy", "export"),
        ("release/release.json", "review/decision.json"),
        _release,
    ),
    Station("evaluate", ("evaluation",), ("evaluation.json",), _evaluate),
)


def run_pipeline(
    config: PipelineConfig,
    folder: Path,
    last: str = "evaluate",
    progress: Progress | None = None,
    redo: bool = False,
) -> Path:
    """Run the stations up to ``last``, skipping what is done, and write the report.

    Args:
        config: the study.
        folder: the run folder; made if need be.
        last: name of the last station (see `STATIONS`).
        progress: who is told.
        redo: replace results that were made with other settings or files.

    Returns:
        The report's path.

    Raises:
        RunFolderError: if the folder holds another pipeline's run, or one of other settings.
        DisclosureError: if the gate refused; the report is written all the same.
        InputError: for files and settings that cannot be used.
    """
    from medaug.report.page import write_report

    run = Run(config, folder, progress or Silent())
    stamps = _stamps(run)
    journal = _open(run)
    names = [station.name for station in STATIONS]
    wanted = STATIONS[: names.index(last) + 1]
    stations = journal["stations"]
    stale = [
        station
        for station in STATIONS
        if stations.get(station.name, {}).get("stamp", stamps[station.name]) != stamps[station.name]
    ]
    replaced = [station.name for station in stale if station in wanted]
    if replaced and not redo:
        raise RunFolderError(_other_settings(run, journal, replaced))
    if replaced:
        # Later results go too: a report must not show a verdict on another release.
        for station in stale:
            for name in station.leaves:
                remove(folder / Path(name).parts[0])
            del stations[station.name]
    journal["config"] = config.resolved()
    try:
        for station in wanted:
            finished = "seconds" in stations.get(station.name, {})
            if finished and all((folder / left).exists() for left in station.leaves):
                continue
            if station.name == "split" and last in ("release", "evaluate"):
                _foresee_refusal(run)
            stations[station.name] = {"stamp": stamps[station.name]}
            write_json(folder / "run.json", journal)
            with _measured() as spent:
                station.work(run)
            stations[station.name] |= spent
            write_json(folder / "run.json", journal)
    except DisclosureError:
        write_report(folder)
        raise
    return write_report(folder)


def _open(run: Run) -> dict[str, Any]:
    """Make or reopen the run folder; returns what ``run.json`` holds from now on."""
    config, folder = run.config, run.folder
    path = folder / "run.json"
    journal: dict[str, Any] = {"stations": {}}
    if path.is_file():
        journal = json.loads(path.read_text(encoding="utf-8"))
        if journal["name"] != config.name:
            raise RunFolderError(
                Fault(
                    f"--out {folder}",
                    f"this folder holds a run of the pipeline '{journal['name']}'",
                    f"a new folder, or one of a run of '{config.name}'",
                    "choose another --out",
                )
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise RunFolderError(
            Fault(
                f"--out {folder}",
                "this folder holds files that are not a medaug run",
                "a new or empty folder, or one of an earlier run of the same pipeline",
                "choose another --out",
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials(folder)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    journal |= {
        "name": config.name,
        "medaug": version("medaug"),
        "seed": config.seed,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in _PACKAGES},
    }
    return journal


def _stamps(run: Run) -> dict[str, str]:
    """Each station's stamp, chained from the files to the verdict."""
    settings = run.config.resolved()
    stamp = _files_stamp(run)
    stamps = {}
    for station in STATIONS:
        stamp = digest_of(stamp, run.config.seed, {key: settings[key] for key in station.reads})
        stamps[station.name] = stamp
    return stamps


def _files_stamp(run: Run) -> str:
    """Fingerprint of the source files by path, size and time of change; contents are not read."""
    root = require_data(run.config, run.config.name)
    folders = sorted({str(root / source.path) for source in run.config.sources})
    rows = [
        [str(file.relative_to(folder)), stat.st_size, stat.st_mtime_ns]
        for folder in folders
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file() and (stat := file.stat())
    ]
    return digest_of(rows)


def _other_settings(run: Run, journal: dict[str, Any], replaced: list[str]) -> Fault:
    changed = list(_differences(journal["config"], run.config.resolved()))
    return Fault(
        f"--out {run.folder}",
        "this run was made with "
        + (
            f"other settings: {'; '.join(changed)}"
            if changed
            else "other settings or other source files"
        )
        + f". Going on would replace: {', '.join(replaced)}",
        "the same settings and files, or a new folder",
        "choose another --out, or add --redo to replace those results",
    )


def _differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            inner = f"{key}.{name}" if key else name
            yield from _differences(before.get(name), now.get(name), inner)
    elif before != now:
        yield f"{key}: {json.dumps(before)} → {json.dumps(now)}"


def _foresee_refusal(run: Run) -> None:
    """Refuse before hours of training what the gate is sure to refuse after them."""
    config, patches = run.config, run.patches
    policy, fractions = config.privacy.policy(), config.cohort.fractions
    what = "patients" if patches.patients_known else "patches (patients are not known)"
    faults: list[Fault] = []
    training, tuning = dict.fromkeys(patches.classes, 0), 0
    try:
        split = split_patients(patches, fractions, config.seed)
    except CohortError as error:
        faults += error.faults
    else:
        training = split.part(patches, "training").patients_per_class()
        tuning = len(split.tuning)
    least = policy.min_patients_per_class
    faults += [
        Fault(
            f"class '{label}'",
            f"{count} {what} would train the generator",
            f"{least} or more: with fewer the gate refuses every release",
            f"bring about {math.ceil(least / fractions[0])} {what} of this class, of whom "
            f"{fractions[0]:.0%} train",
        )
        for label, count in training.items()
        if count < least
    ]
    least = policy.min_calibration_patients
    if tuning < least:
        faults.append(
            Fault(
                "copy check",
                f"{tuning} {what} in the tuning part to calibrate its limit",
                f"{least} or more",
                f"bring about {math.ceil(least / fractions[1])} {what} in all",
            )
        )
    if faults:
        raise CohortError(*faults)


@contextmanager
def _measured() -> Iterator[dict[str, float]]:
    """Seconds, and the peak memory of this process so far in MB (where the system tells)."""
    spent: dict[str, float] = {}
    began = time.monotonic()
    yield spent
    spent["seconds"] = round(time.monotonic() - began, 1)
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        spent["peak_mb"] = round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
