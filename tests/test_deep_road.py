"""Volumes and adjacent slices on the whole road: from files to a verdict, masks and quotas with it.

The cohort is made of small NIfTI volumes, each with a dark ball and a bright shell, so that a road
takes seconds where that of the CT phantom takes minutes. What the roads prove is that every station
takes what the one before it leaves; nothing is said about the quality of so short a training.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medaug.config import PipelineConfig, load_pipeline
from medaug.domain import (
    CheckResult,
    HeldOut,
    PatchSet,
    PatientSplit,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    TrainingRecord,
    central,
)
from medaug.domain.synthetic import Candidates
from medaug.export.manifest import read_manifest
from medaug.export.release import load_release
from medaug.export.verify import verify_release
from medaug.export.write import write_release
from medaug.pipeline import run_pipeline
from medaug.progress import Silent
from medaug.report.page import write_report
from medaug.road.judging import evaluate
from medaug.road.run import Run
from medaug.road.stations import STATIONS

PATIENTS = 56
SIDE = 64  # voxels of 1 mm
CLASSES = ("ball", "shell")
PIPELINE = """
name: deep
sources:
  - kind: volumes
    path: .
    image: '(?P<patient>[^/]+)/ct[.]nii[.]gz'
    labels: '(?P<patient>[^/]+)/lesions[.]nii[.]gz'
    values: {1: ball, 2: shell}
    per: component
    modality: CT
    unit: HU
patching: {size: 32, mm_per_pixel: 1.0}
cohort: {fractions: [0.42, 0.38, 0.2]}
generator: {preset: small-data, window: [-150, 250], outputs: [image, mask], width: 8, batch: 8,
  least_diversity: 0}
privacy: {per_class: 12, duplicate_limit: 0.999, tries: 20}
evaluation:
  classifiers: [frid-adar-2018]
  seeds: 2
  steps: 5
  batch: 8
  bootstrap: 500
  fidelity: {deals: 20}
"""


def lesion(number: int, label: str, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """HU and mask (slice, row, column) of one lesion near the middle of a noisy cube."""
    rng = np.random.default_rng([number, CLASSES.index(label)])
    centre = side / 2 - 0.5 + rng.uniform(-2, 2, 3)
    radius = rng.uniform(5, 9)
    grid = np.mgrid[:side, :side, :side] - centre[:, None, None, None]
    stretched = grid * rng.uniform(0.8, 1.2, 3)[:, None, None, None]
    depth = radius - np.sqrt((stretched**2).sum(axis=0))
    texture = sum(
        8
        * np.sin(rng.uniform(0.1, 0.5, 3) @ grid.reshape(3, -1) + rng.uniform(0, 6)).reshape(
            depth.shape
        )
        for _ in range(4)
    )
    inside = np.clip(depth + 0.5, 0, 1)
    picture = 60 - 90 * inside if label == "ball" else 60 + 110 * inside * (depth < 2.5)
    picture = picture + texture + rng.normal(0, 8, depth.shape)
    return picture.astype(np.float32), depth > 0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One lesion of each class in every patient, side by side from right to left."""
    folder = tmp_path_factory.mktemp("volumes")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # columns to the left, rows to the back
    for number in range(PATIENTS):
        pair = [lesion(number, label) for label in CLASSES]
        picture = np.concatenate([each[0] for each in pair], axis=2)
        marks = np.concatenate([each[1] * (at + 1) for at, each in enumerate(pair)], axis=2)
        place = folder / f"p{number:03d}"
        place.mkdir()
        for name, array in (("ct", picture.astype(np.int16)), ("lesions", marks.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(array.T, affine), place / f"{name}.nii.gz")
    return folder


def road(cohort: Path, place: Path, *changes: str) -> tuple[PipelineConfig, Path]:
    """Walk all of it; returns the settings and the run folder."""
    path = place / "deep.yaml"
    path.write_text(PIPELINE)
    overrides = [*changes, f"site_key={place / 'site.key'}"]
    config = load_pipeline(path, overrides, data=cohort)
    run_pipeline(config, place / "run")
    return config, place / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "shape", "apart"),
    [
        (("patching.spatial_dims=3", "generator.images=400"), (1, 32, 32, 32), 1.0),
        (
            ("patching.adjacent=1", "patching.slice_mm=2.5", "generator.images=1500"),
            (3, 32, 32),
            2.5,
        ),
    ],
    ids=["3-D", "2.5-D"],
)
def test_the_whole_road(
    changes: tuple[str, ...], shape: tuple[int, ...], apart: float, cohort: Path, tmp_path: Path
) -> None:
    config, folder = road(cohort, tmp_path, *changes, "privacy.per_class={ball: 12, shell: 10}")
    run = Run(config, folder, Silent())
    assert all((folder / left).exists() for station in STATIONS for left in station.leaves)
    assert run.patches.images.shape[1:] == run.release.pixels.shape[1:] == shape
    assert run.release.per_class() == {"ball": 12, "shell": 10}
    assert run.release.masks is not None
    assert run.release.masks.shape[1:] == shape[1:]
    assert verify_release(folder / "release").problems == ()
    assert read_manifest(folder / "release").image.slice_mm == apart
    nifti = nibabel.load(next((folder / "release/nifti/ball").iterdir()))
    np.testing.assert_allclose(nifti.affine, np.diag([-1, -1, apart, 1]))
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["fidelity"]["not_computed"] == []
    assert evaluation["verdict"]["word"] in {"helps", "no evidence", "hurts"}
    assert "the sheets show the middle one" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_class_left_out(cohort: Path, tmp_path: Path) -> None:
    _, folder = road(cohort, tmp_path, "generator.images=1500", "privacy.per_class={shell: 12}")
    assert load_release(folder / "release").per_class() == {"shell": 12}
    assert verify_release(folder / "release").problems == ()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert set(evaluation["arms_left_out"]) == {"gan"}
    assert [group["label"] for group in evaluation["fidelity"]["groups"]] == ["shell"]
    page = (folder / "report.html").read_text()
    assert "the policy releases other classes alone" in page
    assert "The arm gan was left out" in page


class TestFromThePatchesOn:
    """Release, reading back, evaluation and report of patches and masks made by hand."""

    @pytest.fixture(autouse=True)
    def fewer_trees(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The two-sample test has tests of its own."""
        monkeypatch.setattr("medaug.evaluation.twosample.TREES", 5)
        monkeypatch.setattr("medaug.evaluation.twosample.DIVISIONS", 3)

    def patches(self, make: Callable[..., PatchSet], first: int, kind: str) -> PatchSet:
        """30 patches of 15 patients, 16 pixels wide."""
        rows = [lesion(first + row // 2, CLASSES[row % 2], 24) for row in range(30)]
        images = np.stack([picture[4:20, 4:20, 4:20] for picture, _ in rows])[:, None]
        masks = np.stack([mask[4:20, 4:20, 4:20] for _, mask in rows])
        if kind == "2.5-D":
            images, masks = images[:, 0, 7:10], central(masks[:, None])[:, 0]
        made = make(images, np.arange(30) % 2, CLASSES, first + np.arange(30) // 2, masks)
        places = (replace(place, diameter_mm=9.0) for place in made.locations)
        return replace(made, locations=tuple(places))

    @pytest.mark.parametrize("kind", ["2.5-D", "3-D"])
    def test_release_evaluation_and_report(
        self, kind: str, make_patch_set: Callable[..., PatchSet], tmp_path: Path
    ) -> None:
        parts = [self.patches(make_patch_set, first, kind) for first in (0, 100, 200)]
        drawn = self.patches(make_patch_set, 300, kind)
        changes = [f"site_key={tmp_path / 'key'}"]
        (tmp_path / "deep.yaml").write_text(PIPELINE)
        run = Run(load_pipeline(tmp_path / "deep.yaml", changes), tmp_path / "run", Silent())
        record = TrainingRecord(frozenset(parts[0].patients), parts[0].digest, "ab" * 32, {}, 0, 30)
        write_release(
            released(drawn, run),
            run.folder / "release",
            run.config.export,
            name="deep",
            seed=1,
            window=run.window,
        )
        assert verify_release(run.folder / "release").problems == ()
        whole = replace(
            parts[0],
            images=np.concatenate([part.images for part in parts]),
            masks=np.concatenate([part.masks for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            patients=sum((part.patients for part in parts), ()),
            locations=sum((part.locations for part in parts), ()),
        )
        vars(run)["patches"] = whole
        vars(run)["split"] = PatientSplit(*(frozenset(part.patients) for part in parts))
        vars(run)["generator"] = Trained(record)
        assert HeldOut(parts[2], (record,)).patches.images.shape == drawn.images.shape
        evaluate(run)
        evaluation = json.loads((run.folder / "evaluation.json").read_text())
        assert evaluation["fidelity"]["not_computed"] == []
        figures = {each["name"] for each in evaluation["fidelity"]["groups"][0]["figures"]}
        assert {"lesion size distance", "intensity distance in the mask"} <= figures
        (run.folder / "run.json").write_text(json.dumps(journal(run)))
        assert "Classifiers see" in write_report(run.folder).read_text()


class Trained:
    """What the evaluation asks of a generator."""

    def __init__(self, record: TrainingRecord) -> None:
        self.record = record


def journal(run: Run) -> dict[str, Any]:
    """As much of ``run.json`` as the report needs."""
    about = {"medaug": "0", "seed": 0, "python": "3", "cores": 1, "versions": {}, "stations": {}}
    return {"name": "deep", "config": run.config.resolved(), **about}


def released(drawn: PatchSet, run: Run) -> Release:
    """These patches as a release that the gate approved."""
    rescale = Rescale.of(drawn.unit, run.window)
    columns: dict[str, Any] = {
        "pixels": rescale.store(drawn.images),
        "labels": drawn.labels,
        "classes": drawn.classes,
        "rescale": rescale,
        "unit": drawn.unit,
        "modality": drawn.modality,
        "mm_per_pixel": 1.0,
        "masks": drawn.masks,
    }
    digest = Candidates(**columns, seeds=np.arange(len(drawn))).digest
    counts = dict.fromkeys(drawn.classes, 15)
    policy = ReleasePolicy(counts, checks=("format",))
    passed = (CheckResult("format", True, 0.0, 0.0, 0, "Every sample has the right shape."),)
    decision = ReleaseDecision(policy, digest, passed, counts, counts, ())
    return Release(**columns, decision=decision, generator_digest="ab" * 32)
