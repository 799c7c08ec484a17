"""Twins from the settings to the gate; the training itself is replaced by what is known to leak."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medaug.config import load_pipeline
from medaug.domain import Drawn, PatchSet, Rescale, TrainingRecord, Window, split_patients
from medaug.errors import SettingsError
from medaug.forbidden import forbidden_words
from medaug.phantom import KINDS, render_lesion
from medaug.privacy.gate import review
from medaug.privacy.twins import TwinAudit
from medaug.progress import Silent
from medaug.road import twins

SORTED = tuple(sorted(KINDS))


@cache
def fresh(label: str, seed: int) -> np.ndarray:
    return render_lesion(label, 10**6 + seed, 32, 2.0)[0][None]


class Learnt:
    """Draws new lesions; every fourth sample is one of its patches if it ``leaks``."""

    def __init__(self, seen: PatchSet, leaks: bool) -> None:
        self.classes = seen.classes
        self.record = TrainingRecord(frozenset(seen.patients), seen.digest, "0" * 64, {}, 0, 1)
        self._seen, self._leaks = seen, leaks

    def draw(self, label: str, seeds: Any) -> Drawn:
        of_class = self._seen.of_class(label).images
        images = [
            of_class[seed // 4 % len(of_class)]
            if self._leaks and seed % 4 == 0
            else fresh(label, seed)
            for seed in seeds
        ]
        return Drawn(np.stack(images).astype(np.float32).clip(-100, 250))


@pytest.fixture
def patches(make_patch_set: Callable[..., PatchSet]) -> PatchSet:
    images = np.array([render_lesion(SORTED[row % 3], 900 + row, 32, 2.0)[0] for row in range(64)])
    labels = np.arange(64) % 3
    return make_patch_set(images.clip(-100, 250)[:, None], labels, SORTED, np.arange(64))


def found(
    patches: PatchSet, leaks: bool, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> tuple[TwinAudit, list[PatchSet]]:
    trained = []

    def train(half: PatchSet, settings: Any, _: int, place: Path, *rest: Any) -> Learnt:
        assert len(rest) == 3  # who is told, no sheets, the judge
        trained.append(half)
        assert place == folder / "twins" / f"{len(trained) - 1:02d}"
        assert settings.min_patients == 10
        return Learnt(half, leaks)

    monkeypatch.setattr("medaug.generators.training.train_generator", train)
    monkeypatch.setattr(twins, "SAMPLES", 12)
    config = load_pipeline("phantom", ["privacy.twins=12"])
    split = split_patients(patches, (0.5, 0.35, 0.15), 0)
    (one,) = twins.findings(config, patches, split, folder, Silent())
    return one, trained


def test_twins_learn_from_complementary_halves_of_the_training_part(
    patches: PatchSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, trained = found(patches, False, monkeypatch, tmp_path)
    training = split_patients(patches, (0.5, 0.35, 0.15), 0).training
    assert len(trained) == one.twins == 12
    for first, second in zip(trained[::2], trained[1::2], strict=True):
        assert set(first.patients) | set(second.patients) == training
        assert not set(first.patients) & set(second.patients)
    assert one.passed
    assert forbidden_words(" ".join(one.statements)) == []
    assert "not of this release" in one.statements[0]


@pytest.mark.slow
def test_a_training_that_tells_refuses_the_release_before_anything_is_drawn(
    patches: PatchSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leaking, _ = found(patches, True, monkeypatch, tmp_path)
    assert not leaking.passed
    config = load_pipeline("phantom", ["privacy.per_class=2"])
    split = split_patients(patches, (0.5, 0.35, 0.15), 0)
    training, tuning = (split.part(patches, part) for part in ("training", "tuning"))
    window = Window(*config.generator.window)

    def reviewed(beside: tuple[TwinAudit, ...]) -> Any:
        return review(
            Learnt(training, False),
            replace(config.privacy.policy(), min_patients_per_class=3),
            training=training,
            calibration=tuning,
            rescale=Rescale.of(patches.unit, window),
            window=window,
            mm_per_pixel=2.0,
            seed=0,
            beside=beside,
        )

    refused = reviewed((leaking,))
    assert refused.outcome == "refused"
    assert refused.drawn == {}
    assert refused.reasons == leaking.reasons
    assert refused.document()["twins"]["p"] == leaking.p
    silent = replace(leaking, p=0.5)
    release = reviewed((silent,)).release_or_raise()
    assert release.decision.policy.checks[-1] == "twins"
    assert release.decision.results[-1] == silent.check
    assert silent.statements[0] in release.decision.statements


def test_settings() -> None:
    with pytest.raises(SettingsError, match="12, 14 or 16"):
        load_pipeline("phantom", ["privacy.twins=5"])
    with pytest.raises(SettingsError, match=r"privacy.twins"):
        load_pipeline("simulate_and_refine", ["privacy.twins=12"])
    config, split = load_pipeline("phantom"), None
    assert twins.findings(config, None, split, Path(), Silent()) == ()  # type: ignore[arg-type]
