"""Small, middle or large? Rare sizes are turned away most, and a release says how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet

NAMES = ("small", "middle", "large")


@dataclass(frozen=True)
class Sizes:
    """Thirds of the training lesions' areas (of cubes, volumes), as shares of the patch.

    Attributes:
        edges: the two values between the thirds.
    """

    edges: tuple[float, float]

    @classmethod
    def of(cls, training: PatchSet) -> Sizes | None:
        """None where the training patches have no masks."""
        if training.masks is None:
            return None
        low, high = np.quantile([mask.mean() for mask in training.masks], (1 / 3, 2 / 3))
        return cls((float(low), float(high)))

    def name(self, mask: NDArray[np.bool_]) -> str:
        """Which third a mask belongs to."""
        return NAMES[int(np.searchsorted(self.edges, mask.mean(), side="right"))]
