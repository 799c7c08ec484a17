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
from medaug.generators.sizes import SizeLaw, as_json, from_json, laws_of

# Patches are always computed this many at a time, the last chunk padded: the rounding of a
# matrix product may depend on its size, and a seed must give the same bits in any company.
_CHUNK = {2: 32, 3: 8}


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedGenerator(Described):
    """A `medaug.domain.Sampler` that knows the unit and geometry of what it draws.

    Attributes:
        settings: as resolved.
        sizes: the law of the diameters of each class; empty where size is no condition.
    """

    settings: GeneratorSettings
    sizes: Mapping[str, SizeLaw] = field(default_factory=dict)
    _networks: tuple[Generator, ...] = field(default=(), repr=False)

    def sample(self, label: str, seeds: Sequence[int]) -> NDArray[np.float32]:
        """The images of `draw`: (sample, *shape) float32 in `unit`."""
        return self.draw(label, seeds).images

    def draw(
        self, label: str, seeds: Sequence[int], diameters_mm: Sequence[float] | None = None
    ) -> Drawn:
        """One patch per seed (not negative), in `unit`, with its mask if it was trained to.

        A seed gives the same bits whatever the other seeds in the call. One seed gives
        unrelated patches in two classes. A drawn mask may be empty; the gate turns those away.

        Args:
            label: the class.
            seeds: one per patch.
            diameters_mm: one per patch, where the generator was conditioned on size: about how long
                its lesion is to be, at the nominal size of a pixel. By default the seed decides,
                by the class's law in `sizes`.

        Raises:
            ValueError: for a class that it was not trained on; for a diameter beyond those it was,
                or where size was no condition.
        """
        at = self.position(label)
        inputs = self.settings.latent + self.settings.condition_on_size
        noise = np.zeros((len(seeds), inputs), np.float32)
        for row, seed in enumerate(seeds):
            noise[row] = latents(1, self.settings, np.random.default_rng((at, int(seed))))[0]
        if diameters_mm is not None:
            noise[:, -1] = self._sizes(label, seeds, diameters_mm)
        own = self.settings.one_per_class
        signed = draw(self._networks[at if own else 0], noise, 0 if own else at)
        channels, *sides = self.shape
        signed = signed.reshape(-1, channels + self.settings.draws_masks, *sides)
        return from_channels(signed, self.settings, self.window)

    def _sizes(
        self, label: str, seeds: Sequence[int], diameters_mm: Sequence[float]
    ) -> NDArray[np.float32]:
        if label not in self.sizes:
            raise ValueError("diameters: this generator was trained without condition_on_size")
        if len(diameters_mm) != len(seeds):
            raise ValueError(f"{len(diameters_mm)} diameters for {len(seeds)} seeds")
        low, high = self.sizes[label].range_mm
        beyond = [one for one in diameters_mm if not low <= one <= high]
        if beyond:
            raise ValueError(
                f"a diameter of {beyond[0]:g} mm: class {label} was learnt from {low:.1f} to "
                f"{high:.1f} mm"
            )
        return self.sizes[label].sizes(diameters_mm)


def draw(network: Generator, noise: NDArray[np.float32], condition: int) -> NDArray[np.float32]:
    """Signed patches (n, channel, [slice,] row, column) of one class for latents (n, latent)."""
    device = next(network.parameters()).device
    chunk = _CHUNK[network.dims]
    labels = torch.full((chunk,), condition, device=device)
    padded = np.zeros((-(-len(noise) // chunk), chunk, noise.shape[1]), np.float32)
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
        "sizes": as_json(laws_of(training)) if _conditioned(settings) else {},
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
        sides,
        channels + settings.draws_masks,
        len(described["classes"]),
        settings,
    )
    sizes = from_json(config["sizes"])
    return TrainedGenerator(**described, settings=settings, sizes=sizes, _networks=networks)


def _read_networks(
    path: Path,
    sides: Sequence[int],
    channels: int,
    classes: int,
    settings: GeneratorSettings,
) -> tuple[Generator, ...]:
    tensors = load_file(path)
    count, conditions = (classes, 1) if settings.one_per_class else (1, classes)
    networks = []
    for index in range(count):
        with torch.device("meta"):
            network = Generator(sides[-1], channels, conditions, settings, len(sides))
        network.load_state_dict(below(f"{index}.", tensors), assign=True)
        place(network, torch.device("cpu"))
        networks.append(network.requires_grad_(False).eval())
    return tuple(networks)


def _conditioned(settings: GeneratorSettings | RefinerSettings) -> bool:
    return isinstance(settings, GeneratorSettings) and settings.condition_on_size
