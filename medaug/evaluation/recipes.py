"""Which operations, and how much of them: three ways to draw.

- `Classical`: every operation of `classical` at once, each by a random amount [1]_.
- `RandAugment`: ``n`` operations at random, all at the magnitude ``m`` of 10 [2]_.
- `TrivialAugment`: one operation at random, by a random amount [3]_.

The last two draw among rotate, zoom, shift (by axis), blur, sharpen, noise, brightness and
contrast, and none ("identity"), and leave out what the unit forbids (`Limits`): in HU there is no
contrast. As in both papers a flip is drawn beside them. They differ from the papers in two ways:
operations of photographs that mean nothing here (posterise, solarise, colour) are absent; and the
operations of one patch are applied in a fixed order, geometry first and noise last, so that a
patch is resampled once.

>>> sorted(names_of(Limits(contrast=0.0), 2))
['blur', 'brightness', 'identity', 'noise', 'rotate', 'sharpen', 'shift 0', 'shift 1', 'zoom']

.. [1] Frid-Adar et al. 2018, doi:10.1016/j.neucom.2018.09.013
.. [2] Cubuk et al. 2020, arXiv:1909.13719
.. [3] Müller & Hutter 2021, arXiv:2103.10158
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medaug.evaluation.classical import ZOOM, Limits, Operations, draw, flips, noise_seeds

FULL = 10
"""RandAugment's largest magnitude."""


@dataclass(frozen=True)
class Classical:
    """Everything at once (`classical.draw`); ``strength`` multiplies the limits."""

    strength: float = 1.0


@dataclass(frozen=True)
class RandAugment:
    """``n`` operations, with replacement, at ``m`` of 10; the sign is random."""

    n: int = 2
    m: int = 5

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.m <= FULL:
            raise ValueError(f"n is at least 1 and m 0 to {FULL}, got {self.n} and {self.m}")


@dataclass(frozen=True)
class TrivialAugment:
    """One operation by an amount between none and its limit; there is nothing to choose."""


Recipe = Classical | RandAugment | TrivialAugment

TURN = {RandAugment: math.radians(30), TrivialAugment: math.radians(135)}
"""Largest turns, after [2]_ and the wide space of [3]_."""


def draw_operations(
    recipe: Recipe, shape: Sequence[int], limits: Limits, generator: torch.Generator
) -> Operations:
    """Draw what is done to each patch of ``shape`` (patch, channel, [slice,] row, column)."""
    if isinstance(recipe, Classical):
        return draw(shape, generator, limits, recipe.strength)
    count, spatial_dims = shape[0], len(shape) - 2
    names = names_of(limits, spatial_dims)
    operations = recipe.n if isinstance(recipe, RandAugment) else 1
    chosen = torch.randint(len(names), (count, operations), generator=generator)
    sign = 2.0 * torch.randint(2, (count, operations), generator=generator) - 1
    if isinstance(recipe, RandAugment):
        amount = sign * recipe.m / FULL
    else:
        amount = sign * torch.rand(count, operations, generator=generator)

    def of(name: str) -> Tensor:
        """(patch,) the amount of an operation, in [-1, 1] for each time that it was drawn."""
        if name not in names:
            return torch.zeros(count)
        return ((chosen == names.index(name)) * amount).sum(dim=1)

    shift = [of(f"shift {axis}") * limits.shift[axis] for axis in range(spatial_dims)]
    return Operations(
        angle=of("rotate") * TURN[type(recipe)],
        zoom=torch.exp(of("zoom") * math.log(ZOOM)),
        flip=flips(count, generator),
        shift=torch.stack(shift, dim=1),
        filtering=(of("blur").abs() - of("sharpen").abs()).clamp(-1, 1),
        contrast=1 + of("contrast") * limits.contrast,
        brightness=of("brightness") * limits.brightness,
        noise=of("noise").abs() * limits.noise,
        noise_seed=noise_seeds(count, generator),
        blur=limits.blur,
        pivot=limits.pivot,
    )


def names_of(limits: Limits, spatial_dims: int) -> tuple[str, ...]:
    """The operations that `RandAugment` and `TrivialAugment` draw among, in a fixed order."""
    names = ["identity", "rotate", "zoom", "blur", "sharpen", "noise"]
    names += [f"shift {axis}" for axis in range(spatial_dims)]
    names += ["brightness"] if limits.brightness else []
    names += ["contrast"] if limits.contrast else []
    return tuple(names)
