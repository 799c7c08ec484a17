"""A generator and a discriminator, and one step of their game.

All chance in step *t* comes from a stream that is a function of the seed and *t*. A run that
continues from a checkpoint therefore has no generator state to restore, and draws what an
unbroken run would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medaug.generators import augmentation
from medaug.generators.checkpoint import below
from medaug.generators.losses import discriminator_loss, generator_loss, gradient_penalty
from medaug.generators.networks import Discriminator, Generator, initialise, place
from medaug.generators.settings import GeneratorSettings


def latents(
    count: int, settings: GeneratorSettings, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(count, latent) float32: standard normal, or uniform in [-1, 1]."""
    size = (count, settings.latent)
    if settings.latent_noise == "uniform":
        return rng.uniform(-1, 1, size).astype(np.float32)
    return rng.standard_normal(size, dtype=np.float32)


class Adversaries:
    """Both networks, the averaged generator, and the optimisers."""

    def __init__(
        self,
        side: int,
        channels: int,
        classes: int,
        settings: GeneratorSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        self.settings = settings
        self.device = device
        stream = torch.Generator().manual_seed(seed)
        with torch.device("meta"):  # no draw from torch's global stream
            self.generator = Generator(side, channels, classes, settings)
            self.discriminator = Discriminator(side, channels, classes, settings)
        for network in self._trained().values():
            network.to_empty(device="cpu")
            initialise(network, stream)
            place(network, device)
        self.average = deepcopy(self.generator).requires_grad_(False).eval()
        self._optimisers = {
            name: torch.optim.Adam(
                network.parameters(),
                lr=settings.learning_rate,
                betas=(settings.beta1, settings.beta2),
                fused=True,
            )
            for name, network in self._trained().items()
        }

    def _trained(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def step(
        self, step: int, real: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> tuple[float, float]:
        """One update of each network.

        Args:
            step: number of the step, from 0.
            real: (patch, channel, row, column) in [-1, 1].
            labels: (patch,) their classes; the generated patches get the same.
            rng: all chance of this step.

        Returns:
            The losses of the discriminator (without penalties) and of the generator, each
            before its update.
        """
        noise = torch.from_numpy(latents(len(real), self.settings, rng)).to(self.device)
        fake = self.generator(noise, labels)
        loss_d = self._improve_discriminator(step, real, fake.detach(), labels, rng)
        loss_g = self._improve_generator(real, fake, labels, rng)
        self._follow(step)
        return loss_d, loss_g

    def _improve_discriminator(
        self, step: int, real: Tensor, fake: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> float:
        settings = self.settings
        penalised = settings.penalty > 0 and step % settings.penalty_every == 0
        images = self._augmented(torch.cat([real, fake]), rng).requires_grad_(penalised)
        logits = self._judged(images, torch.cat([labels, labels]))
        loss = discriminator_loss(settings.loss, *logits.chunk(2))
        total = loss
        if penalised:
            # The mean over real and fake together is half the sum of R1 and R2.
            weight = 2 * settings.penalty * settings.penalty_every
            total = loss + weight * gradient_penalty(logits, images)
        self._update("discriminator", total)
        return loss.item()

    def _improve_generator(
        self, real: Tensor, fake: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> float:
        fake_logits = self.discriminator(self._augmented(fake, rng), labels)
        real_logits = fake_logits
        if self.settings.loss == "relativistic":
            with torch.no_grad():
                real_logits = self.discriminator(self._augmented(real, rng), labels)
        loss = generator_loss(self.settings.loss, real_logits, fake_logits)
        self._update("generator", loss)
        return loss.item()

    def _augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        if not self.settings.augment:
            return images
        what = augmentation.draw(len(images), images.shape[-1], self.settings.augment, rng)
        return augmentation.apply(images, what)

    def _judged(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits of real patches, then of fake ones; batch statistics never mix the two."""
        if self.settings.discriminator_norm == "none":
            logits: Tensor = self.discriminator(images, labels)
            return logits
        halves = zip(images.chunk(2), labels.chunk(2), strict=True)
        return torch.cat([self.discriminator(*half) for half in halves])

    def _update(self, name: str, loss: Tensor) -> None:
        optimiser = self._optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        # Only this network's gradients: the other's weights need none.
        torch.autograd.backward(loss, inputs=list(self._trained()[name].parameters()))
        optimiser.step()

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the average; its memory grows with the run, so that the first weights fade."""
        decay = min(self.settings.ema, (1 + step) / (10 + step)) if self.settings.ema else 0.0
        now = self.generator.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(now[name], 1 - decay)
            else:
                mean.copy_(now[name])

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        networks = {**self._trained(), "average": self.average}
        tensors = {
            f"{name}.{key}": value
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        }
        for name, optimiser in self._optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"adam.{name}.{index}.{key}": value for key, value in moments.items()}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for name, network in {**self._trained(), "average": self.average}.items():
            network.load_state_dict(below(f"{name}.", tensors))
        for name, optimiser in self._optimisers.items():
            weights = optimiser.param_groups[0]["params"]
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in below(f"adam.{name}.", tensors).items():
                index, moment = key.split(".")
                # A moment lies in memory as its weight does; the step count is a scalar.
                like = torch.empty_like(weights[int(index)]) if value.ndim else value.clone()
                moments.setdefault(int(index), {})[moment] = like.copy_(value)
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
