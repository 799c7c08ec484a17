"""Differentiable augmentation of grey-level patches, drawn for every patch on its own.

The discriminator only ever sees augmented patches, real and generated alike, so that it cannot
learn a small data set by heart (Zhao et al. 2020 [1]_). Each kind is applied with a
probability below one, so that the generator still learns the patches as they are and not
their augmented form (Karras et al. 2020 [2]_, section 2.2). Drawn once per batch
instead of once per patch it does not prevent collapse.

The kinds are those that mean something for signed intensities in a window: the 8 flips and
quarter turns, shifts (mirrored at the border), contrast, brightness, and a blank square.
There is no colour.

In 3-D a cube is shifted along three axes, flipped and turned in its axial plane and flipped
between head and feet (16 poses: turns out of the plane would tip the patient over), and a smaller
cube in it is blank.

Where the last channel is a mask (`medaug.generators.masks`), it is moved with the image and keeps
its values: contrast and brightness are the image's alone. The blank square is blank in both. Its 0
lies between "no lesion" (-1) and "lesion" (1), so that it cannot be taken for either.

.. [1] arXiv:2006.10738
.. [2] arXiv:2006.06676
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SHIFT = 1 / 8  # of the side, either way
CONTRAST = 0.3  # log of the factor, either way
BRIGHTNESS = 0.15  # of the half window, either way
CUTOUT = 3 / 8  # of the side
# Turns and flips are drawn half as often as the rest: at 0.8 the generator could afford to draw one
# orientation only, since the discriminator hardly saw which one was real.
TURNED = 1 / 2


@dataclass(frozen=True)
class Draw:
    """What is done to each patch of a batch.

    Attributes:
        source: (patch, pixel) int64, the pixel that each pixel is taken from.
        contrast: (patch, 1, …), factor about the patch's mean.
        brightness: (patch, 1, …), added.
        kept: (patch, 1, [slice,] row, column), 0 inside the blank square and 1 elsewhere.
    """

    source: Tensor
    contrast: Tensor
    brightness: Tensor
    kept: Tensor


def draw(
    count: int, side: int, probability: float, rng: np.random.Generator, dims: int = 2
) -> Draw:
    """Draw for ``count`` patches of ``side`` pixels, each kind with ``probability``."""

    def chosen(share: float = 1.0) -> np.ndarray:
        return rng.random((count, 1)) < share * probability

    reach = round(side * SHIFT)
    turns = np.where(chosen(TURNED), rng.integers(2 ** (dims + 1), size=(count, 1)), 0)
    shift = np.where(chosen(), rng.integers(-reach, reach + 1, size=(count, dims)), 0)
    contrast = np.where(chosen(), np.exp(rng.uniform(-CONTRAST, CONTRAST, (count, 1))), 1)
    brightness = np.where(chosen(), rng.uniform(-BRIGHTNESS, BRIGHTNESS, (count, 1)), 0)
    corner = np.where(chosen(), rng.uniform(-CUTOUT / 2, 1 - CUTOUT / 2, (count, dims)), 2)

    rows = _mirrored(np.arange(side) + shift[:, -2:-1], side)
    columns = _mirrored(np.arange(side) + shift[:, -1:], side)
    rows = np.where(turns & 1, side - 1 - rows, rows)
    columns = np.where(turns & 2, side - 1 - columns, columns)
    transposed = turns & 4 != 0
    down, across = np.where(transposed, 1, side), np.where(transposed, side, 1)
    source = (rows * down)[:, :, None] + (columns * across)[:, None, :]
    if dims == 3:
        slices = _mirrored(np.arange(side) + shift[:, :1], side)
        slices = np.where(turns & 8, side - 1 - slices, slices)
        source = slices[:, :, None, None] * side**2 + source[:, None]

    first = np.rint(corner * side)
    along = np.arange(side)
    inside = (along >= first[:, :, None]) & (along < first[:, :, None] + round(side * CUTOUT))
    blank = inside[:, -2, :, None] & inside[:, -1, None, :]
    if dims == 3:
        blank = inside[:, 0, :, None, None] & blank[:, None]
    one = [-1, *[1] * (dims + 1)]
    return Draw(
        torch.from_numpy(source.reshape(count, -1)),
        torch.from_numpy(contrast.astype(np.float32)).view(one),
        torch.from_numpy(brightness.astype(np.float32)).view(one),
        torch.from_numpy(~blank[:, None]).float(),
    )


def apply(images: Tensor, what: Draw, masked: bool = False) -> Tensor:
    """Augment ``images`` (patch, channel, [slice,] row, column); all channels of a patch alike.

    With ``masked``, the last channel is a mask.
    """
    device = images.device
    source = what.source.to(device)[:, None].expand(-1, images.shape[1], -1)
    moved = images.flatten(2).gather(2, source).view(images.shape)
    image, mask = (moved[:, :-1], moved[:, -1:]) if masked else (moved, None)
    mean = image.mean(tuple(range(1, image.ndim)), keepdim=True)
    lit = (image - mean) * what.contrast.to(device) + mean + what.brightness.to(device)
    if mask is not None:
        lit = torch.cat([lit, mask], dim=1)
    kept: Tensor = lit * what.kept.to(device)
    return kept


def _mirrored(at: np.ndarray, side: int) -> np.ndarray:
    """Positions outside 0..side-1 folded back, the border pixel not repeated."""
    at = np.abs(at)
    return np.where(at > side - 1, 2 * (side - 1) - at, at)
