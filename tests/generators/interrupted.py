"""Run in a process of its own by test_resume: trains, and kills itself where it is told to.

Arguments: folder, preset, kind of death ("step" or "writing"), and the step or the checkpoint
at which to die.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from medaug.domain import PatchLocation, PatchSet, PatientKey, Unit
from medaug.generators import checkpoint
from medaug.generators.evidence import Tuning
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import TrainedGenerator
from medaug.generators.training import train_generator
from medaug.progress import Progress


def patches(seed: int = 5) -> PatchSet:
    rng = np.random.default_rng(seed)
    labels = np.arange(20) % 2
    level = np.where(labels, 60, 10)[:, None, None, None]
    return PatchSet(
        images=(level + rng.normal(0, 30, (20, 1, 32, 32))).astype(np.float32),
        masks=None,
        labels=labels,
        classes=("cyst", "metastasis"),
        patients=tuple(PatientKey(f"{row:032x}") for row in range(20)),
        locations=tuple(
            PatchLocation("case", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 0.75) for row in range(20)
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


def settings(preset: str) -> GeneratorSettings:
    small = {"width": 4, "latent": 8, "batch": 6, "images": 120, "penalty_every": 3}
    often = {"checkpoint_every": 6, "log_every": 4, "device": "cpu"}
    often |= {"judge_every": 5, "memorised_below": 0.0, "least_diversity": 0.0}
    often |= {"min_patients": 1}
    return GeneratorSettings(preset=preset, window=(-100, 250), **small, **often)


def tuning() -> Tuning:
    """A distance under which the last weights are not the best."""
    return Tuning(patches(6), dict.fromkeys(patches().classes, lambda images: float(images.std())))


def train(folder: Path, preset: str, progress: Progress | None = None) -> TrainedGenerator:
    return train_generator(patches(), settings(preset), 3, folder, progress, tuning=tuning())


class Deadly:
    """A Progress that ends the process at a step."""

    def __init__(self, step: int, death: int | type[BaseException]) -> None:
        self.left, self.death = step, death

    def start(self, what: str, total: int, unit: str = "") -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:  # noqa: ARG002 the protocol has it
        self.left -= steps
        if self.left == 0:
            if not isinstance(self.death, int):
                raise self.death
            os.kill(os.getpid(), self.death)


def main() -> None:
    folder, preset, kind, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    if kind == "step":
        train(folder, preset, Deadly(at, signal.SIGKILL))
    written = 0

    def die_half_way(_tensors: object, path: Path, **_: object) -> None:
        nonlocal written
        written += 1
        if written == at:
            path.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        whole(_tensors, path, **_)

    whole, checkpoint.save_file = checkpoint.save_file, die_half_way
    train(folder, preset)


if __name__ == "__main__":
    main()
