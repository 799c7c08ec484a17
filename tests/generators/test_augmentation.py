"""Augmentation is drawn per patch, differentiable, and leaves alone what it should."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medaug.generators.augmentation import BRIGHTNESS, Draw, apply, draw

SIDE = 32


def drawn(count: int, probability: float = 1.0, seed: int = 3) -> Draw:
    return draw(count, SIDE, probability, np.random.default_rng(seed))


def without(what: Draw, *kinds: str) -> Draw:
    neutral = {"contrast": torch.ones(1), "brightness": torch.zeros(1), "kept": torch.ones(1)}
    return replace(what, **{kind: neutral[kind] for kind in kinds})


def test_every_patch_of_a_batch_gets_its_own_draw() -> None:
    one = torch.randn(1, 1, SIDE, SIDE).expand(16, -1, -1, -1)
    changed = apply(one, drawn(16))
    different = {patch.numpy().tobytes() for patch in changed}
    assert len(different) == 16
    what = drawn(64)
    assert len(what.contrast.unique()) == len(what.brightness.unique()) == 64
    assert len({row.numpy().tobytes() for row in what.source}) > 45
    assert len({hole.numpy().tobytes() for hole in what.kept}) > 60


def test_with_probability_zero_nothing_is_done() -> None:
    images = torch.randn(8, 2, SIDE, SIDE)
    torch.testing.assert_close(apply(images, drawn(8, probability=0.0)), images)


def test_each_kind_is_applied_as_often_as_asked() -> None:
    what = drawn(4000, probability=0.3)
    for touched in (what.contrast != 1, what.brightness != 0, (what.kept == 0).flatten(1).any(1)):
        assert touched.double().mean().item() == pytest.approx(0.3, abs=0.03)
    # Half as often turned: 7 of 8 turns are visible, and 80 of 81 shifts.
    still = (what.source == torch.arange(SIDE**2)).all(1).double().mean().item()
    assert still == pytest.approx((1 - 0.15 * 7 / 8) * (1 - 0.3 * 80 / 81), abs=0.03)


def test_turns_and_shifts_are_those_of_a_slow_twin() -> None:
    """Each moved patch is one of the 8 poses of a mirrored, shifted patch."""
    images = torch.randn(12, 1, SIDE, SIDE)
    moved = apply(images, without(drawn(12), "contrast", "brightness", "kept")).numpy()
    for before, after in zip(images.numpy()[:, 0], moved[:, 0], strict=True):
        padded = np.pad(before, SIDE // 8, mode="reflect")
        poses = [
            np.rot90(
                np.fliplr(padded[r : r + SIDE, c : c + SIDE])
                if flip
                else padded[r : r + SIDE, c : c + SIDE],
                turn,
            )
            for r in range(SIDE // 4 + 1)
            for c in range(SIDE // 4 + 1)
            for flip in (False, True)
            for turn in range(4)
        ]
        assert min(np.abs(pose - after).max() for pose in poses) < 1e-6


def test_all_eight_poses_occur() -> None:
    source = drawn(500).source.reshape(-1, SIDE, SIDE).numpy().astype(int)
    middle = SIDE // 2
    steps = {
        (
            tile[middle, middle + 1] - tile[middle, middle],
            tile[middle + 1, middle] - tile[middle, middle],
        )
        for tile in source
    }
    assert steps == {(a, b) for a in (1, -1) for b in (SIDE, -SIDE)} | {
        (a, b) for a in (SIDE, -SIDE) for b in (1, -1)
    }


def test_contrast_keeps_the_mean_and_brightness_moves_it() -> None:
    images = torch.randn(8, 1, SIDE, SIDE)
    contrasted = apply(images, without(drawn(8), "brightness", "kept"))
    lit = apply(images, without(drawn(8), "kept"))
    moved = apply(images, without(drawn(8), "contrast", "brightness", "kept"))
    means = [images.mean((1, 2, 3)) for images in (moved, contrasted, lit)]
    torch.testing.assert_close(means[0], means[1])
    difference = (means[2] - means[1]).abs()
    assert 0 < difference.min() <= difference.max() <= BRIGHTNESS + 1e-6


def test_channels_of_a_patch_move_together() -> None:
    image = torch.randn(6, 1, SIDE, SIDE).expand(-1, 3, -1, -1)
    changed = apply(image, drawn(6))
    torch.testing.assert_close(changed[:, 0], changed[:, 2])


def test_gradients_pass_to_second_order() -> None:
    what = draw(2, SIDE, 1.0, np.random.default_rng(0))
    images = torch.randn(2, 1, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    small = {"contrast": what.contrast.double(), "brightness": what.brightness.double()}
    what = replace(what, **small, kept=what.kept.double())
    weights = torch.randn(2, 1, SIDE, SIDE, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((apply(images, what) * weights).sum(), images)
    direction = torch.randn_like(images)
    change = ((apply(images + direction, what) - apply(images, what)) * weights).sum()
    assert change.item() == pytest.approx((gradient * direction).sum().item())  # it is linear
    assert torch.autograd.gradgradcheck(
        lambda x: apply(x, what).square().mean((1, 2, 3)), (images,), fast_mode=True
    )
