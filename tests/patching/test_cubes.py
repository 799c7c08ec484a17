"""Cubes measure what the patient has, in three dimensions, and read no more than they need."""

import numpy as np
import pytest

from medaug.domain import Case, Geometry, Lesion, LesionPatch, PatientKey, Unit, Volume
from medaug.errors import Fault, ReaderError, SettingsError
from medaug.patching.extract import SkippedLesion, extract_patches
from medaug.patching.settings import PatchingSettings
from medaug.patching.store import PatchStoreWriter, read_patches, summarise

PATIENT = PatientKey("0" * 32)


def cut(case: Case, **wanted) -> list[LesionPatch | SkippedLesion]:
    chosen = {"mm_per_pixel": 1.0, "spatial_dims": 3, "size": 32, "margin_mm": 2.0, **wanted}
    return list(extract_patches(case, PatchingSettings(**chosen)))


def flat(at):
    return np.full(at.shape[:-1], -40.0)


def recorded(case: Case, fail=lambda _: False) -> tuple[Case, list]:
    regions: list = []

    def decode(region):
        regions.append(region)
        if fail(region):
            raise ReaderError(Fault("ct", "the pixel data end early"))
        return case.volume.decode(region)

    volume = Volume(case.volume.geometry, "CT", Unit.HOUNSFIELD, decode)
    return Case(case.key, case.patient, volume, case.lesions), regions


class TestMillimetres:
    @pytest.mark.parametrize("spacing", [(0.7, 0.9, 1.0), (1.2, 0.8, 3.0), (0.8, 0.8, 5.0)])
    @pytest.mark.parametrize("mm_per_pixel", [0.8, 1.3])
    def test_a_ball_of_20_mm(self, make_case, cube, ball, spacing, mm_per_pixel):
        case = make_case(cube(70, spacing), flat, ball(20, (3.2, -7.1, 1.3)))
        (patch,) = cut(case, mm_per_pixel=mm_per_pixel)
        assert patch.mask.sum() * mm_per_pixel**3 == pytest.approx(4 / 3 * np.pi * 1000, rel=0.07)
        middle = np.argwhere(patch.mask).mean(axis=0)
        assert np.abs(middle - 15.5).max() <= 0.5 * max(spacing) / mm_per_pixel + 0.5
        np.testing.assert_allclose(
            patch.location.centre_mm, (3.2, -7.1, 1.3), atol=max(spacing) / 2
        )
        assert patch.location.diameter_mm == pytest.approx(20, abs=max(spacing[:2]) + 0.5)
        assert (patch.location.mm_per_pixel, patch.location.scale) == (mm_per_pixel, 1)
        at = patch.location.slice_index
        nearest = case.volume.geometry.index(patch.location.centre_mm)[2]
        assert abs(at - nearest) <= 0.5

    def test_thin_slices_average_and_do_not_alias(self, make_case, cube, ball):
        stripes = make_case(
            cube(90, (1, 1, 1)), lambda at: 50 + 100 * (-1.0) ** np.round(at[..., 2]), ball(20)
        )
        (patch,) = cut(stripes, mm_per_pixel=2.0)
        assert np.abs(patch.image - 50).max() < 15

    def test_the_mask_lies_on_the_lesion_between_thick_slices_too(self, make_case, cube, ball):
        inside = ball(18, (5, 3, 0))
        case = make_case(cube(70, (0.9, 0.7, 4)), lambda at: np.where(inside(at), 1.0, 0), inside)
        (patch,) = cut(case)
        missed = (patch.mask != (patch.image[0] > 0.5)).sum()
        assert missed < 0.05 * patch.mask.sum()

    def test_outside_of_the_volume_its_edge_is_repeated(self, make_case, cube, ball):
        case = make_case(cube(40, (1, 1, 2)), lambda at: at[..., 2], ball(12, (0, 0, 18)))
        (patch,) = cut(case)
        heights = patch.location.centre_mm[2] + np.arange(32) - 15.5
        top = case.volume.geometry.world((0, 0, case.volume.geometry.shape[2] - 1))[2]
        outside = heights > top + 1.01  # half a slice beyond the last centre
        assert outside.sum() > 6
        np.testing.assert_allclose(patch.image[0][outside], top, atol=0.1)
        assert not patch.mask[outside].any()
        assert patch.mask.any()


class TestLargerThanThePatch:
    def test_scale_is_the_least_that_fits_with_margin(self, make_case, cube, ball):
        """A lesion that is long between slices has to fit as well."""
        case = make_case(cube((60, 60, 100), (1, 1, 2)), flat, ball(20, depth=3))
        (patch,) = cut(case)
        place = patch.location
        assert place.scale * place.mm_per_pixel == pytest.approx(1.0)
        assert place.mm_per_pixel == pytest.approx((60 + 4) / 32, rel=0.04)
        assert place.diameter_mm == pytest.approx(20, abs=1.5)

    def test_tiles_cover_the_lesion(self, make_case, cube, ball):
        case = make_case(cube(90, (1.5, 1.5, 3)), flat, ball(58))
        tiles = cut(case, larger_than_patch="tile")
        assert 8 < len(tiles) <= 27
        assert all(tile.mask.any() and tile.location.scale == 1 for tile in tiles)
        centres = np.array([tile.location.centre_mm for tile in tiles])
        lesion = case.lesions[0]
        index = np.argwhere(lesion.mask) + [part.start for part in lesion.box]
        places = case.volume.geometry.world(index)[:, None]
        assert (np.abs(places - centres) <= 16).all(axis=2).any(axis=1).all()

    def test_skip(self, make_case, cube, ball):
        (skipped,) = cut(make_case(cube(90, (1, 1, 3)), flat, ball(50)), larger_than_patch="skip")
        assert "it spans" in skipped.reason


class TestReading:
    def test_slices_far_from_the_cube_are_not_decoded(self, make_case, cube, ball):
        case, regions = recorded(make_case(cube((80, 80, 200), (2, 2, 1)), flat, ball(12)))
        cut(case)
        (region,) = regions
        # 32 mm and ten slices beyond on either side, for the splines.
        assert region[2].stop - region[2].start == pytest.approx(52, abs=2)

    def test_one_cube_for_a_lesion_of_many_slices(self, make_case, cube, ball):
        case, regions = recorded(make_case(cube(60, (1, 1, 2)), flat, ball(20)))
        assert len(cut(case)) == len(regions) == 1

    def test_damage_is_named(self, make_case, cube, ball):
        case, _ = recorded(make_case(cube(60, (1, 1, 2)), flat, ball(10)), lambda _: True)
        (skipped,) = cut(case)
        assert skipped.reason.startswith("a slice of ")
        assert skipped.reason.endswith("cannot be read: the pixel data end early")


class TestWhatHasNoThirdDimension:
    def test_pictures(self):
        geometry = Geometry.of_picture(64, 64, (0.5, 0.5))
        lesion = Lesion("2.25.1", "mass", PATIENT, (slice(9, 20), slice(9, 20), slice(0, 1)))
        volume = Volume.from_array(np.zeros((64, 64, 1)), geometry, "MG", Unit.ARBITRARY)
        case = Case("case", PATIENT, volume, (lesion,))
        with pytest.raises(SettingsError, match=r"spatial_dims: 3, but case case is a single pict"):
            cut(case)
        with pytest.raises(SettingsError, match=r"adjacent: 2, but case case is a single picture"):
            cut(case, spatial_dims=2, adjacent=2)

    def test_a_volume_of_one_slice(self, make_case, ball):
        geometry = Geometry.from_spacing((50, 50, 1), (1, 1, 5), (-25, -25, 0))
        (skipped,) = cut(make_case(geometry, flat, ball(20)))
        assert "its volume has one slice" in skipped.reason

    @pytest.mark.parametrize("depth", [1, 6])
    def test_a_lesion_marked_in_one_slice(self, depth):
        """20 mm long, slices 3 mm apart; a small one may well lie in one slice."""
        geometry = Geometry.from_spacing((60, 60, 20), (1, 1, 3))
        volume = Volume.from_array(np.zeros((60, 60, 20)), geometry, "CT", Unit.HOUNSFIELD)
        for side in (20, 4):
            box = (slice(20, 20 + side), slice(20, 22), slice(8, 8 + depth))
            case = Case("c", PATIENT, volume, (Lesion("2.25.1", "cyst", PATIENT, box),))
            (found,) = cut(case)
            if depth == 1 and side == 20:
                assert "one slice of it is marked" in found.reason
            else:
                assert found.mask is None
                assert found.image.shape == (1, 32, 32, 32)


class TestAdjacentSlices:
    """Channels lie along the normal, from feet to head, the lesion's slice in the middle."""

    def beside(self, case: Case, **wanted) -> list:
        return cut(case, spatial_dims=2, **wanted)

    def test_the_middle_channel_is_the_picture_without_channels(self, make_case, cube, ball):
        noise = np.random.default_rng(0)
        case = make_case(
            cube(60, (0.8, 1.1, 2.5)), lambda at: noise.normal(0, 30, at.shape[:-1]), ball(14)
        )
        plain = self.beside(case, slices="all")
        stacked = self.beside(case, slices="all", adjacent=2, slice_mm=2.0)
        assert [patch.location for patch in plain] == [patch.location for patch in stacked]
        for alone, among in zip(plain, stacked, strict=True):
            assert among.image.shape == (5, 32, 32)
            np.testing.assert_array_equal(among.image[2], alone.image[0])
            np.testing.assert_array_equal(among.mask, alone.mask)
            assert not np.array_equal(among.image[1], among.image[3])

    @pytest.mark.parametrize("tilt", [0.0, 0.3])
    @pytest.mark.parametrize("upside_down", [False, True])
    def test_distances_are_those_of_the_patient(self, make_case, cube, ball, tilt, upside_down):
        shear = np.eye(4)
        shear[1, 2] = tilt
        straight = cube((90, 90, 60), (1.2, 0.9, 2.2))
        affine = shear @ straight.affine
        if upside_down:
            affine[:3, 3] += affine[:3, 2] * (straight.shape[2] - 1)
            affine[:3, 2] *= -1
        slope = np.array([2.0, 3.0, 5.0])
        case = make_case(Geometry(straight.shape, affine), lambda at: at @ slope, ball(12))
        (patch,) = self.beside(case, adjacent=3, slice_mm=1.5)
        steps = np.arange(32) - 15.5
        places = np.stack(
            np.broadcast_arrays(
                -steps[None, None, :], -steps[None, :, None], 1.5 * np.arange(-3, 4)[:, None, None]
            ),
            axis=-1,
        )
        expected = (patch.location.centre_mm + places) @ slope
        np.testing.assert_allclose(patch.image, expected, atol=0.05)

    def test_beyond_the_volume_the_last_slice_is_repeated(self, make_case, cube, ball):
        case = make_case(cube((60, 60, 30), (1, 1, 3)), lambda at: at[..., 2], ball(9, (0, 0, 12)))
        (patch,) = self.beside(case, adjacent=3, slice_mm=3.0)
        top = case.volume.geometry.world((0, 0, case.volume.geometry.shape[2] - 1))[2]
        heights = np.minimum(patch.location.centre_mm[2] + np.arange(-9, 10, 3.0), top)
        assert heights[-1] == heights[-2] == top
        np.testing.assert_allclose(patch.image.mean(axis=(1, 2)), heights, atol=1e-4)

    def test_the_default_distance_is_a_pixel(self, make_case, cube, ball):
        case = make_case(cube(60, (1, 1, 2)), lambda at: at[..., 2], ball(10))
        (patch,) = self.beside(case, adjacent=1, mm_per_pixel=1.25)
        np.testing.assert_allclose(np.diff(patch.image.mean(axis=(1, 2))), 1.25, atol=1e-4)

    def test_only_the_slices_between_which_channels_lie_are_decoded(self, make_case, cube, ball):
        case, regions = recorded(make_case(cube(80, (1, 1, 1)), flat, ball(10)))
        self.beside(case, adjacent=1, slice_mm=4.5)
        middle = case.volume.geometry.shape[2] // 2
        assert sorted(region[2].start - middle for region in regions) == [-5, -4, 0, 4, 5]
        assert all(region[2].stop == region[2].start + 1 for region in regions)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size": 72}, "size 72: expected at most 64 in 3-D"),
        ({"slices": "all"}, "slices: a cube shows all"),
        ({"slices": {"every": 2}}, "slices: a cube shows all"),
        ({"adjacent": 1}, "adjacent: slices as channels are of 2-D patches"),
        ({"slice_mm": 2.0}, "slice_mm: has a meaning only where"),
        ({"mm_per_pixel": None}, "mm_per_pixel: not set"),
        ({"mm_per_pixel": None, "spatial_dims": 2, "adjacent": 1}, "mm_per_pixel: not set"),
        ({"spatial_dims": 2, "slice_mm": 2.0}, "slice_mm: has a meaning only where"),
    ],
)
def test_settings_that_contradict_each_other(wrong, words):
    with pytest.raises(ValueError, match=words):
        PatchingSettings(**{"size": 32, "mm_per_pixel": 1.0, "spatial_dims": 3, **wrong})


def test_the_store_keeps_cubes(make_case, cube, ball, tmp_path):
    cases = [
        make_case(cube(50, (1, 1, 2)), lambda at, n=n: at[..., n], ball(10 + 3 * n))
        for n in range(3)
    ]
    patches = [patch for case in cases for patch in cut(case)]
    with PatchStoreWriter(tmp_path / "p.h5") as store:
        for patch in patches:
            store.append(patch)
        with pytest.raises(SettingsError, match="shape"):
            store.append(cut(cases[0], spatial_dims=2)[0])
    found = read_patches(tmp_path / "p.h5")
    np.testing.assert_array_equal(found.images, [patch.image for patch in patches])
    np.testing.assert_array_equal(found.masks, [patch.mask for patch in patches])
    assert summarise(tmp_path / "p.h5")["size"] == [32, 32, 32]
