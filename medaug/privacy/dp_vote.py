"""Patients vote on what a public simulator should draw; noise covers every single vote.

After private evolution [1]_: candidates are parameters of a simulator that knows no patient. Each
patient's patches vote for the candidates of their class that look most alike; a patient's vote is
the mean over his patches. The counts get Gaussian noise, and candidates are weighted by what all
rounds so far say together (`weighing`); the weighted breed the next. Everything after the noise is
post-processing.

What the paper does, one vote for the nearest candidate and counts below two standard deviations
of the noise cut off, loses at a hundred patients: once candidates have come near, votes spread
evenly, no count rises above the noise, and a few lucky candidates father all the next ones.

One patch's votes have the L2 norm 1, hence a patient's mean has at most 1, whatever he shows,
however many patches and in however many classes. This is what `Rounds.sigma` (`accounting`) is
measured in. The features and their scale come from the simulator alone.

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

from medaug.domain import PatchSet
from medaug.privacy.accounting import Rounds
from medaug.privacy.settings import VoteSettings
from medaug.privacy.weighing import Asked, ballots, weigh
from medaug.progress import Progress, Silent

Floats = NDArray[np.float64]
Images = NDArray[np.float32]
Simulate = Callable[[str, Floats, Sequence[int]], Images]
"""(class, parameters (patch, parameter) in [0, 1], seeds) → images (patch, channel, row, column).
It must not depend on any patient."""
Features = Callable[[Images], Floats]
"""images → (patch, feature); it must not depend on any patient."""

_RIDGE = 0.02  # of the spread between candidates, added to that of pictures of one


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
    """(class, chosen, parameter): what the simulator should draw, with differential privacy.

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
    classes, most = training.classes, len(training.patient_order)
    population = chance.random((len(classes), settings.candidates, parameters))
    ticker.start(
        "asking the patients",
        len(classes) * (settings.candidates * (rounds.rounds + 1) + settings.left),
    )

    def looks() -> Floats:
        """(class, candidate, feature): a new picture of every candidate."""
        found = []
        for label, chosen in zip(classes, population, strict=True):
            seeds = chance.integers(0, 2**63, len(chosen)).tolist()
            found.append(features(simulate(label, chosen, seeds)))
            ticker.advance(len(chosen))
        return np.stack(found)

    unit = _unit(looks(), looks())  # before any patient was asked
    private = features(training.images) @ unit
    asked: list[list[Asked]] = [[] for _ in classes]
    for number, spread in enumerate(settings.perturb):
        shown = looks() @ unit
        count = votes(private, training.labels, training.patient_index, shown, settings.nearest)
        noisy = count + noise_of.normal(0.0, rounds.sigma, count.shape)
        for label, (seen, heard) in enumerate(zip(shown, noisy, strict=True)):
            asked[label].append(Asked(seen, heard))
        last = number == rounds.rounds - 1
        weights = [
            weigh(of[-1].candidates, of, settings.nearest, rounds.sigma, most) for of in asked
        ]
        size = settings.left if last else settings.candidates
        population = _bred(population, weights, spread, size, chance)
    shown = looks() @ unit
    weights = [
        weigh(seen, of, settings.nearest, rounds.sigma, most)
        for seen, of in zip(shown, asked, strict=True)
    ]
    return _bred(population, weights, 0.0, settings.left, chance)


def votes(
    patches: Floats,
    labels: NDArray[np.int64],
    patients: NDArray[np.int64],
    candidates: Floats,
    nearest: int,
) -> Floats:
    """(class, candidate): the mean of each patient's ballots, summed over patients.

    Args:
        patches: (patch, feature).
        labels: (patch,) index of the class.
        patients: (patch,) number of the patient.
        candidates: (class, candidate, feature).
        nearest: candidates that a patch votes for.
    """
    count = np.zeros(candidates.shape[:2])
    share = 1.0 / np.bincount(patients)[patients]
    for label in range(len(candidates)):
        rows = np.flatnonzero(labels == label)
        if len(rows):
            count[label] = share[rows] @ ballots(patches[rows], candidates[label], nearest)
    return count


def _unit(first: Floats, again: Floats) -> Floats:
    """(feature, feature): maps features so that two pictures of one candidate differ by 1 in each.

    The nearest candidate is then the likeliest one, as far as pictures of a candidate follow a
    normal law. Both arguments are (class, candidate, feature).
    """
    apart = ((first - again) / np.sqrt(2)).reshape(-1, first.shape[-1])
    among = np.concatenate([first, again]).reshape(-1, first.shape[-1])
    within = apart.T @ apart / len(apart)
    ridge = _RIDGE * np.diag(np.maximum(among.var(axis=0), 1e-18))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(within + ridge)))


def _bred(
    population: Floats,
    weights: Sequence[Floats],
    spread: float,
    size: int,
    chance: np.random.Generator,
) -> Floats:
    """``size`` candidates, drawn by weight and moved a little; at the border they turn back."""
    chosen = np.stack(
        [
            old[chance.choice(len(old), size, p=weight)]
            for old, weight in zip(population, weights, strict=True)
        ]
    )
    moved = np.abs(chosen + spread * chance.standard_normal(chosen.shape))
    return np.asarray(np.clip(1 - np.abs(1 - moved), 0, 1))
