"""Likeness is measured against patients from whom the generator did not learn."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medaug.config import load_pipeline
from medaug.domain import PatchSet, PatientSplit, Release, Window
from medaug.errors import SettingsError
from medaug.evaluation.settings import EvaluationSettings, FidelitySettings
from medaug.evaluation.unseen import ENOUGH, likeness_to_unseen, parts_to_compare
from medaug.progress import Silent
from medaug.road.run import Run
from medaug.road.stations import STATIONS

WINDOW = Window(0.0, 255.0)
CLASSES = ("benign", "malignant")
SETTINGS = EvaluationSettings(fidelity=FidelitySettings(deals=20))


@pytest.fixture(autouse=True)
def fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier has tests of its own."""
    monkeypatch.setattr("medaug.evaluation.twosample.TREES", 5)
    monkeypatch.setattr("medaug.evaluation.twosample.DIVISIONS", 3)


class Study:
    """Patients with one patch of each class; those of the training part have none but noise."""

    def __init__(
        self,
        make_set: Callable[..., PatchSet],
        make_release: Callable[..., Release],
        sizes: tuple[int, int, int] = (30, 20, 20),
    ) -> None:
        rng = np.random.default_rng(0)
        owners = np.repeat(np.arange(sum(sizes)), 2)
        noise = rng.normal(128, 40, size=(len(owners), 1, 16, 16))
        soft = ndimage.gaussian_filter(noise, (0, 0, 1, 1))
        trained = (owners < sizes[0])[:, None, None, None]
        labels = np.tile([0, 1], sum(sizes))
        self.patches = make_set(np.where(trained, noise, soft), labels, CLASSES, owners)
        keys = self.patches.patient_order
        first, last = sizes[0], sizes[0] + sizes[1]
        self.split = PatientSplit(*map(frozenset, (keys[:first], keys[first:last], keys[last:])))
        drawn = rng.normal(128, 40, size=(80, 1, 16, 16))
        self.noise = make_release(drawn, np.tile([0, 1], 40), CLASSES)
        self.soft = make_release(
            ndimage.gaussian_filter(drawn, (0, 0, 1, 1)), np.tile([0, 1], 40), CLASSES
        )

    def likeness(self, release: Release, settings: EvaluationSettings = SETTINGS) -> dict:
        return likeness_to_unseen(self.patches, self.split, release, settings, WINDOW, seed=0)


MakeStudy = Callable[..., Study]


@pytest.fixture
def study(
    make_patch_set: Callable[..., PatchSet], make_release: Callable[..., Release]
) -> MakeStudy:
    return lambda **options: Study(make_patch_set, make_release, **options)


def kernel_difference(document: dict) -> dict[str, float]:
    figure = document["groups"][1]["figures"][0]
    assert figure["name"] == "kernel distance"
    difference: dict[str, float] = figure["difference"]
    return difference


class TestReference:
    """Never the training part; the test part alone where it suffices."""

    def test_likeness_to_the_training_part_counts_for_nothing(self, study: MakeStudy) -> None:
        parts = study()
        as_trained, as_unseen = parts.likeness(parts.noise), parts.likeness(parts.soft)
        assert kernel_difference(as_trained)["low"] > 0
        assert kernel_difference(as_unseen)["low"] < 0 < kernel_difference(as_unseen)["high"]

    @pytest.mark.parametrize(
        ("test_patients", "parts"), [(ENOUGH, ("test",)), (ENOUGH - 1, ("tuning", "test"))]
    )
    def test_parts(self, study: MakeStudy, test_patients: int, parts: tuple[str, ...]) -> None:
        found = study(sizes=(5, 7, test_patients))
        assert parts_to_compare(found.patches, found.split) == parts

    def test_the_document_says_whose_patches(self, study: MakeStudy) -> None:
        document = study().likeness(study().soft)
        assert document["real"] == {
            "parts": ["tuning", "test"],
            "patients": 40,
            "patches": 80,
            "patients_known": True,
        }
        assert "the tuning part was added" in document["caveats"][-1]
        assert document["not_computed"] == []
        assert json.loads(json.dumps(document, allow_nan=False)) == document


class TestNotComputed:
    """Without figures the document says why, and the run goes on."""

    def test_too_few(self, study: MakeStudy) -> None:
        parts = study(sizes=(5, 5, 6))
        document = parts.likeness(parts.soft)
        assert "groups" not in document
        assert document["real"]["patients"] == 11
        assert document["not_computed"] == [
            f"real patches: {label}: 5 patch(es) of this class in a half of the patients; "
            "needed: at least 10."
            for label in CLASSES
        ]

    def test_switched_off(self, study: MakeStudy) -> None:
        off = EvaluationSettings(fidelity=FidelitySettings(enabled=False, features="nowhere.pt2"))
        parts = study()
        (reason,) = parts.likeness(parts.soft, off)["not_computed"]
        assert "evaluation.fidelity.enabled is false" in reason

    def test_a_weight_file_that_is_not_there_stops_the_station_before_it_starts(
        self, tmp_path: Path
    ) -> None:
        config = load_pipeline("phantom", ["evaluation.fidelity.features=nowhere.safetensors"])
        station = {each.name: each for each in STATIONS}["evaluate"]
        with pytest.raises(SettingsError, match="cannot be read"):
            station.work(Run(config, tmp_path, Silent()))
