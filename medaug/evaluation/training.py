"""Train one classifier on one arm and score the tuning and the test patches with it.

The tuning patches choose which of five equally spaced checkpoints is kept, by macro AUC. The test
patches are scored once, with the kept weights.

What a batch is made of follows from the arm's policy, the step and the seed (`policies`). Initial
weights and dropout can only take torch's global state; it is forked, seeded and put back, so that
the caller's random numbers are untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medaug.evaluation.classifiers import build_classifier
from medaug.evaluation.diet import Diet
from medaug.evaluation.entrants import Entrant, FitPredict, fitted, probabilities, rounds
from medaug.evaluation.fitting import fit_best
from medaug.evaluation.policies import Arm, Policy
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.sklearn_classifier import radiomic_logistic
from medaug.evaluation.statistics import macro_auc
from medaug.evaluation.transfer import Transferred, transferred

_SCORED_AT_ONCE = 256
_VOLUMES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Scores:
    """Probabilities (patch, class) in float64 for the tuning and the test patches."""

    tuning: NDArray[np.float64]
    test: NDArray[np.float64]


def train_and_score(
    name: str,
    arm: Arm,
    diet: Diet,
    settings: EvaluationSettings,
    seed: int,
    device: torch.device,
    advanced: Callable[[int], None],
    entrant: Entrant | None = None,
) -> Scores:
    """Train classifier ``name`` on ``arm`` for ``settings.steps`` steps and score.

    Args:
        name: which classifier; of those that medaug brings, unless ``entrant`` is given.
        arm: what it is fed.
        diet: the patches.
        settings: steps, batch, rate and share.
        seed: of this training alone.
        device: where.
        advanced: told how many steps are done, at every checkpoint.
        entrant: a classifier of the user's, as in `medaug.evaluation.entrants`.
    """
    if name == "radiomic-logistic" and entrant is None:
        entrant = radiomic_logistic()
    policy = arm.policy(settings.dose_of(diet.names))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        channels, *size = diet.real.shape[1:]
        if isinstance(entrant, FitPredict):
            return _fit_and_score(entrant, policy, diet, settings, seed, advanced)
        if entrant is not None:
            network = entrant(channels, diet.classes, len(size))
        elif name == "transfer":
            network = transferred(settings.weights, diet.classes, settings.weights_sha256)
        else:
            network = build_classifier(name, channels, size, diet.classes)
        network = network.to(device, memory_format=_layout(diet.real))  # type: ignore[call-overload]
        _train(network, policy, diet, settings, seed, device, advanced)
    return Scores(_score(network, diet.tuning, device), _score(network, diet.test, device))


def _fit_and_score(
    entrant: FitPredict,
    policy: Policy,
    diet: Diet,
    settings: EvaluationSettings,
    seed: int,
    advanced: Callable[[int], None],
) -> Scores:
    """Show a classifier without optimiser steps as many patches in every arm, and score."""
    steps = rounds(len(diet.real), settings.batch, settings.steps)
    pool = diet.pool
    plans = [policy.plan(pool, settings.batch, step, seed) for step in range(steps)]
    images = torch.cat([diet.batch(plan) for plan in plans])
    labels = torch.cat([plan.labels for plan in plans])
    own = fitted(entrant, images, labels, diet.classes, seed)
    tuning, test = (
        probabilities(own, part, diet.classes, seed) for part in (diet.tuning, diet.test)
    )
    advanced(settings.steps)
    return Scores(tuning, test)


def _train(
    network: nn.Module,
    policy: Policy,
    diet: Diet,
    settings: EvaluationSettings,
    seed: int,
    device: torch.device,
    advanced: Callable[[int], None],
) -> None:
    """Leave ``network`` with the weights of the checkpoint that scored best on tuning."""
    rate = settings.learning_rate
    weights = network.groups(rate) if isinstance(network, Transferred) else network.parameters()
    layout, pool = _layout(diet.real), diet.pool

    def loss_at(step: int) -> Tensor:
        plan = policy.plan(pool, settings.batch, step, seed)
        images, labels = diet.batch(plan), plan.labels
        logits = network(images.to(device, memory_format=layout))
        return functional.cross_entropy(logits, labels.to(device))

    def reached() -> float:
        return macro_auc(_score(network, diet.tuning, device), diet.tuning_labels)

    fit_best(network, weights, settings, loss_at, reached, advanced)


def _layout(images: Tensor) -> torch.memory_format:
    """Channels last, which is the faster order in memory."""
    return torch.channels_last if images.ndim == 4 else torch.channels_last_3d


@torch.no_grad()
def _score(network: nn.Module, images: Tensor, device: torch.device) -> NDArray[np.float64]:
    """Probabilities (patch, class); float64, so that confident scores do not tie at 1."""
    network.eval()
    if not len(images):
        # Not every network takes a batch of none; what chooses has nothing else to score.
        return _score(network, images.new_zeros((1, *images.shape[1:])), device)[:0]
    layout = _layout(images)
    parts = [
        network(part.to(device, memory_format=layout)).double().cpu()
        for part in torch.split(images, _SCORED_AT_ONCE if images.ndim == 4 else _VOLUMES_AT_ONCE)
    ]
    scores: NDArray[np.float64] = torch.softmax(torch.cat(parts), dim=1).numpy()
    return scores
