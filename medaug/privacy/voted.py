"""What `dp_vote` leaves: a population of a simulator's parameters, and how to draw from it.

The folder holds ``generator.safetensors`` (the population and nothing else, a product of noisy
votes) and ``config.json`` with the record, which lists patient tokens and stays where the patients'
data are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from medaug.atomic import replacing, write_json
from medaug.domain import Drawn, PatchSet, PatientKey, TrainingRecord
from medaug.errors import Fault, RunFolderError

WEIGHTS = "generator.safetensors"
CONFIG = "config.json"
_TENSOR = "population"
_NOTE = (
    "No network was trained: patients voted, under noise, on the parameters that lesions are "
    "rendered with."
)


Render = Callable[
    [str, NDArray[np.float64], Sequence[int]], tuple[NDArray[np.float32], NDArray[np.bool_]]
]
"""The simulator: (class, parameters (patch, parameter), seeds) → images and masks."""


@dataclass(frozen=True, eq=False)
class VotedGenerator:
    """A `medaug.domain.Sampler` whose only knowledge of patients came through noisy votes.

    Attributes:
        classes: what it can draw.
        population: (class, candidate, parameter) in [0, 1].
        render: the public simulator.
        record: who voted; internal.
    """

    classes: tuple[str, ...]
    population: NDArray[np.float64]
    render: Render
    record: TrainingRecord

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        """One patch per seed with its mask; a seed gives the same patch in any company."""
        at = self.classes.index(label)
        of_class = self.population[at]
        rows = [
            int(np.random.default_rng((at, int(seed))).integers(len(of_class))) for seed in seeds
        ]
        return Drawn(*self.render(label, of_class[rows], seeds))


def save_voted(
    folder: Path,
    population: NDArray[np.float64],
    training: PatchSet,
    settings: dict[str, Any],
    seed: int,
    notes: Sequence[str] = (),
) -> None:
    """Write the population, then ``config.json``, whose presence says that the votes are cast.

    Args:
        folder: of the generator.
        population: (class, candidate, parameter).
        training: whose patients voted.
        settings: as resolved, JSON.
        seed: of everything that was public.
        notes: what a reader of the report must know beside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS) as temporary:
        save_file({_TENSOR: np.ascontiguousarray(population)}, temporary)
    config = {
        "classes": list(training.classes),
        "settings": settings,
        "notes": [_NOTE, *notes],
        "record": {
            "patients": sorted(key.token for key in training.patient_order),
            "patches_digest": training.digest,
            "weights_digest": _sha256(folder / WEIGHTS),
            "seed": seed,
            "patients_known": training.patients_known,
        },
    }
    write_json(folder / CONFIG, config)


def load_voted(folder: Path, render: Render) -> VotedGenerator:
    """Open the folder that `save_voted` left; ``render`` is the simulator that was voted on.

    Raises:
        RunFolderError: nothing complete is there, or the population is another.
    """
    path, weights = folder / CONFIG, folder / WEIGHTS
    if not path.is_file():
        raise RunFolderError(
            Fault(CONFIG, "not there", action="run the station train into this folder first")
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    record = config["record"]
    if not weights.is_file() or _sha256(weights) != record["weights_digest"]:
        raise RunFolderError(
            Fault(
                WEIGHTS,
                "missing, or not the population that config.json was written for",
                "the file as it was left",
                "restore both files, or vote again in an empty folder, which costs again",
            )
        )
    return VotedGenerator(
        classes=tuple(config["classes"]),
        population=load_file(weights)[_TENSOR],
        render=render,
        record=TrainingRecord(
            patients=frozenset(map(PatientKey, record["patients"])),
            patches_digest=record["patches_digest"],
            weights_digest=record["weights_digest"],
            settings=config["settings"],
            seed=record["seed"],
            images_shown=0,
            patients_known=record["patients_known"],
        ),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
