"""A generator that has been trained: open it, draw from it.

The folder holds ``generator.safetensors`` (weights and nothing else: no name, path or patient)
and ``config.json`` (how to read them, and the `TrainingRecord`, which lists patient tokens and
therefore stays where the patients' data are).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from medaug.atomic import replacing, write_json
from medaug.domain import PatientKey, TrainingRecord, Unit, Window
from medaug.errors import Fault, RunFolderError
from medaug.generators.adversaries import latents
from medaug.generators.networks import Generator
from medaug.generators.settings import GeneratorSettings

WEIGHTS = "generator.safetensors"
CONFIG = "config.json"

# Patches are always computed this many at a time, the last chunk padded: the rounding of a
# matrix product may depend on its size, and a seed must give the same bits in any company.
_CHUNK = 32


@dataclass(frozen=True, eq=False)
class TrainedGenerator:
    """A `medaug.domain.Sampler` that knows the unit and geometry of what it draws.

    Attributes:
        classes: what it can draw.
        shape: (channel, row, column) of a patch.
        window: intensities that -1 and 1 stand for.
        unit: of the patches.
        modality: DICOM's word.
        mm_per_pixel: nominal pixel size; 0 where the source has no spacing.
        settings: as resolved.
        record: what it saw.
        notes: sentences that a reader of the report must see, such as a collapse.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    window: Window
    unit: Unit
    modality: str
    mm_per_pixel: float
    settings: GeneratorSettings
    record: TrainingRecord
    notes: tuple[str, ...] = ()
    _networks: tuple[Generator, ...] = field(default=(), repr=False)

    def sample(self, label: str, seeds: Sequence[int]) -> NDArray[np.float32]:
        """One patch per seed (not negative): (sample, channel, row, column) float32 in `unit`.

        A seed gives the same bits whatever the other seeds in the call. One seed gives
        unrelated patches in two classes.

        Raises:
            ValueError: for a class that it was not trained on.
        """
        if label not in self.classes:
            raise ValueError(f"class {label!r}: expected one of {', '.join(self.classes)}")
        at = self.classes.index(label)
        own = self.settings.one_per_class
        network, condition = self._networks[at if own else 0], 0 if own else at
        noise = np.zeros((-(-len(seeds) // _CHUNK) * _CHUNK, self.settings.latent), np.float32)
        for row, seed in enumerate(seeds):
            noise[row] = latents(1, self.settings, np.random.default_rng((at, int(seed))))[0]
        return self.window.from_signed(draw(network, noise, condition)[: len(seeds)])


def draw(network: Generator, noise: NDArray[np.float32], condition: int) -> NDArray[np.float32]:
    """Signed patches (n, channel, row, column) for latents (n, latent); n in whole chunks."""
    device = next(network.parameters()).device
    labels = torch.full((_CHUNK,), condition, device=device)
    with torch.inference_mode():
        chunks = [
            network(torch.from_numpy(part).to(device), labels).cpu().contiguous().numpy()
            for part in np.split(noise, range(_CHUNK, len(noise), _CHUNK))
            if len(part)
        ]
    return np.concatenate(chunks) if chunks else np.zeros((0, *_shape_of(network)), np.float32)


def _shape_of(network: Generator) -> tuple[int, int, int]:
    with torch.inference_mode():
        image = network(*network.example())
    return tuple(image.shape[1:])
