"""Patients vote on what a public simulator should draw; noise covers every single vote.

Private evolution [1]_: candidates are parameters of a simulator that knows no patient. Each
patient splits one vote over his patches, each patch voting for the nearest candidate of its class
among what the candidates look like. The histogram gets Gaussian noise, small cells are cut off, and
what is left breeds the next candidates. Everything after the noise is post-processing.

One patient adds a vector of non-negative numbers that sum to 1, hence of L2 norm at most 1,
whatever he shows, however many patches and in however many classes. This is what `Rounds.sigma`
(`accounting`) is measured in. The features and their scale come from the simulator alone.

Numbers of the noise come from the operating system's entropy and are thrown away. They are NumPy's
floating-point Gaussians, which are not hardened against attacks on their rounding (Mironov 2012).

.. [1] Lin et al. 2024, Differentially private synthetic data via foundation model APIs,
   arXiv:2305.15560
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from medaug.domain import PatchSet
from medaug.privacy.accounting import Rounds
from medaug.privacy.settings import VoteSettings
from medaug.progress import Progress, Silent

Floats = NDArray[np.float64]
Images = NDArray[np.float32]
Simulate = Callable[[str, Floats, Sequence[int]], Images]
"""(class, parameters (patch, parameter) in [0, 1], seeds) → images (patch, channel, row, column).
It must not depend on any patient."""
Features = Callable[[Images], Floats]
"""images → (patch, feature); it must not depend on any patient."""

_CUT = 2.0  # standard deviations of noise that a cell must rise above


def evolve(
    training: PatchSet,
    simulate: Simulate,
    parameters: int,
    features: Features,
    rounds: Rounds,
    settings: VoteSettings,
    seed: int,
    secret: np.random.Generator | None = None,
    progress: Progress | None = None,
) -> Floats:
    """(class, candidate, parameter): what the simulator should draw, with differential privacy.

    Nothing is written on the way: a run that was killed has shown nobody anything, and starts
    over with other noise.

    Args:
        training: whose patients vote.
        simulate: the public simulator.
        parameters: how many numbers it takes.
        features: what of a picture counts.
        rounds: the noise; every patient takes part in each round.
        settings: of the search; they cannot change the guarantee.
        seed: of everything that is public; it may be known.
        secret: of the noise. Only tests hand it in: who knows it can take the noise off again.
        progress: told of each candidate.

    Raises:
        ValueError: if the rounds are not those of the settings, or patients are sampled.
    """
    if rounds.rate != 1 or rounds.rounds != len(settings.perturb):
        raise ValueError(f"{len(settings.perturb)} rounds of all patients are wanted, not {rounds}")
    ticker = progress or Silent()
    noise_of = np.random.default_rng(int.from_bytes(os.urandom(32))) if secret is None else secret
    chance = np.random.default_rng((seed, 0xD1))
    shape = (len(training.classes), settings.candidates, parameters)
    population = chance.random(shape)
    private = features(training.images)
    centre, scale = 0.0, 1.0
    ticker.start("asking the patients", rounds.rounds * shape[0] * shape[1])
    for number, spread in enumerate(settings.perturb):
        looks = np.stack(
            [
                _looks(label, population[at], simulate, features, settings.renderings, chance)
                for at, label in enumerate(training.classes)
            ]
        )
        ticker.advance(shape[0] * shape[1])
        if number == 0:  # before any patient was asked
            flat = looks.reshape(-1, looks.shape[-1])
            centre, scale = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-9)
        count = votes(
            (private - centre) / scale,
            training.labels,
            training.patient_index,
            (looks - centre) / scale,
        )
        noisy = count + noise_of.normal(0.0, rounds.sigma, count.shape)
        weights = np.maximum(noisy - _CUT * rounds.sigma, 0.0)
        population = _bred(population, weights, spread, chance)
    return population


def votes(
    patches: Floats, labels: NDArray[np.int64], patients: NDArray[np.int64], candidates: Floats
) -> Floats:
    """(class, candidate): one vote of each patient, split evenly over his patches.

    Args:
        patches: (patch, feature).
        labels: (patch,) index of the class.
        patients: (patch,) number of the patient.
        candidates: (class, candidate, feature).
    """
    count = np.zeros(candidates.shape[:2])
    share = 1.0 / np.bincount(patients)[patients]
    for label in range(len(candidates)):
        rows = np.flatnonzero(labels == label)
        if len(rows):
            nearest = cdist(patches[rows], candidates[label]).argmin(axis=1)
            np.add.at(count[label], nearest, share[rows])
    return count


def _looks(
    label: str,
    parameters: Floats,
    simulate: Simulate,
    features: Features,
    renderings: int,
    chance: np.random.Generator,
) -> Floats:
    """(candidate, feature): the mean over a few pictures of each candidate."""
    again = np.repeat(parameters, renderings, axis=0)
    seeds = chance.integers(0, 2**63, len(again)).tolist()
    found = features(simulate(label, again, seeds))
    return np.asarray(found.reshape(len(parameters), renderings, -1).mean(axis=1))


def _bred(
    population: Floats, weights: Floats, spread: float, chance: np.random.Generator
) -> Floats:
    """As many candidates again, drawn by weight and moved a little; at the border they turn back.

    A class whose votes all drowned in the noise keeps its candidates as they were.
    """
    new = np.empty_like(population)
    for label, (old, weight) in enumerate(zip(population, weights, strict=True)):
        total = weight.sum()
        if total == 0:
            new[label] = old
            continue
        chosen = old[chance.choice(len(old), len(old), p=weight / total)]
        moved = np.abs(chosen + spread * chance.standard_normal(old.shape))
        new[label] = np.clip(1 - np.abs(1 - moved), 0, 1)
    return new
