"""Distances between sets against slow twins, references and known truths."""

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from medaug.evaluation import agreement
from medaug.evaluation.distances import (
    frechet_at_infinity,
    frechet_distance,
    frechet_estimable,
    kernel_distance,
    neighbourhood,
)
from medaug.evaluation.pairs import matched, similarity_of
from medaug.evaluation.similarity import scales, similarities
from medaug.evaluation.twosample import two_sample_test


def two(seed: int, *sizes: int, features: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(size, features)) for size in sizes]


class TestKernelDistance:
    """KID: unbiased, symmetric, and what its formula says."""

    def test_naive_double_loop(self) -> None:
        a, b = two(0, 7, 9)

        def kernel(x: np.ndarray, y: np.ndarray) -> float:
            return float((x @ y / 5 + 1) ** 3)

        within_a = [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
        within_b = [kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
        between = [kernel(x, y) for x in a for y in b]
        wanted = np.mean(within_a) + np.mean(within_b) - 2 * np.mean(between)
        assert kernel_distance(a, b) == pytest.approx(wanted)
        assert kernel_distance(b, a) == pytest.approx(wanted)

    def test_blocks_of_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        a, b = two(1, 50, 37)
        whole = kernel_distance(a, b)
        monkeypatch.setattr("medaug.evaluation.distances._ROWS", 8)
        assert kernel_distance(a, b) == pytest.approx(whole)

    def test_no_bias_under_the_null(self) -> None:
        values = [kernel_distance(*two(seed, 12, 20)) for seed in range(500)]
        error = np.std(values) / np.sqrt(500)
        assert abs(np.mean(values)) < 3 * error
        # The biased estimate, with the diagonal, would be 20 errors off.
        assert error < 0.05

    def test_too_few(self) -> None:
        with pytest.raises(ValueError, match="two patches"):
            kernel_distance(*two(0, 1, 5))


class TestFrechet:
    """Equal to scipy's matrix root; biased by 1/n, which the extrapolation takes away."""

    def test_matrix_root(self) -> None:
        a, b = two(2, 40, 60)
        b = b @ np.random.default_rng(0).normal(size=(5, 5)) + 0.3
        first, second = np.cov(a.T), np.cov(b.T)
        root = linalg.sqrtm(first @ second).real
        apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
        assert frechet_distance(a, b) == pytest.approx(
            apart + np.trace(first + second - 2 * root), rel=1e-9
        )

    def test_known_distance(self) -> None:
        a, b = two(3, 50_000, 50_000, features=2)
        assert frechet_distance(a, 2 * b + [3, 0]) == pytest.approx(9 + 2, rel=0.03)

    def test_fewer_patches_than_features(self) -> None:
        assert np.isfinite(frechet_distance(*two(4, 4, 4, features=9)))

    def test_extrapolation_removes_the_bias(self) -> None:
        plain, extrapolated = [], []
        for seed in range(60):
            a, b = two(seed, 80, 80, features=10)
            plain.append(frechet_distance(a, b))
            extrapolated.append(frechet_at_infinity(a, b, np.random.default_rng(seed)))
        assert np.mean(plain) > 0.5
        assert abs(np.mean(extrapolated)) < 0.15 * np.mean(plain)

    def test_needs_two_patches_a_feature(self) -> None:
        assert frechet_estimable(138, 69)
        assert not frechet_estimable(137, 69)


def slow_neighbourhood(real: np.ndarray, synthetic: np.ndarray, k: int) -> list[float]:
    def reach(points: np.ndarray, at: int) -> float:
        return sorted(np.linalg.norm(points - points[at], axis=1))[k]

    inside = np.array(
        [[np.linalg.norm(r - s) < reach(real, i) for s in synthetic] for i, r in enumerate(real)]
    )
    back = np.array(
        [
            [np.linalg.norm(r - s) < reach(synthetic, j) for j, s in enumerate(synthetic)]
            for r in real
        ]
    )
    return [
        inside.any(axis=0).mean(),
        back.any(axis=1).mean(),
        inside.sum() / k / len(synthetic),
        inside.any(axis=1).mean(),
    ]


class TestNeighbourhood:
    """Precision, recall, density and coverage."""

    @pytest.mark.parametrize("k", [1, 3, 5])
    def test_slow_twin(self, k: int) -> None:
        real, synthetic = two(5, 20, 26, features=3)
        found = neighbourhood(real, synthetic + 0.5, k)
        assert list(vars(found).values()) == pytest.approx(
            slow_neighbourhood(real, synthetic + 0.5, k)
        )

    def test_mode_collapse(self) -> None:
        real, synthetic = two(6, 300, 300)
        found = neighbourhood(real, 0.1 * synthetic)
        assert found.precision == 1
        assert found.recall < 0.1
        assert found.coverage < 0.5

    def test_expected_coverage_of_alike_sets(self) -> None:
        """1 - (M-1)...(M-k) / ((2M-1)...(2M-k)) for M patches each: Naeem et al., lemma 2."""
        m, k = 100, 5
        steps = np.arange(1, k + 1)
        wanted = 1 - np.prod((m - steps) / (2 * m - steps))
        found = [neighbourhood(*two(seed, m, m)).coverage for seed in range(60)]
        assert np.mean(found) == pytest.approx(wanted, abs=0.01)

    def test_too_few(self) -> None:
        with pytest.raises(ValueError, match="more than 5"):
            neighbourhood(*two(0, 5, 9))


class TestTwoSample:
    """Rejects at most 5 % under the null, and finds what is there."""

    def test_level(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With fewer trees and divisions than in earnest, for time's sake."""
        monkeypatch.setattr("medaug.evaluation.twosample.TREES", 10)
        monkeypatch.setattr("medaug.evaluation.twosample.DIVISIONS", 3)
        p = [
            two_sample_test(*two(seed, 20, 20), np.random.default_rng(seed)).p
            for seed in range(120)
        ]
        rejected = sum(each <= 0.05 for each in p)
        assert stats.binom.sf(rejected - 1, 120, 0.05) > 0.01

    def test_one_division_is_level_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the factor 2: p itself must be valid, and not just because of the median."""
        monkeypatch.setattr("medaug.evaluation.twosample.TREES", 10)
        monkeypatch.setattr("medaug.evaluation.twosample.DIVISIONS", 1)
        p = [
            two_sample_test(*two(seed, 24, 24), np.random.default_rng(seed)).p / 2
            for seed in range(200)
        ]
        rejected = sum(each <= 0.05 for each in p)
        # 5 % of 200 are 10; discrete p values reject less often, but a dead test rejects never.
        assert 2 <= rejected <= 18

    def test_finds_a_shift_and_a_lack_of_spread(self) -> None:
        a, b = two(7, 80, 120)
        rng = np.random.default_rng(0)
        for other in (b + 1.5, 0.2 * b):
            found = two_sample_test(a, other, rng)
            assert found.accuracy > 0.8
            assert found.p < 0.01
            assert found.count == 80

    def test_copies_fall_below_guessing(self) -> None:
        """Each copy's original may be in the other half with the other label."""
        a = two(8, 150)[0]
        found = two_sample_test(a, a.copy(), np.random.default_rng(0))
        assert found.accuracy < 0.45
        assert found.p == 1

    def test_too_few(self) -> None:
        with pytest.raises(ValueError, match="8 patches"):
            two_sample_test(*two(0, 7, 30), np.random.default_rng(0))


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004 for one scale, without borders, by explicit windows."""
    at = np.arange(11) - 5
    weight = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    weight /= weight.sum()
    windows = [np.lib.stride_tricks.sliding_window_view(each, (11, 11)) for each in (a, b)]
    x, y = ((each * weight).sum((2, 3)) for each in windows)
    xx = (windows[0] ** 2 * weight).sum((2, 3)) - x**2
    yy = (windows[1] ** 2 * weight).sum((2, 3)) - y**2
    xy = (windows[0] * windows[1] * weight).sum((2, 3)) - x * y
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    both = (2 * x * y + c1) * (2 * xy + c2) / ((x**2 + y**2 + c1) * (xx + yy + c2))
    return float(both.mean())


class TestSimilarity:
    """MS-SSIM of pairs within a class."""

    def test_one_scale_is_plain_ssim(self) -> None:
        rng = np.random.default_rng(0)
        a = rng.uniform(-1, 1, size=(3, 1, 16, 16)).astype(np.float32)
        b = (0.7 * a + 0.3 * rng.uniform(-1, 1, size=a.shape)).astype(np.float32)
        assert scales(16) == 1
        wanted = [
            slow_ssim(x[0].astype(float), y[0].astype(float)) for x, y in zip(a, b, strict=True)
        ]
        assert similarities(a, b) == pytest.approx(wanted, abs=1e-3)

    @pytest.mark.parametrize("side", [11, 22, 32, 48, 64, 96, 128, 176])
    def test_every_size_has_its_scales(self, side: int) -> None:
        images = np.random.default_rng(0).uniform(-1, 1, (2, 1, side, side)).astype(np.float32)
        assert similarities(images, images) == pytest.approx(1)
        assert similarities(images[:1], images[1:])[0] < 0.2

    def test_collapse_raises_it(self) -> None:
        rng = np.random.default_rng(0)
        real = torch.nn.functional.interpolate(
            torch.from_numpy(rng.uniform(-1, 1, size=(60, 1, 4, 4))), (32, 32), mode="bicubic"
        )
        images = real.numpy().clip(-1, 1).astype(np.float32)
        everything = np.ones(60, dtype=bool)
        owners = np.arange(60) // 2
        same = similarity_of(
            (images, owners, everything), (images, np.arange(60), everything), 0.95, rng
        )
        assert same.difference.low < 0 < same.difference.high
        few = similarity_of(
            (images, owners, everything), (images[:3].repeat(20, 0), np.arange(60), everything),
            0.95, rng,
        )  # fmt: skip
        assert few.difference.low > 0.05

    def test_pairs_are_of_different_patients(self) -> None:
        owners = np.array([0, 0, 0, 1, 2, 2])
        pairs = matched(owners, np.array([0, 1, 2, 3, 4]), 200, np.random.default_rng(0))
        assert pairs.shape == (200, 2)
        assert (owners[pairs[:, 0]] != owners[pairs[:, 1]]).all()
        assert set(pairs.ravel()) == {0, 1, 2, 3, 4}


class TestAgreement:
    """Intensities and lesion sizes in their units."""

    def test_wasserstein_in_the_unit(self) -> None:
        rng = np.random.default_rng(0)
        a = np.clip(rng.normal(-0.2, 0.3, size=(30, 1, 8, 8)), -1, 1)
        b = np.clip(rng.normal(0.1, 0.5, size=(30, 1, 8, 8)), -1, 1)
        width = 300.0
        wanted = stats.wasserstein_distance(a.ravel(), b.ravel()) * width / 2
        found = agreement.distance(agreement.cumulative(a), agreement.cumulative(b), width)
        assert found == pytest.approx(wanted, abs=width / agreement.BINS)

    def test_only_inside_the_mask(self) -> None:
        images = np.full((2, 1, 8, 8), -1.0)
        masks = np.zeros((2, 8, 8), dtype=bool)
        masks[0, 2:4] = True
        images[0, 0, 2:4] = 0.5
        shares = agreement.cumulative(images, masks)
        assert np.isnan(shares[1]).all()
        brighter = agreement.cumulative(np.full((1, 1, 8, 8), 0.75))
        assert agreement.distance(shares[:1], brighter, 2.0) == pytest.approx(0.25)

    def test_diameters(self) -> None:
        masks = np.zeros((5, 16, 16), dtype=bool)
        masks[0, 3:7, 4:8] = True
        masks[1, 5, 2:13] = True
        masks[2, 8, 8] = True
        masks[3, 2, 3] = masks[3, 14, 8] = True
        found = agreement.diameters(masks)
        assert found == pytest.approx([np.hypot(3, 3), 10, 0, 13, 0])
