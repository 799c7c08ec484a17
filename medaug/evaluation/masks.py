"""Classical augmentation of patches together with their masks.

A mask is moved as its picture is and keeps its outline where the moved one covers at least half a
pixel; filter, intensity and noise leave it alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from medaug.evaluation.classical import ClassicalDraw, augment


def change(images: Tensor, drawn: ClassicalDraw | None) -> Tensor:
    """Images (patch, channel, [slice,] row, column) on [-1, 1] after what was drawn, if any."""
    return images if drawn is None else augment(images, drawn)


def move_masks(masks: Tensor, drawn: ClassicalDraw | None) -> Tensor:
    """Masks (patch, 1, [slice,] row, column) bool, moved as their pictures are."""
    if drawn is None:
        return masks
    moved = replace(
        drawn,
        filtering=torch.zeros_like(drawn.filtering),
        contrast=torch.ones_like(drawn.contrast),
        brightness=torch.zeros_like(drawn.brightness),
        noise=torch.zeros(masks.shape),
    )
    return augment(masks.float() * 2 - 1, moved) >= 0
