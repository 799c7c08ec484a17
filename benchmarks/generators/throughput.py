"""Images per second of training: each preset beside a plain DCGAN loop.

    python benchmarks/generators/throughput.py --side 64 --width 32 --seconds 20

The plain loop is written as tutorials write it: two passes of the discriminator over real and
fake patches, a third for the generator, everything in the default memory layout. It has the
channels, kernels and batch of the `conditional` preset, without classes, penalties,
augmentation and average. All loops take turns on the same data, so that a busy machine
disturbs each alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from medaug.generators.adversaries import Adversaries
from medaug.generators.networks import ladder
from medaug.generators.settings import PRESETS, GeneratorSettings

CLASSES = 3


def plain(side: int, width: int, batch: int, latent: int) -> Callable[[int], None]:
    """One step of a plain DCGAN with binary cross-entropy."""
    start, rungs = ladder(side)
    sizes = [width * min(2**rung, 8) for rung in range(rungs)]
    draws: list[nn.Module] = [nn.ConvTranspose2d(latent, sizes[-1], start, bias=False)]
    for size, after in zip(sizes[::-1], [*sizes[-2::-1], 1], strict=True):
        draws += [nn.BatchNorm2d(size), nn.ReLU(True)]
        draws += [nn.ConvTranspose2d(size, after, 4, 2, 1, bias=False)]
    judges: list[nn.Module] = []
    for before, size in zip([1, *sizes[:-1]], sizes, strict=True):
        judges += [nn.Conv2d(before, size, 4, 2, 1, bias=False)]
        judges += [nn.BatchNorm2d(size)] if judges[1:] else []
        judges += [nn.LeakyReLU(0.2, inplace=True)]
    generator = nn.Sequential(*draws, nn.Tanh())
    discriminator = nn.Sequential(*judges, nn.Conv2d(sizes[-1], 1, start), nn.Flatten(0))
    criterion = nn.BCEWithLogitsLoss()
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    data = torch.rand(256, 1, side, side) * 2 - 1
    one, zero = torch.ones(batch), torch.zeros(batch)

    def step(_: int) -> None:
        discriminator.zero_grad()
        criterion(discriminator(data[torch.randint(len(data), (batch,))]), one).backward()
        fake = generator(torch.randn(batch, latent, 1, 1))
        criterion(discriminator(fake.detach()), zero).backward()
        adam_d.step()
        generator.zero_grad()
        criterion(discriminator(fake), one).backward()
        adam_g.step()

    return step


def preset(name: str, side: int, width: int, batch: int) -> Callable[[int], None]:
    """One step of a preset, as training runs it."""
    own = {"preset": name, "width": width, "batch": batch, "window": (-1, 1)}
    settings = GeneratorSettings.model_validate(own)
    adversaries = Adversaries(side, 1, CLASSES, settings, 0, torch.device("cpu"))
    data = torch.rand(256, 1, side, side) * 2 - 1
    classes = torch.arange(256) % CLASSES

    def step(at: int) -> None:
        rng = np.random.default_rng((0, at + 1))
        rows = torch.from_numpy(rng.integers(len(data), size=batch))
        adversaries.step(at, data[rows], classes[rows], rng)

    return step


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20, help="for each loop")
    chosen = parser.parse_args()
    loops = {"plain DCGAN": plain(chosen.side, chosen.width, chosen.batch, 64)}
    loops |= {name: preset(name, chosen.side, chosen.width, chosen.batch) for name in PRESETS}
    steps, spent, used = (dict.fromkeys(loops, 0.0) for _ in range(3))
    for step in loops.values():
        step(0)
        step(1)
    rounds = 8  # one lazy penalty in each, as often as in training
    while min(spent.values()) < chosen.seconds:
        for name, step in loops.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for at in range(rounds):
                step(at)
            spent[name] += time.perf_counter() - wall
            used[name] += time.process_time() - cpu
            steps[name] += rounds
    print(f"{chosen.side} px, width {chosen.width}, batch {chosen.batch}, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':16}{'images/s':>10}{'per CPU s':>12}{'of plain':>10}")
    base = steps["plain DCGAN"] / spent["plain DCGAN"]
    for name in loops:
        rate = steps[name] / spent[name]
        print(f"{name:16}{rate * chosen.batch:10.0f}", end="")
        print(f"{steps[name] * chosen.batch / used[name]:12.0f}{rate / base:10.2f}")


if __name__ == "__main__":
    main()
