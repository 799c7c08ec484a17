"""Canaries from the settings to the gate: trained on, looked for, and nobody's patients."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medaug.config import PipelineConfig, load_pipeline
from medaug.domain import Drawn, PatchSet, Rescale, TrainingRecord, Window, split_patients
from medaug.errors import SettingsError
from medaug.forbidden import forbidden_words
from medaug.phantom import KINDS, render_lesion
from medaug.privacy.gate import review
from medaug.privacy.verdict import Review
from medaug.progress import Silent
from medaug.road import canaries
from medaug.road.run import Run
from medaug.road.training import train

SORTED = tuple(sorted(KINDS))
SHORT = ("images=16", "batch=16", "least_diversity=0", "min_patients=1", "sample_sheet_every=100")


@pytest.fixture(autouse=True)
def _small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medaug.privacy.canaries.POOL", 120)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rows = range(60)
    return np.array([render_lesion(SORTED[row % 3], 900 + row, 32, 2.0)[0] for row in rows])


@pytest.fixture
def patches(pictures: np.ndarray, make_patch_set: Callable[..., PatchSet]) -> PatchSet:
    """32 pixels of 2 mm, one for each of 60 patients."""
    labels = np.arange(60) % 3
    made = make_patch_set(pictures.clip(-100, 250)[:, None], labels, SORTED, np.arange(60))
    return replace(
        made, locations=tuple(replace(place, mm_per_pixel=2.0) for place in made.locations)
    )


def settings(*changes: str) -> PipelineConfig:
    return load_pipeline("phantom", ["privacy.canaries=8", *changes])


def parts(patches: PatchSet) -> tuple[PatchSet, PatchSet]:
    split = split_patients(patches, (0.5, 0.25, 0.25), 0)
    return split.part(patches, "training"), patches.of_patients(split.tuning | split.test)


class Repeats:
    """Draws from its patches, or new lesions for every seed."""

    def __init__(self, learnt: PatchSet, repeated: PatchSet | None) -> None:
        self.classes = learnt.classes
        seen = frozenset(learnt.patients)
        self.record = TrainingRecord(seen, learnt.digest, "0" * 64, {}, 0, 1)
        self.repeated = repeated

    def draw(self, label: str, seeds: list[int]) -> Drawn:
        images = []
        for seed in seeds:
            image = render_lesion(label, seed, 32, 2.0)[0][None]
            if self.repeated is not None and seed % 2:
                of_class = self.repeated.of_class(label).images
                image = of_class[seed % len(of_class)]
            images.append(image.clip(-100, 250))
        return Drawn(np.stack(images).astype(np.float32))


def reviewed(config: PipelineConfig, patches: PatchSet, sampler: Repeats) -> Review:
    training, calibration = parts(patches)
    watch, known = canaries.watch_and_sampler(config, training, sampler, Silent())
    window = Window(*config.generator.window)
    policy = replace(config.privacy.policy(), per_class=6, min_patients_per_class=3)
    return review(
        known,
        policy,
        training=training,
        calibration=calibration,
        rescale=Rescale.of(patches.unit, window),
        window=window,
        mm_per_pixel=2.0,
        seed=0,
        canaries=watch,
    )


def test_without_the_setting_nothing_is_added(patches: PatchSet) -> None:
    config = load_pipeline("phantom")
    training, _ = parts(patches)
    assert canaries.with_canaries(config, training, Silent()) is training
    sampler = Repeats(training, None)
    assert canaries.watch_and_sampler(config, training, sampler, Silent()) == (None, sampler)
    assert config.privacy.charged() is None


def test_canaries_are_patients_of_their_own(patches: PatchSet) -> None:
    config, (training, _) = settings(), parts(patches)
    learnt = canaries.with_canaries(config, training, Silent())
    added = learnt.select(range(len(training), len(learnt)))
    assert len(added) == len(set(added.patients) - set(training.patients)) == 8
    assert learnt.select(range(len(training))).digest == training.digest
    assert added.images.min() >= -100
    assert min(place.diameter_mm for place in added.locations) > 5
    again = canaries.with_canaries(config, training, Silent())
    other = canaries.with_canaries(settings("seed=1"), training, Silent())
    assert learnt.digest == again.digest != other.digest


@pytest.mark.slow
def test_the_forgetful_are_released_and_say_so(patches: PatchSet) -> None:
    config, (training, _) = settings(), parts(patches)
    learnt = canaries.with_canaries(config, training, Silent())
    outcome = reviewed(config, patches, Repeats(learnt, None))
    release = outcome.release_or_raise()
    assert "canary" in release.decision.policy.checks
    assert "canary" in [check.name for check in release.decision.results]
    said = " ".join(release.decision.statements)
    assert "8 simulated canary patients, drawn at random from 120" in said
    assert "Silence is weak evidence" in said
    assert forbidden_words(said) == []
    found = outcome.document()["canaries"]
    assert found["looked_at"] == sum(outcome.drawn.values())
    assert found["passed"]
    assert len(found["bits"]) == 8
    assert outcome.rejections["canary"] == found["removed"] < 8
    # The canaries give no right to more samples.
    quota = next(check for check in release.decision.results if check.name == "quota")
    assert quota.limit == 10 * training.patients_per_class()[SORTED[0]]


def test_a_remembered_canary_refuses_the_release(patches: PatchSet) -> None:
    config, (training, _) = settings(), parts(patches)
    learnt = canaries.with_canaries(config, training, Silent())
    added = learnt.select(range(len(training), len(learnt)))
    outcome = reviewed(config, patches, Repeats(learnt, added))
    assert outcome.outcome == "refused"
    assert "The generator remembers its canaries" in outcome.reasons[0]
    # Every repetition was withheld, whatever the verdict.
    assert outcome.rejections["canary"] >= 6


def test_what_else_was_seen_is_refused_as_ever(patches: PatchSet) -> None:
    config, (training, _) = settings(), parts(patches)
    more = canaries.with_canaries(settings("seed=1"), training, Silent())
    reasons = reviewed(config, patches, Repeats(more, None)).reasons
    assert "saw 8 patients whose patches the gate does not hold" in reasons[0]


def test_the_generator_of_a_run_is_trained_on_them(patches: PatchSet, tmp_path: Path) -> None:
    changes = [f"generator.{text}" for text in SHORT]
    run = Run(settings(*changes), tmp_path, Silent())
    vars(run)["patches"] = patches
    vars(run)["split"] = split_patients(patches, (0.5, 0.25, 0.25), 0)
    canaries._rendered.cache_clear()
    train(run)
    training = run.split.part(patches, "training")
    seen = run.generator.record.patients
    assert len(seen) == len(training.patient_order) + 8
    _, known = canaries.watch_and_sampler(run.config, training, run.generator, Silent())
    assert known.record.patients == frozenset(training.patients)
    assert known.record.patches_digest == training.digest
    assert canaries._rendered.cache_info().misses == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["privacy.canaries=3"], "8 to 16"),
        (["privacy.canaries=0", "privacy.canary_kinds={cyst: cyst}"], "there are no canaries"),
    ],
)
def test_settings(changes: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        settings(*changes)


def test_lesions_that_cannot_be_simulated(patches: PatchSet) -> None:
    training, _ = parts(patches)
    other = replace(training, classes=("adenoma", "haemangioma", "tumour"))
    with pytest.raises(SettingsError, match="canary_kinds"):
        canaries.with_canaries(settings(), other, Silent())
    named = settings("privacy.canary_kinds={adenoma: cyst, tumour: metastasis}")
    assert len(canaries.with_canaries(named, other, Silent())) == len(training) + 8
    with pytest.raises(SettingsError, match=r"privacy.canaries: 0"):
        canaries.with_canaries(settings(), replace(training, modality="MR"), Silent())
