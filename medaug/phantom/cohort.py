"""A folder of phantom patients, as a hospital would keep them.

::

    folder/
      phantom.json                       which cohort this is
      dicom/phantom-0000/ct/*.dcm        even numbers: a CT series…
      dicom/phantom-0000/seg.dcm         …and its segmentation
      nifti/phantom-0001/ct.nii.gz       odd numbers: a volume…
      nifti/phantom-0001/lesions.nii.gz  …and its label map

A patient's folder is whole or absent, so a stopped run goes on where it was. The files do not
depend on the number of worker processes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from medaug.atomic import PARTIAL, remove_partials, replacing, write_json
from medaug.domain import digest_of
from medaug.errors import Fault, RunFolderError
from medaug.phantom.dicom_files import write_dicom
from medaug.phantom.marker import check_marker
from medaug.phantom.nifti_files import write_nifti
from medaug.phantom.patient import make_patient
from medaug.progress import Progress, Silent

VERSION = 1  # of what a seed gives; one more whenever the files change
MOST_WORKERS = 4  # each takes about 300 MB
Cohort = dict[str, int | str | None]


def write_cohort(
    folder: Path,
    patients: int = 90,
    seed: int = 0,
    progress: Progress = Silent(),  # noqa: B008 stateless
    marker: str | None = None,
    workers: int | None = None,
) -> None:
    """Write a cohort into ``folder``; patients that are already there are kept.

    Args:
        folder: an empty or missing folder, or one that holds part of this very cohort.
        patients: how many, at least 1.
        seed: of the cohort, 0 or more; the same seed gives the same files, byte for byte.
        progress: advanced by one step per patient.
        marker: 4-16 letters and digits to plant in every text of the files but the classes.
        workers: processes; as many as there are processors, 4 at most, by default.

    Raises:
        RunFolderError: if the folder holds anything else.
        SettingsError: if the marker is not 4-16 letters and digits.
        ValueError: if patients, seed or workers is out of range.
    """
    if patients < 1 or seed < 0 or (workers is not None and workers < 1):
        raise ValueError(f"out of range: patients={patients}, seed={seed}, workers={workers}")
    check_marker(marker)
    # The marker itself must stand nowhere but in the patients' files.
    claim: Cohort = {
        "phantom": VERSION,
        "seed": seed,
        "patients": patients,
        "marker": digest_of(marker) if marker else None,
    }
    _claim(folder, claim)
    remove_partials(folder)
    progress.start("phantom patients", patients)
    missing = [number for number in range(patients) if not _place(folder, number).is_dir()]
    progress.advance(patients - len(missing))
    processes = min(workers or min(os.cpu_count() or 1, MOST_WORKERS), len(missing))
    if processes <= 1:
        for number in missing:
            write_patient(folder, seed, number, marker)
            progress.advance()
    else:
        _write_parallel(folder, seed, missing, marker, progress, processes)


def write_patient(folder: Path, seed: int, number: int, marker: str | None) -> None:
    """Make one patient and write it into its place under ``folder``."""
    patient = make_patient(seed, number)
    write = write_nifti if number % 2 else write_dicom
    with replacing(_place(folder, number)) as temporary:
        temporary.mkdir()
        write(patient, temporary, marker)


def _place(folder: Path, number: int) -> Path:
    return folder / ("nifti" if number % 2 else "dicom") / f"phantom-{number:04d}"


def _claim(folder: Path, claim: Cohort) -> None:
    """Say in ``phantom.json`` what the folder is, or find that it is something else."""
    path = folder / "phantom.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != claim:
            raise RunFolderError(*_differences(path, found, claim))
        return
    if folder.is_file() or (folder.is_dir() and not _empty(folder.iterdir())):
        raise RunFolderError(
            Fault(
                str(folder),
                "holds files, but no phantom.json",
                "an empty folder, or one with this phantom cohort",
                "choose another folder",
            )
        )
    write_json(path, claim)


def _empty(entries: Iterable[Path]) -> bool:
    """Whether there is nothing but what a killed run left."""
    return all(entry.name.startswith(PARTIAL) for entry in entries)


def _differences(path: Path, found: object, claim: Cohort) -> list[Fault]:
    """One fault for each entry in which the folder's cohort differs from the one asked for."""
    action = "choose another folder, or delete this one"
    if not isinstance(found, dict) or found.keys() != claim.keys():
        return [Fault(str(path), "does not describe a phantom cohort", "", action)]
    return [
        Fault(f"{path}: {key}", str(found[key]), str(wanted), action)
        for key, wanted in claim.items()
        if found[key] != wanted
    ]


def _write_parallel(
    folder: Path,
    seed: int,
    numbers: list[int],
    marker: str | None,
    progress: Progress,
    processes: int,
) -> None:
    # spawn: the parent may hold threads (torch, rich), which a fork would not survive.
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_begin_worker
    )
    try:
        work = [pool.submit(write_patient, folder, seed, number, marker) for number in numbers]
        for done in as_completed(work):
            done.result()
            progress.advance()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it should it be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
