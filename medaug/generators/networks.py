"""The two networks: a DCGAN [1]_ for any patch size, with classes by projection [2]_.

Both are ladders of strided convolutions between the patch and a small square of `start` pixels:
64 → 4, 48 → 6, 256 → 4. Channels double at each halving, up to eight times the width. In 3-D
the same ladder is made of convolutions in three dimensions (Wu et al. [3]_).

A condition is a class, or a class and a size (see `medaug.generators.sizes`).

>>> ladder(64), ladder(48), ladder(256)
((4, 4), (6, 3), (4, 6))

.. [1] Radford, Metz, Chintala 2015, arXiv:1511.06434
.. [2] Miyato, Koyama 2018, arXiv:1802.05637
.. [3] Wu et al. 2016, Learning a probabilistic latent space of object shapes via 3D
   generative-adversarial modeling, arXiv:1610.07584
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medaug.generators import thin
from medaug.generators.settings import GeneratorSettings
from medaug.generators.sizes import sizes_of

SIZES = {2: tuple(range(32, 257, 8)), 3: tuple(range(32, 65, 8))}
"""Supported sides of a patch, by spatial dimensions."""
_CONVOLUTION: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_NORM: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_SLOPE = 0.2  # of the discriminator's LeakyReLU, in every preset's paper


def ladder(side: int) -> tuple[int, int]:
    """(start, rungs): the side of the smallest square and the number of doublings from there."""
    rungs = 0
    while side >= 8 and side % 2 == 0:
        side, rungs = side // 2, rungs + 1
    return side, rungs


def _channels(width: int, rungs: int) -> list[int]:
    """Channels from the smallest square up to half the patch size."""
    return [width * min(2**rung, 8) for rung in reversed(range(rungs))]


class Generator(nn.Module):
    """Latent and class → patch.

    The class enters as a one-hot vector beside the latent; with a single class there is none. A
    size, where there is one, is the latent's last number.
    """

    def __init__(
        self, side: int, channels: int, classes: int, settings: GeneratorSettings, dims: int = 2
    ) -> None:
        super().__init__()
        self.start, rungs = ladder(side)
        self.dims = dims
        self.classes = classes if classes > 1 else 0
        sizes = _channels(settings.width, rungs)
        kernel, slope = settings.kernel, settings.generator_slope
        inputs = settings.latent + settings.condition_on_size + self.classes
        self.first = nn.Linear(inputs, sizes[0] * self.start**dims, bias=False)
        layers: list[nn.Module] = []
        for size, after in zip(sizes, [*sizes[1:], channels], strict=True):
            layers += [
                _NORM[dims](size),
                nn.LeakyReLU(slope, inplace=True),
                # Both kernel sizes double the side exactly.
                _TRANSPOSED[dims](size, after, kernel, 2, (kernel - 1) // 2, kernel % 2),
            ]
        self.rungs = nn.Sequential(*layers)

    def forward(self, latent: Tensor, conditions: Tensor) -> Tensor:
        """(n, latent) and (n,) or (n, 2) → (n, channel, [slice,] row, column) in [-1, 1]."""
        labels, sizes = sizes_of(conditions)
        if sizes is not None:
            latent = torch.cat([latent[:, :-1], sizes[:, None]], dim=1)
        if self.classes:
            one_hot = functional.one_hot(labels, self.classes).to(latent.dtype)
            latent = torch.cat([latent, one_hot], dim=1)
        square = self.first(latent).unflatten(1, (-1, *[self.start] * self.dims))
        return torch.tanh(self.rungs(square))


class Discriminator(nn.Module):
    """Patch and class → one logit: large for real.

    The logit is a linear function of the features plus the features' product with a vector of
    the class (equation 3 of Miyato and Koyama [2]_).
    """

    def __init__(
        self, side: int, channels: int, classes: int, settings: GeneratorSettings, dims: int = 2
    ) -> None:
        super().__init__()
        start, rungs = ladder(side)
        channels += settings.condition_on_size
        sizes = _channels(settings.width, rungs)[::-1]
        kernel, norm = settings.kernel, settings.discriminator_norm == "batch"
        layers: list[nn.Module] = []
        for rung, (before, size) in enumerate(zip([channels, *sizes], sizes, strict=False)):
            layers.append(_CONVOLUTION[dims](before, size, kernel, 2, (kernel - 1) // 2))
            if norm and rung:  # not on the input: Radford 2015, section 3
                layers.append(_NORM[dims](size))
            layers.append(nn.LeakyReLU(_SLOPE, inplace=True))
        self.rungs = nn.Sequential(*layers, nn.Flatten())
        features = sizes[-1] * start**dims
        self.last = nn.Linear(features, 1)
        self.of_class = nn.Embedding(classes, features) if classes > 1 else None

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        """(n, channel, [slice,] row, column) in [-1, 1] and (n,) or (n, 2) → (n,)."""
        labels, sizes = sizes_of(conditions)
        if sizes is not None:
            plane = sizes.view(-1, *[1] * (images.ndim - 1)).expand_as(images[:, :1])
            images = torch.cat([images, plane], dim=1)
        features = self.rungs(images)
        logits: Tensor = self.last(features).squeeze(1)
        if self.of_class is not None:
            logits = logits + (self.of_class(labels) * features).sum(1)
        return logits


def initialise(network: nn.Module, stream: torch.Generator) -> None:
    """Draw every weight anew from ``stream``.

    Beside batch normalisation the weights have standard deviation 0.02 (Radford 2015); a network
    without any would fade out with that and takes He's (2015), which keeps the variance.
    """
    norms = nn.BatchNorm2d | nn.BatchNorm3d
    weighted = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear
    normalised = any(isinstance(module, norms) for module in network.modules())
    for module in network.modules():
        if isinstance(module, norms):
            module.reset_running_stats()
            nn.init.normal_(module.weight, 1.0, 0.02, generator=stream)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)
        elif isinstance(module, weighted):
            if normalised:
                nn.init.normal_(module.weight, 0.0, 0.02, generator=stream)
            else:
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, generator=stream)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def place(network: nn.Module, device: torch.device) -> None:
    """Move to ``device``, channels last in memory: on CPU a sixth faster, in 3-D about twice.

    On CPU in 2-D the convolutions beside the patch are exchanged for their quicker forms too.
    """
    cubes = any(weight.ndim == 5 for weight in network.parameters())
    layout = torch.channels_last_3d if cubes else torch.channels_last
    network.to(device, memory_format=layout)  # type: ignore[call-overload] # no stub
    if device.type == "cpu" and not cubes and isinstance(network, Generator | Discriminator):
        thin.exchange(network.rungs)
