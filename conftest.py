"""Keeps the tester's own site key out of the tests, and threads from spinning; a small release."""

import os
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="medaug-tests-")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as medaug.cli sets it


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """``patches`` (real, of 60 patients), ``window`` and ``release_dir``: discs and rings in HU.

    What docs/library.md and the tests of data sets read; nobody's data.
    """
    from medaug.domain import (
        Candidates,
        CheckResult,
        PatchLocation,
        PatchSet,
        PatientKey,
        Release,
        ReleaseDecision,
        ReleasePolicy,
        Rescale,
        TrainingRecord,
        Unit,
        Window,
    )
    from medaug.export.settings import ExportSettings
    from medaug.export.write import write_release

    rng, window = np.random.default_rng(0), Window(-100, 200)
    rows, columns = np.mgrid[:16, :16] - 7.5
    labels = np.arange(90) % 2
    radius = np.hypot(*(each + rng.uniform(-2, 2, (90, 1, 1)) for each in (rows, columns)))
    masks = radius < rng.uniform(3, 5, (90, 1, 1))
    sign = np.array([-1, 1])[labels][:, None, None]
    images = (50 + 60 * sign * masks + rng.normal(0, 30, masks.shape))[:, None].astype(np.float32)
    place = PatchLocation("case", "2.25.1", 0, (0.0, 0.0, 0.0), 1.0)
    patches = PatchSet(
        images=images[:60],
        masks=masks[:60],
        labels=labels[:60],
        classes=("cyst", "metastasis"),
        patients=tuple(PatientKey(f"{at:032x}") for at in range(60)),
        locations=tuple(replace(place, lesion=f"2.25.{at + 1}") for at in range(60)),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )
    candidates = Candidates(
        pixels=Rescale(1.0, 0.0).store(images[60:]),
        labels=labels[60:],
        classes=patches.classes,
        rescale=Rescale(1.0, 0.0),
        unit=Unit.HOUNSFIELD,
        modality="CT",
        mm_per_pixel=1.0,
        masks=masks[60:],
        seeds=np.arange(30),
    )
    policy = ReleasePolicy(per_class=15, checks=("format",))
    passed = (CheckResult("format", True, 0.0, 0.0, 0, "Every sample has the right shape."),)
    counts = dict.fromkeys(patches.classes, 15)
    decision = ReleaseDecision(policy, candidates.digest, passed, counts, counts, ())
    release = Release.of(candidates, decision, generator_digest="f" * 64)
    folder = tmp_path_factory.mktemp("library") / "release"
    write_release(
        release, folder, ExportSettings(formats=("npz",)), name="discs", seed=1, window=window
    )

    def record(seen: PatchSet) -> TrainingRecord:
        return TrainingRecord(frozenset(seen.patients), seen.digest, "f" * 64, {}, 0, len(seen))

    return SimpleNamespace(
        patches=patches, window=window, release=release, release_dir=folder, record=record
    )
