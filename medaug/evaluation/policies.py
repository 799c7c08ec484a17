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


@dataclass(frozen=True, eq=False)
class Places:
    """How a batch is filled.

    Attributes:
        synthetic: patches of the batch that are synthetic.
        of_real: (class,) relative shares among real patches; None for equal ones.
        of_synthetic: (class,) relative shares among synthetic patches; None for equal ones.
    """

    synthetic: int
    of_real: Tensor | None = None
    of_synthetic: Tensor | None = None


@dataclass(frozen=True)
class Arm:
    """What the classifier is fed: real patches, synthetic ones, classical augmentation of all."""

    name: ArmName
    real: bool = True
    synthetic: bool = False
    classical: bool = False

    def places(self, batch: int, mixed: int, released: Tensor) -> Places:
        """Which places of a batch synthetic patches fill.

        A class of which nothing was released keeps its share of the batch, all of it real; the
        others give ``mixed`` of ``batch`` of their places to synthetic patches.

        Args:
            batch: patches per step.
            mixed: how many of them are synthetic where both sources are fed and every class was
                released.
            released: (class,) bool, whether there are synthetic patches of it.

        Raises:
            ValueError: if nothing real is fed and a class was not released.
        """
        if not self.synthetic:
            return Places(0)
        if bool(released.all()):
            return Places(mixed if self.real else batch)
        if not self.real:
            raise ValueError("a class that was not released cannot be learnt from the release")
        synthetic = max(1, round(mixed * int(released.sum()) / len(released)))
        of_real = torch.where(released, 1 - mixed / batch, 1.0)
        return Places(synthetic, of_real, released.float())


ARMS: tuple[Arm, ...] = (
    Arm("real"),
    Arm("real+classical", classical=True),
    Arm("real+gan", synthetic=True),
    Arm("real+classical+gan", synthetic=True, classical=True),
    Arm("gan", real=False, synthetic=True),
)


def deal(
    labels: Tensor,
    steps: int,
    count: int,
    generator: torch.Generator,
    shares: Tensor | None = None,
) -> Tensor:
    """Rows for every step, class-balanced.

    Args:
        labels: (patch,) int64; every class with a share occurs.
        steps: optimiser steps.
        count: patches per step. What does not divide by the classes goes to classes in turn
            from a random one on.
        generator: of the draw.
        shares: (class,) relative shares of the classes; equal ones if None.

    Returns:
        (step, count) int64 rows into ``labels``.
    """
    sizes = torch.bincount(labels)
    starts = torch.cumsum(sizes, 0) - sizes
    by_class = torch.argsort(labels, stable=True)
    if shares is None:
        first = torch.randint(len(sizes), (steps, 1), generator=generator)
        drawn_class = (first + torch.arange(count)) % len(sizes)
    else:
        ends = torch.cumsum(shares.double(), 0) / shares.double().sum()
        start = torch.rand(steps, 1, generator=generator, dtype=torch.float64)
        drawn_class = torch.searchsorted(ends, (torch.arange(count) + start) / count, right=True)
        # Rounding may leave the last end a little below 1.
        drawn_class = drawn_class.clamp(max=int(shares.nonzero().max()))
    position = torch.rand(steps, count, generator=generator, dtype=torch.float64)
    within = (position * sizes[drawn_class]).long()
    return by_class[starts[drawn_class] + within]
