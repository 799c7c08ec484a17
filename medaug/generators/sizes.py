"""The size of the lesion as a further condition: a patch of a lesion of 12 mm, please.

A lesion's diameter d in mm becomes a *size*, z = (log d − m) / s, where m and s are the mean and
the standard deviation of log d in its class. Lesion diameters are skewed, as most sizes in biology
are, and close to log-normal. What is kept of the training patients' diameters is m and s, rounded,
so that nobody's is kept; sizes are drawn from the standard normal law, cut off at `MOST`, beyond
which there is next to nothing to learn from.

The generator is given z beside the latent. The discriminator sees z as one more channel of the
patch that holds the same number everywhere (Mirza and Osindero [1]_ feed the condition to both
networks as a further input).

The diameter is that which the patch shows: a lesion that was shrunk to fit counts as shrunk.

.. [1] Mirza, Osindero 2014, Conditional generative adversarial nets, arXiv:1411.1784
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medaug.domain import PatchSet

MOST = 2.5
"""Standard deviations from the mean beyond which no size is drawn."""
_DIGITS = 2  # of m and s: an hundredth of log d is one per cent of d
_LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class SizeLaw:
    """How the diameters of a class are distributed: log d is normal.

    Attributes:
        mean: m, of log(d / mm).
        spread: s, its standard deviation.
    """

    mean: float
    spread: float

    @classmethod
    def of(cls, diameters: NDArray[np.float64]) -> SizeLaw:
        """The law of diameters in mm, (n,), n ≥ 2 and all above 0."""
        logs = np.log(diameters)
        spread = max(round(float(logs.std(ddof=1)), _DIGITS), _LEAST_SPREAD)
        return cls(round(float(logs.mean()), _DIGITS), spread)

    def sizes(self, diameters_mm: ArrayLike) -> NDArray[np.float32]:
        """Of diameters in mm (n,): z (n,)."""
        logs = np.log(np.asarray(diameters_mm, np.float64))
        return ((logs - self.mean) / self.spread).astype(np.float32)

    @property
    def range_mm(self) -> tuple[float, float]:
        """The smallest and the largest diameter in mm that are drawn."""
        low, high = np.exp(self.mean + np.array([-MOST, MOST]) * self.spread)
        return float(low), float(high)


def shown_diameters(patches: PatchSet) -> NDArray[np.float64]:
    """(patch,) mm at the nominal size of a pixel; 0 where it is not known."""
    return np.array([place.diameter_mm * place.scale for place in patches.locations], np.float64)


def laws_of(patches: PatchSet) -> dict[str, SizeLaw]:
    """The law of each class; patches without a diameter are left out."""
    shown = shown_diameters(patches)
    return {
        name: SizeLaw.of(shown[(patches.labels == label) & (shown > 0)])
        for label, name in enumerate(patches.classes)
    }


def draw_sizes(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(count, 1): z."""
    return rng.standard_normal((count, 1), dtype=np.float32).clip(-MOST, MOST)


def joined(labels: Tensor, sizes: Tensor) -> Tensor:
    """(n, 2) float32: class and z of each patch."""
    return torch.stack([labels.to(sizes.dtype), sizes], dim=1)


def sizes_of(conditions: Tensor) -> tuple[Tensor, Tensor | None]:
    """Classes (n,) int64 and z (n,), or None, of what may be `joined` or classes alone."""
    if conditions.ndim == 1:
        return conditions, None
    return conditions[:, 0].long(), conditions[:, 1]


def as_json(laws: Mapping[str, SizeLaw]) -> dict[str, dict[str, float]]:
    """As ``config.json`` keeps them."""
    return {name: {"log_mm_mean": law.mean, "log_mm_sd": law.spread} for name, law in laws.items()}


def from_json(document: Mapping[str, Mapping[str, float]]) -> dict[str, SizeLaw]:
    """What `as_json` gave."""
    return {name: SizeLaw(law["log_mm_mean"], law["log_mm_sd"]) for name, law in document.items()}
