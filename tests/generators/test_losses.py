"""Losses against a slow twin written from the papers, penalties against known gradients."""

import math

import pytest
import torch

from medaug.generators.losses import discriminator_loss, generator_loss, gradient_penalty

REAL = torch.tensor([-3.0, 0.0, 0.7, 2.5])
FAKE = torch.tensor([1.0, -2.0, 0.3, -0.1])


def sigma(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def twin(loss: str, who: str) -> float:
    """Goodfellow 2014, Lim and Ye 2017 and Jolicoeur-Martineau 2018, pair by pair."""
    total = 0.0
    for x, z in zip(REAL.tolist(), FAKE.tolist(), strict=True):
        total += {
            ("cross-entropy", "discriminator"): -math.log(sigma(x)) - math.log(1 - sigma(z)),
            ("cross-entropy", "generator"): -math.log(sigma(z)),
            ("hinge", "discriminator"): max(0, 1 - x) + max(0, 1 + z),
            ("hinge", "generator"): -z,
            ("relativistic", "discriminator"): -math.log(sigma(x - z)),
            ("relativistic", "generator"): -math.log(sigma(z - x)),
        }[loss, who]
    return total / len(REAL)


@pytest.mark.parametrize("loss", ["cross-entropy", "hinge", "relativistic"])
def test_losses_are_the_papers(loss: str) -> None:
    assert discriminator_loss(loss, REAL, FAKE).item() == pytest.approx(twin(loss, "discriminator"))
    assert generator_loss(loss, REAL, FAKE).item() == pytest.approx(twin(loss, "generator"))


def test_the_penalty_of_a_linear_function_is_half_its_squared_slope() -> None:
    slope = torch.arange(12.0).reshape(1, 3, 4)
    images = torch.randn(5, 1, 3, 4, requires_grad=True)
    logits = (images * slope).flatten(1).sum(1)
    penalty, gradient = gradient_penalty(logits, images)
    assert penalty.item() == pytest.approx(slope.square().sum().item() / 2)
    torch.testing.assert_close(gradient, slope.expand_as(images))


def test_the_penalty_of_a_square_is_per_patch_and_can_be_differentiated() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    images = torch.randn(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    penalty, _ = gradient_penalty((scale * images.square()).flatten(1).sum(1), images)
    # ∇ = 2 s x, so the penalty is 2 s² E‖x‖² and its derivative by s is 4 s E‖x‖².
    norm = images.square().flatten(1).sum(1).mean().item()
    assert penalty.item() == pytest.approx(2 * 9 * norm)
    (by_scale,) = torch.autograd.grad(penalty, scale)
    assert by_scale.item() == pytest.approx(12 * norm)
