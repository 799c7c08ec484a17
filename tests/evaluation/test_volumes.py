"""3-D patches and adjacent slices are judged as flat ones are; so is a release without a class."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medaug.domain import HeldOut, PatchSet, Release, Window
from medaug.errors import CohortError
from medaug.evaluation.agreement import cumulative, distance
from medaug.evaluation.classical import augment, draw
from medaug.evaluation.classifiers import build_classifier
from medaug.evaluation.fidelity import distance_to
from medaug.evaluation.protocol import Evaluation, evaluate
from medaug.evaluation.released import labels_among, only
from medaug.evaluation.settings import EvaluationSettings, FidelitySettings
from medaug.evaluation.similarity import similarities
from medaug.evaluation.unseen import likeness_to_unseen

WINDOW = Window(-100.0, 200.0)
MakeStudy = Callable[..., Any]
MakeRelease = Callable[..., Release]


@pytest.fixture(autouse=True)
def fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medaug.evaluation.twosample.TREES", 5)
    monkeypatch.setattr("medaug.evaluation.twosample.DIVISIONS", 3)


def deepened(images: np.ndarray, kind: str) -> np.ndarray:
    """Flat patches (patch, 1, row, column) of 16 pixels as three slices, or as cubes."""
    depth = {"2.5-D": 3, "3-D": 16}[kind]
    noise = np.random.default_rng(5).normal(0, 10, (len(images), depth, *images.shape[2:]))
    stacks = (images + noise).astype(np.float32)
    return stacks if kind == "2.5-D" else stacks[:, None]


@pytest.fixture(params=["2.5-D", "3-D"])
def deep(request: Any, study: MakeStudy, make_release: MakeRelease) -> Any:
    cohort = study(sizes=(30, 30, 60), contrast=150.0)
    for name in ("training", "tuning", "held"):
        part: PatchSet = getattr(cohort, name)
        setattr(cohort, name, replace(part, images=deepened(part.images, request.param)))
    cohort.test = HeldOut(cohort.held, cohort.test.lineage)
    release = cohort.release
    cohort.release = make_release(deepened(release.images, request.param), release.labels)
    return cohort


def run(cohort: Any, settings: EvaluationSettings) -> Evaluation:
    return evaluate(
        cohort.training, cohort.tuning, cohort.test, cohort.release, settings, WINDOW, seed=0
    )


class TestClassifiers:
    @pytest.mark.parametrize("name", ["frid-adar-2018", "resnet-10-narrow"])
    @pytest.mark.parametrize("shape", [(3, 16, 24), (1, 16, 16, 24)])
    def test_logits_from_any_layout(self, name: Any, shape: tuple[int, ...]) -> None:
        network = build_classifier(name, shape[0], shape[1:], 3).eval()
        assert network(torch.zeros(2, *shape)).shape == (2, 3)
        kinds = {type(module).__name__ for module in network.modules()}
        assert f"Conv{len(shape) - 1}d" in kinds

    def test_they_learn_from_deep_patches(self, deep: Any, quick: EvaluationSettings) -> None:
        """Contrast far above the noise: the second slice of the lesion alone tells the classes."""
        found = run(deep, quick.model_copy(update={"steps": 12}))
        assert found.document()["arms_left_out"] == {}
        assert {arm.arm: arm.auc.value > 0.8 for arm in found.arms}["real"]
        assert any("slices" in sentence for sentence in found.protocol)


class TestClassicalAugmentation:
    """In 3-D: flips and turns within axial planes, zoom, shift and filter along all three axes."""

    def test_a_turn_and_a_flip_do_to_every_slice_what_they_do_to_a_picture(self) -> None:
        flat = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        drawn = draw(flat.shape, torch.Generator().manual_seed(1))
        drawn = replace(drawn, filtering=torch.zeros(8), noise=torch.zeros(8))
        in_depth = replace(
            drawn,
            shift=torch.cat([drawn.shift, torch.zeros(8, 1)], dim=1),
        )
        columns = flat[:, :, None].expand(-1, -1, 12, -1, -1)  # the same slice twelve times
        expected = augment(flat, drawn)[:, :, None].expand_as(columns)
        torch.testing.assert_close(augment(columns, in_depth), expected, atol=1e-5, rtol=0)

    def test_zoom_and_shift_along_slices(self) -> None:
        volumes = torch.zeros(2, 1, 16, 16, 16)
        volumes[:, :, 6:10] = 1.0  # four slices
        drawn = draw(volumes.shape, torch.Generator().manual_seed(0))
        zero, one = torch.zeros(2), torch.ones(2)
        still = replace(
            drawn, angle=zero, flip=one, filtering=zero, contrast=one, brightness=zero,
            noise=zero, zoom=torch.tensor([2.0, 1.0]),
            shift=torch.tensor([[0.0, 0, 0], [0, 0, 0.25]]),
        )  # fmt: skip
        thick, moved = augment(volumes, still)[:, 0, :, 8, 8]
        assert thick.sum() == pytest.approx(8, abs=0.1)
        assert moved.nonzero().flatten().tolist() == [2, 3, 4, 5]

    def test_drawn_for_every_patch_and_within_range(self) -> None:
        shape = torch.Size([16, 1, 16, 16, 16])
        same = torch.rand(1, 1, 16, 16, 16).expand(shape) * 2 - 1
        found = augment(same, draw(shape, torch.Generator().manual_seed(0)))
        assert found.shape == shape
        assert found.abs().max() <= 1
        assert (torch.cdist(found.flatten(1), found.flatten(1)) + torch.eye(16) * 9).min() > 0.1


class TestLikeness:
    def test_distance_to_sees_what_lies_beside_the_middle_slice(self) -> None:
        """A generator whose axial middle alone is right is not at distance 0."""
        rng = np.random.default_rng(0)
        real, other = rng.uniform(-1, 1, (2, 40, 1, 16, 16, 16)).astype(np.float32)
        fake = np.zeros_like(other)
        fake[:, :, 8] = other[:, :, 8]
        measure = distance_to(real)
        assert abs(measure(other, None)) < 0.1 * measure(fake, None)

    def test_similarity_of_cubes_is_that_of_their_middle_slices(self) -> None:
        first, second = np.random.default_rng(0).uniform(-1, 1, (2, 3, 1, 16, 16, 16))
        flat = similarities(first[:, :, 8], second[:, :, 8])
        np.testing.assert_array_equal(similarities(first, second), flat)

    def test_intensities_in_the_mask_of_adjacent_slices(self) -> None:
        images = np.full((2, 3, 8, 8), -1.0)
        images[:, 1] = 0.5
        masks = np.ones((2, 8, 8), dtype=bool)
        assert distance(cumulative(images, masks), cumulative(images[:, 1:2]), 2.0) == 0

    def test_the_document_says_what_was_looked_at(self, deep: Any) -> None:
        found = likeness(deep)
        assert found["not_computed"] == []
        assert any("3-D patches" in text or "Adjacent" in text for text in found["method"])
        names = {figure["name"] for figure in found["groups"][0]["figures"]}
        assert {"kernel distance", "intensity distance"} <= names


def likeness(cohort: Any, **changes: Any) -> dict[str, Any]:
    """Against all 60 test patches of the cohort."""
    split = Split({"test": cohort.held, "tuning": cohort.tuning})
    settings = EvaluationSettings(fidelity=FidelitySettings(deals=20, most=60))
    return likeness_to_unseen(
        cohort.held, split, changes.get("release", cohort.release), settings, WINDOW, 0
    )


class Split:
    """What `likeness_to_unseen` asks of a `PatientSplit`; here there is a test part alone."""

    def __init__(self, parts: dict[str, PatchSet]) -> None:
        self.parts = parts

    def part(self, patches: PatchSet, name: str) -> PatchSet:
        return patches.of_patients(self.patients(name))

    def patients(self, name: str) -> frozenset[Any]:
        return frozenset(self.parts[name].patients)


class TestAClassThatWasNotReleased:
    @pytest.fixture
    def cohort(self, study: MakeStudy, make_release: MakeRelease) -> Any:
        """Of cyst, haemangioma and metastasis the second is not released."""
        cohort = study(sizes=(30, 30, 60))
        release = cohort.release
        rows = np.flatnonzero(release.labels != 1)
        cohort.release = make_release(
            release.images[rows], release.labels[rows] // 2, ("cyst", "metastasis")
        )
        return cohort

    def test_the_arm_that_could_not_learn_it_is_left_out_and_the_others_stay(
        self, cohort: Any, quick: EvaluationSettings
    ) -> None:
        found = run(cohort, quick)
        document = json.loads(json.dumps(found.document()))
        assert "haemangioma" in document["arms_left_out"]["gan"]
        assert [arm["arm"] for arm in document["arms"]] == [
            "real", "real+classical", "real+gan", "real+classical+gan",
        ]  # fmt: skip
        assert {arm["arm"]: list(arm["per_class"]) for arm in document["arms"]}["real+gan"] == [
            "cyst", "haemangioma", "metastasis",
        ]  # fmt: skip
        assert {pair["arm"] for pair in document["comparisons"]}.isdisjoint({"gan"})
        assert document["verdict"]["word"] in {"helps", "no evidence", "hurts"}
        assert any("arm gan was left out" in sentence for sentence in document["protocol"])

    def test_labels_keep_their_meaning(self, cohort: Any) -> None:
        names = np.array(cohort.release.classes)[cohort.release.labels]
        classes = cohort.training.classes
        assert (np.array(classes)[labels_among(cohort.release, classes)] == names).all()
        kept = only(cohort.training, cohort.release.classes)
        assert kept.classes == cohort.release.classes
        assert len(kept) == 20
        assert set(kept.labels) == {0, 1}
        np.testing.assert_array_equal(
            kept.of_class("metastasis").images, cohort.training.of_class("metastasis").images
        )

    def test_likeness_is_asked_of_the_released_classes(self, cohort: Any) -> None:
        found = likeness(cohort)
        assert found["not_computed"] == []
        assert [group["label"] for group in found["groups"]] == [None, "cyst", "metastasis"]
        assert any("haemangioma" in caveat for caveat in found["caveats"])

    def test_a_class_that_only_the_release_knows_is_refused(
        self, cohort: Any, quick: EvaluationSettings, make_release: MakeRelease
    ) -> None:
        release = cohort.release
        cohort.release = make_release(release.images, release.labels, ("cyst", "cystt"))
        with pytest.raises(CohortError, match="cystt"):
            run(cohort, quick)
