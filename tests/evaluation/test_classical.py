"""Classical augmentation: drawn first, then applied, per patch, in range, blind to labels."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from monai.transforms import Affine, GaussianSmooth
from scipy import ndimage

from medaug.domain import Unit, Window
from medaug.evaluation.classical import Limits, Operations, augment, augment_masks, draw

SHAPE = torch.Size([64, 1, 24, 24])


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(SHAPE, generator=generator) * 2 - 1


def still(count: int, dims: int = 2) -> Operations:
    """What changes nothing."""
    zero, one = torch.zeros(count), torch.ones(count)
    shift, seeds = torch.zeros(count, dims), torch.zeros(count, dtype=torch.int64)
    return Operations(zero, one, one, shift, zero, one, zero, zero, seeds, 1.0, None)


def drawn(seed: int) -> Operations:
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
    columns = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    last = Operations(
        **{name: each[-1:] if torch.is_tensor(each) else each for name, each in columns.items()}
    )
    assert torch.allclose(augment(images, one)[-1:], augment(images[-1:], last), atol=1e-5)


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
    twin = ndimage.gaussian_filter(small[0, 0].numpy(), 1.0, mode="mirror", radius=2)
    assert blurred[0, 0].numpy() == pytest.approx(twin, abs=0.02)


@pytest.mark.parametrize("degrees", [30, 45, 90])
def test_rotation_stays_rigid_on_oblong_patches(degrees: float) -> None:
    rows, columns = np.mgrid[-15.5:16, -7.5:8]
    picture = np.exp(-((rows - 3) ** 2 + (columns - 1) ** 2) / 8) - 0.5
    angle = math.radians(degrees)
    turned = dataclasses.replace(still(1), angle=torch.tensor([angle]))
    result = augment(torch.from_numpy(picture.astype(np.float32))[None, None], turned)[0, 0]
    row = math.cos(angle) * 3 - math.sin(angle) * 1
    column = math.sin(angle) * 3 + math.cos(angle) * 1
    expected = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8) - 0.5
    # Farther out than the shorter half side, the mirrored surroundings come into view.
    inside = np.hypot(rows, columns) < 7
    assert result.numpy()[inside] == pytest.approx(expected[inside], abs=0.06)


class TestTheSlowTwin:
    """MONAI's transforms, patch by patch, with the same parameters."""

    @pytest.mark.parametrize("dims", [2, 3])
    def test_one_resampling_and_a_gaussian(self, dims: int) -> None:
        size = (24, 24) if dims == 2 else (12, 16, 16)
        generator = torch.Generator().manual_seed(0)
        picture = GaussianSmooth(1.5)(torch.rand(1, *size, generator=generator) - 0.5).as_tensor()
        picture = 0.5 * picture / picture.abs().max()
        angle, zoom, shift = 0.4, 1.2, torch.tensor([[0.1, -0.05, 0.08][:dims]])
        ours = dataclasses.replace(
            still(1, dims), angle=torch.tensor([angle]), zoom=torch.tensor([zoom]), shift=shift
        )
        # From an output place to an input place about the centre; axes [slice,] row, column.
        cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
        place = np.eye(dims + 1)
        place[dims - 2 : dims, dims - 2 : dims] = [[cos, sin], [-sin, cos]]
        place[: dims - 2, : dims - 2] /= zoom
        place[:dims, dims] = (shift[0] * torch.tensor(size[::-1])).flip(0)
        move = Affine(affine=place, padding_mode="reflection", image_only=True)
        expected = move(picture).as_tensor()
        inside = (slice(None), *(slice(3, -3) for _ in size))
        found = augment(picture[None], ours)[0]
        torch.testing.assert_close(found[inside], expected[inside], atol=0.02, rtol=0)
        assert (found - picture)[inside].abs().max() > 0.1
        blur = dataclasses.replace(still(1, dims), filtering=torch.ones(1), blur=1.5)
        smooth = GaussianSmooth(1.5)(picture).as_tensor()
        torch.testing.assert_close(
            augment(picture[None], blur)[0][inside], smooth[inside], atol=0.05, rtol=0
        )


class TestLimits:
    """In mm and in the unit of the picture; HU are never scaled."""

    WINDOW = Window(-100, 250)

    def in_unit(self, unit: Unit, seed: int = 0) -> torch.Tensor:
        """200 grey patches of 100, of which the filter and the moves change nothing."""
        limits = Limits.of(unit, self.WINDOW, 1.0, (16, 16))
        grey = torch.full((200, 1, 16, 16), 100.0)
        grey[:, :, :8] = 0.0
        found = draw(grey.shape, torch.Generator().manual_seed(seed), limits)
        found = dataclasses.replace(
            still(200),
            contrast=found.contrast,
            brightness=found.brightness,
            noise=found.noise,
            noise_seed=found.noise_seed,
            pivot=found.pivot,
        )
        return augment(grey, found, bounds=None)

    def test_hounsfield_units_move_and_are_not_scaled(self) -> None:
        found = self.in_unit(Unit.HOUNSFIELD)
        dark, bright = found[:, 0, :8].mean((1, 2)), found[:, 0, 8:].mean((1, 2))
        # Of 128 pixels the noise leaves less than 1 HU in the mean, 10 / 128 ** 0.5.
        assert (bright - dark).sub(100).abs().max() < 5
        assert 4 < dark.abs().max() < 9
        assert 7 < found[:, 0, :8].std((1, 2)).max() < 11

    def test_uptake_is_scaled_about_zero(self) -> None:
        found = self.in_unit(Unit.SUV)
        assert found[:, 0, :8].mean((1, 2)).abs().max() < 3
        assert found[:, 0, 8:].mean((1, 2)).std() > 4

    def test_what_has_no_unit_changes_in_contrast_and_brightness(self) -> None:
        found = self.in_unit(Unit.ARBITRARY)
        dark, bright = found[:, 0, :8].mean((1, 2)), found[:, 0, 8:].mean((1, 2))
        assert (bright - dark).std() > 4
        assert (bright + dark).std() > 4

    def test_the_same_on_signed_pictures(self) -> None:
        limits = Limits.of(Unit.SUV, self.WINDOW, 1.0, (16, 16))
        picture = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 200
        signed = torch.from_numpy(self.WINDOW.to_signed(picture.numpy()))
        results = []
        for given, each in ((picture, limits), (signed, limits.signed(self.WINDOW))):
            found = draw(picture.shape, torch.Generator().manual_seed(0), each)
            results.append(augment(given, found, bounds=None))
        back = torch.from_numpy(self.WINDOW.from_signed(results[1].numpy()))
        torch.testing.assert_close(back, results[0], atol=0.01, rtol=0)

    def test_millimetres(self) -> None:
        fine, coarse, unknown = (
            Limits.of(Unit.HOUNSFIELD, self.WINDOW, mm, (128, 64)) for mm in (1.0, 4.0, 0.0)
        )
        assert [64 * fine.shift[0], 128 * fine.shift[1]] == pytest.approx([5, 5])
        assert [4 * 64 * coarse.shift[0], 4 * 128 * coarse.shift[1]] == pytest.approx([5, 5])
        assert unknown.shift == (0.1, 0.1)
        assert (fine.blur, coarse.blur, unknown.blur) == (1.0, 0.5, 1.0)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mask_goes_where_its_lesion_goes(dims: int) -> None:
    size = (24,) * dims
    grid = np.stack(np.mgrid[tuple(slice(0, side) for side in size)])
    place = np.array([10, 14, 9][:dims]).reshape(-1, *[1] * dims)
    disc = torch.from_numpy(np.hypot.reduce(grid - place) < 5)
    masks = disc.expand(16, *size)
    images = masks[:, None].float() - 0.5
    found = draw(images.shape, torch.Generator().manual_seed(0))
    found = dataclasses.replace(
        still(16, dims), angle=found.angle, zoom=found.zoom, flip=found.flip, shift=found.shift
    )
    moved, outlined = augment(images, found)[:, 0] > 0, augment_masks(masks, found)
    assert outlined.dtype == torch.bool
    overlap = 2 * (moved & outlined).sum() / (moved.sum() + outlined.sum())
    assert overlap > 0.95
    assert (outlined != masks).any()
