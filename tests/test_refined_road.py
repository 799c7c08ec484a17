"""The preset that renders and refines, from its settings to the gate."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medaug.config import load_pipeline
from medaug.domain import HeldOut, PatchSet, Rescale, split_patients
from medaug.errors import LeakageError, SettingsError
from medaug.generators.settings import GeneratorSettings, RefinerSettings
from medaug.phantom import KINDS, render_lesion
from medaug.privacy.gate import review
from medaug.progress import Silent
from medaug.road.run import Run
from medaug.road.training import train

SORTED = tuple(sorted(KINDS))
SHORT = ("width=4", "blocks=1", "batch=8", "images=80", "rendered=30", "sample_sheet_every=5")


@pytest.fixture
def patches(make_patch_set: Callable[..., PatchSet]) -> PatchSet:
    """32 pixels of 2 mm; patients show two patches of one class each."""
    rows = range(90)
    labels = np.arange(90) // 2 % 3
    images = [render_lesion(SORTED[labels[row]], 900 + row, 32, 2.0)[0] + 20 for row in rows]
    made = make_patch_set(np.array(images)[:, None], labels, SORTED, np.arange(90) // 2)
    places = tuple(replace(place, mm_per_pixel=2.0) for place in made.locations)
    return replace(made, locations=places)


def run_of(patches: PatchSet, folder: Path, *changes: str) -> Run:
    """A run whose patches are cut and dealt out already."""
    overrides = [*(f"generator.{text}" for text in SHORT), *changes]
    run = Run(load_pipeline("simulate_and_refine", overrides), folder, Silent())
    vars(run)["patches"] = patches
    vars(run)["split"] = split_patients(patches, (0.5, 0.25, 0.25), 0)
    return run


def test_rendered_refined_real_and_the_gate(patches: PatchSet, tmp_path: Path) -> None:
    run = run_of(patches, tmp_path)
    train(run)
    names = sorted(path.name for path in (tmp_path / "generator" / "samples").iterdir())
    assert names == [f"{step:07d}_{kind}.png" for step in (5, 10) for kind in SORTED]
    training = run.split.part(patches, "training")
    columns = 10  # 30 rendered patches of three classes
    with Image.open(tmp_path / "generator" / "samples" / "0000010_cyst.png") as sheet:
        assert sheet.size == (columns * 34 - 2, 3 * 34 - 2)

    generator = run.generator
    assert generator.record.patients == run.split.training
    drawn = generator.draw("metastasis", [3])
    np.testing.assert_array_equal(drawn.masks[0], render_lesion("metastasis", 3, 32, 2.0)[1])
    with pytest.raises(LeakageError, match="trained on"):
        HeldOut(training, lineage=(generator.record,))
    policy = replace(run.config.privacy.policy(), per_class=3, min_patients_per_class=3)
    outcome = review(
        generator,
        policy,
        training=training,
        calibration=patches.of_patients(run.split.tuning | run.split.test),
        rescale=Rescale.of(generator.unit, run.window),
        window=run.window,
        mm_per_pixel=generator.mm_per_pixel,
        seed=0,
    )
    assert outcome.document()["drawn"].keys() == set(KINDS)
    assert drawn.images.shape == (1, 1, 32, 32)


def test_classes_without_a_model_are_refused_before_training(
    patches: PatchSet, tmp_path: Path
) -> None:
    other = replace(patches, classes=("adenoma", "haemangioma", "tumour"))
    with pytest.raises(SettingsError, match="cyst, metastasis, haemangioma") as refused:
        train(run_of(other, tmp_path))
    assert len(refused.value.faults) == 2
    assert not (tmp_path / "generator").exists()
    named = run_of(other, tmp_path, "generator.render={adenoma: cyst, tumour: metastasis}")
    train(named)
    np.testing.assert_array_equal(
        named.generator.draw("adenoma", [5]).masks[0],
        render_lesion("cyst", 5, 32, 2.0)[1],
    )


class TestSettings:
    """The preset tells which settings there are, and faults name theirs."""

    def test_the_preset_decides(self) -> None:
        assert isinstance(load_pipeline("simulate_and_refine").generator, RefinerSettings)
        assert isinstance(load_pipeline("phantom").generator, GeneratorSettings)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            (["generator.blokcs=3"], ("generator.blokcs: unknown key", "did you mean 'blocks'")),
            (["generator.latent=3"], ("generator.latent: unknown key", "self_regularisation")),
            (["generator.batch=1"], ("generator.batch: 1",)),
            (["generator.window=[5, 5]"], ("low must be below high",)),
            (["generator.preset=stylegan"], ("radford-2015", "simulate-and-refine")),
        ],
    )
    def test_faults(self, changes: list[str], says: tuple[str, ...]) -> None:
        with pytest.raises(SettingsError) as refused:
            load_pipeline("simulate_and_refine", changes)
        for text in says:
            assert text in str(refused.value)
