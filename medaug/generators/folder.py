"""The folder of a trained generator, of either kind: what is in it, without opening the weights.

``generator.safetensors`` holds weights and nothing else: no name, path or patient. ``config.json``
says how to read them and what they are made of, and holds the `TrainingRecord`, which lists patient
tokens and therefore stays where the patients' data are. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaug.domain import Ancestor, PatientKey, TrainingRecord, Unit, Window
from medaug.errors import Fault, RunFolderError

WEIGHTS = "generator.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class Described:
    """What is known of a trained generator of either kind.

    Attributes:
        classes: what it can draw.
        shape: (channel, row, column) or (channel, slice, row, column) of a patch's image.
        window: intensities that -1 and 1 stand for.
        unit: of the patches.
        modality: DICOM's word.
        mm_per_pixel: nominal pixel size; 0 where the source has no spacing.
        record: what it saw.
        notes: sentences that a reader of the report must see, such as a collapse.
    """

    classes: tuple[str, ...]
    shape: tuple[int, ...]
    window: Window
    unit: Unit
    modality: str
    mm_per_pixel: float
    record: TrainingRecord
    notes: tuple[str, ...] = ()

    def position(self, label: str) -> int:
        """Of a class among `classes`.

        Raises:
            ValueError: for a class that it was not trained on.
        """
        if label not in self.classes:
            raise ValueError(f"class {label!r}: expected one of {', '.join(self.classes)}")
        return self.classes.index(label)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``config.json`` says, and the fields of `Described`.

    Raises:
        RunFolderError: nothing complete is there, or the weights are not those that
            ``config.json`` speaks of.
    """
    config = _read_config(folder / CONFIG)
    weights, record = folder / WEIGHTS, config["record"]
    if not weights.is_file() or sha256(weights) != record["weights_digest"]:
        raise RunFolderError(
            Fault(
                WEIGHTS,
                "missing, or not the weights that config.json was written for",
                "the file as training left it",
                "restore both files, or train again in an empty folder",
            )
        )
    return config, {
        "classes": tuple(config["classes"]),
        "shape": tuple(config["shape"]),
        "window": Window(*config["window"]),
        "unit": Unit(config["unit"]),
        "modality": config["modality"],
        "mm_per_pixel": config["mm_per_pixel"],
        "record": TrainingRecord(
            patients=frozenset(map(PatientKey, record["patients"])),
            patches_digest=record["patches_digest"],
            weights_digest=record["weights_digest"],
            settings=config["settings"],
            seed=record["seed"],
            images_shown=record["images_shown"],
            patients_known=record["patients_known"],
            # Absent where the run was made before a generator could begin from another.
            ancestors=tuple(map(_ancestor, record.get("ancestors", ()))),
        ),
        "notes": tuple(config["notes"]),
    }


def _ancestor(recorded: dict[str, Any]) -> Ancestor:
    patients = frozenset(map(PatientKey, recorded["patients"]))
    return Ancestor(**{**recorded, "patients": patients})


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(
            Fault(CONFIG, "not there", action="train a generator into this folder first")
        ) from None
    return config
