"""How long `medaug verify` takes for a release of about 10,000 files.

Each time is of a whole process, from its start to its end, as a receiver waits for it::

    PYTHONPATH=. python benchmarks/export/verify.py --out /tmp/verify

The release is made once: noise of 64 x 64 pixels as NPZ, PNG, NIfTI and DICOM, signed. On a busy
machine read the processor seconds: one core does the work.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from medaug.domain import (
    Candidates,
    CheckResult,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Unit,
    Window,
)
from medaug.export.settings import ExportSettings
from medaug.export.signing import make_keys
from medaug.export.write import write_release

CLASSES = ("cyst", "haemangioma", "metastasis")


def make_release(samples: int) -> Release:
    """Noise that a decision lets through; the pixels do not matter here."""
    rng = np.random.default_rng(0)
    labels = np.arange(samples) % len(CLASSES)
    candidates = Candidates(
        pixels=rng.normal(50, 30, (samples, 1, 64, 64)).astype(np.int16),
        labels=labels.astype(np.int64),
        classes=CLASSES,
        rescale=Rescale(1.0, 0.0),
        unit=Unit.HOUNSFIELD,
        modality="CT",
        mm_per_pixel=1.0,
        seeds=np.arange(samples),
    )
    counts = {
        name: int(n)
        for name, n in zip(CLASSES, np.bincount(labels, minlength=len(CLASSES)), strict=True)
    }
    policy = ReleasePolicy(per_class=counts, checks=("format",))
    passed = (CheckResult("format", True, 0.0, 0.0, 0, "Every sample has the right shape."),)
    decision = ReleaseDecision(policy, candidates.digest, passed, counts, counts, ())
    return Release.of(candidates, decision, generator_digest="f" * 64)


def seconds_of(command: list[str]) -> tuple[float, float, int]:
    """Wall-clock and processor seconds of one command, and its exit code."""
    began, used = time.monotonic(), _used()
    code = subprocess.run(command, capture_output=True, check=False).returncode
    return time.monotonic() - began, _used() - used, code


def _used() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    """Make the release if it is not there, time, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the release is made")
    parser.add_argument("--samples", type=int, default=3333, help="three files each")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    folder, key = options.out / "release", options.out / "site.key"
    if not folder.is_dir():
        make_keys(key)
        write_release(
            make_release(options.samples),
            folder,
            ExportSettings(sign_with=key),
            name="benchmark",
            seed=0,
            window=Window(-100, 200),
        )
    verify = [sys.executable, "-m", "medaug", "verify", str(folder)]
    signed = [*verify, "--signed-by", str(key.with_suffix(".pub"))]
    last = max(folder.rglob("*.png"))
    whole = last.read_bytes()
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    found: dict[str, object] = {"files": sum(path.is_file() for path in folder.rglob("*"))}
    for what, command, data, code in (
        ("untouched", verify, whole, 0),
        ("signature checked", signed, whole, 0),
        ("one flipped bit", verify, damaged, 2),
    ):
        last.write_bytes(data)
        try:
            runs = [seconds_of(command) for _ in range(options.repeats)]
        finally:
            last.write_bytes(whole)
        assert {each for _, _, each in runs} == {code}, runs
        found[what] = {
            "median s": round(statistics.median(wall for wall, _, _ in runs), 2),
            "slowest s": round(max(wall for wall, _, _ in runs), 2),
            "median processor s": round(statistics.median(used for _, used, _ in runs), 2),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
