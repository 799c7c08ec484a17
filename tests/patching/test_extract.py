"""Patches measure what the patient has: millimetres, units, outlines."""

import numpy as np
import pytest

from medaug.domain import Case, Geometry, Lesion, LesionPatch, PatientKey, Unit, Volume
from medaug.domain.section import View
from medaug.errors import Fault, ReaderError, SettingsError
from medaug.patching.extract import SkippedLesion, extract_patches
from medaug.patching.resample import PatchGrid
from medaug.patching.settings import PatchingSettings


def cut(case: Case, **wanted) -> list[LesionPatch | SkippedLesion]:
    return list(extract_patches(case, PatchingSettings(**{"mm_per_pixel": 1.0, **wanted})))


def flat(at):
    return np.full(at.shape[:-1], -40.0)


class TestMillimetres:
    """A 20 mm disc is 20 mm, on whatever grid, in whatever pixels."""

    @pytest.mark.parametrize("spacing", [(0.5, 0.5, 3), (0.74, 1.1, 1.6), (1.5, 0.6, 5)])
    @pytest.mark.parametrize("mm_per_pixel", [0.5, 1.0, 1.7])
    def test_a_disc_of_20_mm(self, make_case, cube, ball, spacing, mm_per_pixel):
        case = make_case(cube(90, spacing), flat, ball(20, (3.2, -7.1, 0), depth=2))
        (patch,) = cut(case, mm_per_pixel=mm_per_pixel)
        voxel = max(spacing[:2])
        assert patch.location.diameter_mm == pytest.approx(20, abs=voxel)
        mask = patch.mask
        assert mask.sum() * mm_per_pixel**2 == pytest.approx(np.pi * 100, rel=0.06)
        for axis in (0, 1):
            length = mask.any(axis=axis).sum() * mm_per_pixel
            assert length == pytest.approx(20, abs=max(voxel, mm_per_pixel) + mm_per_pixel / 2)
        middle = np.argwhere(mask).mean(axis=0)
        assert np.abs(middle - 31.5).max() <= 0.5 * max(1, voxel / mm_per_pixel)
        np.testing.assert_allclose(patch.location.centre_mm[:2], (3.2, -7.1), atol=voxel / 2)
        assert patch.location.mm_per_pixel == mm_per_pixel
        assert patch.location.scale == 1

    @pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (6, 3)])
    def test_the_diameter_of_a_small_block(self, rows, columns):
        geometry = Geometry.from_spacing((40, 40, 3), (0.5, 2.0, 4.0))
        mask = np.ones((columns, rows, 1), bool)
        box = (slice(10, 10 + columns), slice(10, 10 + rows), slice(1, 2))
        case = _case(np.zeros(geometry.shape), geometry, box, mask)
        (patch,) = cut(case)
        width, height = columns * 0.5, rows * 2.0
        longest = np.hypot(width, height)
        assert max(width, height) <= patch.location.diameter_mm <= longest

    def test_the_field_of_view_is_size_times_pixel(self, make_case, cube, ball):
        """Two marks 40 mm apart are 40 mm apart in the patch."""

        def value(at):
            ridges = np.abs(np.abs(at[..., 0]) - 20) < 1.01
            return np.where(ridges, 500.0, 0.0)

        (patch,) = cut(make_case(cube(100, (1.0, 1.0, 3.0)), value, ball(10)), mm_per_pixel=0.8)
        profile = patch.image[0].mean(axis=0)
        halves = profile[:32], profile[32:]
        first, second = (np.average(np.arange(32), weights=half) for half in halves)
        assert (32 + second - first) * 0.8 == pytest.approx(40, abs=0.2)


class TestUnits:
    """Intensities keep their unit: HU stay HU in float32, and no value is invented."""

    @pytest.mark.parametrize("mm_per_pixel", [0.6, 1.0, 1.6])
    def test_mean_is_kept_and_no_value_lies_outside_the_range(
        self, make_case, cube, ball, mm_per_pixel
    ):
        geometry = cube(120, (0.9, 1.1, 40))
        noise = np.random.default_rng(3).normal(0, 30, geometry.shape)
        inside = ball(30, depth=9)
        case = make_case(geometry, lambda at: np.where(inside(at), 12.0, 104.0) + noise, inside)
        (patch,) = cut(case, mm_per_pixel=mm_per_pixel, margin_mm=0)
        source, lesion = case.volume.read(), case.lesions[0]
        assert patch.image.dtype == np.float32
        assert source.min() <= patch.image.min() < 0
        assert patch.image.max() <= source.max()
        lesion_hu = source[lesion.box][lesion.mask].mean()
        # Pixels on the outline mix both tissues; 92 HU over half a pixel of a 15 mm radius.
        assert patch.image[0][patch.mask].mean() == pytest.approx(lesion_hu, abs=6)
        core = (np.indices((64, 64)) - 31.5) * mm_per_pixel
        core = np.hypot(*core) < 11
        assert patch.image[0][core].mean() == pytest.approx(lesion_hu, abs=1.5)

    def test_large_pixels_average_and_do_not_alias(self, make_case, cube, ball):
        """Stripes one voxel wide vanish at two voxels per pixel; sampled alone they would not."""
        stripes = make_case(
            cube(160, (1, 1, 20)),
            lambda at: 50 + 100 * (-1.0) ** np.floor(at[..., 0]),
            ball(20, depth=9),
        )
        (patch,) = cut(stripes, mm_per_pixel=2.0)
        assert np.abs(patch.image - 50).max() < 15

    def test_noise_keeps_its_strength_at_every_place(self, make_case, cube, ball):
        """Linear interpolation would keep half of it where pixels fall between voxels."""
        geometry = cube((120, 120, 40), (0.8, 0.8, 20))
        rng = np.random.default_rng(5)
        pictures = np.array(
            [
                cut(
                    make_case(
                        geometry, lambda at: rng.normal(0, 20, at.shape[:-1]), ball(9, depth=9)
                    )
                )[0].image[0]
                for _ in range(60)
            ]
        )
        low, high = np.percentile(pictures.std(axis=0), [5, 95])
        assert 0.65 * 20 < low < high < 1.1 * 20

    def test_values_that_are_not_numbers_are_named(self, make_case, cube, ball):
        case = make_case(
            cube(80, (1, 1, 5)), lambda at: np.where(at[..., 0] > 20, np.nan, 1.0), ball(10)
        )
        (skipped,) = cut(case)
        assert "not finite" in skipped.reason

    def test_damaged_pixels_lose_their_patch_and_no_other(self, make_case, cube, ball):
        case = make_case(cube(80, (1, 1, 5)), flat, ball(20))

        def decode(region):
            if region[2].start == 8:
                raise ReaderError(Fault("ct/0008", "the pixel data end early"))
            return case.volume.decode(region)

        volume = Volume(case.volume.geometry, "CT", Unit.HOUNSFIELD, decode)
        found = cut(Case("case", case.patient, volume, case.lesions), slices="all")
        lost = [one for one in found if isinstance(one, SkippedLesion)]
        assert [one.reason for one in lost] == ["slice 8 cannot be read: the pixel data end early"]
        assert len(found) > 1


class TestReading:
    """Only the slices and the region that a patch shows are decoded."""

    def recorded(self, case: Case) -> tuple[Case, list]:
        regions: list = []

        def decode(region):
            regions.append(region)
            return case.volume.decode(region)

        volume = Volume(case.volume.geometry, "CT", Unit.HOUNSFIELD, decode)
        return Case(case.key, case.patient, volume, case.lesions), regions

    def test_one_slice_for_the_largest(self, make_case, cube, ball):
        case, regions = self.recorded(make_case(cube(200, (1, 1, 10)), flat, ball(10, depth=4)))
        cut(case)
        (region,) = regions
        assert [part.stop - part.start for part in region] == [pytest.approx(86, abs=3)] * 2 + [1]

    def test_nothing_for_a_lesion_outside_the_limits(self, make_case, cube, ball):
        case, regions = self.recorded(make_case(cube(80, (1, 1, 10)), flat, ball(10)))
        cut(case, min_diameter_mm=20)
        assert regions == []

    def test_nothing_is_decoded_before_it_is_asked_for(self, make_case, cube, ball):
        case, regions = self.recorded(make_case(cube(80, (1, 1, 2)), flat, ball(10)))
        found = extract_patches(case, PatchingSettings(mm_per_pixel=1.0, slices="all"))
        assert regions == []
        next(found)
        assert len(regions) == 1

    @pytest.mark.parametrize("mm_per_pixel", [0.3, 1.0, 3.1])
    def test_the_region_gives_what_the_whole_slice_gives(self, mm_per_pixel):
        slice_pixels = np.random.default_rng(1).normal(size=(150, 170)).astype(np.float32)
        view = View((2, 0, 1), np.diag([0.7, 0.9]))
        grid = PatchGrid(view.to_index, np.array([50.0, 70.0]), mm_per_pixel, 32)
        everything = (slice(0, 150), slice(0, 170))
        rows, columns = grid.reach((150, 170))
        np.testing.assert_allclose(
            grid.image(slice_pixels[rows, columns], (rows, columns)),
            grid.image(slice_pixels, everything),
            atol=1e-5,
        )


class TestSlices:
    """The largest slice, all, or every N-th with the largest among them."""

    def test_which(self, make_case, cube, ball):
        case = make_case(cube((60, 60, 80), (1, 1, 2)), flat, ball(25))
        heights = {
            str(slices): [patch.location.centre_mm[2] for patch in cut(case, slices=slices)]
            for slices in ("largest", "all", {"every": 1}, {"every": 4})
        }
        assert heights["largest"] == [0]
        assert heights["all"] == heights["{'every': 1}"] == list(np.arange(-12, 13, 2.0))
        assert heights["{'every': 4}"] == [-8, 0, 8]

    def test_of_equal_slices_the_middle_one(self, make_case, cube):
        def rod(at):
            return (np.linalg.norm(at[..., :2], axis=-1) < 5) & (np.abs(at[..., 2]) < 9)

        (patch,) = cut(make_case(cube((60, 60, 60), (1, 1, 3)), flat, rod))
        assert abs(patch.location.centre_mm[2]) <= 1.5

    def test_only_slices_with_a_pixel(self, make_case, cube, ball):
        def both(at):
            return ball(8, (0, 0, -12))(at) | ball(8, (0, 0, 12))(at)

        patches = cut(make_case(cube(60, (1, 1, 3)), flat, both), slices="all")
        assert all(patch.mask.any() for patch in patches)
        assert all(abs(patch.location.centre_mm[2]) > 6 for patch in patches)


class TestLargerThanThePatch:
    """Scaled, tiled or skipped: by setting, and recorded."""

    def big(self, make_case, cube, ball, diameter=80.0):
        return make_case(cube((160, 160, 30), (0.8, 1.0, 10)), flat, ball(diameter, depth=9))

    def test_scale_is_the_least_that_fits_with_margin(self, make_case, cube, ball):
        (patch,) = cut(self.big(make_case, cube, ball), margin_mm=5)
        place = patch.location
        assert place.scale * place.mm_per_pixel == pytest.approx(1.0)
        assert place.mm_per_pixel == pytest.approx((80 + 10) / 64, rel=0.02)
        rows, columns = (np.flatnonzero(patch.mask.any(axis=axis)) for axis in (1, 0))
        longest = max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        assert longest == pytest.approx(64 - 10 / place.mm_per_pixel, abs=1)

    def test_a_lesion_that_just_fits_is_not_scaled(self, make_case, cube):
        def block(at):
            return (np.abs(at[..., :2]) < 27).all(axis=-1) & (np.abs(at[..., 2]) < 4)

        case = make_case(
            cube((100, 100, 30), (1, 1, 10)), flat, block
        )  # 53 mm + 2 * 5.5 mm = 64 mm
        assert cut(case, margin_mm=5.5)[0].location.scale == 1
        assert cut(case, margin_mm=5.6)[0].location.scale < 1

    def test_tiles_cover_the_lesion_and_overlap(self, make_case, cube, ball):
        case = self.big(make_case, cube, ball, diameter=114.0)
        tiles = cut(case, larger_than_patch="tile")
        assert len(tiles) > 4
        assert all(tile.mask.any() and tile.location.scale == 1 for tile in tiles)
        assert len({tile.location.centre_mm for tile in tiles}) == len(tiles)
        centres = np.array([tile.location.centre_mm[:2] for tile in tiles])
        lesion = case.lesions[0]
        index = np.argwhere(lesion.mask) + [part.start for part in lesion.box]
        places = case.volume.geometry.world(index)[:, None, :2]
        assert (np.abs(places - centres) <= 32).all(axis=2).any(axis=1).all()
        for axis in (0, 1):
            steps = np.diff(np.unique(centres[:, axis].round(6)))
            assert (steps <= 0.75 * 64 + 1e-6).all()

    def test_tiles_without_lesion_are_not_cut(self, make_case, cube):
        def ring(at):
            radius = np.linalg.norm(at[..., :2], axis=-1)
            return (radius > 68) & (radius < 72) & (np.abs(at[..., 2]) < 4)

        case = make_case(cube((160, 160, 30), (1, 1, 10)), flat, ring)
        tiles = cut(case, size=32, larger_than_patch="tile")
        assert all(tile.mask.any() for tile in tiles)
        radii = [np.hypot(*tile.location.centre_mm[:2]) for tile in tiles]
        assert min(radii) > 30

    def test_skip_says_what_it_spans(self, make_case, cube, ball):
        (skipped,) = cut(self.big(make_case, cube, ball), larger_than_patch="skip")
        assert skipped == SkippedLesion("2.25.1", "cyst", "case", skipped.reason)
        assert "it spans 81.0 mm" in skipped.reason
        assert "54.0 mm inside its margin" in skipped.reason


class TestLimits:
    """Lesions smaller or larger than the limits are listed, not dropped."""

    @pytest.mark.parametrize(
        ("limits", "words"),
        [
            ({"min_diameter_mm": 25}, "below the limit of 25 mm"),
            ({"max_diameter_mm": 15}, "above the limit of 15 mm"),
            ({"min_diameter_mm": 15, "max_diameter_mm": 25}, None),
        ],
    )
    def test_the_longest_diameter_of_any_slice_counts(self, make_case, cube, ball, limits, words):
        case = make_case(cube(60, (1, 1, 2)), flat, ball(20))
        found = cut(case, slices="all", **limits)
        if words is None:
            assert all(isinstance(patch, LesionPatch) for patch in found)
            assert len(found) == pytest.approx(10, abs=1)
        else:
            (skipped,) = found
            assert words in skipped.reason

    def test_a_box_has_no_diameter(self):
        geometry = Geometry.from_spacing((80, 80, 9), (1, 1, 3))
        case = _case(np.zeros(geometry.shape), geometry, (slice(30, 40),) * 2 + (slice(2, 7),))
        (patch,) = cut(case)
        assert (patch.mask, patch.location.diameter_mm) == (None, 0)
        assert patch.location.slice_index == 4
        (skipped,) = cut(case, max_diameter_mm=50)
        assert "only a box" in skipped.reason


class TestAtTheBorder:
    """Outside of the volume its edge is repeated, and no lesion grows there."""

    def test_a_lesion_in_the_corner(self, make_case, cube, ball):
        geometry = cube((40, 40, 30), (1, 1, 10))
        case = make_case(geometry, lambda at: at[..., 0], ball(12, (19, -19, 0), depth=5))
        (patch,) = cut(case)
        centre = patch.location.centre_mm
        outside = centre[0] - (np.arange(64) - 31.5) > 20
        assert outside.sum() > 20
        assert not patch.mask[:, outside].any()
        assert (patch.image[0][:, outside] == 20).all()
        inside_steps = np.diff(patch.image[0][:, ~outside], axis=1)
        np.testing.assert_allclose(inside_steps[:, 10:30], -1, atol=1e-4)

    def test_a_patch_larger_than_the_volume(self, make_case, cube, ball):
        case = make_case(cube(20, (1, 1, 5)), lambda at: at[..., 1], ball(8))
        (patch,) = cut(case, mm_per_pixel=2.0)
        assert patch.image.shape == (1, 64, 64)
        assert np.isfinite(patch.image).all()


class TestOutlines:
    """The mask is what the image shows, and it is never empty."""

    @pytest.mark.parametrize("mm_per_pixel", [0.3, 1.0, 4.0])
    def test_a_single_voxel(self, mm_per_pixel):
        geometry = Geometry.from_spacing((90, 90, 3), (0.7, 0.7, 3))
        voxels = np.zeros(geometry.shape)
        voxels[40, 50, 1] = 100
        box = (slice(40, 41), slice(50, 51), slice(1, 2))
        (patch,) = cut(
            _case(voxels, geometry, box, np.ones((1, 1, 1), bool)), mm_per_pixel=mm_per_pixel
        )
        assert 0 < patch.mask.sum() <= max(4, (0.7 / mm_per_pixel + 1) ** 2)
        brightest = np.unravel_index(patch.image[0].argmax(), (64, 64))
        assert patch.mask[brightest]

    def test_the_mask_lies_on_the_lesion(self, make_case, cube, ball):
        inside = ball(18, (5, 3, 0), depth=3)
        case = make_case(cube(90, (0.9, 0.7, 5)), lambda at: np.where(inside(at), 1.0, 0), inside)
        (patch,) = cut(case)
        assert (patch.image[0][patch.mask] > 0.49).all()
        assert (patch.image[0][~patch.mask] < 0.51).all()


class TestPicturesWithoutSpacing:
    """Resized to the patch, nothing cut off; millimetres are neither asked for nor claimed."""

    def picture(self, rows: np.ndarray) -> Case:
        height, width = rows.shape
        geometry = Geometry.of_pixels(width, height)
        box = (slice(0, width), slice(0, height), slice(0, 1))
        return _case(rows.T[:, :, None], geometry, box)

    def test_the_same_size_stays_as_it_is(self):
        rows = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.float32)
        (patch,) = cut(self.picture(rows), mm_per_pixel=None)
        np.testing.assert_allclose(patch.image[0], rows, atol=1e-3)
        place = patch.location
        assert (place.mm_per_pixel, place.slice_index, place.scale) == (0, -1, 1)
        assert patch.mask is None

    @pytest.mark.parametrize("side", [50, 128])
    def test_a_gradient_keeps_its_range(self, side):
        rows, columns = np.indices((side, side)) + 0.5
        case = self.picture((rows * 100 + columns) / side)
        (patch,) = cut(case, mm_per_pixel=None)
        expected = np.add.outer((np.arange(64) + 0.5) / 64 * 100, (np.arange(64) + 0.5) / 64)
        # The outermost pixels see the repeated edge.
        inner = (slice(8, -8), slice(8, -8))
        np.testing.assert_allclose(patch.image[0][inner], expected[inner], atol=1e-3)

    def test_a_shorter_side_is_filled_with_its_edge(self):
        rows = np.tile(np.arange(32.0), (64, 1))
        (patch,) = cut(self.picture(rows), mm_per_pixel=None)
        np.testing.assert_allclose(patch.image[0, :, 16:48], rows, atol=1e-4)
        assert (np.abs(patch.image[0, :, :16]) < 0.1).all()
        assert (np.abs(patch.image[0, :, 48:] - 31) < 0.1).all()

    def test_millimetres_are_refused_all_at_once(self):
        case = self.picture(np.zeros((64, 64)))
        with pytest.raises(SettingsError) as caught:
            cut(case, mm_per_pixel=1.0, max_diameter_mm=30)
        assert [fault.where for fault in caught.value.faults] == [
            "patching.mm_per_pixel",
            "patching.max_diameter_mm",
        ]

    def test_missing_millimetres_are_refused(self, make_case, cube, ball):
        case = make_case(cube(), flat, ball(10))
        with pytest.raises(SettingsError, match="set it, for instance"):
            extract_patches(case, PatchingSettings())


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"size": 60},
            {"size": 16},
            {"mm_per_pixel": 0},
            {"mm_per_pixel": float("nan")},
            {"slices": "some"},
            {"slices": {"every": 0}},
            {"min_diameter_mm": 30, "max_diameter_mm": 10},
            {"mm_per_pixel": 0.1},
            {"sizes": 64},
        ],
    )
    def test_refused(self, wrong):
        with pytest.raises(ValueError, match="validation error"):
            PatchingSettings(**wrong)


def _case(voxels, geometry, box, mask=None) -> Case:
    patient = PatientKey("0" * 32)
    volume = Volume.from_array(voxels.astype(np.float32), geometry, "CT", Unit.HOUNSFIELD)
    return Case("case", patient, volume, (Lesion("2.25.1", "cyst", patient, box, mask),))
