"""Real mammography masses: altered copies are blocked, new patients are not."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import ALTERATIONS, patch_set

from medaug.domain import PatchSet
from medaug.privacy.copies import CopyDetector
from medaug.privacy.pictures import resized

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts(real_data: Callable[[str], Path]) -> tuple[CopyDetector, PatchSet, float]:
    """A detector on 80 patients, its training part, and the share of fresh patients rejected."""
    paths = sorted(real_data("cbis_ddsm_mass_patches").rglob("*.png"))
    numbers = np.array([int(re.search(r"P_(\d+)", path.name)[1]) for path in paths])
    order = np.random.default_rng(0).permutation(np.unique(numbers))

    def part(patients: np.ndarray) -> PatchSet:
        rows = np.flatnonzero(np.isin(numbers, patients))
        images = np.stack([np.asarray(Image.open(paths[row]).convert("F")) for row in rows])
        small = resized(images, 64)[:, None]
        return patch_set(small, np.zeros(len(rows)), numbers[rows], ("mass",))

    training, fresh = part(order[:80]), part(order[160:240])
    detector = CopyDetector.fit(training, part(order[80:160]))
    found = detector.scores(fresh.images).scores > detector.calibration.limit
    rejected = {key for key, copy in zip(fresh.patients, found, strict=True) if copy}
    return detector, training, len(rejected) / len(fresh.patient_order)


def test_new_patients(parts: tuple[CopyDetector, PatchSet, float]) -> None:
    detector, _, rejected = parts
    # 80 patients: four standard errors above the bound is beyond chance.
    bound = detector.calibration.bound
    assert rejected <= bound + 4 * np.sqrt(bound * (1 - bound) / 80)


@pytest.mark.parametrize("how", ALTERATIONS)
def test_altered_copies(parts: tuple[CopyDetector, PatchSet, float], how: str) -> None:
    detector, training, _ = parts
    rng = np.random.default_rng(5)
    rows = rng.choice(len(training), 12, replace=False)
    images = [ALTERATIONS[how](training.images[row, 0].astype(float), rng) for row in rows]
    found = detector.scores(np.stack(images)[:, None].astype(np.float32))
    assert (found.scores > detector.calibration.limit).all()
