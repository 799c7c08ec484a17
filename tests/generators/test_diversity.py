"""What counts as collapse: one picture, a few pictures, a few pictures with something on top."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medaug.domain import PatchSet
from medaug.errors import SettingsError
from medaug.generators.diversity import Diversity, apart, diversity, lost, lost_notes, refuse_lost
from medaug.generators.networks import Generator
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import load_generator
from medaug.generators.training import train_generator

Make = Callable[..., PatchSet]
Chosen = Callable[..., GeneratorSettings]
RNG = np.random.default_rng(11)
LEAST = 0.25


def smooth(count: int, side: int = 32, dims: int = 2) -> np.ndarray:
    """Blurred noise: patches with outlines, within [-1, 1]."""
    noise = RNG.normal(size=(count, 1, *[side] * dims))
    blurred = gaussian_filter(noise, (0, 0, *[side / 10] * dims))
    return (0.6 * blurred / np.abs(blurred).max()).astype(np.float32)


REAL = smooth(60)


def repeated(modes: int) -> np.ndarray:
    return smooth(modes)[RNG.integers(modes, size=64)]


def judged(images: np.ndarray) -> tuple[bool, Diversity]:
    found = Diversity.of(images.astype(np.float32), REAL)
    return lost(found, Diversity.of(REAL, REAL), LEAST), found


class TestLost:
    """Few pictures are lost whatever their standard deviation; many are not."""

    def test_other_patches_of_the_same_kind_are_not_lost(self) -> None:
        is_lost, found = judged(smooth(64))
        assert not is_lost
        of_real = Diversity.of(REAL, REAL)
        assert found.apart == pytest.approx(of_real.apart, rel=0.2)

    def test_one_picture_is_lost(self) -> None:
        assert judged(repeated(1))[0]

    @pytest.mark.parametrize("modes", [2, 3, 8])
    def test_a_few_pictures_are_lost_though_they_vary_as_many_do(self, modes: int) -> None:
        images = repeated(modes)
        assert diversity(images) > 2 * LEAST * diversity(REAL)
        assert judged(images)[0]

    @pytest.mark.parametrize(
        "on_top",
        [
            lambda images: images + RNG.normal(0, 0.02, images.shape),
            lambda images: images + RNG.uniform(-0.3, 0.3, (len(images), 1, 1, 1)),
            lambda images: images * RNG.uniform(0.5, 1.5, (len(images), 1, 1, 1)),
        ],
        ids=["noise", "brightness", "contrast"],
    )
    def test_nor_does_something_on_top_save_them(self, on_top: Callable) -> None:
        assert judged(on_top(repeated(3)))[0]

    def test_patches_that_hardly_vary_are_lost(self) -> None:
        is_lost, found = judged(REAL[:1] + 0.1 * smooth(64))
        assert is_lost
        assert found.spread < LEAST * diversity(REAL)

    def test_a_volume_is_judged_as_a_patch_is(self) -> None:
        real = smooth(24, 16, dims=3)
        of_real = Diversity.of(real, real)
        assert not lost(Diversity.of(smooth(64, 16, dims=3), real), of_real, LEAST)
        assert lost(Diversity.of(real[RNG.integers(3, size=64)], real), of_real, LEAST)


def test_apart_against_a_slow_twin() -> None:
    """Blocks of 2 x 2; the nearest of two sets of one size."""
    looks = []
    for image in REAL[:9, 0].astype(float):
        blocks = np.array([[image[r : r + 2, c : c + 2].mean() for c in range(0, 32, 2)]
                           for r in range(0, 32, 2)])  # fmt: skip
        looks.append((blocks - blocks.mean()) / blocks.std())
    nearest = [
        min(np.sqrt(((one - other) ** 2).mean()) for other in looks if other is not one)
        for one in looks
    ]
    assert apart(REAL[:9], 9) == pytest.approx(np.mean(nearest), rel=1e-5)


def test_the_nearest_of_many_is_not_held_against_the_nearest_of_few() -> None:
    many = smooth(64)
    assert Diversity.of(many, REAL[:6]).apart == pytest.approx(apart(smooth(600), 6), rel=0.1)
    assert apart(many, 64) < 0.9 * apart(many, 6)


def test_the_refusal_names_every_class_its_figures_and_a_way_out(settings: Chosen) -> None:
    real, one = Diversity(0.5, 0.8), Diversity(0.01, 0.02)
    found = {"cyst": (one, real), "metastasis": (Diversity(0.4, 0.7), real), "other": (one, real)}
    with pytest.raises(SettingsError) as refused:
        refuse_lost(found, settings(least_diversity=LEAST))
    assert [fault.where for fault in refused.value.faults] == ["class cyst", "class other"]
    for said in ("collapsed", "0.010", "0.500", "0.020", "0.800", "25%", "generator.images"):
        assert said in str(refused.value)
    refuse_lost(found, settings(least_diversity=0))
    assert ["class cyst" in lost_notes(found)[0], len(lost_notes(found))] == [True, 2]


class TestTraining:
    """A run whose generator collapsed ends with a reason and without a generator."""

    @pytest.fixture
    def three_pictures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A generator that knows three latents, however it is trained."""
        whole = Generator.forward

        def few(self: Generator, latent: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            mode = (latent[:, :1] > 0).float() + (latent[:, :1] > 1).float()
            return 5 * whole(self, 3 * (mode - 1).expand_as(latent), labels)

        monkeypatch.setattr(Generator, "forward", few)

    @pytest.mark.usefixtures("three_pictures")
    @pytest.mark.parametrize("preset", ["small-data", "frid-adar-2018"])
    def test_it_is_refused_and_its_last_state_is_kept(
        self, preset: str, discs: Make, settings: Chosen, tmp_path: Path
    ) -> None:
        strict = settings(preset=preset, least_diversity=LEAST)
        with pytest.raises(SettingsError, match="class cyst: the generator collapsed"):
            train_generator(discs(), strict, 0, tmp_path)
        assert not (tmp_path / "generator.safetensors").exists()
        assert not (tmp_path / "config.json").exists()
        assert (tmp_path / "checkpoint" / "state.safetensors").is_file()
        # Whoever wants it nevertheless has to say so, and need not train again.
        forgiven = strict.model_copy(update={"least_diversity": 0.0})
        before = (tmp_path / "training.jsonl").read_bytes()
        generator = train_generator(discs(), forgiven, 0, tmp_path)
        assert (tmp_path / "training.jsonl").read_bytes() == before
        assert "collapsed on class cyst" in generator.notes[0]
        assert load_generator(tmp_path).notes == generator.notes
