"""Small lesion-like patches in HU: a disc on noise, darker in the first class."""

from collections.abc import Callable

import numpy as np
import pytest

from medaug.domain import PatchSet
from medaug.generators.settings import GeneratorSettings

SMALL = {"width": 4, "latent": 8, "batch": 8, "images": 48, "window": (-100, 250)}
SMALL["min_patients"] = 1
SMALL["least_diversity"] = 0.0  # six steps teach nothing


@pytest.fixture
def settings() -> Callable[..., GeneratorSettings]:
    """``settings(preset=…)``: networks and runs small enough for a test."""
    return lambda **own: GeneratorSettings(**{**SMALL, **own})


@pytest.fixture
def discs(make_patch_set: Callable[..., PatchSet]) -> Callable[..., PatchSet]:
    """``discs(count, side, channels)``: patches of two classes, with masks."""

    def make(
        count: int = 24, side: int = 32, channels: int = 1, low: float = 10, high: float = 60
    ) -> PatchSet:
        rng = np.random.default_rng(7)
        row, column = np.mgrid[:side, :side] - side / 2
        labels = np.arange(count) % 2
        radius = rng.uniform(side / 8, side / 3, (count, 1, 1))
        masks = np.hypot(row, column) < radius
        level = np.where(labels == 0, low, high)[:, None, None]
        images = np.where(masks, level, 110) + rng.normal(0, 10, (count, side, side))
        images = np.repeat(images[:, None], channels, axis=1)
        return make_patch_set(images, labels, ("cyst", "metastasis"), np.arange(count), masks)

    return make
