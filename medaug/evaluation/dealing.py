"""Rows of real and of synthetic patches for every step of a training.

What a task shares with the classifiers: the same arms, dealt in the same way, so that an arm means
the same everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medaug.evaluation.policies import Arm, deal
from medaug.evaluation.settings import EvaluationSettings


def deal_sources(
    arm: Arm,
    labels: Tensor,
    synthetic_labels: Tensor,
    settings: EvaluationSettings,
    steps: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Rows of the real patches and of the synthetic ones, class-balanced each.

    Args:
        arm: what is fed.
        labels: (patch,) of the real patches; every class occurs.
        synthetic_labels: (sample,) of the synthetic ones, which may lack classes.
        settings: batch and share of synthetic patches.
        steps: how many batches.
        generator: of the draw.

    Returns:
        (step, real per batch) and (step, synthetic per batch) int64; together a batch.
    """
    classes = int(labels.max()) + 1
    released = torch.bincount(synthetic_labels, minlength=classes) > 0
    places = arm.places(settings.batch, settings.synthetic_per_batch, released)
    count = settings.batch - places.synthetic
    real = deal(labels, steps, count, generator, places.of_real)
    made = deal(synthetic_labels, steps, places.synthetic, generator, places.of_synthetic)
    return real, made
