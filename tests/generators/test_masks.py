"""The mask is drawn with the patch: same geometry, same seed, and it follows the lesion."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medaug.domain import Drawn, PatchSet, Window
from medaug.errors import SettingsError
from medaug.generators.augmentation import apply, draw
from medaug.generators.diversity import diversity, generated_diversity
from medaug.generators.evidence import Tuning
from medaug.generators.masks import channels_of, from_channels, image_of, to_channels
from medaug.generators.settings import PRESETS, GeneratorSettings
from medaug.generators.trained import TrainedGenerator, load_generator
from medaug.generators.training import train_generator

Make = Callable[..., PatchSet]
Chosen = Callable[..., GeneratorSettings]
BOTH = ("image", "mask")
WINDOW = Window(-100, 250)


class TestSettings:
    @pytest.mark.parametrize("outputs", [("image",), BOTH, ["image", "mask"]])
    def test_what_can_be_drawn(self, outputs: tuple[str, ...]) -> None:
        settings = GeneratorSettings(window=(0, 1), outputs=outputs)
        assert settings.draws_masks == (len(outputs) == 2)
        assert GeneratorSettings.model_validate(settings.model_dump(mode="json")) == settings

    @pytest.mark.parametrize("outputs", [(), ("mask",), ("mask", "image"), ("image", "image")])
    def test_what_cannot(self, outputs: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match=r"\[image\] or \[image, mask\]"):
            GeneratorSettings(window=(0, 1), outputs=outputs)


class TestChannels:
    """Lesion 1, no lesion -1, in the last channel; above 0 is lesion again."""

    @pytest.mark.parametrize("channels", [1, 3])
    def test_there_and_back(self, channels: int, discs: Make, settings: Chosen) -> None:
        patches, chosen = discs(channels=channels), settings(outputs=BOTH)
        signed = to_channels(patches, chosen, WINDOW)
        assert signed.shape[1] == channels_of(patches, chosen) == channels + 1
        np.testing.assert_array_equal(signed[:, -1], np.where(patches.masks, 1, -1))
        back = from_channels(signed, chosen, WINDOW)
        np.testing.assert_array_equal(back.masks, patches.masks)
        np.testing.assert_allclose(back.images, patches.images.clip(-100, 250), atol=1e-3)

    def test_without_masks_nothing_is_added(self, discs: Make, settings: Chosen) -> None:
        patches, chosen = discs(channels=3), settings()
        signed = to_channels(patches, chosen, WINDOW)
        np.testing.assert_array_equal(signed, WINDOW.to_signed(patches.images))
        assert from_channels(signed, chosen, WINDOW).masks is None
        assert image_of(signed, chosen) is signed


class TestAugmentation:
    """Geometry moves both, light only the image, the blank square blanks both."""

    def test_the_mask_follows_the_image(self) -> None:
        image = torch.where(torch.rand(32, 1, 32, 32) > 0.7, 1.0, -1.0)
        what = draw(32, 32, 1.0, np.random.default_rng(0))
        changed = apply(torch.cat([image, image], dim=1), what, masked=True)
        plain = replace(what, contrast=torch.ones(1), brightness=torch.zeros(1))
        torch.testing.assert_close(changed[:, 1:], apply(image, plain))
        torch.testing.assert_close(changed[:, :1], apply(image, what))
        assert set(changed[:, 1].unique().tolist()) == {-1.0, 0.0, 1.0}
        assert (changed[:, 1][(what.kept == 0)[:, 0]] == 0).all()

    def test_the_mask_does_not_light_the_image(self) -> None:
        """Contrast turns about the mean of the image, whatever the mask is."""
        image = torch.rand(8, 2, 32, 32)
        what = draw(8, 32, 1.0, np.random.default_rng(0))
        for value in (-1.0, 1.0):
            both = torch.cat([image, torch.full((8, 1, 32, 32), value)], dim=1)
            torch.testing.assert_close(apply(both, what, masked=True)[:, :2], apply(image, what))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_draws_masks(
    preset: str, discs: Make, settings: Chosen, tmp_path: Path
) -> None:
    sheets: dict[int, dict[str, Drawn]] = {}
    chosen = settings(preset=preset, outputs=BOTH)
    generator = train_generator(
        discs(channels=2), chosen, 0, tmp_path, on_samples=sheets.__setitem__
    )
    assert generator.shape == (2, 32, 32)
    assert generator.settings.outputs == load_generator(tmp_path).settings.outputs == BOTH
    drawn = generator.draw("cyst", [1, 2, 3])
    assert drawn.images.shape == (3, 2, 32, 32)
    assert drawn.masks is not None
    assert (drawn.masks.shape, drawn.masks.dtype) == ((3, 32, 32), bool)
    np.testing.assert_array_equal(generator.sample("cyst", [1, 2, 3]), drawn.images)
    for of_step in sheets.values():
        for of_class in of_step.values():
            assert of_class.images.shape == (16, 2, 32, 32)
            assert of_class.masks is not None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("masks")


@pytest.fixture
def taught(place: Path, discs: Make, settings: Chosen) -> TrainedGenerator:
    """Trained at the first call, opened afterwards; discs far darker than what is around."""
    chosen = settings(images=4800, batch=16, width=12, outputs=BOTH)
    return train_generator(discs(60, low=-60, high=-20), chosen, 0, place)


class TestADrawnMask:
    def test_a_seed_is_a_patch_and_its_mask_in_any_company(self, taught: TrainedGenerator) -> None:
        seeds = [*range(40), 2**40]
        together = taught.draw("cyst", seeds)
        assert together.masks is not None
        assert len({mask.tobytes() for mask in together.masks}) > 2
        for at in (0, 17, 31, 32, 40):
            alone = taught.draw("cyst", [seeds[at]])
            np.testing.assert_array_equal(alone.images[0], together.images[at])
            assert alone.masks is not None
            np.testing.assert_array_equal(alone.masks[0], together.masks[at])

    def test_no_seed_no_mask(self, taught: TrainedGenerator) -> None:
        masks = taught.draw("cyst", []).masks
        assert masks is not None
        assert masks.shape == (0, 32, 32)

    def test_it_lies_on_the_lesion(self, taught: TrainedGenerator) -> None:
        """Dice with a threshold halfway; tests/test_masks.py holds masks against other samples."""
        drawn = taught.draw("cyst", range(64))
        assert drawn.masks is not None
        lesions = drawn.images[:, 0] < 25
        sizes = drawn.masks.sum(axis=(1, 2)) + lesions.sum(axis=(1, 2))
        dice = 2 * (drawn.masks & lesions).sum(axis=(1, 2)) / sizes
        assert dice.mean() > 0.7

    def test_diversity_is_that_of_the_image(self, taught: TrainedGenerator) -> None:
        (network,) = taught._networks
        noise = np.random.default_rng(0).standard_normal((64, 8), dtype=np.float32)
        with torch.inference_mode():
            signed = network(torch.from_numpy(noise), torch.zeros(64, dtype=torch.int64)).numpy()
        found = generated_diversity(network, 0, taught.settings)
        assert found == pytest.approx(diversity(signed[:, :1]), rel=1e-3)
        assert found != pytest.approx(diversity(signed), rel=1e-2)


class TestRefusals:
    def test_patches_without_masks(self, discs: Make, settings: Chosen, tmp_path: Path) -> None:
        patches = replace(discs(), masks=None)
        with pytest.raises(SettingsError, match=r"outputs: .*the patches have no masks"):
            train_generator(patches, settings(outputs=BOTH), 0, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_empty_masks(self, discs: Make, settings: Chosen, tmp_path: Path) -> None:
        patches = discs(40)
        assert patches.masks is not None
        patches.masks[:3] = False
        with pytest.raises(SettingsError, match="3 of 40 training patches have an empty mask"):
            train_generator(patches, settings(outputs=BOTH), 0, tmp_path / "run")
        train_generator(patches, settings(), 0, tmp_path / "image")
        patches = discs(40)
        patches.masks[:2] = False
        train_generator(patches, settings(outputs=BOTH), 0, tmp_path / "few")


def test_interrupted_it_ends_with_the_same_bits(
    discs: Make, settings: Chosen, tmp_path: Path
) -> None:
    class Stop:
        left = 4

        def start(self, what: str, total: int) -> None:
            pass

        def advance(self, steps: int = 1, note: str = "") -> None:  # noqa: ARG002
            self.left -= steps
            if self.left == 0:
                raise KeyboardInterrupt

    chosen = settings(outputs=BOTH, checkpoint_every=2, augment_target=0.3)
    train_generator(discs(), chosen, 0, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_generator(discs(), chosen, 0, tmp_path / "broken", Stop())
    train_generator(discs(), chosen, 0, tmp_path / "broken")
    for name in ("generator.safetensors", "config.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_tuning_patients_judge_the_image_alone(
    discs: Make, settings: Chosen, tmp_path: Path
) -> None:
    patches, seen = discs(48, channels=2), []

    def distance(images: np.ndarray) -> float:
        seen.append(images.shape)
        return 1.0

    tuning = Tuning(discs(48, channels=2), dict.fromkeys(patches.classes, distance))
    chosen = settings(outputs=BOTH, judge_every=3)
    train_generator(patches, chosen, 0, tmp_path, tuning=tuning)
    assert seen
    assert {shape[1:] for shape in seen} == {(2, 32, 32)}
