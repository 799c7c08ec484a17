"""A generator and a discriminator, and one step of their game.

All chance in step *t* comes from a stream that is a function of the seed and *t*. A run that
continues from a checkpoint therefore has no generator state to restore, and draws what an
unbroken run would have drawn.

Both networks are updated from the same state, so that one pass of the discriminator over real and
generated patches serves both. Where no two patches of a batch mix in it, the logit of a patch
depends on that patch alone: what the generator needs is the gradient that the discriminator's
loss sends to a generated patch, times the ratio of the two losses' slopes at its logit. That is
three quarters of the work of taking turns. With batch normalisation the patches mix, and the
generator's gradient is sent back through the same pass once more: five sixths of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medaug.generators import augmentation, spectral
from medaug.generators.learning import Learning, make_ready
from medaug.generators.losses import Loss, discriminator_loss, generator_loss, gradient_penalty
from medaug.generators.networks import Discriminator, Generator
from medaug.generators.processes import ALONE, Processes
from medaug.generators.running import compiled, halved
from medaug.generators.settings import GeneratorSettings
from medaug.generators.sizes import draw_sizes

_TRIFLE = 1e-12
_ADAPT_EVERY = 4  # steps; Karras et al. 2020, section 3
_ADAPT_OVER = 20_000  # images over which the probability could go from 0 to 1
MOST_AUGMENT = 0.8  # beyond it augmented looks leak into the generator (ibid., section 2.2)


def latents(
    count: int, settings: GeneratorSettings, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(count, latent) float32: standard normal, or uniform in [-1, 1].

    Where the generator is conditioned on size, one more number is the size, as `sizes` draws it.
    """
    size = (count, settings.latent)
    if settings.latent_noise == "uniform":
        noise = rng.uniform(-1, 1, size).astype(np.float32)
    else:
        noise = rng.standard_normal(size, dtype=np.float32)
    return np.hstack([noise, draw_sizes(count, rng)]) if settings.condition_on_size else noise


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
        processes: Processes = ALONE,
        dims: int = 2,
    ) -> None:
        self.settings = settings
        self._processes = processes
        self.device = device
        with torch.device("meta"):  # no draw from torch's global stream
            self.generator = Generator(side, channels, classes, settings, dims)
            self.discriminator = Discriminator(side, channels, classes, settings, dims)
        make_ready([self.generator, self.discriminator], seed, device)
        if settings.discriminator_norm == "spectral":
            spectral.bind(self.discriminator, seed)
        self.learning = Learning(
            "generator", self.generator, self.discriminator, settings, processes
        )
        self._halved = halved(settings, device)
        if compiled(settings, device):
            self.generator.compile()
            self.discriminator.compile()
        # Probability of an augmentation, and the overfitting seen since it last changed. The
        # latter is summed where it is seen: a GPU is not waited for in every step.
        self.augment = settings.augment
        self._overfitting = torch.zeros((), dtype=torch.float64, device=device)

    @property
    def average(self) -> Generator:
        """The averaged generator."""
        return self.learning.average

    def step(self, step: int, real: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """One update of the discriminator and, once in ``discriminator_steps``, of the generator.

        Args:
            step: number of the step, from 0.
            real: (patch, channel, [slice,] row, column) in [-1, 1], the part of this process; the
                mask, if any, is the last channel.
            labels: (patch,) their classes, or (patch, 2) classes and sizes, as `sizes` joins them;
                the generated patches get the same.
            rng: all chance of this step.

        Returns:
            (2,) on the device: the losses of the discriminator (without penalties) and of the
            generator, both before the update.
        """
        drawn = latents(len(real) * self._processes.size, self.settings, rng)
        noise = self._processes.part(torch.from_numpy(drawn)).to(self.device)
        with self._casting():
            fake = self.generator(noise, labels)
        mixes = self.settings.discriminator_norm == "batch"
        play = self._mixing if mixes else self._together
        losses = play(step, real, fake.float(), labels, rng)
        self.learning.follow(step)
        return losses

    def _together(
        self, step: int, real: Tensor, fake: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """Every patch is judged alone: one way back through the discriminator serves both."""
        settings = self.settings
        drawn = self._augmented(torch.cat([real, fake]), rng, 2)
        images = drawn.detach().requires_grad_()
        penalised = settings.penalty > 0 and step % settings.penalty_every == 0
        logits = self._judged(images, torch.cat([labels, labels]), eagerly=penalised)
        loss_d, slope_d = _slope(discriminator_loss, settings.loss, logits)
        loss_g, slope_g = _slope(generator_loss, settings.loss, logits)
        weights = list(self.discriminator.parameters())
        if penalised:
            penalty, gradient = gradient_penalty(logits, images)
            # The mean over real and fake together is half the sum of R1 and R2.
            weight = 2 * settings.penalty * settings.penalty_every
            loss = (logits * slope_d).sum() + weight * penalty
            gradients = torch.autograd.grad(loss, weights)
            pull = gradient.detach() * _each(slope_g, images)
        else:
            *of_weights, sent = torch.autograd.grad(logits, [*weights, images], slope_d)
            gradients = tuple(of_weights)
            pull = sent * _each(slope_g / slope_d, images)
        pull[: len(real)] = 0
        self._adapt(step, logits.detach())
        self.learning.apply("discriminator", gradients)
        if self._moves_generator(step):
            of_generator = list(self.generator.parameters())
            self.learning.apply("generator", torch.autograd.grad(drawn, of_generator, pull))
        return torch.stack([loss_d, loss_g])

    def _mixing(
        self, step: int, real: Tensor, fake: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """Patches of a batch mix: a way back for each network. Real and fake never mix."""
        true, drawn = self._augmented(torch.cat([real, fake]), rng, 2).chunk(2)
        logits = torch.cat([self._judged(half, labels) for half in (true.detach(), drawn)])
        loss_d, slope_d = _slope(discriminator_loss, self.settings.loss, logits)
        loss_g, slope_g = _slope(generator_loss, self.settings.loss, logits)
        moves = self._moves_generator(step)
        weights = list(self.discriminator.parameters())
        gradients = torch.autograd.grad(logits, weights, slope_d, retain_graph=moves)
        self._adapt(step, logits.detach())
        if moves:
            weights = list(self.generator.parameters())
            self.learning.apply("generator", torch.autograd.grad(logits, weights, slope_g))
        self.learning.apply("discriminator", gradients)
        return torch.stack([loss_d, loss_g])

    def _judged(self, images: Tensor, labels: Tensor, eagerly: bool = False) -> Tensor:
        """Logits (n,) float32; ``eagerly`` where a gradient will itself be derived."""
        # A compiled graph can be derived once only.
        judge = self.discriminator.forward if eagerly else self.discriminator
        with self._casting():
            logits: Tensor = judge(images, labels)
        return logits.float()

    def _casting(self) -> torch.autocast:
        """Half of the digits for products and sums of them, where that was chosen."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._halved)

    def _moves_generator(self, step: int) -> bool:
        """Whether both networks are updated in this step, or the discriminator alone."""
        return (step + 1) % self.settings.discriminator_steps == 0

    def _adapt(self, step: int, logits: Tensor) -> None:
        """Augment more while real patches are told from generated ones too well, else less.

        The heuristic of Karras et al. 2020 (section 3, r_t) with the relativistic logit: the mean
        sign of D(x) − D(G(z)), 0 for a discriminator that guesses and 1 for one that knows.
        """
        if not self.settings.augment_target:
            return
        real, fake = logits.chunk(2)
        (overfitting,) = self._processes.mean([(real - fake).sign().mean()])
        self._overfitting += overfitting
        if (step + 1) % _ADAPT_EVERY == 0:
            too_well = self._overfitting.item() / _ADAPT_EVERY > self.settings.augment_target
            stride = _ADAPT_EVERY * len(real) * self._processes.size / _ADAPT_OVER
            changed = self.augment + (stride if too_well else -stride)
            self.augment = min(max(changed, 0.0), MOST_AUGMENT)
            self._overfitting.zero_()

    def _augmented(self, images: Tensor, rng: np.random.Generator, groups: int = 1) -> Tensor:
        """Augment ``groups`` parts of a batch (groups * patch, …), drawn for the whole batch."""
        if not self.augment:
            return images
        side, dims = images.shape[-1], images.ndim - 2
        count = len(images) * self._processes.size
        what = augmentation.draw(count, side, self.augment, rng, dims)
        what = replace(
            what, **{name: self._processes.part(of, groups) for name, of in vars(what).items()}
        )
        return augmentation.apply(images, what, self.settings.draws_masks)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        augment = torch.tensor([self.augment, self._overfitting.item()], dtype=torch.float64)
        return {**self.learning.state(), "augment": augment}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.learning.restore(tensors)
        self.augment = tensors["augment"][0].item()
        self._overfitting.fill_(tensors["augment"][1])


def _each(factors: Tensor, images: Tensor) -> Tensor:
    """Factors (n,) so that they multiply ``images`` (n, …)."""
    return factors.view(-1, *[1] * (images.ndim - 1))


def _slope(
    loss_of: Callable[[Loss, Tensor, Tensor], Tensor], loss: Loss, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """A loss and its derivative (n,) by the logits of real patches, then of fake ones.

    A slope of nothing is held at a trifle, so that a ratio of two is always a number.
    """
    at = logits.detach().requires_grad_()
    value = loss_of(loss, *at.chunk(2))
    (slope,) = torch.autograd.grad(value, at)
    return value.detach(), slope.where(slope.abs() > _TRIFLE, _TRIFLE)
