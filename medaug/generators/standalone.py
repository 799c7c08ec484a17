"""Draws synthetic lesion patches from a shared generator. Stands alone: NumPy, torch, safetensors.

medaug copies this file as it is into what it shares (a MONAI Bundle, a package for medigan), so
that whoever receives it needs no medaug. The network is the one that medaug trains.

Not for diagnostic use. What is drawn here went through no check: those of a release were made on
the release's own samples, not on these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

NOTICE = "SYNTHETIC - NOT FOR DIAGNOSTIC USE"
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_CHUNK = {2: 32, 3: 8}  # patches at a time, the last chunk padded: a seed's rounding stays the same
_MOST = 2.5  # standard deviations of log diameter beyond which no size is drawn


class Generator(nn.Module):
    """Latent and class → patch in [-1, 1]: a ladder of transposed convolutions (a DCGAN).

    Args:
        side: of the patch.
        channels: that are drawn, the mask among them.
        classes: told apart by a one-hot vector beside the latent.
        inputs: numbers of the latent.
        width: channels below the patch.
        kernel: 4 or 5.
        slope: of the LeakyReLU.
        dims: 2 or 3.
    """

    def __init__(
        self,
        side: int,
        channels: int,
        classes: int,
        inputs: int,
        width: int,
        kernel: int,
        slope: float,
        dims: int = 2,
    ) -> None:
        super().__init__()
        start, rungs = side, 0
        while start >= 8 and start % 2 == 0:
            start, rungs = start // 2, rungs + 1
        self.start, self.dims, self.inputs = start, dims, inputs
        self.classes = classes if classes > 1 else 0
        sizes = [width * min(2**rung, 8) for rung in reversed(range(rungs))]
        self.first = nn.Linear(inputs + self.classes, sizes[0] * start**dims, bias=False)
        layers: list[nn.Module] = []
        for size, after in zip(sizes, [*sizes[1:], channels], strict=True):
            layers += [
                _NORM[dims](size),
                nn.LeakyReLU(slope, inplace=True),
                _TRANSPOSED[dims](size, after, kernel, 2, (kernel - 1) // 2, kernel % 2),
            ]
        self.rungs = nn.Sequential(*layers)

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """(n, inputs) and (n,) int64 → (n, channel, [slice,] row, column) in [-1, 1]."""
        if self.classes:
            one_hot = nn.functional.one_hot(labels, self.classes).to(latent.dtype)
            latent = torch.cat([latent, one_hot], dim=1)
        square = self.first(latent).unflatten(1, (-1, *[self.start] * self.dims))
        return torch.tanh(self.rungs(square))


class Sampler:
    """A shared generator, opened.

    Args:
        weights: ``generator.safetensors``.
        described: ``generator.json``.
        device: "cpu", "cuda"…; by default CUDA where there is one.
    """

    def __init__(
        self, weights: str | Path, described: str | Path, device: str | torch.device | None = None
    ) -> None:
        how: dict[str, Any] = json.loads(Path(described).read_text(encoding="utf-8"))
        self.how, self.classes = how, tuple(how["classes"])
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.shape = tuple(how["shape"])
        self.networks = _networks(load_file(weights), how, self.device)

    def draw(self, label: str | None, seeds: Sequence[int]) -> dict[str, NDArray[Any]]:
        """One patch per seed (not negative); a seed gives the same patch in any company.

        Args:
            label: the class; the first one where None.
            seeds: one per patch.

        Returns:
            ``images`` (sample, channel, [slice,] row, column) float32 in the unit that
            ``generator.json`` names, and ``masks`` (sample, [slice,] row, column) uint8 where masks
            are drawn.

        Raises:
            ValueError: for a class that it does not draw.
        """
        label = self.classes[0] if label is None else label
        if label not in self.classes:
            raise ValueError(f"class {label!r}: expected one of {', '.join(self.classes)}")
        at, own = self.classes.index(label), len(self.networks) > 1
        noise = np.stack([self._latent(at, int(seed)) for seed in seeds]) if len(seeds) else None
        signed = self._signed(self.networks[at if own else 0], noise, 0 if own else at)
        low, high = self.how["window"]
        drawn: dict[str, NDArray[Any]] = {}
        if self.how["draws_masks"]:
            drawn["masks"] = (signed[:, -1] > 0).astype(np.uint8)
            signed = signed[:, :-1]
        drawn["images"] = ((signed + 1.0) * ((high - low) / 2.0) + low).astype(np.float32)
        return drawn

    def write(
        self, label: str | None, count: int, first_seed: int, folder: str | Path
    ) -> list[str]:
        """Draw ``count`` patches of each class, or of ``label``; write ``<class number>.npz``.

        An NPZ holds what `draw` gives, ``label``, ``seeds``, ``unit`` and ``notice``.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        seeds = list(range(first_seed, first_seed + count))
        written = []
        for name in self.classes if label is None else (label,):
            path = place / f"{self.classes.index(name)}.npz"
            said = {"label": name, "seeds": seeds, "unit": self.how["unit"], "notice": NOTICE}
            fields: dict[str, Any] = {**said, **self.draw(name, seeds)}
            np.savez_compressed(path, **fields)
            written.append(str(path))
        return written

    def _latent(self, at: int, seed: int) -> NDArray[np.float32]:
        rng = np.random.default_rng((at, seed))
        size = (1, int(self.how["latent"]))
        noise = (
            rng.uniform(-1, 1, size).astype(np.float32)
            if self.how["latent_noise"] == "uniform"
            else rng.standard_normal(size, dtype=np.float32)
        )
        if self.how["condition_on_size"]:
            sized = rng.standard_normal((1, 1), dtype=np.float32).clip(-_MOST, _MOST)
            noise = np.hstack([noise, sized])
        return np.asarray(noise[0], np.float32)

    def _signed(
        self, network: Generator, noise: NDArray[np.float32] | None, label: int
    ) -> NDArray[np.float32]:
        channels, *sides = self.shape
        shape = (channels + bool(self.how["draws_masks"]), *sides)
        if noise is None:
            return np.zeros((0, *shape), np.float32)
        chunk = _CHUNK[network.dims]
        labels = torch.full((chunk,), label, device=self.device)
        padded = np.zeros((-(-len(noise) // chunk) * chunk, noise.shape[1]), np.float32)
        padded[: len(noise)] = noise
        with torch.inference_mode():
            parts = [
                network(torch.from_numpy(part).to(self.device), labels).cpu().numpy()
                for part in padded.reshape(-1, chunk, noise.shape[1])
            ]
        return np.ascontiguousarray(np.concatenate(parts)[: len(noise)].reshape(-1, *shape))


def _networks(
    tensors: Mapping[str, Tensor], how: Mapping[str, Any], device: torch.device
) -> list[Generator]:
    channels, *sides = how["shape"]
    one_per_class = how["one_per_class"]
    networks = []
    for index in range(len(how["classes"]) if one_per_class else 1):
        network = Generator(
            side=sides[-1],
            channels=channels + bool(how["draws_masks"]),
            classes=1 if one_per_class else len(how["classes"]),
            inputs=how["latent"] + bool(how["condition_on_size"]),
            width=how["width"],
            kernel=how["kernel"],
            slope=how["slope"],
            dims=len(sides),
        )
        mine = f"{index}."
        state = {
            name.removeprefix(mine): value
            for name, value in tensors.items()
            if name.startswith(mine)
        }
        network.load_state_dict(state)
        networks.append(network.to(device).requires_grad_(False).eval())
    return networks
