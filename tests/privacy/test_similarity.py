"""The fast comparison against a slow, obvious twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import lesion
from scipy.ndimage import affine_transform, map_coordinates, rotate

from medaug.privacy.pictures import RADIUS, SIDE, Views, disc, resized
from medaug.privacy.poses import LOW_POSES, SQUARE_POSES, Pose, grid_points, in_square_poses
from medaug.privacy.refinement import CHANNELS
from medaug.privacy.similarity import REACH, Gallery, lead

REAL = np.concatenate([lesion(seed, "cyst") for seed in range(12)])
GALLERY = Gallery.of(REAL)
EVERYBODY = np.ones(len(REAL), dtype=bool)


def views(image: np.ndarray) -> np.ndarray:
    return Views.of(image[None]).of_one()


def zoomed(image: np.ndarray, scale: float) -> np.ndarray:
    centre = (SIDE - 1) / 2 * (1 - 1 / scale)
    return affine_transform(image, np.eye(2) / scale, centre, order=3, mode="nearest")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return abs(np.corrcoef(a, b)[0, 1])


def slow_low(low: np.ndarray, real: np.ndarray) -> float:
    """Sample the posed picture point by point, correlate, take the best of 3600."""
    centre = (SIDE - 1) / 2
    still = map_coordinates(real, (grid_points() + centre).T, order=1, mode="nearest")
    best = 0.0
    for pose in LOW_POSES:
        angle = np.deg2rad(pose.degrees)
        down, right = (grid_points() - pose.shift).T / pose.scale
        rows = np.cos(angle) * down + np.sin(angle) * right
        columns = -np.sin(angle) * down + np.cos(angle) * right
        columns = -columns if pose.mirrored else columns
        places = np.stack([rows + centre, columns + centre])
        moved = map_coordinates(low, places, order=1, mode="nearest")
        best = max(best, correlation(moved, still))
    return best


def slow_band(band: np.ndarray, real: np.ndarray) -> float:
    """Lay every pose of the square on the zero-padded real picture at every shift."""
    under = disc(SIDE, RADIUS)
    wide = np.pad(real, REACH)
    best = 0.0
    for posed in in_square_poses(band):
        template = posed[under] - posed[under].mean()
        template /= np.linalg.norm(template)
        for down in range(2 * REACH + 1):
            for right in range(2 * REACH + 1):
                crop = wide[down : down + SIDE, right : right + SIDE][under]
                best = max(best, abs(template @ crop) / np.linalg.norm(crop - crop.mean()))
    return best


class TestTwin:
    """GEMM and FFT give what sampling and correlating pose by pose gives."""

    @pytest.mark.parametrize("seed", [101, 102])
    def test_low(self, seed: int) -> None:
        looks = views(lesion(seed, "metastasis")[0])
        found, _ = GALLERY.first_stage(looks, EVERYBODY)
        slow = [slow_low(looks[0], Views.of(real[None]).low[0]) for real in REAL[:3]]
        for row in range(3):
            alone, _ = GALLERY.first_stage(looks, np.arange(len(REAL)) == row)
            assert alone.values[0] == pytest.approx(slow[row], abs=5e-4)
        assert found.values[0] >= max(slow) - 5e-4

    @pytest.mark.parametrize("seed", [103, 104])
    def test_band(self, seed: int) -> None:
        looks = views(lesion(seed, "cyst")[0])
        for row in range(2):
            alone, _ = GALLERY.first_stage(looks, np.arange(len(REAL)) == row)
            slow = slow_band(looks[1], GALLERY.views[row, 1].astype(np.float32))
            assert alone.values[1] == pytest.approx(slow, abs=2e-5)


class TestPoses:
    def test_square_poses_are_the_group_of_the_square(self) -> None:
        picture = np.arange(9.0).reshape(3, 3).astype(np.float32)
        assert len({posed.tobytes() for posed in in_square_poses(picture)}) == 8

    @pytest.mark.parametrize("which", range(8))
    def test_names_what_brings_the_copy_back(self, which: int) -> None:
        looks = views(np.ascontiguousarray(in_square_poses(REAL[4])[which]))
        found = GALLERY.compare(looks, EVERYBODY)
        assert found.rows.tolist() == [4] * len(CHANNELS)
        assert found.values == pytest.approx(1, abs=5e-3)
        done = SQUARE_POSES[which]
        back = done.degrees if done.mirrored else -done.degrees % 360
        assert found.poses == (Pose(done.mirrored, back, 1.0, (0, 0)),) * len(CHANNELS)

    def test_finds_a_shift(self) -> None:
        moved = np.pad(REAL[2], 6, mode="edge")[3:67, 12:76]
        found = GALLERY.compare(views(moved), EVERYBODY)
        assert found.rows.tolist() == [2] * len(CHANNELS)
        assert found.poses[1].shift == (-3, 6)
        assert found.poses[0].shift == (-3, 6)

    @pytest.mark.parametrize(("degrees", "scale"), [(7, 1.0), (22, 0.95), (127, 1.06)])
    def test_fits_a_pose_between_those_of_stage_1(self, degrees: float, scale: float) -> None:
        """Stage 1 alone sees no copy here; stage 2 finds the angle within its step."""
        turned = rotate(REAL[3], degrees, reshape=False, order=3, mode="nearest")
        found = GALLERY.compare(views(zoomed(turned, scale)), EVERYBODY)
        before, _ = GALLERY.first_stage(views(zoomed(turned, scale)), EVERYBODY)
        assert found.rows.tolist() == [3] * len(CHANNELS)
        assert found.values[1] > 0.85 > before.values[1] + 0.2
        assert abs((found.poses[1].degrees + degrees + 180) % 360 - 180) <= 2.5


class TestInvariance:
    @settings(max_examples=15, deadline=None)
    @given(
        st.floats(0.2, 5).flatmap(lambda gain: st.sampled_from([gain, -gain])),
        st.floats(-500, 500),
        st.integers(0, 50),
    )
    def test_contrast_brightness_inversion(self, gain: float, offset: float, seed: int) -> None:
        image = lesion(seed + 500, "cyst")[0]
        plain = GALLERY.compare(views(image), EVERYBODY)
        changed = GALLERY.compare(views(np.float32(gain) * image + np.float32(offset)), EVERYBODY)
        assert changed.values == pytest.approx(plain.values, abs=1e-3)

    @pytest.mark.parametrize("memory_mb", [1, 8, 1000])
    def test_chunks_do_not_matter(self, memory_mb: int) -> None:
        many = np.concatenate([lesion(seed, "cyst") for seed in range(60)])
        image = views(lesion(999, "cyst")[0])
        chunked, whole = Gallery.of(many, memory_mb), Gallery.of(many)
        everybody = np.ones(60, dtype=bool)
        assert np.allclose(
            chunked.compare(image, everybody).values,
            whole.compare(image, everybody).values,
            atol=1e-6,
        )

    @pytest.mark.parametrize("side", [50, 128, 200])
    def test_other_sizes_are_the_same_picture(self, side: int) -> None:
        found = GALLERY.compare(views(resized(REAL[7:8], side)[0]), EVERYBODY)
        assert found.rows.tolist() == [7] * len(CHANNELS)
        assert found.values.min() > 0.8


class TestLead:
    """How far one patient is ahead of the next four."""

    def test_counts_patients_not_patches(self) -> None:
        alike = np.tanh([[0.8], [0.7], [0.4], [0.4], [0.4], [0.4], [0.1]])
        owners = np.array([5, 5, 1, 2, 3, 4, 6])
        ahead, patients = lead(alike, owners)
        assert ahead[:, 0].max() == ahead[patients == 5, 0] == pytest.approx(np.log(2))
        assert ahead[patients == 1, 0] == pytest.approx(np.log(0.4 / ((0.8 + 3 * 0.4) / 4)))
        assert ahead[patients == 6, 0] == pytest.approx(np.log(0.1 / ((0.8 + 3 * 0.4) / 4)))
        single, _ = lead(alike, np.arange(7))
        assert single.max() == pytest.approx(np.log(0.8 / ((0.7 + 3 * 0.4) / 4)))

    def test_nobody_is_ahead_alone(self) -> None:
        ahead, _ = lead(np.full((3, 4), 0.9), np.zeros(3, np.int64))
        assert ahead.tolist() == [[0] * 4]

    def test_noise_hides_the_likeness_and_not_the_lead(self) -> None:
        noise = np.random.default_rng(3).normal(0, 1.5 * REAL[6].std(), REAL[6].shape)
        hidden = GALLERY.compare(views((REAL[6] + noise).astype(np.float32)), EVERYBODY)
        others = np.arange(len(REAL)) != 6
        by_nature = GALLERY.compare(views(REAL[6]), others)
        assert hidden.rows[1] == 6
        assert hidden.values[1] < by_nature.values[1] + 0.1
        assert hidden.leads[1] > 2 * by_nature.leads[1]

    def test_two_scales_must_see_the_same_patient(self) -> None:
        others = np.arange(len(REAL)) != 6
        by_nature = GALLERY.compare(views(REAL[6]), others)
        mixed = GALLERY.compare(views(REAL[6] + lesion(3000, "cyst")[0]), EVERYBODY)
        assert mixed.together_at[0] == 6
        assert mixed.together > 2 * by_nature.together


class TestWithoutContrast:
    """A constant picture is like nothing, and nothing becomes NaN."""

    @pytest.mark.parametrize("level", [0.0, 40.0, -1000.0])
    def test_candidate(self, level: float) -> None:
        flat = np.full((SIDE, SIDE), level, np.float32)
        assert GALLERY.compare(views(flat), EVERYBODY).values.tolist() == [0] * len(CHANNELS)

    def test_gallery(self) -> None:
        gallery = Gallery.of(np.concatenate([REAL[:3], np.full((1, SIDE, SIDE), 7, np.float32)]))
        only_flat = np.array([False, False, False, True])
        assert gallery.compare(views(REAL[0]), only_flat).values.tolist() == [0] * len(CHANNELS)


def test_nobody_to_compare_with() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        GALLERY.compare(views(REAL[0]), ~EVERYBODY)
