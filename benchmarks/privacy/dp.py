"""dp-vote on phantom patients drawn from a narrow law: how near does its output come, at what ε?

    python benchmarks/privacy/dp.py --out dp.csv [--patients 100] [--seeds 0 1 2] [--arms prior 3]

Patients are drawn about a point of the simulator's parameter space that is far from its middle
(standard deviation 0.08 of each range between patients, 0.03 between patches of one patient; four
patches each). Distances are Fréchet distances, never seen by the mechanism's choices, between 400
drawn patches and 400 patches of 400 other patients of the same law:

- ``looks``: on the 14 features that vote, standardised by the other patients;
- ``public``: on the same features, standardised by what the simulator draws when nothing is asked;
- ``radiomic``: on all radiomic features of `medaug.evaluation`, standardised likewise.

Rows: the prior (nothing asked), ε = 1, 3, 8, no noise, and fresh patients of the law (the floor).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchLocation, PatchSet, PatientKey, Unit, Window
from medaug.evaluation.distances import frechet_distance
from medaug.evaluation.radiomics import radiomic_features
from medaug.phantom.parametric import PARAMETERS, parametric_renderer
from medaug.privacy.accounting import Rounds, rounds_for
from medaug.privacy.dp_vote import evolve
from medaug.privacy.looks import looks
from medaug.privacy.settings import VoteSettings

WINDOW = Window(-100, 250)
CENTRE = np.array([0.75, 0.25, 0.30, 0.80, 0.30, 0.70])
LABEL = "metastasis"
COUNT = 400


def law(patients: int, each: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(patients * each, parameter): the patches of patients who do not exist."""
    own = CENTRE + 0.08 * rng.standard_normal((patients, len(CENTRE)))
    patches = np.repeat(own, each, axis=0)
    return np.clip(patches + 0.03 * rng.standard_normal(patches.shape), 0, 1)


def cohort(images: NDArray[np.float32], each: int) -> PatchSet:
    """One class; ``each`` patches in a row belong to one patient."""
    place = PatchLocation("c", "l", 0, (0.0, 0.0, 0.0), 1.0)
    return PatchSet(
        images,
        None,
        np.zeros(len(images), np.int64),
        (LABEL,),
        tuple(PatientKey(f"{row // each:032x}") for row in range(len(images))),
        (place,) * len(images),
        Unit.HOUNSFIELD,
        "CT",
    )


def main() -> None:
    """Measure and write a row per seed and arm."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--patients", type=int, default=100)
    ask.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    ask.add_argument("--arms", nargs="+", default=["prior", "1", "3", "8", "no noise", "patients"])
    ask.add_argument("--size", type=int, default=32)
    given = ask.parse_args()
    shape = (1, given.size, given.size)
    render = parametric_renderer({LABEL: LABEL}, "CT", Unit.HOUNSFIELD, shape, 64 / given.size)

    def simulate(label: str, parameters: NDArray[np.float64], seeds: object) -> NDArray[np.float32]:
        return render(label, parameters, seeds)[0]  # type: ignore[arg-type]

    def features(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return looks(WINDOW.to_signed(images))

    def drawn(parameters: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
        return simulate(LABEL, parameters, rng.integers(0, 2**63, len(parameters)).tolist())

    settings = VoteSettings()
    with given.out.open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["seed", "arm", "sigma", "looks", "public", "radiomic", "seconds"])
        for seed in given.seeds:
            rng = np.random.default_rng((seed, 1))
            others = drawn(law(COUNT, 1, rng), rng)
            prior = drawn(rng.random((COUNT, len(PARAMETERS))), rng)
            distances = _distances(others, prior)
            training = cohort(drawn(law(given.patients, 4, rng), rng), 4)
            arms: list[tuple[str, float]] = [("prior", np.inf)]
            arms += [
                (f"{epsilon:g}", rounds_for(epsilon, 1e-5, len(settings.perturb)).sigma)
                for epsilon in (1, 3, 8)
            ]
            arms += [("no noise", 1e-9), ("patients", 0.0)]
            for arm, sigma in arms:
                if arm not in given.arms:
                    continue
                began = time.perf_counter()
                if arm == "prior":
                    chosen = rng.random((COUNT, len(PARAMETERS)))
                elif arm == "patients":
                    chosen = law(COUNT, 1, rng)
                else:
                    found = evolve(
                        training,
                        simulate,
                        len(PARAMETERS),
                        features,
                        Rounds(sigma, len(settings.perturb)),
                        settings,
                        seed,
                        np.random.default_rng((seed, 2)),  # not secret: nothing here is private
                    )[0]
                    chosen = found[rng.integers(0, len(found), COUNT)]
                took = time.perf_counter() - began
                row = [distance(drawn(chosen, rng)) for distance in distances]
                table.writerow(
                    [seed, arm, f"{sigma:.3f}", *(f"{d:.3f}" for d in row), f"{took:.1f}"]
                )
                handle.flush()


def _distances(
    others: NDArray[np.float32], prior: NDArray[np.float32]
) -> list[Callable[[NDArray[np.float32]], float]]:
    def of(
        measure: Callable[[NDArray[np.float32]], NDArray[np.float64]], scale_by: NDArray[np.float32]
    ) -> Callable[[NDArray[np.float32]], float]:
        there, scale_of = (measure(WINDOW.to_signed(images)) for images in (others, scale_by))
        centre, scale = there.mean(axis=0), np.maximum(scale_of.std(axis=0), 1e-9)

        def distance(images: NDArray[np.float32]) -> float:
            here = (measure(WINDOW.to_signed(images)) - centre) / scale
            return frechet_distance(here, (there - centre) / scale)

        return distance

    return [of(looks, others), of(looks, prior), of(radiomic_features, others)]


if __name__ == "__main__":
    main()
