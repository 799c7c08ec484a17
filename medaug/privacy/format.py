"""Is a sample a picture of the kind it should be at all?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet, Window

# A sample with less than this share of the contrast of the flattest real patch is dead.
_DEAD_SHARE = 0.5


@dataclass(frozen=True)
class Format:
    """What every sample must be.

    Attributes:
        shape: (channel, row, column).
        window: intensities the generator knows.
        step: one stored level; a value may lie outside the window by as much.
        least_contrast: a standard deviation below it is a dead picture.
    """

    shape: tuple[int, ...]
    window: Window
    step: float
    least_contrast: float

    @classmethod
    def of(cls, training: PatchSet, window: Window, step: float) -> Format:
        """The format of the training patches, seen through the window."""
        least = min(
            float(_contrast(np.clip(image[None], window.low, window.high))[0])
            for image in training.images
        )
        return cls(training.images.shape[1:], window, step, least * _DEAD_SHARE)

    def fault(self, image: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> str | None:
        """What is wrong with an image (channel, row, column) or its mask; None if nothing is.

        A mask (row, column), where one was drawn, must mark at least one pixel: a patch without
        lesion is no sample of a lesion class, and no box can be taken from it.
        """
        if image.shape != self.shape:
            return f"shape {image.shape} instead of {self.shape}"
        if not np.isfinite(image).all():
            return "NaN or infinity"
        if image.min() < self.window.low - self.step or image.max() > self.window.high + self.step:
            return "intensities outside the window"
        contrast = float(_contrast(image[None])[0])
        if contrast == 0 or contrast < self.least_contrast:
            return "a picture without contrast"
        if mask is not None and mask.shape != image.shape[1:]:
            return f"a mask of shape {mask.shape} instead of {image.shape[1:]}"
        if mask is not None and not mask.any():
            return "a mask that marks no pixel"
        return None

    def contrast(self, image: NDArray[np.float32]) -> float:
        """Standard deviation of an image (channel, row, column), of its channel with the most."""
        return float(_contrast(image[None])[0])


def _contrast(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """(sample,): standard deviation of the channel with the most contrast."""
    deviation = images.astype(np.float64).std(axis=tuple(range(2, images.ndim)))
    return np.asarray(deviation.max(axis=1))
