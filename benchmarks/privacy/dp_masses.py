"""dp-vote on real masses, which have no renderer of their own: how near does its output come?

    medaug extract mammography_masses --data FOLDER --out RUN
    python benchmarks/privacy/dp_masses.py RUN [--epsilon 1 3 8]

The simulator is `medaug.phantom.mass`. 150 drawn patches of each class are held against the test
part: the kernel distance of the radiomic features that reports use, and Fréchet distances of the 14
features that vote, on the scale of what the simulator draws when nobody is asked (``public``) and
on that of the test patients (``others``). Beside them: 150 patches of training patients, and the
simulator when nobody is asked (``prior``). One run for each ε, with the noise of a fixed seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Window, deal_independently
from medaug.evaluation.distances import frechet_distance
from medaug.evaluation.fidelity import distance_to
from medaug.patching.store import read_patches
from medaug.phantom.mass import PARAMETERS, mass_renderer
from medaug.privacy.accounting import rounds_for
from medaug.privacy.dp_vote import evolve
from medaug.privacy.looks import looks
from medaug.privacy.settings import VoteSettings

WINDOW = Window(0, 255)
COUNT = 150


def main() -> None:
    """Print a line for each class and arm."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("run", type=Path)
    ask.add_argument("--epsilon", type=float, nargs="+", default=[1, 3, 8])
    given = ask.parse_args()
    patches = read_patches(given.run / "patches" / "patches.h5")
    split = deal_independently(patches, (0.5, 0.25, 0.25), 0)
    training, test = split.part(patches, "training"), split.part(patches, "test")
    channels, rows, columns = patches.images.shape[1:]
    render, settings = mass_renderer(WINDOW, (channels, rows, columns)), VoteSettings()
    rng = np.random.default_rng(5)

    def simulate(
        label: str, parameters: NDArray[np.float64], seeds: Sequence[int]
    ) -> NDArray[np.float32]:
        return render(label, parameters, seeds)[0]

    def features(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return looks(WINDOW.to_signed(images))

    prior = rng.random((len(patches.classes), COUNT, len(PARAMETERS)))
    arms = {"prior": prior}
    for epsilon in given.epsilon:
        what = rounds_for(epsilon, 1e-5, len(settings.perturb))
        noise = np.random.default_rng(int(epsilon))  # not secret: nothing is released here
        found = evolve(
            training, simulate, len(PARAMETERS), features, what, settings, 0, secret=noise
        )
        arms[f"epsilon {epsilon:g}"] = found[:, rng.integers(0, settings.left, COUNT)]
    for at, label in enumerate(patches.classes):
        real = test.of_class(label).images
        there, distance = features(real), distance_to(WINDOW.to_signed(real))
        drawn = {
            arm: simulate(label, numbers[at], rng.integers(0, 2**62, COUNT).tolist())
            for arm, numbers in arms.items()
        }
        public, others = features(drawn["prior"]).std(axis=0), there.std(axis=0)
        known = training.of_class(label).images
        drawn["training patients"] = known[rng.permutation(len(known))[:COUNT]]
        for arm, images in drawn.items():
            here = features(images)
            apart = [frechet_distance(here / unit, there / unit) for unit in (public, others)]
            kernel = distance(WINDOW.to_signed(images), None)
            print(
                f"{label}, {arm}: kernel distance {kernel:.2f}, public {apart[0]:.2f}, "
                f"others {apart[1]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
