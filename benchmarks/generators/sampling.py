"""Seconds to draw patches from a generator of a preset: by the clock, and of processor time.

    python benchmarks/generators/sampling.py --count 10000 --side 64 --width 64

On a machine with other work only the processor time, of all threads together, means something.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from medaug.generators.adversaries import latents
from medaug.generators.networks import Generator, initialise, place
from medaug.generators.settings import PRESETS, GeneratorSettings
from medaug.generators.trained import draw

CLASSES = 3


def main() -> None:
    """Print a line for each preset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    chosen = parser.parse_args()
    print(f"{chosen.count} patches of {chosen.side} px, width {chosen.width}, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for preset in PRESETS:
        settings = GeneratorSettings(preset=preset, window=(-1, 1), width=chosen.width)
        network = Generator(chosen.side, 1, CLASSES, settings)
        initialise(network, torch.Generator().manual_seed(0))
        place(network, torch.device("cpu"))
        network.requires_grad_(False).eval()
        clock, spent = time.perf_counter(), time.process_time()
        for start in range(0, chosen.count, 1000):
            seeds = range(start, min(start + 1000, chosen.count))
            rngs = (np.random.default_rng((0, seed)) for seed in seeds)
            draw(network, np.concatenate([latents(1, settings, rng) for rng in rngs]), 0)
        clock, spent = time.perf_counter() - clock, time.process_time() - spent
        print(f"{preset:16}{clock:8.1f} s by the clock, {spent:8.1f} s of processor time")


if __name__ == "__main__":
    main()
