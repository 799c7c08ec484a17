"""A generator and a discriminator, and one step of their game.

All chance in step *t* comes from a stream that is a function of the seed and *t*. A run that
continues from a checkpoint therefore has no generator state to restore, and draws what an
unbroken run would have drawn.

Where no two patches of a batch mix in the discriminator, one pass of it serves both networks: the
logit of a patch depends on that patch alone, so that what the generator needs is the gradient
that the discriminator's loss sends to a generated patch, times the ratio of the two losses'
slopes at its logit. Both are then updated from the same state, at three quarters of the
work of taking turns. With batch normalisation they take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medaug.generators import augmentation
from medaug.generators.checkpoint import below
from medaug.generators.losses import Loss, discriminator_loss, generator_loss, gradient_penalty
from medaug.generators.networks import Discriminator, Generator, initialise, place
from medaug.generators.settings import GeneratorSettings

_TRIFLE = 1e-12
_ADAPT_EVERY = 4  # steps; Karras et al. 2020, section 3
_ADAPT_OVER = 20_000  # images over which the probability could go from 0 to 1
MOST_AUGMENT = 0.8  # beyond it augmented looks leak into the generator (ibid., section 2.2)


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
        # (probability of an augmentation, sum of the overfitting seen since it last changed)
        self.augment = torch.tensor([settings.augment, 0.0], dtype=torch.float64)
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
            real: (patch, channel, row, column) in [-1, 1]; the mask, if any, is the last channel.
            labels: (patch,) their classes; the generated patches get the same.
            rng: all chance of this step.

        Returns:
            The losses of the discriminator (without penalties) and of the generator, each
            before its update.
        """
        noise = torch.from_numpy(latents(len(real), self.settings, rng)).to(self.device)
        fake = self.generator(noise, labels)
        mixes = self.settings.discriminator_norm == "batch"
        play = self._in_turns if mixes else self._together
        losses = play(step, real, fake, labels, rng)
        self._follow(step)
        return losses

    def _together(
        self, step: int, real: Tensor, fake: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> tuple[float, float]:
        settings = self.settings
        drawn = self._augmented(torch.cat([real, fake]), rng)
        images = drawn.detach().requires_grad_()
        logits = self.discriminator(images, torch.cat([labels, labels]))
        loss_d, slope_d = _slope(discriminator_loss, settings.loss, logits)
        loss_g, slope_g = _slope(generator_loss, settings.loss, logits)
        weights = list(self.discriminator.parameters())
        if settings.penalty > 0 and step % settings.penalty_every == 0:
            penalty, gradient = gradient_penalty(logits, images)
            # The mean over real and fake together is half the sum of R1 and R2.
            weight = 2 * settings.penalty * settings.penalty_every
            loss = (logits * slope_d).sum() + weight * penalty
            gradients = torch.autograd.grad(loss, weights)
            pull = gradient.detach() * slope_g.view(-1, 1, 1, 1)
        else:
            *of_weights, sent = torch.autograd.grad(logits, [*weights, images], slope_d)
            gradients = tuple(of_weights)
            pull = sent * (slope_g / slope_d).view(-1, 1, 1, 1)
        pull[: len(real)] = 0
        self._adapt(step, logits.detach())
        self._apply("discriminator", gradients)
        of_generator = list(self.generator.parameters())
        self._apply("generator", torch.autograd.grad(drawn, of_generator, pull))
        return loss_d, loss_g

    def _in_turns(
        self, _: int, real: Tensor, fake: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> tuple[float, float]:
        """The discriminator, then the generator; batch statistics never mix real and fake."""
        loss = self.settings.loss
        images = self._augmented(torch.cat([real, fake.detach()]), rng).chunk(2)
        loss_d = discriminator_loss(loss, *(self.discriminator(half, labels) for half in images))
        weights = list(self.discriminator.parameters())
        self._apply("discriminator", torch.autograd.grad(loss_d, weights))
        fake_logits = self.discriminator(self._augmented(fake, rng), labels)
        real_logits = fake_logits
        if loss == "relativistic":
            with torch.no_grad():
                real_logits = self.discriminator(self._augmented(real, rng), labels)
        loss_g = generator_loss(loss, real_logits, fake_logits)
        weights = list(self.generator.parameters())
        self._apply("generator", torch.autograd.grad(loss_g, weights))
        return loss_d.item(), loss_g.item()

    def _adapt(self, step: int, logits: Tensor) -> None:
        """Augment more while real patches are told from generated ones too well, else less.

        The heuristic of Karras et al. 2020 (section 3, r_t) with the relativistic logit: the mean
        sign of D(x) − D(G(z)), 0 for a discriminator that guesses and 1 for one that knows.
        """
        if not self.settings.augment_target:
            return
        real, fake = logits.chunk(2)
        self.augment[1] += (real - fake).sign().mean().double().cpu()
        if (step + 1) % _ADAPT_EVERY == 0:
            too_well = self.augment[1] / _ADAPT_EVERY > self.settings.augment_target
            stride = _ADAPT_EVERY * len(real) / _ADAPT_OVER
            self.augment[0] += stride if too_well else -stride
            self.augment[0].clamp_(0, MOST_AUGMENT)
            self.augment[1] = 0

    def _augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        probability = self.augment[0].item()
        if not probability:
            return images
        what = augmentation.draw(len(images), images.shape[-1], probability, rng)
        return augmentation.apply(images, what, self.settings.draws_masks)

    def _apply(self, name: str, gradients: Sequence[Tensor]) -> None:
        optimiser = self._optimisers[name]
        for weight, gradient in zip(self._trained()[name].parameters(), gradients, strict=True):
            weight.grad = gradient
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

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
        tensors["augment"] = self.augment
        for name, optimiser in self._optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"adam.{name}.{index}.{key}": value for key, value in moments.items()}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for name, network in {**self._trained(), "average": self.average}.items():
            network.load_state_dict(below(f"{name}.", tensors))
        self.augment = tensors["augment"].clone()
        for name, optimiser in self._optimisers.items():
            weights = optimiser.param_groups[0]["params"]
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in below(f"adam.{name}.", tensors).items():
                index, moment = key.split(".")
                # A moment lies in memory as its weight does; the step count is a scalar.
                like = torch.empty_like(weights[int(index)]) if value.ndim else value.clone()
                moments.setdefault(int(index), {})[moment] = like.copy_(value)
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def _slope(
    loss_of: Callable[[Loss, Tensor, Tensor], Tensor], loss: Loss, logits: Tensor
) -> tuple[float, Tensor]:
    """A loss and its derivative (n,) by the logits of real patches, then of fake ones.

    A slope of nothing is held at a trifle, so that a ratio of two is always a number.
    """
    at = logits.detach().requires_grad_()
    value = loss_of(loss, *at.chunk(2))
    (slope,) = torch.autograd.grad(value, at)
    return value.item(), slope.where(slope.abs() > _TRIFLE, _TRIFLE)
