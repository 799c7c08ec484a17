"""Memory while many studies are read: this process, and each worker of `--dask local:2`.

    python benchmarks/readers/scale.py --studies 1000

Writes small phantom studies (a CT of 12 slices with one ball in each, and its mask as a second
DICOM series; 64 x 64 pixels, 24 files), cuts their patches, and samples the resident memory of
every process on the way. Then the same without workers, and whether both left the same bytes.
A worker's memory must be flat from the first tenth on. This process holds the headers of all
studies: that much it may grow by per study, and no more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medaug.config import PipelineConfig, load_pipeline
from medaug.pipeline import run_pipeline
from medaug.progress import Silent

SIDE, SLICES = 64, 12
TENTHS = 10


def write_study(folder: Path, number: int) -> None:
    """One patient: PATIENT_DICOM/ and MASKS_DICOM/livertumor1/, as 3D-IRCADb keeps them."""
    rng = np.random.default_rng(number)
    centre = rng.uniform(0.4, 0.6, 3) * (SLICES, SIDE, SIDE)
    k, i, j = (at - c for at, c in zip(np.indices((SLICES, SIDE, SIDE)), centre, strict=True))
    ball = (3 * k) ** 2 + i**2 + j**2 < 9**2
    image = rng.normal(60, 20, ball.shape) - 40 * ball
    write_series(folder / "PATIENT_DICOM", image.astype(np.int16))
    write_series(folder / "MASKS_DICOM" / "livertumor1", 255 * ball.astype(np.int16))


def write_series(folder: Path, values: np.ndarray) -> None:
    """(slice, row, column) int16 as DICOM files."""
    folder.mkdir(parents=True)
    one = pydicom.Dataset()
    one.SOPClassUID, one.Modality = CTImageStorage, "CT"
    one.SeriesInstanceUID, one.StudyInstanceUID = generate_uid(), generate_uid()
    one.Rows, one.Columns, one.PixelSpacing = SIDE, SIDE, [1, 1]
    one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleSlope, one.RescaleIntercept = 1, 0
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for k, plane in enumerate(values):
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.ImagePositionPatient = [0, 0, 3 * k]
        one.PixelData = plane.astype("<i2").tobytes()
        one.save_as(folder / f"image_{k}", enforce_file_format=True)


class Sampling(Silent):
    """Samples the resident memory (MB) of this process and its workers at every tenth."""

    def __init__(self) -> None:
        self.table: dict[str, list[tuple[int, list[int]]]] = {}
        self._what, self._total, self._done, self._next = "", 0, 0, 1
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    def start(self, what: str, total: int, unit: str = "") -> None:  # noqa: ARG002
        """A phase begins."""
        self._what, self._total, self._done, self._next = what, total, 0, 1
        self._began = time.monotonic()
        self.table[what] = []

    def advance(self, steps: int = 1, note: str = "") -> None:  # noqa: ARG002
        """Some of it is done."""
        self._done += steps
        self.seconds[self._what] = time.monotonic() - self._began
        while self._done * TENTHS >= self._total * self._next and self._next <= TENTHS:
            self.table[self._what].append((self._next, resident()))
            self._next += 1


def extract(config: PipelineConfig, out: Path, dask: str | None) -> Sampling:
    """Cut the patches; returns what was sampled on the way."""
    sampling = Sampling()
    run_pipeline(config, out, "extract", sampling, dask=dask)
    return sampling


def resident() -> list[int]:
    """MB of this process, then of each worker."""
    this = psutil.Process()
    workers = [
        child
        for child in this.children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    every = [this, *sorted(workers, key=lambda process: process.pid)]
    return [round(process.memory_info().rss / 2**20) for process in every]


def show(title: str, sampling: Sampling) -> None:
    """One row per phase and process: MB at every tenth of the bytes."""
    print(f"\n{title}: resident MB at each tenth of the way")
    for what, samples in sampling.table.items():
        for process in range(len(samples[-1][1]) if samples else 0):
            name = "this process" if process == 0 else f"worker {process}"
            row = " ".join(f"{found[process]:5}" for _, found in samples if process < len(found))
            print(f"  {what:18}{name:14}{row}   {sampling.seconds[what]:6.0f} s")


def main() -> None:
    """Write the studies and extract them twice."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in ("medaug", "distributed", "pydicom")))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for number in range(asked.studies):
            write_study(root / "data" / f"P{number:05}", number)
        config = load_pipeline("liver_ct", [f"site_key={root / 'site.key'}"], root / "data")
        ways = {f"{asked.workers} workers": f"local:{asked.workers}", "serial": None}
        for title, dask in ways.items():
            # A process of its own: memory that Python has freed still counts as resident.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                sampling = pool.submit(extract, config, root / title, dask).result()
            show(f"{asked.studies} studies, {title}", sampling)
        left = ("inventory.json", "patches/patches.h5", "patches/summary.json")
        same = all(
            len({(root / title / name).read_bytes() for title in ways}) == 1 for name in left
        )
        print(f"\nBoth left the same bytes: {same}")


if __name__ == "__main__":
    main()
