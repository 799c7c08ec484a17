"""Which image does the classifier see next?

An arm says what a batch is made of. `deal` then chooses rows for every step at once: classes in
equal shares, patches of a class with equal chance. Real and synthetic patches are dealt apart,
so that each source is balanced by itself.

>>> [arm.name for arm in ARMS]
['real', 'real+classical', 'real+gan', 'real+classical+gan', 'gan']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ArmName = Literal["real", "real+classical", "real+gan", "real+classical+gan", "gan"]


@dataclass(frozen=True)
class Arm:
    """What the classifier is fed: real patches, synthetic ones, classical augmentation of all."""

    name: ArmName
    real: bool = True
    synthetic: bool = False
    classical: bool = False

    def synthetic_slots(self, batch: int, mixed: int) -> int:
        """How many of ``batch`` patches are synthetic; ``mixed`` where both sources are fed."""
        if not self.synthetic:
            return 0
        return mixed if self.real else batch


ARMS: tuple[Arm, ...] = (
    Arm("real"),
    Arm("real+classical", classical=True),
    Arm("real+gan", synthetic=True),
    Arm("real+classical+gan", synthetic=True, classical=True),
    Arm("gan", real=False, synthetic=True),
)


def deal(labels: Tensor, steps: int, count: int, generator: torch.Generator) -> Tensor:
    """Rows for every step, class-balanced.

    Args:
        labels: (patch,) int64; every class from 0 to the largest occurs.
        steps: optimiser steps.
        count: patches per step. What does not divide by the classes goes to classes in turn
            from a random one on.
        generator: of the draw.

    Returns:
        (step, count) int64 rows into ``labels``.
    """
    sizes = torch.bincount(labels)
    starts = torch.cumsum(sizes, 0) - sizes
    by_class = torch.argsort(labels, stable=True)
    first = torch.randint(len(sizes), (steps, 1), generator=generator)
    drawn_class = (first + torch.arange(count)) % len(sizes)
    position = torch.rand(steps, count, generator=generator, dtype=torch.float64)
    within = (position * sizes[drawn_class]).long()
    return by_class[starts[drawn_class] + within]
