"""Training a generator with differential privacy per patient: noise on the discriminator [1]_ [2]_.

In each step of the discriminator every patient is in with probability ``rate``, alone and anew; an
empty batch is a legal batch. Of each patient that is in, exactly K patches are taken, and the
gradient of his mean loss is clipped to L2 norm C. The step then follows
``(sum + N(0, σ²C²)) / (rate · n)`` with the public n, never the size of the batch, plus the clipped
gradient of generated patches, which costs nothing: the generator only ever saw what came out of
the noise. It learns once for every few steps of the discriminator (Bie et al. [2]_).

Nothing is stopped, chosen or scaled by looking at patients: no judgement on tuning patients, no
losses on real patches in the log, no batch normalisation in the discriminator (it would mix
patients), no gradient penalty. The discriminator and the optimiser never leave memory. A run that
was killed has left nothing behind and starts over with other noise.

The chance of sampling and noise comes from the operating system's entropy and is thrown away.
torch's Gaussians are floating-point numbers, not hardened against attacks on their rounding.

.. [1] Abadi et al. 2016, arXiv:1607.00133
.. [2] Bie, Kamath, Zhang 2023, Private GANs, revisited, arXiv:2302.02936
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from medaug.domain import PatchSet, Window
from medaug.errors import Fault, SettingsError
from medaug.generators.adversaries import Adversaries, latents
from medaug.generators.checkpoint import identity_of
from medaug.generators.folder import CONFIG
from medaug.generators.masks import channels_of, to_channels
from medaug.generators.refusals import refuse_unfit
from medaug.generators.running import device_of
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import TrainedGenerator, load_generator, save_generator
from medaug.progress import Progress, Silent

LEAST_SIGNAL = 3.0
_UNCHARGED = {
    "least_diversity": "compares with real patches",
    "memorised_below": "compares training with tuning patients",
    "judge_every": "judges by tuning patients",
}
"""Settings that have a default for other modes, and no meaning in this one."""


@dataclass(frozen=True)
class Noisy:
    """The mechanism, in numbers that an accountant gave.

    Attributes:
        sigma: noise in units of ``clip``.
        rate: probability of a patient to be in a step.
        steps: of the discriminator.
        clip: C.
        patches: K, of each patient in a step.
        generator_every: steps of the discriminator for one of the generator.
        mu: what all steps together cost (Gaussian differential privacy).
    """

    sigma: float
    rate: float
    steps: int
    clip: float
    patches: int
    generator_every: int
    mu: float


def signal(mu: float, patients: int, weights: int) -> float:
    """ρ = μ n / √d: what the patients can say against the noise on d weights."""
    return mu * patients / math.sqrt(weights)


def patient_gradients(
    judge: nn.Module, patients: Sequence[tuple[Tensor, Tensor]], clip: float
) -> list[Tensor]:
    """The sum over patients of the clipped gradient of each one's mean loss on real patches.

    Args:
        judge: the discriminator.
        patients: of each, patches (patch, channel, [slice,] row, column) and labels (patch,).
        clip: largest L2 norm over all weights together.
    """
    weights = list(judge.parameters())
    total = [torch.zeros_like(weight) for weight in weights]
    for images, labels in patients:
        loss = softplus(-judge(images, labels)).mean()
        clipped = clip_to(torch.autograd.grad(loss, weights), clip)
        total = [one + other for one, other in zip(total, clipped, strict=True)]
    return total


def clip_to(gradients: Sequence[Tensor], clip: float) -> list[Tensor]:
    """The same direction, of L2 norm ``clip`` at most over all tensors together."""
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])).item()
    factor = min(1.0, clip / max(norm, 1e-12))
    return [gradient * factor for gradient in gradients]


def noised(
    total: Sequence[Tensor], how: Noisy, patients: int, noise: torch.Generator
) -> list[Tensor]:
    """(sum + N(0, σ²C²)) / (rate · n)."""
    return [
        (each + how.sigma * how.clip * torch.randn(each.shape, generator=noise).to(each.device))
        / (how.rate * patients)
        for each in total
    ]


def train_private(
    training: PatchSet,
    settings: GeneratorSettings,
    how: Noisy,
    seed: int,
    folder: Path,
    force: bool = False,
    progress: Progress | None = None,
    secret: int | None = None,
    reserve: Callable[[], None] | None = None,
) -> TrainedGenerator:
    """Train, or open what is already complete.

    Args:
        training: patches of the training patients; their number is taken as public.
        settings: of the generator; ``images``, ``batch`` (of generated patches alone) and
            whatever judges by tuning patients play no part.
        how: the mechanism.
        seed: of everything public: first weights, latents. It may be known.
        folder: takes ``generator.safetensors`` and ``config.json``.
        force: train although the signal is below `LEAST_SIGNAL`.
        progress: told of every step.
        secret: of sampling and noise. Only tests hand it in: who knows it can take the noise off.
        reserve: called before the first patient is asked, when nothing can be refused any more.

    Raises:
        CohortError: the patches do not suffice.
        SettingsError: the settings mix patients or charge more than was accounted for, or too
            little signal is left.
    """
    if (folder / CONFIG).is_file():
        return load_generator(folder)
    refuse_unfit(training, settings)
    refuse_leaks(settings)
    run = _Run(training, settings, how, seed, secret)
    run.refuse_noise(force)
    if reserve is not None:
        reserve()
    ticker = progress or Silent()
    ticker.start("training with noisy gradients", how.steps)
    for step in range(how.steps):
        run.step(step)
        ticker.advance()
    folder.mkdir(parents=True, exist_ok=True)
    shown = round(how.steps * how.rate * run.patients * how.patches)
    weights = [run.adversaries.average.state_dict()]
    identity = identity_of(training.digest, settings, seed)
    save_generator(folder, weights, training, settings, seed, identity, shown, [], [how.steps])
    return load_generator(folder)


def refuse_leaks(settings: GeneratorSettings) -> None:
    """Raise for settings under which more would leak than is charged.

    Raises:
        SettingsError: with every fault.
    """
    wanted: dict[str, tuple[object, object]] = {
        "one_per_class": (settings.one_per_class, False),
        "discriminator_norm": (settings.discriminator_norm, "none"),
        "loss": (settings.loss, "cross-entropy"),
        "penalty": (settings.penalty, 0.0),
        "augment": (settings.augment, 0.0),
        "augment_target": (settings.augment_target, 0.0),
        "discriminator_steps": (settings.discriminator_steps, 1),
        "condition_on_size": (settings.condition_on_size, False),
        "init": (settings.init, None),
    }
    faults = [
        Fault(
            f"generator.{name}",
            f"{came} with privacy.mode: dp-sgd",
            "none at all" if allowed is None else str(allowed).lower(),
            "it would mix patients in one gradient, look at them without being charged, or be "
            "left out of what was accounted for",
        )
        for name, (came, allowed) in wanted.items()
        if came != allowed
    ]
    faults += [
        Fault(
            f"generator.{name}",
            f"{getattr(settings, name)} with privacy.mode: dp-sgd",
            "not set",
            f"it {what}, which would not be charged: leave it out, and look at the sample sheets",
        )
        for name, what in _UNCHARGED.items()
        if name in settings.model_fields_set
    ]
    if faults:
        raise SettingsError(*faults)


class _Run:
    """Both networks, the patients, and the two kinds of chance."""

    def __init__(
        self,
        training: PatchSet,
        settings: GeneratorSettings,
        how: Noisy,
        seed: int,
        secret: int | None,
    ) -> None:
        self._settings, self._how, self._seed = settings, how, seed
        device = device_of(settings)
        images = to_channels(training, settings, Window(*settings.window))
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(training.labels).to(device)
        owners = training.patient_index
        self.patients = len(training.patient_order)
        self._rows = [np.flatnonzero(owners == one) for one in range(self.patients)]
        self._classes = len(training.classes)
        shape = training.images.shape
        self.adversaries = Adversaries(
            shape[-1],
            channels_of(training, settings),
            self._classes,
            settings,
            seed,
            device,
            dims=len(shape) - 2,
        )
        entropy = int.from_bytes(os.urandom(32)) if secret is None else secret
        hidden = np.random.SeedSequence(entropy).spawn(2)
        self._sampling = np.random.default_rng(hidden[0])
        state = int(hidden[1].generate_state(1, np.uint64)[0] >> 1)
        self._noise = torch.Generator().manual_seed(state)

    def refuse_noise(self, force: bool) -> None:
        """Raise where the noise drowns what the patients could say."""
        judge = self.adversaries.discriminator
        weights = sum(weight.numel() for weight in judge.parameters())
        rho = signal(self._how.mu, self.patients, weights)
        if rho < LEAST_SIGNAL and not force:
            raise SettingsError(
                Fault(
                    "privacy.mode",
                    f"dp-sgd with {self.patients} training patients: the signal μ n / √d is "
                    f"{rho:.2g} (μ = {self._how.mu:.3g}, d = {weights} weights)",
                    f"{LEAST_SIGNAL:g} or more",
                    "choose privacy.mode: dp-vote, bring more patients, lower generator.width, or "
                    "set privacy.force: true and expect noise",
                )
            )

    def step(self, step: int) -> None:
        """One step of the discriminator, and now and then one of the generator."""
        how, adversaries, judge = self._how, self.adversaries, self.adversaries.discriminator
        chance = np.random.default_rng((self._seed, step + 1))
        chosen = np.flatnonzero(self._sampling.random(self.patients) < how.rate)
        batch = [self._patches_of(int(one)) for one in chosen]
        real = noised(patient_gradients(judge, batch, how.clip), how, self.patients, self._noise)
        with torch.no_grad():
            fake, labels = self._fake(chance)
        loss = softplus(judge(fake, labels)).mean()
        of_fake = clip_to(torch.autograd.grad(loss, list(judge.parameters())), how.clip)
        both = [one + other for one, other in zip(real, of_fake, strict=True)]
        adversaries.learning.apply("discriminator", both)
        if (step + 1) % how.generator_every == 0:
            fake, labels = self._fake(chance)
            loss = softplus(-judge(fake, labels)).mean()
            weights = list(adversaries.generator.parameters())
            adversaries.learning.apply("generator", torch.autograd.grad(loss, weights))
            adversaries.learning.follow(step // how.generator_every)

    def _patches_of(self, patient: int) -> tuple[Tensor, Tensor]:
        """Exactly K patches; those who have fewer show some twice."""
        rows, wanted = self._rows[patient], self._how.patches
        again = self._sampling.choice(rows, wanted, replace=len(rows) < wanted)
        at = torch.from_numpy(again).to(self._images.device)
        return self._images[at], self._labels[at]

    def _fake(self, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        count, device = self._settings.batch, self._images.device
        labels = torch.from_numpy(chance.integers(0, self._classes, count)).to(device)
        noise = torch.from_numpy(latents(count, self._settings, chance)).to(device)
        fake: Tensor = self.adversaries.generator(noise, labels)
        return fake, labels
