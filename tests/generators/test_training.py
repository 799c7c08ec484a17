"""Presets train, collapse and divergence are seen, unfit patches are refused first."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from medaug.domain import PatchSet
from medaug.errors import CohortError, SettingsError
from medaug.generators import adversaries
from medaug.generators.diversity import diversity
from medaug.generators.networks import Generator
from medaug.generators.settings import PRESETS, GeneratorSettings
from medaug.generators.trained import load_generator
from medaug.generators.training import train_generator

Make = Callable[..., PatchSet]
Chosen = Callable[..., GeneratorSettings]


class TestSettings:
    """A preset is a row of defaults; explicit settings override."""

    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_row_is_complete_and_can_be_overridden(self, preset: str) -> None:
        settings = GeneratorSettings(preset=preset, window=(0, 1))
        assert None not in settings.model_dump(exclude={"init"}).values()
        assert settings.model_dump(include=set(PRESETS[preset])) == PRESETS[preset]
        changed = GeneratorSettings(preset=preset, window=(0, 1), learning_rate=0.5)
        assert changed.learning_rate == 0.5
        assert GeneratorSettings.model_validate(settings.model_dump(mode="json")) == settings

    def test_a_probability_that_is_asked_for_is_not_adapted(self) -> None:
        assert GeneratorSettings(window=(0, 1)).augment_target > 0
        assert GeneratorSettings(window=(0, 1), augment=0.3).augment_target == 0
        both = GeneratorSettings(window=(0, 1), augment=0.3, augment_target=0.5)
        assert (both.augment, both.augment_target) == (0.3, 0.5)

    def test_few_patients_are_the_default(self) -> None:
        assert GeneratorSettings(window=(0, 1)).preset == "small-data"
        assert list(PRESETS) == ["radford-2015", "frid-adar-2018", "conditional", "small-data"]

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            *(({"preset": "stylegan"}, one) for one in PRESETS),
            ({"window": (5, 5)}, "low must be below high"),
            ({"widht": 3}, "widht"),
            ({"width": None}, "width"),
            ({"preset": "radford-2015", "penalty": 1.0}, "discriminator_norm: none"),
            ({"batch": 1}, "batch"),
        ],
    )
    def test_nonsense_is_refused(self, wrong: dict, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            GeneratorSettings(**{"window": (0, 1), **wrong})


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("side", "channels"), [(32, 3), (64, 1), (128, 1)])
def test_presets_train_at_every_size(
    preset: str, side: int, channels: int, discs: Make, settings: Chosen, tmp_path: Path
) -> None:
    generator = train_generator(
        discs(side=side, channels=channels), settings(preset=preset), 0, tmp_path
    )
    assert generator.shape == (channels, side, side)
    for label in generator.classes:
        images = generator.sample(label, [0, 1])
        assert images.shape == (2, channels, side, side)
        assert images.min() >= -100
        assert images.max() <= 250


def test_training_approaches_the_patches(discs: Make, settings: Chosen, tmp_path: Path) -> None:
    """A few hundred steps bring the classes' mean HU in the middle to their sides of the truth."""
    real = discs(60, low=-60, high=80)
    chosen = settings(images=6400, batch=16, width=16, learning_rate=5e-4)
    generator = train_generator(real, chosen, 0, tmp_path)
    middle = {
        label: generator.sample(label, range(64))[:, :, 14:18, 14:18].mean()
        for label in real.classes
    }
    assert middle["cyst"] < 10
    assert middle["metastasis"] > 30
    first, *_, last = (tmp_path / "training.jsonl").read_text().splitlines()
    assert json.loads(last)["diversity"]["cyst"] > json.loads(first)["diversity"]["cyst"]
    assert generator.notes == ()


def test_progress_tells_the_losses(discs: Make, settings: Chosen, tmp_path: Path) -> None:
    class Heard:
        notes: ClassVar[list[str]] = []
        total = done = 0

        def start(self, what: str, total: int) -> None:  # noqa: ARG002 the protocol has it
            self.total = total

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.done += steps
            self.notes.append(note)

    heard = Heard()
    train_generator(discs(), settings(log_every=1), 0, tmp_path, heard)
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    said = [f"loss D {line['loss_d']:.2f}, G {line['loss_g']:.2f}" for line in lines]
    assert heard.notes[-len(said) :] == said
    assert heard.done == heard.total


def test_figures_and_sheets(discs: Make, settings: Chosen, tmp_path: Path) -> None:
    sheets = {}
    chosen = settings(log_every=2, sample_sheet_every=4)
    patches = discs()
    train_generator(patches, chosen, 0, tmp_path, on_samples=sheets.__setitem__)
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["images"] for line in lines] == [16, 32, 48]
    assert set(lines[0]) == {
        *("step", "images", "loss_d", "loss_g", "augment", "images_per_second"),
        *("diversity", "diversity_real"),
    }
    signed = np.clip((patches.images + 100) / 175 - 1, -1, 1)
    for label, name in enumerate(patches.classes):
        own = signed[patches.labels == label]
        slow = np.mean([own[:, 0, r, c].std(ddof=1) for r in range(32) for c in range(32)])
        assert lines[0]["diversity_real"][name] == pytest.approx(slow, rel=1e-4)
    assert list(sheets) == [4, 6]
    assert {name: drawn.images.shape for name, drawn in sheets[4].items()} == {
        "cyst": (16, 1, 32, 32),
        "metastasis": (16, 1, 32, 32),
    }
    assert all(drawn.masks is None for drawn in sheets[4].values())


def test_classes_are_shown_equally_often(
    discs: Make, settings: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = discs(60)
    few = np.r_[np.flatnonzero(patches.labels == 0), np.flatnonzero(patches.labels == 1)[:6]]
    seen = np.zeros(2)

    def watch(self: object, step: int, real: object, labels: torch.Tensor, rng: object) -> object:
        del self, step, real, rng
        np.add.at(seen, labels.numpy(), 1)
        return torch.zeros(2)

    monkeypatch.setattr(adversaries.Adversaries, "step", watch)
    train_generator(patches.select(few), settings(images=4000), 0, tmp_path)
    assert seen.sum() == 4000
    assert seen[0] == pytest.approx(2000, abs=150)


class TestCollapse:
    """A generator that draws one patch is noticed and said so."""

    def test_a_constant_generator_is_noted(
        self,
        discs: Make,
        settings: Chosen,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        varied = Generator.forward
        monkeypatch.setattr(
            Generator, "forward", lambda self, latent, labels: varied(self, latent * 0, labels)
        )
        generator = train_generator(discs(), settings(), 0, tmp_path)
        assert [note for note in generator.notes if "collapsed on class cyst" in note]
        assert "collapsed" in caplog.text
        assert load_generator(tmp_path).notes == generator.notes

    def test_diversity_of_copies_and_of_noise(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.3, (500, 1, 8, 8)).astype(np.float32)
        assert diversity(noise) == pytest.approx(0.3, rel=0.02)
        assert diversity(np.repeat(noise[:1], 64, axis=0)) == 0


class TestDivergence:
    """Training that leaves the numbers stops; the last good checkpoint is kept."""

    def test_nan_stops_training(
        self, discs: Make, settings: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = adversaries.discriminator_loss

        def bad(loss: str, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
            value = good(loss, real, fake)
            bad.calls += 1
            return value * float("nan") if bad.calls > 5 else value

        bad.calls = 0
        monkeypatch.setattr(adversaries, "discriminator_loss", bad)
        kept = tmp_path / "checkpoint" / "state.safetensors"
        with pytest.raises(SettingsError, match=r"diverged.*step 6.*last good checkpoint is kept"):
            train_generator(discs(), settings(checkpoint_every=2), 0, tmp_path)
        assert b"NaN" not in (tmp_path / "training.jsonl").read_bytes()
        assert not (tmp_path / "config.json").exists()
        monkeypatch.setattr(adversaries, "discriminator_loss", good)
        assert kept.is_file()
        train_generator(discs(), settings(checkpoint_every=2), 0, tmp_path)

    def test_a_weight_that_is_not_finite_is_never_saved(
        self, discs: Make, settings: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step = adversaries.Adversaries.step

        def poisoned(self: adversaries.Adversaries, at: int, *rest: object) -> tuple:
            losses = step(self, at, *rest)
            if at == 3:
                self.discriminator.last.bias.data.fill_(float("inf"))
            return losses

        monkeypatch.setattr(adversaries.Adversaries, "step", poisoned)
        with pytest.raises(SettingsError, match="a weight is not finite at step 4"):
            train_generator(discs(), settings(checkpoint_every=2), 0, tmp_path)


class TestRefusals:
    """Bad settings are refused before training starts, all faults at once."""

    def test_all_faults_at_once_and_nothing_is_written(
        self, discs: Make, settings: Chosen, tmp_path: Path
    ) -> None:
        patches = discs(24, side=36)
        one_class = patches.select(np.flatnonzero(patches.labels == 0))
        with pytest.raises(CohortError) as refused:
            train_generator(one_class, settings(batch=50), 0, tmp_path / "run")
        text = str(refused.value)
        for said in ("class metastasis: 0 training patches", "36 x 36", "at most 12"):
            assert said in text
        assert len(refused.value.faults) == 3
        assert not (tmp_path / "run").exists()

    def test_a_window_that_clips_the_lesion(
        self, discs: Make, settings: Chosen, tmp_path: Path
    ) -> None:
        patches = discs(low=-150)
        with pytest.raises(
            SettingsError, match=r"clips .* of the lesion pixels of class cyst"
        ) as e:
            train_generator(patches, settings(), 0, tmp_path)
        assert len(e.value.faults) == 1
        train_generator(patches, settings(window=(-220, 250)), 0, tmp_path)

    def test_clipping_outside_the_lesion_is_nobody_s_concern(
        self, discs: Make, settings: Chosen, tmp_path: Path
    ) -> None:
        patches = discs(24)
        images = np.where(patches.masks[:, None], patches.images, -1000).astype(np.float32)
        clipped = PatchSet(**{**vars(patches), "images": images})
        generator = train_generator(clipped, settings(), 0, tmp_path)
        assert generator.record.patches_digest == clipped.digest

    def test_nan_in_a_patch(self, discs: Make, settings: Chosen, tmp_path: Path) -> None:
        patches = discs()
        patches.images[3, 0, 5, 5] = np.nan
        with pytest.raises(CohortError, match="1 hold NaN"):
            train_generator(patches, settings(), 0, tmp_path)

    def test_too_few_patients_of_a_class(
        self, discs: Make, settings: Chosen, tmp_path: Path
    ) -> None:
        patches = discs()
        few = min(patches.patients_per_class().values())
        with pytest.raises(CohortError, match=f"{few} training patients") as refused:
            train_generator(patches, settings(min_patients=few + 1), 1, tmp_path)
        assert f"at least generator.min_patients, {few + 1}" in str(refused.value)
        assert not any(tmp_path.iterdir())

    def test_one_network_per_class_needs_a_batch_in_each(
        self, discs: Make, settings: Chosen, tmp_path: Path
    ) -> None:
        with pytest.raises(SettingsError, match="at most 12, the number of training patches of cl"):
            train_generator(discs(), settings(preset="frid-adar-2018", batch=16), 0, tmp_path)
        train_generator(discs(), settings(batch=16), 0, tmp_path)
