"""One step of the game against slow twins."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch

from medaug.generators.adversaries import Adversaries, latents
from medaug.generators.settings import GeneratorSettings

Chosen = Callable[..., GeneratorSettings]
REAL = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


def adversaries(settings: GeneratorSettings, seed: int = 0) -> Adversaries:
    return Adversaries(32, 1, 2, settings, seed, torch.device("cpu"))


def test_the_penalties_are_r1_and_r2_scaled_up_by_their_rarity(settings: Chosen) -> None:
    """The discriminator's gradient is that of loss + every · γ/2 · (E‖∇D(x)‖² + E‖∇D(G(z))‖²)."""
    pair = adversaries(settings(augment=0, penalty=0.7, penalty_every=5))
    twin = deepcopy(pair.discriminator)
    noise = torch.from_numpy(latents(6, pair.settings, np.random.default_rng(9)))
    fake = pair.generator.train()(noise, LABELS).detach()
    for step, scale in ((0, 5.0), (1, 0.0)):
        pair.discriminator.load_state_dict(twin.state_dict())
        pair._improve_discriminator(step, REAL, fake, LABELS, np.random.default_rng(0))
        pairs = zip(REAL, fake, LABELS, strict=True)
        total = torch.tensor(0.0)
        for x, z, label in pairs:
            logits, slopes = [], []
            for image in (x, z):
                leaf = image[None].clone().requires_grad_()
                logits.append(twin(leaf, label[None]))
                slopes.append(torch.autograd.grad(logits[-1], leaf, create_graph=True)[0])
            squares = slopes[0].square().sum() + slopes[1].square().sum()
            total = total - torch.log(torch.sigmoid(logits[0] - logits[1])).sum()
            total = total + scale * 0.7 / 2 * squares
        expected = torch.autograd.grad(total / 6, list(twin.parameters()), allow_unused=True)
        for weight, gradient in zip(pair.discriminator.parameters(), expected, strict=True):
            torch.testing.assert_close(
                torch.zeros_like(weight) if weight.grad is None else weight.grad,
                torch.zeros_like(weight) if gradient is None else gradient,
                rtol=1e-3,
                atol=1e-5,
            )


def test_batch_statistics_never_mix_real_and_fake(settings: Chosen) -> None:
    pair = adversaries(settings(preset="radford-2015"))
    fake = torch.zeros_like(REAL)
    together = pair._judged(torch.cat([REAL, fake]), torch.cat([LABELS, LABELS]))
    apart = torch.cat([pair.discriminator(half, LABELS) for half in (REAL, fake)])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("preset", ["conditional", "radford-2015"])
def test_each_network_is_moved_by_its_own_loss_only(preset: str, settings: Chosen) -> None:
    pair = adversaries(settings(preset=preset))
    weights = {
        name: [p.clone() for p in network.parameters()]
        for name, network in (("g", pair.generator), ("d", pair.discriminator))
    }
    rng = np.random.default_rng(0)
    fake = pair.generator(torch.from_numpy(latents(6, pair.settings, rng)), LABELS)
    pair._improve_generator(REAL, fake, LABELS, rng)
    assert all(map(torch.equal, weights["d"], pair.discriminator.parameters()))
    assert not all(map(torch.equal, weights["g"], pair.generator.parameters()))
    assert all(p.grad is None for p in pair.discriminator.parameters())


def test_the_average_follows_with_a_memory_that_grows(settings: Chosen) -> None:
    pair = adversaries(settings(ema=0.5))
    mean = pair.generator.first.weight.detach().clone()
    for step, decay in enumerate((0.1, 2 / 11, 3 / 12, 4 / 13)):
        pair.step(step, REAL, LABELS, np.random.default_rng(step))
        mean = decay * mean + (1 - decay) * pair.generator.first.weight.detach()
        torch.testing.assert_close(pair.average.first.weight, mean)
    pair._follow(1000)  # by now at the decay that was asked for
    torch.testing.assert_close(
        pair.average.first.weight, (mean + pair.generator.first.weight.detach()) / 2
    )


def test_without_averaging_the_average_is_the_generator(settings: Chosen) -> None:
    pair = adversaries(settings(preset="radford-2015"))
    pair.step(0, REAL, LABELS, np.random.default_rng(0))
    for name, value in pair.generator.state_dict().items():
        torch.testing.assert_close(pair.average.state_dict()[name], value)


def test_the_same_seed_gives_the_same_bits_and_torch_s_own_stream_is_left_alone(
    settings: Chosen,
) -> None:
    before = torch.get_rng_state()
    pairs = [adversaries(settings(), seed) for seed in (1, 1, 2)]
    for pair in pairs:
        for step in range(3):
            pair.step(step, REAL, LABELS, np.random.default_rng(step))
    first, again, other = (pair.average.first.weight for pair in pairs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
