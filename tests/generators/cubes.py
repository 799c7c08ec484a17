"""Small lesion-like cubes in HU, as a run in a process of its own makes them too.

Run with a folder and a step as arguments it trains, and kills itself at that step.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from medaug.domain import PatchLocation, PatchSet, PatientKey, Unit
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import TrainedGenerator
from medaug.generators.training import train_generator
from medaug.progress import Progress


def balls(count: int = 16, side: int = 32, dims: int = 3, radius_mm: float = 5.3) -> PatchSet:
    """A ball, or a disc, in noise, darker in the first class; with mask and diameter."""
    rng = np.random.default_rng(7)
    at = np.indices([side] * dims) - (side - 1) / 2
    labels = np.arange(count) % 2
    radius = np.exp(rng.normal(np.log(radius_mm), 0.3, count)).clip(2, side / 2.2)
    masks = np.linalg.norm(at, axis=0) <= radius[:, *[None] * dims]
    level = np.where(labels == 0, -60, 20)[:, *[None] * dims]
    images = np.where(masks, level, 110) + rng.normal(0, 10, masks.shape)
    return PatchSet(
        images=images[:, None].astype(np.float32),
        masks=masks,
        labels=labels.astype(np.int64),
        classes=("cyst", "metastasis"),
        patients=tuple(PatientKey(f"{row:032x}") for row in range(count)),
        locations=tuple(
            PatchLocation("case", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 1.0, 1.0, float(diameter))
            for row, diameter in enumerate(2 * radius)
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


def settings(**own: object) -> GeneratorSettings:
    small: dict[str, object] = {"width": 4, "latent": 8, "batch": 4, "images": 16, "device": "cpu"}
    often = {"checkpoint_every": 2, "log_every": 500, "penalty_every": 2, "least_diversity": 0}
    often |= {"min_patients": 1}
    return GeneratorSettings(
        **{"window": (-100, 250), "outputs": ("image", "mask"), **small, **often, **own}
    )


def train(folder: Path, progress: Progress | None = None) -> TrainedGenerator:
    return train_generator(balls(), settings(condition_on_size=True), 3, folder, progress)


class _Deadly:
    def __init__(self, step: int) -> None:
        self.left = step

    def start(self, what: str, total: int, unit: str = "") -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:  # noqa: ARG002 the protocol has it
        self.left -= steps
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train(Path(sys.argv[1]), _Deadly(int(sys.argv[2])))
