"""Classical augmentation: drawn first, then applied, per patch, in range, blind to labels."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medaug.evaluation.classical import ClassicalDraw, augment, draw

SHAPE = torch.Size([64, 1, 24, 24])


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(SHAPE, generator=generator) * 2 - 1


def still(count: int, side: int = 24) -> ClassicalDraw:
    """The draw that changes nothing."""
    zero, one = torch.zeros(count), torch.ones(count)
    return ClassicalDraw(
        zero, one, one, torch.zeros(count, 2), zero, one, zero, torch.zeros(count, 1, side, side)
    )


def drawn(seed: int) -> ClassicalDraw:
    return draw(SHAPE, torch.Generator().manual_seed(seed))


def test_stays_in_range_and_shape(images: torch.Tensor) -> None:
    result = augment(images.sign(), drawn(0))
    assert result.shape == images.shape
    assert result.min() >= -1
    assert result.max() <= 1


def test_the_same_seed_gives_the_same_pictures(images: torch.Tensor) -> None:
    assert torch.equal(augment(images, drawn(1)), augment(images, drawn(1)))
    assert not torch.equal(augment(images, drawn(1)), augment(images, drawn(2)))


def test_every_patch_has_its_own_draw() -> None:
    same = torch.rand(1, 1, 24, 24).expand(SHAPE) * 2 - 1
    results = augment(same, drawn(0)).flatten(1)
    distances = torch.cdist(results, results) + torch.eye(64) * 9
    assert distances.min() > 0.1


def test_a_patch_does_not_see_the_others(images: torch.Tensor) -> None:
    one = drawn(0)
    first = ClassicalDraw(
        **{field.name: getattr(one, field.name)[:1] for field in dataclasses.fields(one)}
    )
    assert torch.allclose(augment(images, one)[:1], augment(images[:1], first), atol=1e-5)


def test_the_draw_that_changes_nothing_changes_nothing(images: torch.Tensor) -> None:
    assert torch.allclose(augment(images, still(64)), images, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"flip": -torch.ones(1)}, lambda x: x[:, ::-1]),
        ({"angle": torch.full((1,), math.pi)}, lambda x: x[::-1, ::-1]),
        ({"angle": torch.full((1,), math.pi / 2)}, lambda x: np.rot90(x, 1)),
        ({"brightness": torch.full((1,), 0.03)}, lambda x: x + 0.03),
        ({"contrast": torch.full((1,), 0.9)}, lambda x: x.mean() + 0.9 * (x - x.mean())),
    ],
)
def test_each_operation_does_what_it_is_called(change: dict, expected) -> None:  # type: ignore[no-untyped-def,type-arg]
    picture = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)) - 0.5
    result = augment(picture, dataclasses.replace(still(1), **change))[0, 0].numpy()
    assert result == pytest.approx(expected(picture[0, 0].numpy()), abs=1e-4)


def test_shift_and_zoom_move_a_blob_as_scipy_does() -> None:
    rows, columns = np.mgrid[:24, :24] - 11.5
    blob = np.exp(-(rows**2 + columns**2) / 18) - 0.5
    picture = torch.from_numpy(blob[None, None].astype(np.float32))
    moved = dataclasses.replace(still(1), shift=torch.tensor([[3 / 24, 0.0]]))
    found = augment(picture, moved)[0, 0].numpy()
    assert found[:, :20] == pytest.approx(ndimage.shift(blob, (0, -3), order=1)[:, :20], abs=1e-3)
    larger = augment(picture, dataclasses.replace(still(1), zoom=torch.tensor([1.25])))[0, 0]
    zoomed = np.exp(-(rows**2 + columns**2) / 18 / 1.25**2) - 0.5
    assert larger.numpy() == pytest.approx(zoomed, abs=0.02)


def test_blur_smooths_and_sharpen_roughens(images: torch.Tensor) -> None:
    small = images * 0.3
    blurred = augment(small, dataclasses.replace(still(64), filtering=torch.ones(64)))
    sharpened = augment(small, dataclasses.replace(still(64), filtering=-torch.ones(64)))
    assert blurred.std() < 0.5 * small.std() < 0.5 * sharpened.std()
    twin = ndimage.convolve(
        small[0, 0].numpy(), np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256, mode="mirror"
    )
    assert blurred[0, 0].numpy() == pytest.approx(twin, abs=1e-5)


@pytest.mark.parametrize("degrees", [30, 45, 90])
def test_rotation_stays_rigid_on_oblong_patches(degrees: float) -> None:
    rows, columns = np.mgrid[-15.5:16, -7.5:8]
    picture = np.exp(-((rows - 3) ** 2 + (columns - 1) ** 2) / 8) - 0.5
    angle = math.radians(degrees)
    turned = dataclasses.replace(
        still(1), angle=torch.tensor([angle]), noise=torch.zeros(1, 1, 32, 16)
    )
    result = augment(torch.from_numpy(picture.astype(np.float32))[None, None], turned)[0, 0]
    row = math.cos(angle) * 3 - math.sin(angle) * 1
    column = math.sin(angle) * 3 + math.cos(angle) * 1
    expected = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8) - 0.5
    # Farther out than the shorter half side, the mirrored surroundings come into view.
    inside = np.hypot(rows, columns) < 7
    assert result.numpy()[inside] == pytest.approx(expected[inside], abs=0.06)
