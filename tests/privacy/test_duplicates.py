"""Two samples that are the same picture are found in any of eight poses, others are not."""

import numpy as np
import pytest
from planted import lesion

from medaug.privacy.duplicates import Gathered, closest_pair
from medaug.privacy.poses import in_square_poses

IMAGES = np.stack([lesion(seed, "cyst") for seed in range(40)])


@pytest.mark.parametrize("which", range(8))
def test_pose_of_the_square_and_noise(which: int) -> None:
    noise = np.random.default_rng(which).normal(0, 5, (64, 64))
    again = (in_square_poses(IMAGES[3, 0])[which] + noise).astype(np.float32)[None]
    gathered = Gathered()
    for image in IMAGES:
        gathered.add(image)
    assert gathered.likeness(again) > 0.98


def test_small_shift() -> None:
    moved = np.pad(IMAGES[5, 0], 2, mode="edge")[4:68, :64][None]
    assert closest_pair(np.stack([IMAGES[5], moved])) > 0.98


def test_different_pictures_stay_below() -> None:
    assert closest_pair(IMAGES) < 0.98


def test_pair_is_the_maximum_over_all_pairs() -> None:
    few = IMAGES[:8]
    pairs = [closest_pair(few[[first, then]]) for then in range(8) for first in range(then)]
    assert closest_pair(few) == pytest.approx(max(pairs), abs=1e-6)


def test_pictures_of_an_earlier_block_are_met_too(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = closest_pair(IMAGES)
    monkeypatch.setattr("medaug.privacy.duplicates._BLOCK", 3)
    assert closest_pair(IMAGES) == pytest.approx(whole, abs=1e-6)


def test_nothing_to_compare_with() -> None:
    assert closest_pair(IMAGES[:1]) == 0
