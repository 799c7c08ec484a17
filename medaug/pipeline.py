"""The road: runs the stations in order, stamps what each leaves, and resumes.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medaug.atomic import remove, remove_partials, write_json
from medaug.config import PipelineConfig, require_data
from medaug.domain import PatchSet, PatientSplit, deal_folds, digest_of
from medaug.errors import (
    CohortError,
    DisclosureError,
    Fault,
    LeakageError,
    RunFolderError,
    SettingsError,
)
from medaug.export.signing import load_secret_key
from medaug.generators.processes import ALONE, Processes
from medaug.progress import Progress, Silent
from medaug.readers.settings import SourceSettings
from medaug.road.private import deal_patients
from medaug.road.releasing import export_faults
from medaug.road.reviewing import foresee_refusal
from medaug.road.run import Run
from medaug.road.stations import DP, STATIONS

_README = """This folder holds patient data: real patches, and pictures of them in report.html.
Only what is inside release/ went through the gate and may leave, once your site agrees.
"""
_PACKAGES = ("medaug", "torch", "monai", "numpy", "scipy", "pydicom", "nibabel", "SimpleITK")


def run_pipeline(
    config: PipelineConfig,
    folder: Path,
    last: str = "evaluate",
    progress: Progress | None = None,
    redo: bool = False,
    dask: str | None = None,
    processes: Processes = ALONE,
) -> Path:
    """Run the stations up to ``last``, skipping what is done, and write the report.

    Args:
        config: the study.
        folder: the run folder; made if need be.
        last: name of the last station (see `STATIONS`).
        progress: who is told.
        redo: replace results that were made with other settings or files.
        dask: where the studies are read and candidates compared (see `medaug.workers`); the result
            is the same.
        processes: that train the generator (see `medaug.generators.processes`).

    Returns:
        The report's path.

    Raises:
        RunFolderError: if the folder holds another pipeline's run, or one of other settings.
        DisclosureError: if the gate refused; the report is written all the same.
        InputError: for files and settings that cannot be used.
    """
    from medaug.report.page import write_report

    if processes.size > 1 and config.privacy.mode != "empirical":
        raise SettingsError(
            Fault(
                "--devices",
                f"{processes.size} processes",
                f"1 with privacy.mode: {config.privacy.mode}: noise is drawn in one place",
            )
        )
    _refuse_key(config)
    run = Run(config, folder, progress or Silent(), dask, processes)
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
            if last in ("release", "evaluate"):
                _foresee_refusal(run, station.name)
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


def _refuse_key(config: PipelineConfig) -> None:
    """A key that cannot sign the release is refused now, not after hours of training."""
    if config.export.sign_with is not None:
        load_secret_key(config.export.sign_with)


def follow(config: PipelineConfig, folder: Path, processes: Processes) -> None:
    """What every process but the first does: train when the first does, and write nothing."""
    train = next(station for station in STATIONS if station.name == "train")
    while processes.called():
        train.work(Run(config, folder, Silent(), processes=processes))


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
    settings = run.config.resolved() | {DP: run.config.privacy.charged()}
    config = run.config
    stamp = _files_stamp(require_data(config, config.name), config.sources)
    settings["evaluation"]["external files"] = [
        _files_stamp(one.data, one.sources or config.sources) for one in config.evaluation.external
    ]
    stamps = {}
    for station in STATIONS:
        stamp = digest_of(stamp, run.config.seed, {key: settings[key] for key in station.reads})
        stamps[station.name] = stamp
    return stamps


def _files_stamp(root: Path, sources: Sequence[SourceSettings]) -> str:
    """Fingerprint of the source files by path, size and time of change; contents are not read."""
    folders = sorted({str(root / source.path) for source in sources})
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


def _foresee_refusal(run: Run, before: str) -> None:
    """Refuse before hours of training what the gate is sure to refuse after them."""
    if before == "train":
        foresee_refusal(run.config, run.patches)
    if before == "split":
        _foresee_lack(run)


def _foresee_lack(run: Run) -> None:
    """Of patients, above all."""
    config, patches = run.config, run.patches
    policy, fractions = config.privacy.policy(), config.cohort.fractions
    what = "patients" if patches.patients_known else "patches (patients are not known)"
    faults: list[Fault] = []
    training, tuning = dict.fromkeys(patches.classes, 0), 0
    try:
        split = deal_patients(config, patches)
    except CohortError as error:
        faults += error.faults
    else:
        training = split.part(patches, "training").patients_per_class()
        tuning = len(split.tuning)
        if config.privacy.audited:
            faults += _audit_faults(split, patches, what)
    if folds := config.evaluation.as_asked().folds:
        try:
            deal_folds(patches, folds, config.seed, config.evaluation.tuning_share)
        except (CohortError, LeakageError) as error:
            faults += error.faults
    if not isinstance(policy.per_class, int):
        strangers = sorted(set(policy.per_class) - set(patches.classes))
        faults += [
            Fault(
                f"privacy.per_class.{name}",
                "no class has this name",
                ", ".join(patches.classes),
                "rename or remove it",
            )
            for name in strangers
        ]
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
        if policy.quota(label) and count < least
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
    if config.privacy.mode == "empirical":
        faults += _blank_faults(patches)
        faults += [] if patches.patients_known else _without_patients(config)
    faults += export_faults(config, patches)
    if faults:
        raise CohortError(*faults)


def _blank_faults(patches: PatchSet) -> list[Fault]:
    from medaug.privacy.copies import without_contrast

    rows = without_contrast(patches.images).tolist()
    if not rows:
        return []
    return [
        Fault(
            "patches",
            f"{len(rows)} without any contrast, in patches/patches.h5 row "
            f"{', '.join(map(str, rows[:5]))}{', …' if len(rows) > 5 else ''}",
            "pictures",
            "take them out of the sources: no sample can be compared with a blank picture",
        )
    ]


def _without_patients(config: PipelineConfig) -> list[Fault]:
    if config.privacy.patch_level_only:
        return []
    return [
        Fault(
            "privacy.patch_level_only",
            "false, and a source names no patients: patches of one patient may stand in training "
            "and calibration, and nothing can be said about patients",
            "sources that name patients",
            "set it to true if a release marked patch-level only is meant",
        )
    ]


def _audit_faults(split: PatientSplit, patches: PatchSet, what: str) -> list[Fault]:
    from medaug.privacy.audit import REFUSED_BELOW, least_p

    least = least_p(split.part(patches, "training"), split.part(patches, "test"))
    if least < REFUSED_BELOW:
        return []
    return [
        Fault(
            "audit",
            f"{len(split.training)} {what} train and {len(split.test)} test: by chance alone they "
            f"come apart with p = {least:.2g}",
            f"so many that an attack can reach p < {REFUSED_BELOW:g}",
            "bring more; or set privacy.audit: false, and the release says that nobody attacked it",
        )
    ]


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
