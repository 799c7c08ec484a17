"""What one batch of an arm is made of, patch by patch: its source, its row, what is done to it.

For what is no network of `training`: tasks, entrants without optimiser steps, data sets for other
people's loops. Classes come in equal shares, patches of a class with equal chance, and of each
class ``share`` of the places are synthetic where the arm feeds both; a class that was not released
is real.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medaug.evaluation.classical import ClassicalDraw, draw
from medaug.evaluation.policies import Arm

REAL, SYNTHETIC = 0, 1


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of each class and source.

    Attributes:
        of: (source, class) of rows: first the real patches, then the synthetic ones.
    """

    of: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]

    @classmethod
    def by_class(cls, labels: Tensor, synthetic_labels: Tensor, classes: int) -> Rows:
        """From the labels of the real patches and of the synthetic ones, which may lack classes."""
        real, made = (
            tuple(torch.nonzero(each == at).flatten() for at in range(classes))
            for each in (labels, synthetic_labels)
        )
        return cls((real, made))


@dataclass(frozen=True, eq=False)
class Dealt:
    """A batch: of each place the source, the row in it, the label; and the operations, or None."""

    source: Tensor
    row: Tensor
    labels: Tensor
    operations: ClassicalDraw | None

    def gather(self, real: Tensor, synthetic: Tensor) -> Tensor:
        """(place, ...) what the places show, from a column of each source; nothing done to it."""
        shown = real.new_empty((len(self.row), *real.shape[1:]))
        for at, column in enumerate((real, synthetic)):
            here = self.source == at
            shown[here] = column[self.row[here]]
        return shown


def deal_batch(
    arm: Arm, rows: Rows, count: int, share: float, size: torch.Size, generator: torch.Generator
) -> Dealt:
    """Draw a batch of ``count`` patches.

    Args:
        arm: what is fed.
        rows: by class; every class has one that the arm feeds.
        count: patches. What does not divide by the classes goes to classes in turn from a random
            one on.
        share: of synthetic patches where both sources are fed: each class has so many of its
            places, rounded up or down at random.
        size: (channel, [slice,] row, column) of a patch.
        generator: of the draw.

    Raises:
        ValueError: if there is nothing to show of a class.
    """
    classes = len(rows.of[REAL])
    labels = (torch.randint(classes, (), generator=generator) + torch.arange(count)) % classes
    places = torch.bincount(labels, minlength=classes)
    start = torch.rand(classes, generator=generator, dtype=torch.float64)
    position = (torch.arange(count) // classes + start[labels]) / places[labels]
    wanted = torch.tensor([_share(arm, rows, at, share) for at in range(classes)]).double()
    source = (position < wanted[labels]).long()
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    row = torch.stack(
        [
            (column := rows.of[kind][label])[int(at * len(column))]
            for kind, label, at in zip(
                source.tolist(), labels.tolist(), within.tolist(), strict=True
            )
        ]
    )
    shape = torch.Size((count, *size))
    return Dealt(source, row, labels, draw(shape, generator) if arm.classical else None)


def _share(arm: Arm, rows: Rows, label: int, share: float) -> float:
    real, made = (len(source[label]) for source in rows.of)
    feeds_real, feeds_made = arm.real and real > 0, arm.synthetic and made > 0
    if not (feeds_real or feeds_made):
        raise ValueError("a class of which nothing is shown cannot be learnt")
    return float(feeds_made) if not feeds_real else share * feeds_made
