"""Folds and other sites as a pipeline file asks for them: real generators, real files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medaug.config import PipelineConfig, load_pipeline
from medaug.domain import PatchSet
from medaug.errors import LeakageError, SettingsError
from medaug.evaluation.settings import EvaluationSettings
from medaug.generators import training as training_of_generators
from medaug.phantom import write_cohort
from medaug.pipeline import _stamps
from medaug.progress import Silent
from medaug.road.cutting import extract
from medaug.road.judging import external
from medaug.road.refitting import refitter
from medaug.road.run import Run

SHORT = (
    "generator.images=32",
    "generator.width=4",
    "generator.batch=8",
    "generator.min_patients=1",
    "generator.least_diversity=0",
)


@pytest.fixture
def patches(make_patch_set: Callable[..., PatchSet]) -> PatchSet:
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = rng.normal(50, 40, size=(48, 1, 32, 32))
    return make_patch_set(images, labels, ("cyst", "metastasis"), np.arange(48) // 2)


class TestRefitting:
    def test_a_generator_of_these_patients_alone_and_from_where_it_was_stopped(
        self, patches: PatchSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = load_pipeline("phantom", SHORT, data=tmp_path)
        refit = refitter(config, Silent())
        training, tuning = patches.select(range(32)), patches.select(range(32, 48))
        wanted = {"cyst": 300, "metastasis": 3}
        made = refit(training, tuning, 7, tmp_path / "generator", wanted)
        assert made.record.patients == set(training.patients)
        assert made.record.patches_digest == training.digest
        assert made.candidates.per_class() == wanted

        def refuse(*_: Any) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr(training_of_generators._Run, "proceed", refuse)
        again = refit(training, tuning, 7, tmp_path / "generator", wanted)
        assert again.candidates.digest == made.candidates.digest
        # Other settings or patients are another generator, in a folder of its own.
        for given in ((training, tuning, 8), (tuning, training, 7)):
            with pytest.raises(AssertionError, match="trained again"):
                refit(*given, tmp_path / "generator", wanted)

    def test_noise_is_not_asked_for_again_in_every_fold(self, tmp_path: Path) -> None:
        private = ["privacy.mode=dp-sgd", "privacy.epsilon=3", "evaluation.folds=3"]
        with pytest.raises(SettingsError, match="every fold would ask the patients again"):
            load_pipeline("phantom", private, data=tmp_path)


class TestQuick:
    def test_nothing_becomes_larger(self) -> None:
        small = EvaluationSettings(
            classifiers=("frid-adar-2018",), seeds=2, steps=5, bootstrap=500, quick=True
        )
        assert small.as_asked().model_dump(exclude={"doses"}) == small.model_dump(exclude={"doses"})
        large = EvaluationSettings(folds=10, learning_curve=(0.5, 1), quick=True).as_asked()
        assert (large.folds, large.seeds, large.doses) == (2, 2, (0, 1))
        assert large.classifiers == ("resnet-10-narrow",)
        assert large.learning_curve == ()
        assert EvaluationSettings(folds=10).as_asked().folds == 10


class TestElsewhere:
    """``evaluation.external``: read by the pipeline's own rules, of patients of its own."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> PipelineConfig:
        """Six phantoms: three of this site, three of another."""
        write_cohort(tmp_path / "here", patients=6, seed=1, workers=1)
        for number in range(3, 6):
            (folder,) = (tmp_path / "here").glob(f"*/phantom-{number:04d}")
            place = tmp_path / "there" / folder.relative_to(tmp_path / "here")
            place.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(place)
        written = load_pipeline("phantom", data=tmp_path).resolved()
        written["evaluation"]["external"] = [{"name": "there", "data": "there"}]
        written |= {"site_key": str(tmp_path / "site.key"), "data": "here"}
        (tmp_path / "study.yaml").write_text(json.dumps(written))  # JSON is YAML
        return load_pipeline(tmp_path / "study.yaml")

    def test_its_files_are_read_and_belong_to_the_result(
        self, config: PipelineConfig, tmp_path: Path
    ) -> None:
        run = Run(config, tmp_path / "run", Silent())
        extract(run)
        (one,) = external(run)
        assert one.name == "there"
        assert len(one.patches.patient_order) == len(run.patches.patient_order) == 3
        assert not set(one.patches.patients) & set(run.patches.patients)
        assert str(tmp_path) not in json.dumps(config.resolved())
        before = _stamps(run)
        (again,) = (tmp_path / "here").glob("*/phantom-0001")
        shutil.copytree(again, tmp_path / "there" / "nifti" / again.name)
        after = _stamps(run)
        assert before["release"] == after["release"]
        assert before["evaluate"] != after["evaluate"]
        with pytest.raises(LeakageError, match="1 of its patients are in the cohort"):
            list(external(run))
