"""Contact sheets: the right grey in the right place, and names that never collide."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medaug.domain import Window
from medaug.report.sheets import (
    contact_sheet,
    sample_name,
    samples_in,
    sheet_name,
    three_planes,
    write_sheet,
)

WINDOW = Window(-100, 200)


def pixels(png: bytes) -> np.ndarray:
    """(row, column, grey and opacity)."""
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "LA")
        return np.asarray(image)


class TestGreyLevels:
    """The ends of the window become black and white; what lies outside is clipped."""

    @pytest.mark.parametrize(
        ("value", "grey"), [(-100, 0), (-900, 0), (200, 255), (3000, 255), (50, 128), (-40, 51)]
    )
    def test_window(self, value: float, grey: int) -> None:
        sheet = pixels(contact_sheet(np.full((1, 1, 3, 2), value), WINDOW))
        assert (sheet[..., 0] == grey).all()
        assert (sheet[..., 1] == 255).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_has_no_grey_level_is_refused(self, bad: float) -> None:
        images = np.zeros((2, 1, 4, 4))
        images[1, 0, 2, 2] = bad
        with pytest.raises(ValueError, match="no grey level"):
            contact_sheet(images, WINDOW)

    @pytest.mark.parametrize("shape", [(0, 1, 4, 4), (3, 4, 4), (1, 1, 1, 1, 4, 4)])
    def test_what_is_no_list_of_patches_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="expected"):
            contact_sheet(np.zeros(shape), WINDOW)


def obvious_sheet(
    images: np.ndarray, columns: int, scale: int, gap: int
) -> dict[tuple[int, int], int]:
    """The slow twin: where each grey pixel must lie; every other place is transparent."""
    count, channels, rows, width = images.shape
    places = {}
    for number in range(count):
        for row in range(rows * scale):
            for column in range(width * scale):
                top = (number // columns) * (rows * scale + gap)
                left = (number % columns) * (width * scale + gap)
                value = images[number, channels // 2, row // scale, column // scale]
                places[top + row, left + column] = round((value + 100) / 300 * 255)
    return places


class TestOutlines:
    """The rim lies inside the mask, touches its outside, and covers nothing else."""

    def test_the_rim_of_a_square(self) -> None:
        images = np.full((2, 1, 8, 8), -100.0)
        masks = np.zeros((2, 8, 8), dtype=bool)
        masks[1, 2:6, 1:6] = True
        png = contact_sheet(images, WINDOW, gap=0, masks=masks)
        with Image.open(io.BytesIO(png)) as image:
            assert image.mode == "RGBA"
            found = np.asarray(image)
        coloured = found[..., 0] != found[..., 2]
        expected = np.pad(masks[1], ((0, 0), (8, 0)))
        expected[3:5, 10:13] = False
        np.testing.assert_array_equal(coloured, expected)
        assert (found[~coloured] == (0, 0, 0, 255)).all()

    @pytest.mark.parametrize("volumes", [False, True])
    def test_it_is_that_of_the_middle_slice_and_scaling_does_not_thicken_it(
        self, volumes: bool
    ) -> None:
        masks = np.zeros((1, 4, 4), dtype=bool)
        masks[0, 1:3, 1:3] = True
        images = np.zeros((1, 3, 4, 4))
        if volumes:
            images = images[:, None]
            masks = np.stack([~masks, masks, ~masks], axis=1)
        png = contact_sheet(images, WINDOW, scale=3, masks=masks)
        with Image.open(io.BytesIO(png)) as image:
            found = np.asarray(image)
        coloured = found[..., 0] != found[..., 2]
        assert coloured.shape == (12, 12)
        assert coloured.sum() == 6 * 6 - 4 * 4

    def test_a_mask_up_to_the_border_has_no_rim_there(self) -> None:
        masks = np.ones((1, 4, 4), dtype=bool)
        masks[0, :, :2] = False
        png = contact_sheet(np.zeros((1, 3, 4, 4)), WINDOW, masks=masks)
        with Image.open(io.BytesIO(png)) as image:
            found = np.asarray(image)
        coloured = found[..., 0] != found[..., 2]
        assert coloured.all(axis=0).tolist() == [False, False, True, False]
        assert not coloured[:, [0, 1, 3]].any()


@given(
    count=st.integers(1, 7),
    channels=st.sampled_from([1, 3, 5]),
    columns=st.integers(1, 4),
    scale=st.integers(1, 2),
    gap=st.integers(0, 3),
)
def test_every_pixel_lies_where_the_slow_twin_puts_it(
    count: int, channels: int, columns: int, scale: int, gap: int
) -> None:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, channels, 2, 3)) / 255 * 300 - 100
    sheet = pixels(contact_sheet(images, WINDOW, columns, scale, gap))
    places = obvious_sheet(images, columns, scale, gap)
    assert sheet.shape[:2] == tuple(max(at[axis] for at in places) + 1 for axis in (0, 1))
    found = {(int(row), int(column)) for row, column in np.argwhere(sheet[..., 1] == 255)}
    assert found == set(places)
    assert all(sheet[*at, 0] == grey for at, grey in places.items())


def test_three_planes_with_the_head_up() -> None:
    """Each voxel holds 100 * slice + 10 * row + column."""
    slices, rows, columns = np.mgrid[:4, :4, :4]
    volume = (100 * slices + 10 * rows + columns)[None, None]
    axial, coronal, sagittal = three_planes(volume)[:, 0]
    assert axial[0].tolist() == [200, 201, 202, 203]
    assert coronal[0].tolist() == [320, 321, 322, 323]
    assert sagittal[:, 0].tolist() == [302, 202, 102, 2]
    assert three_planes(np.concatenate([volume, volume + 1000])).shape == (6, 1, 4, 4)


def test_same_patches_same_bytes() -> None:
    images = np.random.default_rng(0).normal(50, 40, (5, 1, 16, 16))
    assert contact_sheet(images, WINDOW) == contact_sheet(images.copy(), WINDOW)


def test_a_failed_write_leaves_the_old_sheet(tmp_path: Path) -> None:
    path = tmp_path / "sheets" / "real_cyst.png"
    write_sheet(path, np.zeros((1, 1, 4, 4)), WINDOW)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no grey level"):
        write_sheet(path, np.full((1, 1, 4, 4), np.nan), WINDOW)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


class TestNames:
    """Two classes never share a name, and none leaves the folder it is meant for."""

    @given(st.text(), st.text())
    def test_names(self, one: str, other: str) -> None:
        assert (sheet_name("real", one) == sheet_name("real", other)) == (one == other)
        assert Path(sheet_name("real", one)).name == sheet_name("real", one)

    def test_samples_are_found_again(self, tmp_path: Path) -> None:
        labels = ["cyst", "solid/part_solid", "<b>"]
        for label in labels:
            for step in (1500, 50, 700):
                (tmp_path / sample_name(step, label)).touch()
        (tmp_path / ".partial-1-0000050_cyst.png").touch()
        assert samples_in(tmp_path) == {
            label: [(step, sample_name(step, label)) for step in (50, 700, 1500)]
            for label in sorted(labels)
        }
