r"""Make rendered patches look real: a refiner, and one step of its game (Shrivastava et al. [1]_).

The refiner R is a fully convolutional residual network; it gets a rendered patch x and gives back
one of the same shape, so that label and mask of x hold for R(x). It plays against a discriminator
that judges each small region on its own and knows the class, and pays for every change it makes:

.. math:: L_R = L_{adv}(R(x)) + \lambda \, \overline{|R(x) - x|}

Differences from the paper. Beside x, R gets a plane of white noise: what a scanner adds by chance
cannot be had from a smooth rendering alone. R begins as the identity (its last layer is zero), so
that nothing need be learnt before the game starts. The two play for the relativistic loss over
pairs of regions, with R1 on the discriminator, as the `small-data` preset does: only differences
of logits count, so that the refiner still learns which change helps where the discriminator is
certain of every patch. Both players' patches are augmented, since there are few real ones.

.. [1] Shrivastava et al. 2017, Learning from simulated and unsupervised images through adversarial
   training, arXiv:1612.07828
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from medaug.generators import augmentation
from medaug.generators.image_history import ImageHistory
from medaug.generators.learning import Learning, make_ready
from medaug.generators.losses import discriminator_loss, generator_loss, gradient_penalty
from medaug.generators.settings import RefinerSettings

_SLOPE = 0.2
# Always this many at a time, as in `trained.draw`: a patch has the same bits in any company.
_CHUNK = 32


def _convolution(before: int, after: int) -> nn.Conv2d:
    """3 x 3; mirrored at the border, which zeros would leave visible as a frame."""
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")


class _Block(nn.Module):
    """Two convolutions beside a straight way through ([1]_, section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = _convolution(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """(n, width, row, column) → the same shape."""
        return leaky_relu(features + self.second(leaky_relu(self.first(features), _SLOPE)), _SLOPE)


class Refiner(nn.Module):
    """Rendered patch and noise → refined patch; patches are in [-1, 1] and of any size."""

    def __init__(self, channels: int, settings: RefinerSettings) -> None:
        super().__init__()
        width = settings.width
        self.first = _convolution(channels + 1, width)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(settings.blocks)))
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """(n, channel, row, column) and (n, 1, row, column) → the shape of the first."""
        features = self.first(torch.cat([images, noise], dim=1))
        features = self.blocks(leaky_relu(features, _SLOPE))
        refined: Tensor = images + self.last(features)
        return refined.clamp(-1, 1)


class LocalDiscriminator(nn.Module):
    """Patch and class → logits (n, row / 4, column / 4), each of a region of 18 x 18 pixels."""

    def __init__(self, channels: int, classes: int, settings: RefinerSettings) -> None:
        super().__init__()
        width = settings.width
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.LeakyReLU(_SLOPE),
        )
        self.last = nn.Conv2d(4 * width, 1, 1)
        self.of_class = nn.Embedding(classes, 4 * width)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """(n, channel, row, column) and (n,) → (n, row / 4, column / 4)."""
        features = self.features(images)
        logits: Tensor = self.last(features)[:, 0]
        return logits + torch.einsum("nc,ncij->nij", self.of_class(labels), features)


class Refining:
    """Both networks, the averaged refiner, the image history and the optimisers."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        settings: RefinerSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        self.settings, self.device = settings, device
        with torch.device("meta"):  # no draw from torch's global stream
            self.refiner = Refiner(shape[0], settings)
            self.discriminator = LocalDiscriminator(shape[0], classes, settings)
        make_ready([self.refiner, self.discriminator], seed, device)
        nn.init.zeros_(self.refiner.last.weight)
        self.learning = Learning("refiner", self.refiner, self.discriminator, settings)
        self.history = ImageHistory.empty(settings.history, shape, device)

    @property
    def average(self) -> Refiner:
        """The averaged refiner."""
        return self.learning.average

    def step(
        self, step: int, real: Tensor, rendered: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> tuple[float, float, float]:
        """One update of the discriminator, then one of the refiner.

        Args:
            step: number of the step, from 0.
            real: (patch, channel, row, column) in [-1, 1].
            rendered: the same shape.
            labels: (patch,) the classes of both.
            rng: all chance of this step.

        Returns:
            Loss of the discriminator (without penalty), adversarial loss of the refiner, and mean
            absolute change of a pixel in [-1, 1] by the refiner.
        """
        refined = self.refiner(rendered, torch.from_numpy(planes(rendered, rng)).to(self.device))
        loss_d = self._judge(step, real, refined.detach(), labels, rng)
        with torch.no_grad():
            of_real = self.discriminator(self._augmented(real, rng), labels)
        of_refined = self.discriminator(self._augmented(refined, rng), labels)
        loss_r = generator_loss("relativistic", of_real, of_refined)
        change = (refined - rendered).abs().mean()
        self._update("refiner", loss_r + self.settings.self_regularisation * change)
        self.learning.follow(step)
        return loss_d, loss_r.item(), change.item()

    def _judge(
        self, step: int, real: Tensor, refined: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> float:
        settings = self.settings
        fake, of_fake = self.history.mix(refined, labels, rng)
        seen = self._augmented(real, rng)
        punish = settings.penalty > 0 and step % settings.penalty_every == 0
        seen.requires_grad_(punish)
        real_logits = self.discriminator(seen, labels)
        fake_logits = self.discriminator(self._augmented(fake, rng), of_fake)
        loss = discriminator_loss("relativistic", real_logits, fake_logits)
        total = loss
        if punish:
            penalty, _ = gradient_penalty(real_logits.mean((1, 2)), seen)
            total = loss + settings.penalty * settings.penalty_every * penalty
        self._update("discriminator", total)
        return loss.item()

    def _augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        if not self.settings.augment:
            return images.clone()
        what = augmentation.draw(len(images), images.shape[-1], self.settings.augment, rng)
        return augmentation.apply(images, what)

    def _update(self, name: str, loss: Tensor) -> None:
        network = {"refiner": self.refiner, "discriminator": self.discriminator}[name]
        self.learning.apply(name, torch.autograd.grad(loss, list(network.parameters())))

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        history = {"history.images": self.history.images, "history.labels": self.history.labels}
        return {**self.learning.state(), **history}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.learning.restore(tensors)
        images, labels = (tensors[f"history.{key}"].to(self.device) for key in ("images", "labels"))
        self.history = ImageHistory(self.settings.history, images, labels)


def planes(like: Tensor | NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """White noise (n, 1, row, column) for patches (n, channel, row, column)."""
    count, _, rows, columns = like.shape
    return rng.standard_normal((count, 1, rows, columns), dtype=np.float32)


def refine(
    network: Refiner, signed: NDArray[np.float32], noise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Refined patches (n, channel, row, column) for rendered ones, both in [-1, 1].

    Args:
        network: the refiner.
        signed: rendered patches.
        noise: (n, 1, row, column), as `planes` gives it.
    """
    device = next(network.parameters()).device
    both = np.concatenate([signed, noise], axis=1)
    parts = [signed[:0]]
    with torch.inference_mode():
        for start in range(0, len(both), _CHUNK):
            part = both[start : start + _CHUNK]
            padded = torch.zeros(_CHUNK, *both.shape[1:])
            padded[: len(part)] = torch.from_numpy(part)
            padded = padded.to(device)
            whole = network(padded[:, :-1], padded[:, -1:]).cpu().contiguous().numpy()
            parts.append(whole[: len(part)])
    return np.concatenate(parts)
