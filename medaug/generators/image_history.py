"""What the refiner drew before, kept so that the discriminator does not forget it.

A discriminator that sees the latest refined patches only lets the refiner bring back flaws that it
was once rid of. Half of every batch it sees is therefore drawn from a buffer of earlier ones
(Shrivastava et al. 2017, section 2.3, arXiv:1612.07828).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class ImageHistory:
    """A buffer of ``capacity`` patches (n, channel, row, column) and their labels (n,)."""

    def __init__(self, capacity: int, images: Tensor, labels: Tensor) -> None:
        self.capacity, self.images, self.labels = capacity, images, labels

    @classmethod
    def empty(
        cls, capacity: int, shape: tuple[int, int, int], device: torch.device
    ) -> ImageHistory:
        """A buffer of nothing yet."""
        labels = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(capacity, torch.zeros(0, *shape, device=device), labels)

    def mix(self, fresh: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The batch that the discriminator sees; the buffer then takes half of ``fresh``.

        Args:
            fresh: (patch, channel, row, column), detached.
            labels: (patch,).
            rng: draws what is recalled and what is overwritten.

        Returns:
            The first half of ``fresh`` and as many recalled patches as make up for the rest, and
            their labels; ``fresh`` itself while the buffer holds too few.
        """
        old = len(fresh) // 2
        kept = len(fresh) - old
        images, classes = fresh, labels
        if 0 < old <= len(self.images):
            rows = torch.from_numpy(rng.choice(len(self.images), old, replace=False))
            images = torch.cat([fresh[:kept], self.images[rows]])
            classes = torch.cat([labels[:kept], self.labels[rows]])
        self._take(fresh[kept:], labels[kept:], rng)
        return images, classes

    def _take(self, images: Tensor, labels: Tensor, rng: np.random.Generator) -> None:
        room = self.capacity - len(self.images)
        self.images = torch.cat([self.images, images[:room]])
        self.labels = torch.cat([self.labels, labels[:room]])
        left = min(len(images) - room, self.capacity)
        if left > 0:
            rows = torch.from_numpy(rng.choice(self.capacity, left, replace=False))
            self.images[rows], self.labels[rows] = images[-left:], labels[-left:]
