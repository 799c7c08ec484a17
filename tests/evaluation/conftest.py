"""A simple simulator of patches and their release, and scores of known truth."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medaug.domain import (
    CheckResult,
    HeldOut,
    PatchSet,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    TrainingRecord,
    Unit,
    Window,
)
from medaug.evaluation.settings import EvaluationSettings

sys.path.insert(0, str(Path(__file__).parent))  # for what stands in ``folding``
WINDOW = Window(-100.0, 200.0)
GENERATOR = "f" * 64
CLASSES = ("cyst", "haemangioma", "metastasis")


def blobs(
    labels: np.ndarray, rng: np.random.Generator, contrast: float = 60.0, size: int = 16
) -> np.ndarray:
    """Patches in HU: class 0 a dark disc, class 1 a bright one, class 2 a dark ring; noise."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    centre = rng.uniform(-2, 2, size=(len(labels), 2, 1, 1))
    radius = np.hypot(rows - centre[:, 0], columns - centre[:, 1])
    disc = radius < size / 4
    ring = disc & (radius > size / 8)
    sign = np.array([-1.0, 1.0, -1.0])[labels][:, None, None]
    shape = np.where((labels == 2)[:, None, None], ring, disc)
    images = 50 + sign * contrast * shape + rng.normal(0, 40, size=disc.shape)
    return images[:, None].astype(np.float32)


def release_of(
    images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] = CLASSES
) -> Release:
    """An approved release of these pictures, made by the generator `GENERATOR`."""
    columns = {
        "pixels": Rescale(1.0, 0.0).store(images),
        "labels": labels.astype(np.int64),
        "classes": classes,
        "rescale": Rescale(1.0, 0.0),
        "unit": Unit.HOUNSFIELD,
        "modality": "CT",
        "mm_per_pixel": 1.0,
    }
    draft = Release.__new__(Release)
    for name, value in columns.items():
        object.__setattr__(draft, name, value)
    policy = ReleasePolicy(per_class=1, checks=("format",))
    passed = (CheckResult("format", True, 0.0, 0.0, 0, "fits"),)
    decision = ReleaseDecision(policy, draft.digest, passed, {}, {}, ())
    return Release(**columns, decision=decision, generator_digest=GENERATOR)


def record_of(patches: PatchSet) -> TrainingRecord:
    return TrainingRecord(
        frozenset(patches.patients), patches.digest, GENERATOR, {}, 0, len(patches)
    )


class Study:
    """Training, tuning and test patches of disjoint patients, and a release."""

    def __init__(
        self,
        make: Callable[..., PatchSet],
        sizes: tuple[int, int, int] = (30, 30, 60),
        classes: int = 3,
        contrast: float = 60.0,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        first = 0
        parts = []
        for size in sizes:
            labels = np.arange(size) % classes
            images = blobs(labels, rng, contrast)
            parts.append(
                make(images, labels, CLASSES[:classes], first + np.arange(size) // classes)
            )
            first += size
        self.training, self.tuning, self.held = parts
        self.test = HeldOut(self.held, lineage=(record_of(self.training),))
        labels = np.arange(90) % classes
        self.release = release_of(blobs(labels, rng, contrast), labels, CLASSES[:classes])


@pytest.fixture
def study(make_patch_set: Callable[..., PatchSet]) -> Callable[..., Study]:
    return lambda **options: Study(make_patch_set, **options)


@pytest.fixture
def quick() -> EvaluationSettings:
    """The cheapest evaluation there can be."""
    return EvaluationSettings(
        classifiers=("frid-adar-2018",), seeds=2, steps=5, batch=12, bootstrap=500, device="cpu"
    )


@pytest.fixture
def make_release() -> Callable[..., Release]:
    return release_of
