"""Collapse, the first enemy: does the generator draw many patches, or one?

Diversity is the standard deviation over patches of one class, pixel by pixel, averaged over
pixels, in [-1, 1]. It is held against that of the real patches of the class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medaug.generators.adversaries import latents
from medaug.generators.masks import image_of
from medaug.generators.networks import Generator
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import draw

SAMPLES = 64
COLLAPSED = 0.25  # of the real patches' diversity


def diversity(images: NDArray[np.float32]) -> float:
    """Of signed patches (n, channel, [slice,] row, column), n ≥ 2; unbiased in the variance.

    >>> diversity(np.zeros((8, 1, 4, 4), np.float32))
    0.0
    """
    return float(images.std(axis=0, ddof=1, dtype=np.float64).mean())


def generated_diversity(network: Generator, condition: int, settings: GeneratorSettings) -> float:
    """Of the images of 64 patches of one class; always from the same latents."""
    noise = latents(SAMPLES, settings, np.random.default_rng(0))
    return diversity(image_of(draw(network, noise, condition), settings))


def collapse_note(label: str, generated: float, real: float) -> str | None:
    """A sentence for the report where the class has collapsed, else None."""
    if generated >= COLLAPSED * real:
        return None
    return (
        f"The generator collapsed on class {label}: its patches vary by {generated:.3f} where "
        f"real ones vary by {real:.3f} (mean standard deviation per pixel in [-1, 1])."
    )
