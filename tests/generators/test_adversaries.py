"""One step of the game against slow twins."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch

from medaug.generators.adversaries import Adversaries, latents
from medaug.generators.losses import discriminator_loss
from medaug.generators.settings import GeneratorSettings

Chosen = Callable[..., GeneratorSettings]
REAL = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


def adversaries(settings: GeneratorSettings, seed: int = 0) -> Adversaries:
    return Adversaries(32, 1, 2, settings, seed, torch.device("cpu"))


def gradients_of(pair: Adversaries, step: int, fake: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """What one step would move each network by."""
    caught = {}
    pair.learning.apply = lambda name, gradients: caught.update({name: list(gradients)})
    play = pair._mixing if pair.settings.discriminator_norm == "batch" else pair._together
    play(step, REAL, fake, LABELS, np.random.default_rng(0))
    del pair.learning.apply
    return caught


def assert_same(gradients, expected) -> None:
    for ours, theirs in zip(gradients, expected, strict=True):
        wanted = torch.zeros_like(ours) if theirs is None else theirs
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("step", "scale"), [(0, 5.0), (1, 0.0)])
def test_the_penalties_are_r1_and_r2_scaled_up_by_their_rarity(
    step: int, scale: float, settings: Chosen
) -> None:
    """The discriminator's gradient is that of loss + every · γ/2 · (E‖∇D(x)‖² + E‖∇D(G(z))‖²)."""
    pair = adversaries(settings(augment=0, penalty=0.7, penalty_every=5))
    twin = deepcopy(pair.discriminator)
    fake = drawn(pair)
    total = torch.tensor(0.0)
    for x, z, label in zip(REAL, fake.detach(), LABELS, strict=True):
        logits, slopes = [], []
        for image in (x, z):
            leaf = image[None].clone().requires_grad_()
            logits.append(twin(leaf, label[None]))
            slopes.append(torch.autograd.grad(logits[-1], leaf, create_graph=True)[0])
        squares = slopes[0].square().sum() + slopes[1].square().sum()
        total = total - torch.log(torch.sigmoid(logits[0] - logits[1])).sum()
        total = total + scale * 0.7 / 2 * squares
    expected = torch.autograd.grad(total / 6, list(twin.parameters()), allow_unused=True)
    assert_same(gradients_of(pair, step, fake)["discriminator"], expected)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("loss", ["relativistic", "cross-entropy", "hinge"])
@pytest.mark.parametrize("norm", ["none", "batch", "spectral"])
def test_the_generator_is_moved_by_its_own_loss(
    norm: str, loss: str, step: int, settings: Chosen
) -> None:
    """With one way back for both, or one for each: the gradient of the generator's loss."""
    penalty = 0.0 if norm == "batch" else 0.7
    pair = adversaries(
        settings(augment=0, loss=loss, penalty=penalty, penalty_every=5, discriminator_norm=norm)
    )
    judge = deepcopy(pair.discriminator)
    fake = drawn(pair)
    given, real = judge(fake, LABELS), judge(REAL, LABELS)
    apart = -torch.log(torch.sigmoid(given - real if loss == "relativistic" else given)).mean()
    apart = -given.mean() if loss == "hinge" else apart
    expected = torch.autograd.grad(apart, list(pair.generator.parameters()), retain_graph=True)
    assert_same(gradients_of(pair, step, fake)["generator"], expected)


def test_both_see_the_same_augmented_patches(settings: Chosen) -> None:
    pair = adversaries(settings(augment=1.0, penalty=0.0))
    fake = drawn(pair)
    both = pair._augmented(torch.cat([REAL, fake]), np.random.default_rng(0))
    logits = deepcopy(pair.discriminator)(both, torch.cat([LABELS, LABELS]))
    real, given = logits.chunk(2)
    loss = torch.nn.functional.softplus(real - given).mean()
    expected = torch.autograd.grad(loss, list(pair.generator.parameters()), retain_graph=True)
    assert_same(gradients_of(pair, 0, fake)["generator"], expected)


@pytest.mark.parametrize("loss", ["relativistic", "cross-entropy", "hinge"])
@pytest.mark.parametrize("certain", [-1e3, 1e3])
def test_a_discriminator_that_is_certain_leaves_finite_gradients(
    certain: float, loss: str, settings: Chosen
) -> None:
    pair = adversaries(settings(loss=loss, penalty=0.0))
    with torch.no_grad():
        pair.discriminator.last.weight.mul_(certain)
    for gradients in gradients_of(pair, 1, drawn(pair)).values():
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize(
    ("knows", "after"), [(5.0, 0.5 + 8 * 6 / 20_000), (0.0, 0.5 - 8 * 6 / 20_000)]
)
def test_augmentation_grows_while_the_discriminator_knows_and_shrinks_while_it_guesses(
    knows: float, after: float, settings: Chosen
) -> None:
    pair = adversaries(settings(augment=0.5, augment_target=0.5))
    logits = torch.cat([torch.full((6,), knows), torch.zeros(6)])
    for step in range(8):
        pair._adapt(step, logits)
    assert pair.augment == pytest.approx(after)


def test_what_is_adapted_survives_a_stop(settings: Chosen) -> None:
    """Also in the middle of an average."""
    pair, again = (adversaries(settings(augment=0.5, augment_target=0.5)) for _ in range(2))
    for step in range(3):
        pair.step(step, REAL, LABELS, np.random.default_rng(step))
    again.restore({name: value.clone() for name, value in pair.state().items()})
    for one in (pair, again):
        for step in range(3, 9):
            one.step(step, REAL, LABELS, np.random.default_rng(step))
    assert pair.augment == again.augment != 0.5


def drawn(pair: Adversaries) -> torch.Tensor:
    noise = torch.from_numpy(latents(6, pair.settings, np.random.default_rng(9)))
    return pair.generator.train()(noise, LABELS)


def test_batch_statistics_never_mix_real_and_fake(settings: Chosen) -> None:
    pair = adversaries(settings(preset="radford-2015"))
    twin = deepcopy(pair.discriminator)
    fake = drawn(pair).detach()
    loss = discriminator_loss("cross-entropy", twin(REAL, LABELS), twin(fake, LABELS))
    expected = torch.autograd.grad(loss, list(twin.parameters()))
    assert_same(gradients_of(pair, 1, drawn(pair))["discriminator"], expected)


@pytest.mark.parametrize("norm", ["none", "spectral", "batch"])
def test_the_generator_waits_while_the_discriminator_takes_its_steps(
    norm: str, settings: Chosen
) -> None:
    pair = adversaries(settings(discriminator_norm=norm, penalty=0.0, discriminator_steps=3))
    moved = {name: [] for name in ("generator", "discriminator")}
    for step in range(6):
        gradients = gradients_of(pair, step, drawn(pair))
        for name in gradients:
            moved[name].append(step)
    assert moved == {"generator": [2, 5], "discriminator": [*range(6)]}


@pytest.mark.parametrize("preset", ["small-data", "conditional", "radford-2015"])
def test_a_step_moves_both_networks(preset: str, settings: Chosen) -> None:
    pair = adversaries(settings(preset=preset, discriminator_steps=1))
    before = [p.clone() for p in (*pair.generator.parameters(), *pair.discriminator.parameters())]
    pair.step(1, REAL, LABELS, np.random.default_rng(0))
    after = [*pair.generator.parameters(), *pair.discriminator.parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.9
    assert all(p.grad is None for p in after)


def test_the_average_follows_with_a_memory_that_grows(settings: Chosen) -> None:
    pair = adversaries(settings(ema=0.5))
    mean = pair.generator.first.weight.detach().clone()
    for step, decay in enumerate((0.1, 2 / 11, 3 / 12, 4 / 13)):
        pair.step(step, REAL, LABELS, np.random.default_rng(step))
        mean = decay * mean + (1 - decay) * pair.generator.first.weight.detach()
        torch.testing.assert_close(pair.average.first.weight, mean)
    pair.learning.follow(1000)  # by now at the decay that was asked for
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
