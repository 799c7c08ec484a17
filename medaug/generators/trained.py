"""A generator that has been trained: open it, draw from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from medaug.atomic import replacing, write_json
from medaug.domain import Ancestor, Drawn, PatchSet
from medaug.generators.adversaries import latents
from medaug.generators.checkpoint import below
from medaug.generators.folder import CONFIG, WEIGHTS, Described, read_folder, sha256
from medaug.generators.masks import from_channels
from medaug.generators.networks import Generator, place
from medaug.generators.settings import GeneratorSettings, RefinerSettings

# Patches are always computed this many at a time, the last chunk padded: the rounding of a
# matrix product may depend on its size, and a seed must give the same bits in any company.
_CHUNK = 32


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedGenerator(Described):
    """A `medaug.domain.Sampler` that knows the unit and geometry of what it draws.

    Attributes:
        settings: as resolved.
    """

    settings: GeneratorSettings
    _networks: tuple[Generator, ...] = field(default=(), repr=False)

    def sample(self, label: str, seeds: Sequence[int]) -> NDArray[np.float32]:
        """The images of `draw`: (sample, channel, row, column) float32 in `unit`."""
        return self.draw(label, seeds).images

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        """One patch per seed (not negative), in `unit`, with its mask if it was trained to.

        A seed gives the same bits whatever the other seeds in the call. One seed gives
        unrelated patches in two classes. A drawn mask may be empty; the gate turns those away.

        Raises:
            ValueError: for a class that it was not trained on.
        """
        at = self.position(label)
        noise = np.zeros((len(seeds), self.settings.latent), np.float32)
        for row, seed in enumerate(seeds):
            noise[row] = latents(1, self.settings, np.random.default_rng((at, int(seed))))[0]
        own = self.settings.one_per_class
        signed = draw(self._networks[at if own else 0], noise, 0 if own else at)
        channels, *sides = self.shape
        signed = signed.reshape(-1, channels + self.settings.draws_masks, *sides)
        return from_channels(signed, self.settings, self.window)


def draw(network: Generator, noise: NDArray[np.float32], condition: int) -> NDArray[np.float32]:
    """Signed patches (n, channel, row, column) of one class for latents (n, latent)."""
    device = next(network.parameters()).device
    labels = torch.full((_CHUNK,), condition, device=device)
    padded = np.zeros((-(-len(noise) // _CHUNK), _CHUNK, noise.shape[1]), np.float32)
    padded.reshape(-1, noise.shape[1])[: len(noise)] = noise
    with torch.inference_mode():
        chunks = [
            network(torch.from_numpy(part).to(device), labels).cpu().contiguous().numpy()
            for part in padded
        ]
    return np.concatenate(chunks)[: len(noise)] if chunks else np.zeros(0, np.float32)


def save_generator(
    folder: Path,
    networks: Sequence[Mapping[str, Tensor]],
    training: PatchSet,
    settings: GeneratorSettings | RefinerSettings,
    seed: int,
    identity: Mapping[str, str],
    images_shown: int,
    notes: Sequence[str],
    kept_steps: Sequence[int],
    ancestors: Sequence[Ancestor] = (),
) -> None:
    """Write the weights, then ``config.json``, whose presence says that training is complete."""
    weights = {
        f"{index}.{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for index, network in enumerate(networks)
        for name, value in network.items()
    }
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "medaug generator 1"})
    sizes = Counter(place.mm_per_pixel for place in training.locations)
    config = {
        "classes": list(training.classes),
        "shape": list(training.images.shape[1:]),
        "window": list(settings.window),
        "unit": training.unit.value,
        "modality": training.modality,
        "mm_per_pixel": sizes.most_common(1)[0][0],
        # Where the weights that it began from lie is no part of it; their digest is below.
        "settings": settings.model_dump(mode="json", exclude={"init", "init_is_public"}),
        "notes": list(notes),
        "kept_steps": list(kept_steps),
        "identity": dict(identity),
        "record": {
            "patients": sorted(
                key.token
                for key in frozenset(training.patients).union(*(one.patients for one in ancestors))
            ),
            "patches_digest": training.digest,
            "weights_digest": sha256(folder / WEIGHTS),
            "seed": seed,
            "images_shown": images_shown,
            "patients_known": training.patients_known,
            "ancestors": [
                vars(one) | {"patients": sorted(key.token for key in one.patients)}
                for one in ancestors
            ],
        },
    }
    write_json(folder / CONFIG, config)


def load_generator(folder: Path) -> TrainedGenerator:
    """Open the folder that `training.train_generator` left.

    Raises:
        RunFolderError: nothing complete is there, or the weights are not those that
            ``config.json`` speaks of.
    """
    config, described = read_folder(folder)
    settings = GeneratorSettings.model_validate(config["settings"])
    channels, *sides = described["shape"]
    networks = _read_networks(
        folder / WEIGHTS,
        sides[-1],
        channels + settings.draws_masks,
        len(described["classes"]),
        settings,
    )
    return TrainedGenerator(**described, settings=settings, _networks=networks)


def _read_networks(
    path: Path, side: int, channels: int, classes: int, settings: GeneratorSettings
) -> tuple[Generator, ...]:
    tensors = load_file(path)
    count, conditions = (classes, 1) if settings.one_per_class else (1, classes)
    networks = []
    for index in range(count):
        with torch.device("meta"):
            network = Generator(side, channels, conditions, settings)
        network.load_state_dict(below(f"{index}.", tensors), assign=True)
        place(network, torch.device("cpu"))
        networks.append(network.requires_grad_(False).eval())
    return tuple(networks)
