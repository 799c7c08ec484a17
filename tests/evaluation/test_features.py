"""Radiomic features against the published reference, and the scale and weight files beside them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import resnet18
from safetensors.torch import save_file
from scipy import stats
from skimage.feature import graycomatrix, graycoprops

from medaug.errors import SettingsError
from medaug.evaluation.features import REACH, FeatureSpace, Network, Radiomic, extractor
from medaug.evaluation.radiomics import feature_names, radiomic_features
from medaug.evaluation.texture import LEVELS, cooccurrence, discretise, runs, zones

# The digital phantom of the IBSI, arXiv:1612.07003, chapter 5: (slice, row, column); 0 is outside.
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
# "2D, averaged" (GLSZM: "2D"), three digits. Runs and zones were checked with nyxus 0.11 as well,
# co-occurrence against scikit-image below.
REFERENCE = {
    cooccurrence: {
        "joint maximum": 0.519,
        "joint variance": 2.69,
        "joint entropy": 2.05,
        "difference average": 1.42,
        "difference entropy": 1.4,
        "contrast": 5.28,
        "angular second moment": 0.368,
        "inverse difference": 0.678,
        "correlation": -0.0121,
    },
    runs: {
        "short runs emphasis": 0.641,
        "long runs emphasis": 3.78,
        "low grey level run emphasis": 0.604,
        "high grey level run emphasis": 9.82,
        "normalised grey level non-uniformity of runs": 0.46,
        "normalised run length non-uniformity": 0.492,
        "run percentage": 0.627,
        "grey level variance of runs": 3.35,
        "run length variance": 0.761,
        "run entropy": 2.17,
    },
    zones: {
        "small zones emphasis": 0.363,
        "large zones emphasis": 43.9,
        "low grey level zone emphasis": 0.371,
        "high grey level zone emphasis": 16.4,
        "normalised grey level non-uniformity of zones": 0.323,
        "normalised zone size non-uniformity": 0.333,
        "zone percentage": 0.24,
        "grey level variance of zones": 3.97,
        "zone size variance": 21.0,
        "zone entropy": 1.93,
    },
}


@pytest.fixture
def patches() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(0, 0.4, size=(24, 1, 16, 20)), -1, 1).astype(np.float32)


class TestTexture:
    """The definitions are those of the IBSI."""

    @pytest.mark.parametrize("family", list(REFERENCE))
    def test_phantom(self, family: Callable) -> None:
        names, values = family(PHANTOM)
        assert names == tuple(REFERENCE[family])
        assert values.mean(axis=0) == pytest.approx(list(REFERENCE[family].values()), rel=5e-3)

    def test_cooccurrence_at_a_distance_is_that_of_scikit_image(self) -> None:
        levels = np.random.default_rng(1).integers(1, LEVELS + 1, size=(2, 12, 17))
        names, values = cooccurrence(levels, 2)
        for patch, row in zip(levels, values, strict=True):
            # Their angles move by rounded sines: at 2 pixels the diagonals would be 1 apart.
            straight = graycomatrix(patch - 1, [2], [0, np.pi / 2], LEVELS, True, True)
            far = np.sqrt(8)
            slanted = graycomatrix(patch - 1, [far], [np.pi / 4, 3 * np.pi / 4], LEVELS, True, True)
            for name, theirs in (("contrast", "contrast"), ("correlation", "correlation")):
                wanted = [graycoprops(each, theirs).mean() for each in (straight, slanted)]
                assert row[names.index(name)] == pytest.approx(np.mean(wanted))

    def test_patches_of_a_batch_are_apart(self, patches: np.ndarray) -> None:
        """A zone or run that reached into the next patch would show here."""
        whole = radiomic_features(patches)
        alone = np.concatenate([radiomic_features(patches[at : at + 1]) for at in range(24)])
        assert whole == pytest.approx(alone, abs=1e-9)
        same = np.zeros((3, 8, 8), dtype=int) + 5
        assert zones(same)[1][:, 1] == pytest.approx(64**2)

    def test_levels(self) -> None:
        ends = np.array([-1, -1 + 2 / LEVELS, 0, 1 - 1e-6, 1])
        assert discretise(ends).tolist() == [1, 2, LEVELS // 2 + 1, LEVELS, LEVELS]


class TestRadiomicFeatures:
    """Finite, named, in order, and sensitive to what they are for."""

    def column(self, images: np.ndarray, name: str, masks: np.ndarray | None = None) -> np.ndarray:
        at = feature_names(images.shape, masks is not None).index(name)
        return radiomic_features(images, masks)[:, at]

    def test_first_order(self, patches: np.ndarray) -> None:
        flat = patches.reshape(24, -1).astype(np.float64)
        for name, wanted in (
            ("mean intensity", flat.mean(axis=1)),
            ("intensity variance", flat.var(axis=1)),
            ("intensity skewness", stats.skew(flat, axis=1)),
            ("intensity kurtosis", stats.kurtosis(flat, axis=1)),
            ("10th intensity percentile", np.percentile(flat, 10, axis=1)),
            ("intensity interquartile range", stats.iqr(flat, axis=1)),
        ):
            assert self.column(patches, name) == pytest.approx(wanted)

    def test_constant_patches_are_finite(self) -> None:
        for value in (-1, 0.3, 1):
            assert np.isfinite(radiomic_features(np.full((2, 1, 8, 8), value))).all()

    def test_rings_see_where_a_lesion_is(self) -> None:
        images = np.zeros((2, 1, 32, 32))
        images[0, 0, 12:20, 12:20] = images[1, 0, :8, :8] = 1
        inner = self.column(images, "mean intensity in ring 1")
        assert inner[0] > 0.5
        assert inner[1] < 0
        assert self.column(images, "intensity variance") == pytest.approx([1 / 16 * 15 / 16] * 2)

    def test_planes_are_averaged_and_compared(self, patches: np.ndarray) -> None:
        two = np.concatenate([patches, -patches], axis=1)
        single = [radiomic_features(each) for each in (patches, -patches)]
        features = radiomic_features(two)
        assert features[:, :-1] == pytest.approx(np.mean(single, axis=0))
        assert features[:, -1] == pytest.approx(-1)

    def test_a_cube_is_seen_from_three_sides(self) -> None:
        """Axial, coronal and sagittal through the middle; what lies outside them is not seen."""
        cubes = np.random.default_rng(0).uniform(-1, 1, (4, 1, 12, 12, 12))
        sides = [cubes[:, :, 6], cubes[:, :, :, 6], cubes[..., 6]]
        features = radiomic_features(cubes)
        expected = np.mean([radiomic_features(side) for side in sides], axis=0)
        assert features[:, :-1] == pytest.approx(expected)
        assert features[:, -1] == pytest.approx(0, abs=0.05)  # neighbouring slices are unlike
        cubes[:, :, 2, 2, 2] = 9
        assert radiomic_features(cubes)[:, :-1] == pytest.approx(expected)

    def test_the_mask_of_a_cube_is_seen_from_three_sides(self) -> None:
        images, masks = np.zeros((2, 1, 16, 16, 16)), np.zeros((2, 16, 16, 16), dtype=bool)
        masks[0, 6:10, 4:12, 2:14] = True
        images[:, 0][masks] = 0.5
        areas = self.column(images, "area", masks)
        assert areas == pytest.approx([(8 * 12 + 4 * 12 + 4 * 8) / 3, 0])

    def test_the_mask_of_adjacent_slices_is_of_the_middle_one(self) -> None:
        images, masks = np.zeros((1, 3, 16, 16)), np.zeros((1, 16, 16), dtype=bool)
        masks[0, 4:9, 4:9] = True
        images[:, 1] = 0.5
        assert self.column(images, "mean intensity in the mask", masks) == pytest.approx(0.5)

    def test_masks(self) -> None:
        images = np.zeros((3, 1, 32, 32))
        masks = np.zeros((3, 32, 32), dtype=bool)
        masks[0, 12:20, 8:24] = True
        row, column = np.mgrid[:32, :32] - 15.5
        masks[1] = np.hypot(row, column) < 10
        images[:, 0][masks] = 0.5

        def column_of(name: str) -> np.ndarray:
            return self.column(images, name, masks)

        assert column_of("area").tolist() == [128, masks[1].sum(), 0]
        assert column_of("elongation") == pytest.approx([0.5, 1, 0], abs=1e-6)
        assert column_of("compactness")[1] == pytest.approx(1, abs=0.1)
        assert column_of("contrast of the mask") == pytest.approx([0.5, 0.5, 0])
        assert column_of("distance from the centre") == pytest.approx([0, 0, 0])

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_refuses_what_is_not_finite(self, patches: np.ndarray, bad: float) -> None:
        patches[3, 0, 2, 2] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            radiomic_features(patches)

    def test_refuses_small_patches(self) -> None:
        with pytest.raises(ValueError, match="8 x 8"):
            radiomic_features(np.zeros((2, 1, 8, 7)))


class TestScale:
    """Real patches decide, outliers do not, and nothing is divided by zero."""

    def test_median_and_interquartile_range(self) -> None:
        reference = np.random.default_rng(0).normal(7, 3, size=(4000, 2))
        points = FeatureSpace.around(Radiomic(), reference).points(reference)
        assert np.median(points, axis=0) == pytest.approx(0, abs=1e-9)
        assert points.std(axis=0) == pytest.approx(1, rel=0.05)

    def test_outliers_move_nothing(self) -> None:
        reference = np.random.default_rng(0).normal(size=(400, 1))
        wild = np.concatenate([reference, np.full((4, 1), 1e9)])
        plain, after = (FeatureSpace.around(Radiomic(), each) for each in (reference, wild))
        assert after.points(reference) == pytest.approx(plain.points(reference), abs=0.1)
        assert after.points(wild).max() == REACH

    def test_constant_features(self) -> None:
        mostly = np.zeros((50, 1))
        mostly[:5] = 1
        reference = np.concatenate([np.full((50, 1), 0.1), mostly], axis=1)
        space = FeatureSpace.around(Radiomic(), reference)
        assert space.spread == pytest.approx([1, mostly.std()])
        assert space.points(reference)[:, 0] == pytest.approx(0)


class Summary(torch.nn.Module):
    """Three channels' means and maxima."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images.mean((2, 3)), images.amax((2, 3))], 1)


class TestWeightFiles:
    """Numbers are loaded, programs only when vouched for, and the hash is of what was used."""

    @pytest.fixture
    def resnet(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        network = resnet18(
            spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False
        )
        save_file(network.state_dict(), tmp_path / "net.safetensors")
        self.network = network.eval()
        return tmp_path / "net.safetensors"

    @pytest.fixture
    def program(self, tmp_path: Path) -> Path:
        batch = torch.export.Dim("batch")
        exported = torch.export.export(
            Summary(), (torch.zeros(2, 3, 224, 224),), dynamic_shapes=({0: batch},)
        )
        torch.export.save(exported, tmp_path / "net.pt2")
        return tmp_path / "net.pt2"

    def test_resnet(self, resnet: Path, patches: np.ndarray) -> None:
        found = extractor(str(resnet))
        assert found.sha256 == hashlib.sha256(resnet.read_bytes()).hexdigest()
        features = found(patches[:3])
        assert features.shape == (3, 512)
        self.network.fc = torch.nn.Identity()
        sized = torch.nn.functional.interpolate(
            torch.from_numpy(patches[:3]), (224, 224), mode="bilinear", antialias=True
        )
        with torch.no_grad():
            wanted = self.network(sized.repeat(1, 3, 1, 1))
        assert features == pytest.approx(wanted.numpy(), abs=1e-4)

    def test_program_needs_somebody_to_vouch(self, program: Path, patches: np.ndarray) -> None:
        digest = hashlib.sha256(program.read_bytes()).hexdigest()
        with pytest.raises(SettingsError, match=digest):
            extractor(str(program))
        features = extractor(str(program), digest)(patches)
        assert features[:, 0] == pytest.approx(patches.mean(axis=(1, 2, 3)), abs=1e-2)

    def test_another_file_than_vouched_for(self, resnet: Path) -> None:
        with pytest.raises(SettingsError, match="not 0000"):
            extractor(str(resnet), "0" * 64)

    def test_refusals(self, tmp_path: Path) -> None:
        for name, content, words in (
            ("a.safetensors", b"no", "not a safetensors file"),
            ("a.pth", b"no", r"a file \*.pth"),
            ("a.pt2", b"no", "not an exported program"),
        ):
            path = tmp_path / name
            path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            with pytest.raises(SettingsError, match=words):
                extractor(str(path), digest)
        with pytest.raises(SettingsError, match="cannot be read"):
            extractor(str(tmp_path / "nowhere.safetensors"))
        save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "b.safetensors")
        with pytest.raises(SettingsError, match="not known"):
            extractor(str(tmp_path / "b.safetensors"))

    @pytest.mark.usefixtures("resnet")
    def test_weights_that_do_not_fit(self, tmp_path: Path) -> None:
        weights = self.network.state_dict()
        weights["conv1.weight"] = torch.zeros(64, 1, 7, 7)
        save_file(weights, tmp_path / "grey.safetensors")
        with pytest.raises(SettingsError, match="do not fit a ResNet-18"):
            extractor(str(tmp_path / "grey.safetensors"))

    def test_planes_are_averaged(self, patches: np.ndarray) -> None:
        network = Network("summary", "", Summary())
        two = np.concatenate([patches, -patches], axis=1)
        wanted = (network(patches) + network(-patches)) / 2
        assert network(two) == pytest.approx(wanted, abs=1e-6)
