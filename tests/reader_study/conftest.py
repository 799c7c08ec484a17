"""Flat synthetic patches and noisy real ones: as easy to betray by compression as can be.

Puts ``decks`` and ``browser`` within reach of the tests beside it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medaug.domain import PatchSet, Release

sys.path.insert(0, str(Path(__file__).parent))

from decks import CLASSES, released


@pytest.fixture
def release() -> Release:
    return released()


@pytest.fixture
def real(make_patch_set: Callable[..., PatchSet]) -> PatchSet:
    """Noise: 120 patches of 60 patients, each with one of either class, far beyond the window."""
    images = np.random.default_rng(0).normal(0, 500, (120, 1, 16, 16))
    return make_patch_set(images, np.arange(120) % 2, CLASSES, np.arange(120) // 2)
