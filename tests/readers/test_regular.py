"""Uneven distances and tilted gantries: refused by default, or brought onto a regular grid."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.ndimage import map_coordinates

from medaug.errors import ReaderError
from medaug.readers.dicom.stack import build_stacks
from medaug.readers.dicom.volume import volume_of
from medaug.readers.lesions import Marking, tight
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# Rows run to the left, columns back and down: a head holder's usual angle.
TILTED = (1.0, 0.0, 0.0, 0.0, float(np.cos(0.3)), float(-np.sin(0.3)))
SPACING = (0.8, 0.5)


def axes(orientation):
    """LPS unit vectors along column index, along row index, and up."""
    row, column = np.reshape(orientation, (2, 3))
    return row, column, np.cross(row, column)


def stack_at(write, positions, plane=None, **settings):
    slices = [write.slice(at, f"a/{number:03d}", plane) for number, at in enumerate(positions)]
    np.random.default_rng(1).shuffle(slices)
    (stack,), _ = build_stacks(slices, **settings)
    return stack


def reason_for(write, positions, plane=None, **settings):
    slices = [write.slice(at, f"a/{number:03d}", plane) for number, at in enumerate(positions)]
    stacks, refused = build_stacks(slices, **settings)
    assert not stacks
    (reason,) = {one.reason for one in refused}
    return reason


def upwards(heights):
    return [(3.0, 4.0, height) for height in heights]


def read(stack, value):
    """The volume of a stack whose pixels are ``value(LPS mm)``."""
    return volume_of(stack, lambda one: sample(one.plane, value))


def sample(plane, value):
    row, column, _ = axes(plane.orientation)
    i, j = np.meshgrid(np.arange(plane.columns), np.arange(plane.rows), indexing="ij")
    at = (
        np.array(plane.position)
        + i[..., None] * row * plane.spacing[1]
        + j[..., None] * column * plane.spacing[0]
    )
    return value(at).astype(np.float32)


def lps_of(geometry):
    every = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    return geometry.world(every) * [-1, -1, 1]


def ramp(at):
    return 7 * at[..., 2] - 40


@st.composite
def series_with_gaps(draw):
    """(distance, heights): a regular series with some slices missing, never three in a row."""
    distance = draw(st.sampled_from([0.75, 1.0, 2.5, 5.0]))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3]), min_size=3, max_size=12))
    assume(gaps.count(1) > len(gaps) / 2 and max(gaps) > 1)
    return distance, distance * np.concatenate([[0], np.cumsum(gaps)])


@st.composite
def aslant(draw):
    """Positions (slice, 3) LPS of slices with a tilt, perhaps with a gap; and a plane."""
    orientation = draw(st.sampled_from([AXIAL, TILTED]))
    drift = draw(
        st.tuples(st.sampled_from([-0.3, 0.0, 0.07]), st.sampled_from([-0.4, 0.25])), label="drift"
    )
    heights = draw(st.sampled_from([range(5), (0, 1, 2, 4, 5), (0, 1, 2, 3, 6), range(9)]))
    row, column, up = axes(orientation)
    step = up + drift[0] * row + drift[1] * column
    positions = [np.array([-5.0, 3.0, 9.0]) + 1.5 * height * step for height in heights]
    return positions, {"orientation": orientation}


class TestResampling:
    """``irregular: resample``: regular distances, linear between the two neighbours."""

    @given(series=series_with_gaps())
    def test_a_ramp_along_the_normal_is_exact(self, write, series):
        distance, heights = series
        stack = stack_at(write, upwards(heights), irregular="resample")
        geometry = stack.geometry
        assert geometry.shape == (8, 6, round(heights[-1] / distance) + 1)
        assert geometry.spacing == pytest.approx((0.5, 0.8, distance))
        found = read(stack, ramp).read()
        np.testing.assert_allclose(found, ramp(lps_of(geometry)), atol=1e-4)

    @given(seed=st.integers(0, 10**6), median=st.floats(0.5, 5))
    def test_and_so_it_is_with_any_distances(self, write, seed, median):
        gaps = median * np.random.default_rng(seed).uniform(0.6, 1.9, 12)
        heights = np.concatenate([[0], np.cumsum(gaps)])
        stack = stack_at(write, upwards(heights), irregular="resample")
        assert stack.geometry.spacing[2] == pytest.approx(np.median(gaps), rel=0.0101)
        found = read(stack, ramp).read()
        # A slice within a hundredth of the distance is taken as it is.
        np.testing.assert_allclose(
            found, ramp(lps_of(stack.geometry)), atol=7 * 0.0101 * np.median(gaps)
        )

    def test_slices_that_are_there_stay_as_they_are(self, write):
        # Positions rounded to 0.01 mm over 200 slices of 0.7463 mm; the median alone ends
        # 0.7 mm beside the last slice.
        heights = np.delete(np.round(0.7463 * np.arange(200), 2), [40, 41, 120])
        stack = stack_at(write, upwards(heights), irregular="resample")
        assert stack.geometry.shape[2] == 200
        assert stack.geometry.spacing[2] == pytest.approx(0.7463, abs=1e-4)
        noise = {one.file.name: np.random.default_rng(at).normal(size=(8, 6)).astype(np.float32)
                 for at, one in enumerate(stack.slices)}  # fmt: skip
        found = volume_of(stack, lambda one: noise[one.file.name]).read()
        there = np.delete(np.arange(200), [40, 41, 120])
        expected = np.stack([noise[one.file.name] for one in stack.slices], axis=2)
        same = np.abs(found[:, :, there] - expected).max(axis=(0, 1))
        assert (same == 0).mean() > 0.9  # rounding puts some 1 % of a distance off
        assert same.max() < 0.1

    def test_only_the_neighbours_are_decoded(self, write):
        stack = stack_at(write, upwards([0, 1, 2, 4, 5, 6]), irregular="resample")
        asked = []

        def decoder(one):
            asked.append(one.plane.position[2])
            return sample(one.plane, ramp)

        volume = volume_of(stack, decoder)
        for k, wanted in {1: {1}, 3: {2, 4}, 6: {6}}.items():
            asked.clear()
            box = (slice(2, 5), slice(1, 6), slice(k, k + 1))
            np.testing.assert_array_equal(volume.read(box), read(stack, ramp).read()[box])
            assert set(asked) == wanted

    @pytest.mark.parametrize(
        ("heights", "words"),
        [
            ([0, 1, 2, 3, 7], "nothing is interpolated across more than 3 distances"),
            ([0, 1, 2, 2.05, 3.1, 4, 9], "nothing is interpolated across more than 3 distances"),
        ],
    )
    def test_too_wide_a_gap_is_refused_anyway(self, write, heights, words):
        assert words in reason_for(write, upwards(heights), irregular="resample")
        assert stack_at(write, upwards([0, 1, 2, 3, 6]), irregular="resample")

    @pytest.mark.parametrize("irregular", ["refuse", "resample", "longest-block"])
    def test_a_regular_series_is_left_alone(self, write, irregular):
        heights = [0, 1, 2.09, 3, 4]  # nine hundredths off, as regular as it must be
        stack = stack_at(write, upwards(heights), irregular=irregular, tilt="shear")
        assert stack.sampling is None
        assert len(stack.slices) == 5

    def test_by_default_the_reason_names_the_settings(self, write):
        for heights in ([0, 1, 2, 4, 5], [0, 1, 2.2, 3, 4]):
            reason = reason_for(write, upwards(heights))
            assert "`irregular: resample` or `irregular: longest-block`" in reason


class TestLongestBlock:
    """``irregular: longest-block``: the longest run at one distance; the rest left out by name."""

    @pytest.mark.parametrize(
        ("heights", "kept"),
        [
            ([0, 1, 2, 3, 5, 6, 7], [0, 1, 2, 3]),
            ([0, 1, 2, 4, 5, 6, 7], [4, 5, 6, 7]),
            ([0, 1, 2, 4, 5, 6, 9], [0, 1, 2]),  # the lower of two
            ([*range(0, 50, 5), *range(50, 70)], list(range(50, 70))),
            ([*range(0, 100, 5), *range(100, 110)], list(range(0, 101, 5))),  # 5 mm slices win
            ([0, 7, 8, 9.02, 9.98, 11, 19], [7, 8, 9.02, 9.98, 11]),
        ],
    )
    def test_table(self, write, heights, kept):
        slices = [write.slice((0, 0, at), f"a/{at}") for at in heights]
        (stack,), refused = build_stacks(slices, "longest-block")
        found = [one.plane.position[2] for one in stack.slices]
        if heights[0] == 0 and len(kept) == 20:
            found = found[-20:]  # 45 and 50 are 5 mm apart, and 50 may count with either
        assert found == kept
        assert stack.sampling is None
        assert {one.name for one in refused} == {
            one.file.name for one in slices if one not in stack.slices
        }
        assert f"({len(stack.slices)} of {len(heights)} slices)" in refused[0].reason

    @given(
        before=st.lists(st.floats(1.7, 9), max_size=4),
        count=st.integers(6, 30),
        jitter=st.integers(0, 10**6),
        after=st.lists(st.floats(1.7, 9), max_size=4),
    )
    def test_a_block_among_others_is_found(self, write, before, count, jitter, after):
        inside = np.arange(count) + np.random.default_rng(jitter).uniform(-0.02, 0.02, count)
        heights = np.concatenate(
            [inside[0] - np.cumsum(before), inside, inside[-1] + np.cumsum(after)]
        )
        stack = stack_at(write, upwards(heights), irregular="longest-block")
        found = [one.plane.position[2] for one in stack.slices]
        np.testing.assert_array_equal(found, inside)

    def test_two_slices_are_no_block(self, write):
        reason = reason_for(write, upwards([0, 1, 3, 6, 10]), irregular="longest-block")
        assert "no 3 slices in a row lie at one distance" in reason


class TestShearing:
    """``tilt: shear``: columns along the normal; every slice moved within its own plane."""

    @given(series=aslant())
    def test_the_third_axis_is_the_normal(self, write, series):
        positions, plane = series
        stack = stack_at(write, positions, plane, irregular="resample", tilt="shear")
        _, _, up = axes(plane["orientation"])
        np.testing.assert_allclose(stack.geometry.directions[:, 2], up * [-1, -1, 1], atol=1e-9)
        # No voxel of a slice lies outside the grid, and no more than a pixel is added.
        corners = [
            one.plane.position + i * 0.5 * row + j * 0.8 * column
            for one in stack.slices
            for row, column, _ in [axes(one.plane.orientation)]
            for i in (0, 7)
            for j in (0, 5)
        ]
        at = stack.geometry.index(np.array(corners) * [-1, -1, 1])
        assert at.min() > -1e-6
        assert (at.max(axis=0) < np.array(stack.geometry.shape) - 1 + 1e-6).all()
        assert (at.min(axis=0)[:2] < 1).all()
        assert (at.max(axis=0)[:2] > np.array(stack.geometry.shape)[:2] - 2).all()

    @given(series=aslant(), seed=st.integers(0, 10**6))
    def test_voxels_against_a_slow_twin(self, write, series, seed):
        """Every voxel in mm → its place in the slices above and below, by SciPy's splines."""
        positions, plane = series
        stack = stack_at(write, positions, plane, irregular="resample", tilt="shear")
        rng = np.random.default_rng(seed)
        pictures = {one: rng.normal(size=(8, 6)).astype(np.float32) for one in stack.slices}
        volume = volume_of(stack, pictures.__getitem__)
        row, column, up = axes(plane["orientation"])
        lps = lps_of(volume.geometry)
        moved = []
        for one in stack.slices:
            away = lps - one.plane.position
            at = np.stack([away @ row / 0.5, away @ column / 0.8])
            moved.append(map_coordinates(pictures[one], at, order=1, mode="nearest"))
        heights = np.array([one.plane.position @ up for one in stack.slices])
        wanted = lps[0, 0] @ up
        expected = np.empty(volume.geometry.shape)
        for k, height in enumerate(wanted):
            below = max(np.searchsorted(heights, height + 1e-6) - 1, 0)
            above = min(below + 1, len(heights) - 1)
            share = (height - heights[below]) / max(heights[above] - heights[below], 1)
            expected[:, :, k] = (1 - share) * moved[below][:, :, k] + share * moved[above][:, :, k]
        found = volume.read()
        np.testing.assert_allclose(found, expected, atol=2e-5)
        i, j, k = (sorted(rng.integers(0, size + 1, 2).tolist()) for size in found.shape)
        box = tuple(slice(a, b + (a == b)) for a, b in (i, j, k))
        if all(part.stop <= size for part, size in zip(box, found.shape, strict=True)):
            np.testing.assert_array_equal(volume.read(box), found[box])

    def test_voxels_against_itk(self, write):
        """ITK holds the tilted slices as a sheared image and resamples that."""
        row, column, up = axes(TILTED)
        step = 2.0 * (up - 0.35 * column + 0.1 * row)
        positions = [np.array([5.0, 6.0, 7.0]) + at * step for at in range(9)]
        stack = stack_at(write, positions, {"orientation": TILTED}, tilt="shear")
        values = np.random.default_rng(0).normal(size=(9, 6, 8)).astype(np.float32)
        index = {one: at for at, one in enumerate(stack.slices)}
        found = volume_of(stack, lambda one: values[index[one]].T)
        image = SimpleITK.GetImageFromArray(values)
        image.SetOrigin(positions[0].tolist())
        image.SetSpacing((0.5, 0.8, float(np.linalg.norm(step))))
        sheared = np.column_stack([row, column, step / np.linalg.norm(step)])
        image.SetDirection(sheared.ravel().tolist())
        affine = np.diag([-1, -1, 1, 1]) @ found.geometry.affine
        twin = SimpleITK.Resample(
            image,
            found.geometry.shape,
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
            affine[:3, 3].tolist(),
            found.geometry.spacing,
            (affine[:3, :3] / found.geometry.spacing).ravel().tolist(),
            np.nan,
        )
        expected = SimpleITK.GetArrayFromImage(twin).transpose()
        inside = np.isfinite(expected)
        assert inside.sum() > 0.8 * (7 * 5 * 9)
        np.testing.assert_allclose(found.read()[inside], expected[inside], atol=1e-5)

    @pytest.mark.parametrize("degrees", [-20, 10, 30])
    def test_an_ellipsoid_stands_upright(self, write, degrees):
        """Sampled on tilted slices, its outline is where the upright one has it."""
        drift = np.tan(np.deg2rad(degrees))
        plane = {"rows": 60, "columns": 50, "spacing": (0.8, 0.8)}
        positions = [(0.0, drift * height, height) for height in np.arange(0, 40, 1.0)]
        centre = np.array([20.0, 24 + 20 * drift, 20.0])
        radii = np.array([9.0, 13.0, 16.0])

        def inside(at):
            return (((at - centre) / radii) ** 2).sum(axis=-1) <= 1

        stack = stack_at(write, positions, plane, tilt="shear")
        true = inside(lps_of(stack.geometry))
        image = read(stack, inside).read() > 0.5
        source = np.stack([sample(one.plane, inside) for one in stack.slices], axis=2) > 0
        moved = stack.on_grid(Marking("a", "a", *tight(source)))
        mask = np.zeros(stack.geometry.shape, dtype=bool)
        mask[moved.box] = moved.mask
        for found, least in ((image, 0.97), (mask, 0.97)):
            assert 2 * (found & true).sum() / (found.sum() + true.sum()) > least
        assert mask.sum() == source.sum()
        assert mask.sum() * stack.geometry.voxel_mm3 == pytest.approx(
            4 / 3 * np.pi * radii.prod(), rel=0.02
        )
        # Left as it lies, the tilted array shows another shape.
        asif = np.zeros_like(true)
        asif[:, :60] = source
        middle = (np.argwhere(true).mean(axis=0) - np.argwhere(asif).mean(axis=0)).round()
        asif = np.roll(asif, middle.astype(int), axis=(0, 1, 2))
        assert 2 * (asif & true).sum() / (asif.sum() + true.sum()) < 0.95

    def test_beyond_a_slice_its_edge_is_repeated(self, write):
        positions = [(0.0, 1.6 * at, 2.0 * at) for at in range(4)]  # two rows per slice
        stack = stack_at(write, positions, tilt="shear")
        found = read(stack, lambda at: at[..., 1]).read()
        assert found.shape == (8, 12, 4)
        rows = 0.8 * np.arange(12)
        for k in range(4):
            np.testing.assert_allclose(found[3, :, k], np.clip(rows, 1.6 * k, 1.6 * k + 4), 1e-5)

    def test_a_slight_drift_is_kept_and_nothing_moved(self, write):
        positions = [(0.0, 0.015 * at, 1.0 * at) for at in (0, 1, 2, 4, 5)]
        stack = stack_at(write, positions, irregular="resample", tilt="shear")
        assert stack.geometry.shape == (8, 6, 6)
        np.testing.assert_allclose(stack.geometry.world((0, 0, 5)), (0, -0.075, 5), atol=1e-9)
        assert not stack.sampling.shift.any()

    @pytest.mark.parametrize(
        ("positions", "settings", "words"),
        [
            ([(0, 0.2 * at, at) for at in range(5)], {}, "a tilted gantry: slices shift by 0.2 mm"),
            ([(0, 0.2 * at, at) for at in range(5)], {}, "set `tilt: shear`"),
            ([(0, 1.1 * at, at) for at in range(5)], {"tilt": "shear"}, "more than any gantry"),
            ([(0, 0.2 * at, at) for at in range(2)], {"tilt": "shear"}, "2 slices do not tell"),
            ([(0, 0.2 * at, at) for at in (0, 1, 2, 4)], {"tilt": "shear"}, "slices are missing"),
            (
                [(0, 0.2 * at, at) for at in (0, 1, 2, 4)],
                {"irregular": "resample"},
                "a tilted gantry",
            ),
            ([(0, 0.3 * (at == 2), at) for at in range(5)], {"tilt": "shear"}, "0.3 mm aside"),
            ([(0, 0.3 * (at == 2), 5 * at) for at in range(5)], {}, "0.3 mm aside"),
            ([(0, 0.9 * 100 * at, 100 * at) for at in range(9)], {"tilt": "shear"}, "mostly empty"),
        ],
    )
    def test_is_refused(self, write, positions, settings, words):
        assert words in reason_for(write, positions, **settings)

    def test_every_reason_at_once(self, write):
        reason = reason_for(write, [(0, 0.2 * at, at) for at in (0, 1, 2, 4)])
        assert "`irregular: resample`" in reason
        assert "`tilt: shear`" in reason

    def test_the_longest_block_of_a_tilted_series(self, write):
        positions = [(0, 0.2 * at, at) for at in (0, 1, 2, 3, 4, 6, 7)]
        stack = stack_at(write, positions, irregular="longest-block", tilt="shear")
        assert len(stack.slices) == 5
        assert stack.geometry.shape == (8, 7, 5)


class TestMarks:
    """Nearest neighbour, slice and pixel; never lost."""

    @given(series=aslant(), seed=st.integers(0, 10**6))
    def test_against_a_slow_twin(self, write, series, seed):
        """Every voxel in mm asks the nearest slice for its nearest pixel; ties go up."""
        positions, plane = series
        stack = stack_at(write, positions, plane, irregular="resample", tilt="shear")
        source = np.random.default_rng(seed).random((8, 6, len(stack.slices))) < 0.15
        source[3, 3, 1] = True
        row, column, up = axes(plane["orientation"])
        lps = lps_of(stack.geometry)
        heights = np.array([one.plane.position @ up for one in stack.slices])
        expected = np.zeros(stack.geometry.shape, dtype=bool)
        for at in np.ndindex(*expected.shape):
            away = np.abs(heights - lps[at] @ up)
            nearest = max(np.flatnonzero(away < away.min() + 1e-6))
            mm = lps[at] - stack.slices[nearest].plane.position
            i = int(np.floor(mm @ row / 0.5 + 0.5 + 1e-6))
            j = int(np.floor(mm @ column / 0.8 + 0.5 + 1e-6))
            if 0 <= i < 8 and 0 <= j < 6:
                expected[at] = source[i, j, nearest]
        marking = stack.on_grid(Marking("a", "a", *tight(source)))
        found = np.zeros_like(expected)
        found[marking.box] = marking.mask
        np.testing.assert_array_equal(found, expected)
        box, _ = tight(found)
        assert marking.box == box

    def test_on_a_regular_stack_it_is_the_same_object(self, write):
        stack = stack_at(write, upwards(range(4)))
        marking = Marking("a", "a", (slice(0, 2), slice(0, 2), slice(0, 2)), None)
        assert stack.on_grid(marking) is marking

    def test_a_mark_between_the_slices_of_the_grid_goes_to_the_nearest(self, write):
        stack = stack_at(write, upwards([0, 5, 10, 12, 15, 20, 25, 30]), irregular="resample")
        assert stack.geometry.spacing[2] == 5
        for mask in (np.ones((2, 1, 1), dtype=bool), None):
            box = (slice(2, 4), slice(5, 6), slice(3, 4))  # the slice at 12 mm
            moved = stack.on_grid(Marking("a", "a", box, mask))
            assert moved.box == (slice(2, 4), slice(5, 6), slice(2, 3))
            assert mask is None or moved.mask.all()

    def test_two_such_slices_on_either_side_of_an_unmarked_one_meet(self, write):
        heights = [0, 5, 10, 13, 15, 17, 20, 25, 30, 35]
        stack = stack_at(write, upwards(heights), irregular="resample")
        mask = np.zeros((2, 1, 3), dtype=bool)  # at 13, 15 and 17 mm
        mask[0, 0, 0] = mask[1, 0, 2] = True
        box = (slice(2, 4), slice(5, 6), slice(3, 6))
        moved = stack.on_grid(Marking("a", "a", box, mask))
        assert moved.box == (slice(2, 4), slice(5, 6), slice(3, 4))  # all at 15 mm
        assert moved.mask.all()

    def test_a_mark_beyond_the_last_slice_of_the_grid(self, write):
        # The median distance ends at 4; the last slice lies at 4.45.
        stack = stack_at(write, upwards([0, 1, 2, 3, 4.45]), irregular="resample")
        assert stack.geometry.shape[2] == 5
        box = (slice(2, 4), slice(5, 6), slice(4, 5))
        moved = stack.on_grid(Marking("a", "a", box, np.ones((2, 1, 1), dtype=bool)))
        assert moved.box == box

    @given(series=aslant(), seed=st.integers(0, 10**6))
    def test_a_box_holds_what_its_full_mask_becomes(self, write, series, seed):
        positions, plane = series
        stack = stack_at(write, positions, plane, irregular="resample", tilt="shear")
        rng = np.random.default_rng(seed)
        ends = [rng.choice(size + 1, 2, replace=False) for size in (8, 6, len(stack.slices))]
        box = tuple(slice(int(min(pair)), int(max(pair))) for pair in ends)
        mask = np.ones([part.stop - part.start for part in box], dtype=bool)
        filled = stack.on_grid(Marking("a", "a", box, mask))
        assert stack.on_grid(Marking("a", "a", box, None)).box == filled.box


class TestThroughTheReader:
    @pytest.mark.parametrize(
        ("step", "settings", "missing", "slices"),
        [
            ((0, 0, 2.5), {"irregular": "resample"}, [1], 8),
            ((0, 0.6, 2.5), {"tilt": "shear"}, [], 8),
            ((0, 0.6, 2.5), {"tilt": "shear", "irregular": "resample"}, [1], 8),
            ((0, 0, 2.5), {"irregular": "longest-block"}, [1], 6),
        ],
    )
    def test_a_segmentation_goes_along(
        self, step, settings, missing, slices, tmp_path, write, site_key
    ):
        mask = np.zeros((20, 16, 8), dtype=bool)
        mask[4:8, 5:8, 4:7] = True
        paths = write.series(tmp_path / "ct", write.ct(), step=step)
        write.seg(tmp_path / "seg.dcm", paths, {"Cyst": mask})
        for at in missing:
            paths[at].unlink()
        source = {"kind": "dicom", "lesions": [{"kind": "seg"}]}
        with pytest.raises(ReaderError, match=r"set `(irregular|tilt)"):
            scan([TypeAdapter(SourceSettings).validate_python(source)], tmp_path, site_key)
        source = TypeAdapter(SourceSettings).validate_python({**source, **settings})
        (case,) = scan([source], tmp_path, site_key).cases()
        geometry, (lesion,) = case.volume.geometry, case.lesions
        assert geometry.shape[2] == slices
        assert lesion.voxels == mask.sum()
        # Its centre is where the tilted slices have it, within half a row.
        marked = geometry.world(np.argwhere(lesion.mask) + [part.start for part in lesion.box])
        left, back, up = marked.mean(axis=0) * [-1, -1, 1]
        assert left == pytest.approx(-30 + 5.5 * 0.7, abs=0.01)
        assert back == pytest.approx(12 + 6 * 0.9 + 5 * step[1], abs=0.45)
        assert up == pytest.approx(100 + 5 * 2.5, abs=0.01)
        assert np.isfinite(case.volume.read(lesion.box)).all()
