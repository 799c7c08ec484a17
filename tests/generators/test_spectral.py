"""Spectral normalisation: norms of one, judged by a singular value decomposition."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from medaug.generators.adversaries import Adversaries
from medaug.generators.settings import GeneratorSettings

Chosen = Callable[..., GeneratorSettings]
REAL = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


@pytest.fixture
def pair(settings: Chosen) -> Callable[[int], Adversaries]:
    chosen = settings(preset="conditional", discriminator_steps=1, learning_rate=0.01)
    return lambda seed=0: Adversaries(32, 1, 2, chosen, seed, torch.device("cpu"))


def play(pair: Adversaries, steps: range) -> None:
    for step in steps:
        pair.step(step, REAL, LABELS, np.random.default_rng(step))


def norms(network: nn.Module) -> list[float]:
    """The largest singular value of every layer as it is used."""
    frozen = deepcopy(network).eval()
    layers = [one for one in frozen.modules() if hasattr(one, "parametrizations")]
    return [torch.linalg.matrix_norm(one.weight.flatten(1), 2).item() for one in layers]


def test_no_layer_stretches_by_more_than_one_also_after_training(
    pair: Callable[..., Adversaries],
) -> None:
    one = pair()
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)
                 for m in one.discriminator.modules())  # fmt: skip
    assert norms(one.discriminator) == pytest.approx([1.0] * layers, abs=0.05)
    play(one, range(20))
    assert norms(one.discriminator) == pytest.approx([1.0] * layers, abs=0.15)
    assert not any("parametrizations" in name for name, _ in one.generator.named_parameters())


def test_the_iteration_is_part_of_the_state(pair: Callable[..., Adversaries]) -> None:
    one, again = pair(), pair(1)
    play(one, range(3))
    again.restore({name: value.clone() for name, value in one.state().items()})
    for either in (one, again):
        play(either, range(3, 6))
    for name, value in one.state().items():
        assert torch.equal(value, again.state()[name]), name
    assert any("parametrizations" in name for name in one.state())


def test_it_starts_from_the_seed_and_leaves_torch_s_own_stream_alone(
    pair: Callable[..., Adversaries],
) -> None:
    before = torch.get_rng_state()
    first, again, other = (pair(seed).state() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    vectors = [name for name in first if name.endswith("weight.0._u") and first[name].numel() > 1]
    assert vectors
    assert not any(torch.equal(first[name], other[name]) for name in vectors)
