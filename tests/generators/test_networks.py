"""Networks: shapes for every size, classes enter, weights come from the stream alone."""

import pytest
import torch

from medaug.generators.networks import SIZES, Discriminator, Generator, initialise, ladder
from medaug.generators.settings import GeneratorSettings
from medaug.generators.sizes import joined


def settings(**own: object) -> GeneratorSettings:
    return GeneratorSettings(**{"window": (0, 1), "width": 4, "latent": 8, **own})


@pytest.mark.parametrize("side", SIZES[2])
@pytest.mark.parametrize(("preset", "channels"), [("small-data", 1), ("radford-2015", 3)])
def test_every_supported_size(side: int, preset: str, channels: int) -> None:
    start, rungs = ladder(side)
    assert start * 2**rungs == side
    assert rungs >= 3
    chosen = settings(preset=preset)
    labels = torch.tensor([0, 1, 2])
    images = Generator(side, channels, 3, chosen)(torch.randn(3, chosen.latent), labels)
    assert images.shape == (3, channels, side, side)
    assert images.abs().max() <= 1
    assert Discriminator(side, channels, 3, chosen)(images, labels).shape == (3,)


@pytest.mark.parametrize("side", SIZES[3])
@pytest.mark.parametrize(("preset", "channels"), [("conditional", 1), ("radford-2015", 2)])
def test_every_supported_cube(side: int, preset: str, channels: int) -> None:
    chosen = settings(preset=preset)
    labels = torch.tensor([0, 1, 2])
    cubes = Generator(side, channels, 3, chosen, dims=3)(torch.randn(3, chosen.latent), labels)
    assert cubes.shape == (3, channels, side, side, side)
    assert Discriminator(side, channels, 3, chosen, dims=3)(cubes, labels).shape == (3,)


def test_sizes() -> None:
    assert (min(SIZES[2]), max(SIZES[2])) == (32, 256)
    assert SIZES[3] == (32, 40, 48, 56, 64)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_size_decides_what_is_drawn_and_how_it_is_judged(dims: int) -> None:
    chosen = settings(condition_on_size=True)
    generator = Generator(32, 1, 2, chosen, dims).eval()
    discriminator = Discriminator(32, 1, 2, chosen, dims)
    noise, labels = torch.randn(1, 9), torch.tensor([1])
    small, large = (joined(labels, torch.tensor([size])) for size in (-1.0, 1.0))
    assert not torch.allclose(generator(noise, small), generator(noise, large))
    # Without a size the last number of the noise is one.
    noise[:, -1] = 1.0
    torch.testing.assert_close(generator(noise, labels), generator(noise, large))
    image = torch.randn(1, 1, *[32] * dims)
    assert discriminator(image, small) != discriminator(image, large)


def test_the_class_decides_what_is_drawn_and_how_it_is_judged() -> None:
    generator = Generator(32, 1, 2, settings()).eval()
    discriminator = Discriminator(32, 1, 2, settings())
    latent, zero, one = torch.randn(1, 8), torch.tensor([0]), torch.tensor([1])
    assert not torch.allclose(generator(latent, zero), generator(latent, one))
    image = torch.randn(1, 1, 32, 32)
    assert discriminator(image, zero) != discriminator(image, one)


def test_a_patch_is_judged_alone_where_there_is_no_norm() -> None:
    discriminator = Discriminator(32, 1, 2, settings())
    images, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 0, 1])
    alone = torch.cat([discriminator(images[at : at + 1], labels[at : at + 1]) for at in range(4)])
    torch.testing.assert_close(discriminator(images, labels), alone)


def test_weights_come_from_the_stream_and_torch_s_own_stream_is_left_alone() -> None:
    networks = [Generator(32, 1, 2, settings()) for _ in range(3)]
    before = torch.get_rng_state()
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise(network, torch.Generator().manual_seed(seed))
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = (torch.cat([p.flatten() for p in n.parameters()]) for n in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
