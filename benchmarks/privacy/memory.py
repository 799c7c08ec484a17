"""How much memory does the gate take, and does it grow with the candidates? Linux only.

    python benchmarks/privacy/memory.py --patches 5000 --candidates 200
    python benchmarks/privacy/memory.py --patches 5000 --candidates 800

Patches and samples are noise of two scales, 64x64: cheap to draw, and never alike, so that nearly
all candidates are drawn and accepted. ``over start`` is the highest resident memory of a stage
beyond what the process held when the patches were loaded; ``accepted`` is what the accepted samples
themselves take (pixels, and what is kept of each to find duplicates). The setting holds where
``over start`` minus ``accepted`` stays below it.

A comparison costs the same whatever came before it, so that few candidates show what many take: run
it with two numbers of candidates and compare.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medaug.domain import (
    Candidates,
    Drawn,
    PatchLocation,
    PatchSet,
    PatientKey,
    ReleasePolicy,
    Rescale,
    TrainingRecord,
    Unit,
    Window,
    digest_of,
)
from medaug.privacy.audit import AuditResult, audit
from medaug.privacy.gate import review
from medaug.privacy.settings import PrivacySettings

CLASSES = ("cyst", "metastasis")
WINDOW = Window(-150, 250)
SIDE = 64
_MB = 1_000_000


def main() -> None:
    """Print a line for each stage."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--patches", type=int, default=5000)
    ask.add_argument("--of-each", type=int, default=5, help="patches of a patient")
    ask.add_argument("--candidates", type=int, default=200)
    ask.add_argument("--memory-mb", type=int, default=PrivacySettings().memory_mb)
    ask.add_argument("--no-audit", action="store_true")
    given = ask.parse_args()
    training = _patients(given.patches // given.of_each, given.of_each, 0)
    calibration = _patients(60, given.of_each, 1)
    test = _patients(given.patches // given.of_each // 4, given.of_each, 2)
    sampler = _Noise(training)
    stages = _Stages()

    def audited(survivors: Candidates) -> AuditResult:
        stages.start("audit")
        return audit(
            survivors.images, training, test, 0, reference=calibration, memory_mb=given.memory_mb
        )

    found = review(
        sampler,
        ReleasePolicy(given.candidates // 2, tries=1),
        training=training,
        calibration=calibration,
        rescale=Rescale.of(Unit.HOUNSFIELD, WINDOW),
        window=WINDOW,
        mm_per_pixel=1.0,
        seed=0,
        memory_mb=given.memory_mb,
        progress=stages,
        audit=None if given.no_audit else audited,
    )
    stages.start("end")
    drawn, accepted = sum(found.drawn.values()), sum(found.accepted.values())
    print(f"{given.patches} training patches, {drawn} candidates, {accepted} accepted")
    print(f"setting {given.memory_mb} MB; accepted {accepted * _of_each() / _MB:.0f} MB")
    print(found.outcome, *found.reasons, sep="\n  ")


def _of_each() -> int:
    """Bytes that are kept of an accepted sample: stored pixels, and the picture of 32x32."""
    return 2 * SIDE * SIDE + 4 * 700


class _Noise:
    """Draws textures that no patient has."""

    classes = CLASSES

    def __init__(self, training: PatchSet) -> None:
        self.record = TrainingRecord(
            frozenset(training.patients), training.digest, "00" * 32, {}, 0, len(training)
        )

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        kind = CLASSES.index(label)
        return Drawn(np.stack([_texture([seed, kind, 9]) for seed in seeds]))


def _texture(seed: Sequence[int]) -> NDArray[np.float32]:
    """(1, 64, 64)."""
    rng = np.random.default_rng(seed)
    coarse, fine = (gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma) for sigma in (4.0, 1.0))
    picture = 40 * coarse / coarse.std() + 20 * fine / fine.std() + 40
    return picture.clip(WINDOW.low, WINDOW.high)[None].astype(np.float32)


def _patients(count: int, of_each: int, part: int) -> PatchSet:
    numbers = np.repeat(np.arange(count), of_each)
    images = np.empty((len(numbers), 1, SIDE, SIDE), np.float32)
    for row in range(len(numbers)):
        images[row] = _texture([row, part])
    keys = [PatientKey(digest_of("memory", part, number)[:32]) for number in range(count)]
    return PatchSet(
        images,
        None,
        (numbers % len(CLASSES)).astype(np.int64),
        CLASSES,
        tuple(keys[number] for number in numbers),
        tuple(
            PatchLocation(f"{part}-{number}", f"{part}-{row}", 0, (0.0, 0.0, 0.0), 1.0)
            for row, number in enumerate(numbers)
        ),
        Unit.HOUNSFIELD,
        "CT",
    )


class _Stages:
    """A progress that reads the peak of each stage."""

    def __init__(self) -> None:
        self._name, self._began = "", time.monotonic()
        self._at_start = _status("VmRSS")
        print(f"{'at start':36}{self._at_start:8.0f} MB")
        self.start("fitting")

    def start(self, what: str, *_: object) -> None:
        now = time.monotonic()
        if self._name:
            over = _status("VmHWM") - self._at_start
            print(
                f"{self._name:36}{over:8.0f} MB over start, {now - self._began:.0f} s", flush=True
            )
        self._name, self._began = what, now
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew

    def advance(self, *_: object) -> None:
        pass


def _status(key: str) -> float:
    """A line of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(value) * 1024 / _MB


if __name__ == "__main__":
    main()
