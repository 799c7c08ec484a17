"""Masks on another grid; SimpleITK's nearest-neighbour resampling is the reference."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medaug.domain import Geometry
from medaug.readers.regrid import (
    apart_mm,
    cropped,
    differs,
    inside,
    mirrored,
    onto,
    same_extent,
)


def grid(shape, spacing=(1, 1, 1), origin=(0, 0, 0), turn=(0, 0, 0), flip=(1, 1, 1)):
    """A grid turned by Euler angles in degrees."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    affine[:3, :3] *= np.array(spacing) * flip
    affine[:3, 3] = origin
    return Geometry(shape, affine)


def by_itk(mask, source, target):
    """ITK's answer over the whole target; both grids taken in one world, whatever its name."""

    def image(geometry, voxels):
        made = SimpleITK.GetImageFromArray(voxels.transpose(2, 1, 0).astype(np.uint8))
        made.SetOrigin(geometry.affine[:3, 3].tolist())
        made.SetSpacing(geometry.spacing)
        made.SetDirection(geometry.directions.ravel().tolist())
        return made

    reference = image(target, np.zeros(target.shape))
    resampled = SimpleITK.Resample(
        image(source, mask), reference, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0
    )
    return SimpleITK.GetArrayFromImage(resampled).transpose(2, 1, 0).astype(bool)


def whole(found, target):
    """The full mask of what `onto` returns."""
    result = np.zeros(target.shape, bool)
    if found is not None:
        box, mask = found
        result[box] = mask
    return result


def blobs(shape, seed=0):
    """Four boxes that may overlap, up to half as long as the grid."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(4):
        low = (rng.random(3) * np.array(shape) * 0.8).astype(int)
        size = (rng.random(3) * np.array(shape) / 2).astype(int) + 1
        mask[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))] = True
    return mask


IMAGE = grid((30, 26, 14), (0.83, 1.07, 2.5), (-11.3, 4.1, 20.2))
GRIDS = {
    "the same": IMAGE,
    "flipped": grid(IMAGE.shape, IMAGE.spacing, IMAGE.world((29, 0, 13)), flip=(-1, 1, -1)),
    "finer": grid((60, 52, 40), (0.43, 0.51, 0.9), (-12.03, 4.23, 19.31)),
    "coarser": grid((12, 11, 8), (2.17, 2.73, 4.9), (-11.87, 3.93, 20.71)),
    "partly outside": grid(IMAGE.shape, IMAGE.spacing, (2.71, 11.13, 31.37)),
    "sagittal": grid((14, 30, 26), (2.3, 0.97, 1.11), (-9.1, 5.3, 21.7), turn=(90, 0, 90)),
    "oblique": grid((40, 40, 20), (0.71, 0.93, 1.7), (-8.1, 1.3, 16.7), turn=(11, -17, 23)),
}


class TestNearestNeighbour:
    """A mask on another grid is resampled (nearest neighbour) [...] if it overlaps."""

    @pytest.mark.parametrize("name", GRIDS)
    @pytest.mark.parametrize("seed", [0, 1])
    def test_as_itk_does(self, name, seed):
        source = GRIDS[name]
        mask = blobs(source.shape, seed)
        found = onto(mask, source, IMAGE)
        expected = by_itk(mask, source, IMAGE)
        assert expected.sum() > 20
        assert np.array_equal(whole(found, IMAGE), expected)

    def test_ties_go_up_as_in_itk(self):
        source = grid((8, 8, 8), (2, 2, 2), (0, 0, 0))
        target = grid((16, 16, 16), (1, 1, 1), (0, 0, 0))
        mask = np.zeros(source.shape, bool)
        mask[2, 3, 4] = True
        assert np.array_equal(
            whole(onto(mask, source, target), target), by_itk(mask, source, target)
        )

    @settings(max_examples=60, deadline=None)
    @given(
        turn=st.tuples(*[st.integers(-80, 80)] * 3),
        spacing=st.tuples(*[st.integers(5, 40)] * 3),
        seed=st.integers(0, 50),
    )
    def test_on_any_turned_grid(self, turn, spacing, seed):
        """What differs, if anything, is a tie to within the trifle that decides ties."""
        source = grid(
            (18, 17, 16),
            np.array(spacing) / 11 + 0.0137,
            (-7.31, 9.17, 27.71),
            np.array(turn) + 0.37,
        )
        mask = blobs(source.shape, seed)
        found, expected = whole(onto(mask, source, IMAGE), IMAGE), by_itk(mask, source, IMAGE)
        differing = np.argwhere(found != expected)
        assert len(differing) <= 2
        off = np.abs(source.index(IMAGE.world(differing)) % 1 - 0.5)
        assert (off.min(axis=1) <= 2e-6).all()

    def test_box_is_tight(self):
        source = GRIDS["oblique"]
        _, mask = onto(blobs(source.shape), source, IMAGE)
        for axis in range(3):
            profile = mask.any(axis=tuple({0, 1, 2} - {axis}))
            assert profile[0]
            assert profile[-1]

    def test_nothing_falls_inside(self):
        away = grid((8, 8, 8), (1, 1, 1), (500, 0, 0))
        assert onto(np.ones(away.shape, bool), away, IMAGE) is None
        assert onto(np.zeros(IMAGE.shape, bool), IMAGE, IMAGE) is None

    def test_memory_is_that_of_the_marked_box(self):
        """A grid of a terabyte costs nothing if a handful of its voxels are marked."""
        target = grid((10**5, 10**5, 10**3))
        mask = np.zeros((50, 50, 50), bool)
        mask[3:6, 4:6, 5] = True
        source = grid(mask.shape, origin=(70_000, 30_000, 400))
        box, inner = onto(mask, source, target)
        assert box == (slice(70_003, 70_006), slice(30_004, 30_006), slice(405, 406))
        assert inner.all()


class TestWhatDiffers:
    def test_fraction_inside(self):
        source = grid((10, 10, 10))
        target = grid((5, 10, 10))
        assert inside(np.ones(source.shape, bool), source, target) == pytest.approx(0.5)
        assert inside(np.ones(source.shape, bool), source, grid((5, 5, 5), origin=(99, 0, 0))) == 0
        assert inside(np.zeros(source.shape, bool), source, target) == 0

    def test_crop_keeps_its_place(self):
        part = cropped(GRIDS["oblique"], (slice(3, 9), slice(5, 6), slice(0, 7)))
        assert part.shape == (6, 1, 7)
        assert np.allclose(part.world((1, 0, 2)), GRIDS["oblique"].world((4, 5, 2)))

    def test_distance(self):
        assert apart_mm(grid((3, 3, 3), origin=(104, 1, 1)), grid((6, 6, 6))) == pytest.approx(99.5)
        assert apart_mm(IMAGE, IMAGE) == 0

    def test_words(self):
        other = grid((30, 26, 13), (0.83, 1.07, 5.0), (-11.3, 4.1, 24.2))
        assert differs(other, IMAGE) == (
            "30x26x13 voxels instead of 30x26x14, spacing 0.83x1.07x5 mm instead of "
            "0.83x1.07x2.5 mm, its first voxel 4 mm away"
        )
        assert differs(IMAGE, IMAGE) == ""


class TestMirrored:
    """Left/right mistakes are caught where the file allows it."""

    @pytest.mark.parametrize(
        ("signs", "words"),
        [
            ((-1, 1, 1), "left and right"),
            ((1, -1, 1), "front and back"),
            ((1, 1, -1), "head and foot"),
            ((-1, -1, 1), "left and right, front and back (LPS taken for RAS)"),
        ],
    )
    @pytest.mark.parametrize("with_origin", [True, False])
    def test_lost_signs(self, signs, words, with_origin):
        flip = np.diag([*signs, 1.0])
        affine = flip @ IMAGE.affine
        if not with_origin:
            affine[:3, 3] = IMAGE.affine[:3, 3]
        assert mirrored(Geometry(IMAGE.shape, affine), IMAGE) == words

    def test_stored_from_the_other_end_is_no_mistake(self):
        assert mirrored(GRIDS["flipped"], IMAGE) == ""
        assert same_extent(GRIDS["flipped"], IMAGE)

    @pytest.mark.parametrize("name", ["the same", "finer", "partly outside", "oblique"])
    def test_other_grids_are_not_mirrored(self, name):
        assert mirrored(GRIDS[name], IMAGE) == ""

    def test_a_grid_that_is_its_own_mirror_image_cannot_tell(self):
        centred = grid((5, 4, 4), origin=(-2, 0, 0))
        other = grid((5, 4, 4), origin=(2, 0, 0), flip=(-1, 1, 1))
        assert mirrored(other, centred) == ""
