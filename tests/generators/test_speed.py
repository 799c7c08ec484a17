"""What makes a step quicker leaves it what it was."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from medaug.domain import PatchSet
from medaug.generators import running, training
from medaug.generators.adversaries import Adversaries
from medaug.generators.networks import Discriminator, Generator, place
from medaug.generators.running import compiled, halved
from medaug.generators.settings import GeneratorSettings
from medaug.generators.training import train_generator

Chosen = Callable[..., GeneratorSettings]
Make = Callable[..., PatchSet]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
REAL = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_quicker_convolutions_are_the_same_to_rounding(
    channels: int, kernel: int, settings: Chosen
) -> None:
    """Forwards, backwards and backwards again, in double precision; so are the names saved."""
    chosen = settings(kernel=kernel)
    generator = Generator(32, channels, 2, chosen).double()
    discriminator = Discriminator(32, channels, 2, chosen).double()
    quick = deepcopy(generator), deepcopy(discriminator)
    for network in quick:
        place(network, CPU)
    assert type(quick[0].rungs[-1]) is not type(generator.rungs[-1])
    assert type(quick[1].rungs[0]) is not type(discriminator.rungs[0])
    noise = torch.randn(6, 8, dtype=torch.float64)
    seen = []
    for draw, judge in ((generator, discriminator), quick):
        images = draw(noise, LABELS)
        logits = judge(images, LABELS)
        (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        weights = [*draw.parameters(), *judge.parameters()]
        loss = logits.square().sum() + slope.square().sum()
        seen.append([images, slope, *torch.autograd.grad(loss, weights, allow_unused=True)])
        assert list(draw.state_dict()) == list(generator.state_dict())
    for plain, quicker in zip(*seen, strict=True):
        torch.testing.assert_close(plain, quicker)


def test_a_gradient_in_another_order_of_memory_moves_the_same_weights(settings: Chosen) -> None:
    moved = []
    for layout in (torch.channels_last, torch.contiguous_format):
        pair = Adversaries(32, 2, 2, settings(), 0, CPU)
        stream = torch.Generator().manual_seed(1)
        gradients = [
            torch.randn(weight.shape, generator=stream)
            for weight in pair.discriminator.parameters()
        ]
        pair.learning.apply(
            "discriminator",
            [g.contiguous(memory_format=layout) if g.ndim == 4 else g for g in gradients],
        )
        moved.append([weight.detach().contiguous() for weight in pair.discriminator.parameters()])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("preset", ["small-data", "conditional", "radford-2015"])
def test_half_precision_moves_full_weights_about_as_full_precision_does(
    preset: str, settings: Chosen
) -> None:
    moved = []
    for precision in (32, "bf16"):
        pair = Adversaries(32, 1, 2, settings(preset=preset, precision=precision), 0, CPU)
        losses = [
            pair.step(at, REAL, LABELS, np.random.default_rng(at)).tolist() for at in range(4)
        ]
        assert np.isfinite(losses).all()
        state = pair.state().values()
        assert torch.bfloat16 not in {value.dtype for value in state}
        moved.append(np.array(losses))
    full, half = moved
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, rtol=0.05, atol=0.05)


def test_a_gpu_gets_half_precision_and_compiled_networks_and_a_cpu_does_not(
    settings: Chosen,
) -> None:
    auto = settings()
    assert (halved(auto, CUDA), compiled(auto, CUDA)) == (True, True)
    assert (halved(auto, CPU), compiled(auto, CPU)) == (False, False)
    asked = settings(precision="bf16", compile=True)
    assert (halved(asked, CPU), compiled(asked, CPU)) == (True, True)
    refused = settings(precision=32, compile=False)
    assert (halved(refused, CUDA), compiled(refused, CUDA)) == (False, False)


@pytest.mark.parametrize("own", [{"precision": "bf16"}, {"compile": False}])
def test_precision_and_compilation_decide_the_weights(
    own: dict[str, object], settings: Chosen
) -> None:
    assert settings(**own).recipe() != settings().recipe()


@pytest.mark.parametrize(("free", "room"), [(4 * REAL.nbytes, True), (4 * REAL.nbytes - 1, False)])
def test_patches_stay_on_the_gpu_in_a_quarter_of_what_is_free(
    free: int, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2 * free))
    assert running.stays(REAL, CUDA) is room
    assert running.stays(REAL, CPU)


def test_where_the_patches_lie_changes_no_bit(
    discs: Make, settings: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = train_generator(discs(), settings(), 0, tmp_path / "there")
    monkeypatch.setattr(training, "stays", lambda *_: False)
    elsewhere = train_generator(discs(), settings(), 0, tmp_path / "elsewhere")
    assert there.record.weights_digest == elsewhere.record.weights_digest


def test_losses_that_are_read_at_lines_of_figures_only_are_the_same(
    discs: Make, settings: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which is not waited for in every step."""
    chosen = settings(log_every=3, checkpoint_every=2)
    lines = []
    for name in ("each", "few"):
        if name == "few":
            monkeypatch.setattr(training, "reads_each_step", lambda _: False)
        train_generator(discs(), chosen, 0, tmp_path / name)
        text = (tmp_path / name / "training.jsonl").read_text().splitlines()
        lines.append([line.split('"images_per_second"')[0] for line in text])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 2
