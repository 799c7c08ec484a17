"""The optimiser's steps, for whatever network and loss; the best of five checkpoints is kept.

Without that choice an arm that overfits late (usually "real") would lose for the wrong reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from medaug.evaluation.settings import EvaluationSettings

CHECKPOINTS = 5


def fit_best(
    network: nn.Module,
    weights: Iterable[Any],
    settings: EvaluationSettings,
    loss_at: Callable[[int], Tensor],
    reached: Callable[[], float],
    advanced: Callable[[int], None],
) -> None:
    """Run every step; leave ``network`` with the weights that reached most.

    Args:
        network: in training mode while ``loss_at`` is called; as ``reached`` leaves it otherwise.
        weights: parameters, or groups of them with rates of their own.
        settings: steps and rate.
        loss_at: the loss of a step.
        reached: how good the network is now, on the tuning part; not below 0. Of equally good
            checkpoints the last is kept.
        advanced: told how many steps are done, at every checkpoint.
    """
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    ends = {round(settings.steps * (at + 1) / CHECKPOINTS) for at in range(CHECKPOINTS)}
    best, kept, done = -1.0, network.state_dict(), 0
    network.train()
    for step in range(settings.steps):
        loss = loss_at(step)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step + 1 in ends:
            now = reached()
            if now >= best:
                best = now
                kept = {key: value.clone() for key, value in network.state_dict().items()}
            network.train()
            advanced(step + 1 - done)
            done = step + 1
    network.load_state_dict(kept)
