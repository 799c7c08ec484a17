"""The mask as one more channel: what the networks see, and how it is read back.

With ``outputs: [image, mask]`` both networks work on the channels of the image and one more, the
last: -1 where there is no lesion and 1 where there is. The generator then has to draw an outline
that goes with the picture, because the discriminator sees both at once. A drawn mask is where
that channel lies above 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Drawn, PatchSet, Window
from medaug.generators.settings import GeneratorSettings


def channels_of(training: PatchSet, settings: GeneratorSettings) -> int:
    """How many channels the networks have."""
    return int(training.images.shape[1]) + settings.draws_masks


def to_channels(
    training: PatchSet, settings: GeneratorSettings, window: Window
) -> NDArray[np.float32]:
    """(patch, channel, ...) in [-1, 1]: the images and, where wanted, the mask as last channel.

    Raises:
        ValueError: if masks are wanted and there are none; `refusals` says so before.
    """
    signed = window.to_signed(training.images)
    if not settings.draws_masks:
        return signed
    if training.masks is None:
        raise ValueError("the patches have no masks")
    return np.concatenate([signed, 2 * training.masks[:, None].astype(np.float32) - 1], axis=1)


def image_of(signed: NDArray[np.float32], settings: GeneratorSettings) -> NDArray[np.float32]:
    """The channels of the image alone, of patches (patch, channel, ...)."""
    return signed[:, :-1] if settings.draws_masks else signed


def from_channels(
    signed: NDArray[np.float32], settings: GeneratorSettings, window: Window
) -> Drawn:
    """Patches as the networks draw them, (sample, channel, ...) in [-1, 1], in their unit."""
    masks = signed[:, -1] > 0 if settings.draws_masks else None
    return Drawn(window.from_signed(image_of(signed, settings)), masks)
