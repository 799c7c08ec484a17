"""Images per second of training: each preset beside a plain DCGAN loop on the same networks.

    python benchmarks/generators/throughput.py --side 64 --width 32 --seconds 20

The plain loop is written as tutorials write it: two passes of the discriminator over real and
fake patches with cross-entropy, a third for the generator, everything in the default memory layout.
It has the preset's networks and batch, and none of its penalties, augmentation and averaging. Each
loop has a process of its own, because medaug's changes how memory is handed out; they take turns
on the same data, so that a busy machine disturbs each alike. There the ratio of the processor time
that both need, on one thread, says more than that of the clock.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch import nn

from medaug.generators.adversaries import Adversaries
from medaug.generators.memory import kept
from medaug.generators.networks import Discriminator, Generator, initialise
from medaug.generators.settings import PRESETS, GeneratorSettings

CLASSES = 3
ROUND = 8  # steps of a turn: one lazy penalty in each, as often as in training


def settings_of(name: str, width: int, batch: int) -> GeneratorSettings:
    """A preset at this width and batch."""
    own = {"preset": name, "width": width, "batch": batch, "window": (-1, 1)}
    return GeneratorSettings.model_validate(own)


def plain(name: str, side: int, width: int, batch: int) -> Callable[[int], None]:
    """One step of a plain loop with binary cross-entropy on a preset's networks."""
    settings = settings_of(name, width, batch)
    generator = Generator(side, 1, CLASSES, settings)
    discriminator = Discriminator(side, 1, CLASSES, settings)
    for network in (generator, discriminator):
        initialise(network, torch.Generator().manual_seed(0))
    criterion = nn.BCEWithLogitsLoss()
    betas = (settings.beta1, settings.beta2)
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=betas)
    adam_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=betas)
    data = torch.rand(256, 1, side, side) * 2 - 1
    classes = torch.arange(256) % CLASSES
    one, zero = torch.ones(batch), torch.zeros(batch)

    def step(_: int) -> None:
        rows = torch.randint(len(data), (batch,))
        labels = classes[rows]
        discriminator.zero_grad()
        criterion(discriminator(data[rows], labels), one).backward()
        fake = generator(torch.randn(batch, settings.latent), labels)
        criterion(discriminator(fake.detach(), labels), zero).backward()
        adam_d.step()
        generator.zero_grad()
        criterion(discriminator(fake, labels), one).backward()
        adam_g.step()

    return step


def preset(name: str, side: int, width: int, batch: int) -> Callable[[int], None]:
    """One step of a preset, as training runs it."""
    settings = settings_of(name, width, batch)
    adversaries = Adversaries(side, 1, CLASSES, settings, 0, torch.device("cpu"))
    data = torch.rand(256, 1, side, side) * 2 - 1
    classes = torch.arange(256) % CLASSES

    def step(at: int) -> None:
        rng = np.random.default_rng((0, at + 1))
        rows = torch.from_numpy(rng.integers(len(data), size=batch))
        adversaries.step(at, data[rows], classes[rows], rng)

    return step


def work(end: Connection, name: str, how: str, *shape: int) -> None:
    """Take as many steps as is said, and say the seconds by the clock and of the processor."""
    with kept() if how == "medaug" else nullcontext():
        step, done = HOW[how](name, *shape), 0
        while True:
            steps = end.recv()
            began, busy = time.perf_counter(), time.process_time()
            for at in range(done, done + steps):
                step(at)
            done += steps
            end.send((time.perf_counter() - began, time.process_time() - busy))


def turn(end: Connection, steps: int) -> tuple[float, float]:
    """Let one loop take its turn."""
    end.send(steps)
    clock, busy = end.recv()
    return clock, busy


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20, help="for each loop")
    chosen = parser.parse_args()
    shape = (chosen.side, chosen.width, chosen.batch)
    spawned = multiprocessing.get_context("spawn")
    ends, loops = {}, {}
    for key in ((name, how) for name in PRESETS for how in HOW):
        ends[key], other = spawned.Pipe()
        loops[key] = spawned.Process(target=work, args=(other, *key, *shape), daemon=True)
        loops[key].start()
    rates: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in loops}
    for key in loops:
        turn(ends[key], 2)
    until = time.perf_counter() + chosen.seconds * len(loops)
    while time.perf_counter() < until:
        for key in loops:
            clock, busy = turn(ends[key], ROUND)
            rates[key].append((ROUND * chosen.batch / clock, ROUND * chosen.batch / busy))
    for loop in loops.values():
        loop.terminate()
    print(f"{chosen.side} px, width {chosen.width}, batch {chosen.batch}, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; images/s, medians")
    print(
        f"{'':16}{'plain':>8}{'medaug':>8}{'ratio':>8}   quartiles of the ratio; of processor time"
    )
    for name in PRESETS:
        slow, fast = (np.array(rates[name, how]) for how in HOW)
        (low, of_time), (middle, median), (high, to_time) = np.quantile(
            fast / slow, (0.25, 0.5, 0.75), axis=0
        )
        print(f"{name:16}{np.median(slow[:, 0]):8.0f}{np.median(fast[:, 0]):8.0f}", end="")
        print(f"{middle:8.2f}   {low:.2f} to {high:.2f}, {len(slow)} rounds; ", end="")
        print(f"{median:.2f}, {of_time:.2f} to {to_time:.2f}")


HOW = {"plain": plain, "medaug": preset}

if __name__ == "__main__":
    main()
