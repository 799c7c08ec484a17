"""Classical augmentation of patches together with their masks.

A mask is moved as its picture is and keeps its outline where the moved one covers at least half a
pixel; filter, intensity and noise leave it alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from medaug.evaluation.classical import augment, draw


def augment_with_masks(
    images: Tensor, masks: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Pictures and masks after one draw of classical augmentation for each.

    Args:
        images: (patch, channel, [slice,] row, column) on [-1, 1].
        masks: (patch, 1, [slice,] row, column) bool, or None.
        generator: of the draw.

    Returns:
        As given, moved and changed alike.
    """
    drawn = draw(images.shape, generator)
    changed = augment(images, drawn)
    if masks is None:
        return changed, None
    moved = replace(
        drawn,
        filtering=torch.zeros_like(drawn.filtering),
        contrast=torch.ones_like(drawn.contrast),
        brightness=torch.zeros_like(drawn.brightness),
        noise=torch.zeros(masks.shape),
    )
    return changed, augment(masks.float() * 2 - 1, moved) >= 0
