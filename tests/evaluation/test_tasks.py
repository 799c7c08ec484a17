"""Outlining and finding lesions: the figures are right, and follow what the masks are worth."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medaug.domain import HeldOut, Window
from medaug.errors import LeakageError
from medaug.evaluation.classical import augment, augment_masks, draw
from medaug.evaluation.detection import LEVELS, blind_marks, marks_on, sensitivities
from medaug.evaluation.segmentation import dice, lesion_network, map_lesions, overlaps
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.tasks import evaluate_lesions

WINDOW = Window(-100.0, 200.0)
TASKS = ("classification", "segmentation", "detection")
SHORT = EvaluationSettings(
    seeds=2, steps=40, batch=16, learning_rate=0.01, bootstrap=500, device="cpu", tasks=TASKS
)


@pytest.fixture(scope="module")
def cohort(library: SimpleNamespace) -> SimpleNamespace:
    """Sixty patients, each with one lesion: 24 train, 12 tune, 24 judge."""
    patches = library.patches
    training, tuning, test = (patches.select(range(*ends)) for ends in ((24,), (24, 36), (36, 60)))
    held = HeldOut(test, lineage=(library.record(training),))
    return SimpleNamespace(
        training=training, tuning=tuning, test=held, release=library.release, held=test
    )


def run(cohort: Any, settings: EvaluationSettings = SHORT, **given: Any) -> dict[str, Any]:
    parts = (cohort.training, cohort.tuning, cohort.test, cohort.release)
    return evaluate_lesions(*parts, settings, WINDOW, 0, **given)


def with_changes(cohort: Any, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**vars(cohort) | changes)


class TestDice:
    """Twice what both mark over the sum of what each marks."""

    def test_it_agrees_with_counting(self) -> None:
        rng = np.random.default_rng(0)
        ours, theirs = rng.random((2, 5, 6, 7, 8)) < 0.3
        ours[0] = theirs[0] = False
        for value, one, other in zip(dice(*overlaps(ours, theirs)), ours, theirs, strict=True):
            marked = set(np.flatnonzero(one)), set(np.flatnonzero(other))
            sizes = sum(map(len, marked))
            expected = 2 * len(marked[0] & marked[1]) / sizes if sizes else 1
            assert value == pytest.approx(expected)


class TestMaps:
    """A map has the patch's size whatever that is, flat or 3-D."""

    @pytest.mark.parametrize("size", [(20, 17), (16, 24), (9, 12, 16)])
    def test_sizes(self, size: tuple[int, ...]) -> None:
        network = lesion_network(1, len(size))
        maps = map_lesions(network, torch.zeros(2, 1, *size), torch.device("cpu"))
        assert maps.shape == (2, *size)

    def test_a_mask_moves_with_its_picture(self) -> None:
        masks = torch.zeros(20, 1, 32, 32, dtype=torch.bool)
        masks[:, :, 8:20, 10:26] = True
        drawn = draw(torch.Size((20, 3, 32, 32)), torch.Generator().manual_seed(0))
        quiet = replace(drawn, noise=drawn.noise * 0, filtering=drawn.filtering * 0)
        images = augment((masks.float() * 1.2 - 0.6).expand(-1, 3, -1, -1), quiet)
        moved = augment_masks(masks[:, 0], drawn)[:, None]
        assert not torch.equal(moved, masks)
        for image, mask in zip(images[:, 0], moved[:, 0], strict=True):
            bright = image > (image.min() + image.max()) / 2
            assert (bright ^ mask).float().mean() < 0.01


def slow_curve(scores: list[list[tuple[float, bool]]], level: float) -> float:
    """By trying every threshold: (score, hits) of each mark of each patch, one patch a patient."""
    best = 0.0
    for threshold in {score for marks in scores for score, _ in marks}:
        kept = [[hits for score, hits in marks if score >= threshold] for marks in scores]
        wrong = sum(not hits for marks in kept for hits in marks)
        if wrong / len(scores) <= level:
            best = max(best, sum(any(marks) for marks in kept) / len(scores))
    return best


class TestDetection:
    """Marks, hits, and the free-response curve."""

    def test_marks_hit_by_their_box(self) -> None:
        masks = np.zeros((3, 20, 20), dtype=bool)
        masks[:, 2:8, 2:8] = True
        maps = np.full(masks.shape, -9.0)
        maps[0, 3:8, 2:8] = 1.0  # five sixths of it
        maps[0, 12:15, 12:15] = 3.0  # elsewhere
        maps[1, 2:8, 2:5] = 1.8  # two halves: the second counts neither way
        maps[1, 2:8, 6:8] = 1.5
        marks = marks_on(maps, masks)
        assert marks.patch.tolist() == [0, 0, 1, 1]
        assert marks.score.tolist() == [3.0, 1.0, 1.8, 1.5]
        assert marks.hit.tolist() == [False, True, True, False]
        assert marks.idle.tolist() == [False, False, False, True]
        assert sensitivities(marks, np.ones((1, 3)), 3)[0].tolist() == pytest.approx(
            [0, 0, 2 / 3, 2 / 3]
        )

    def test_the_curve_is_that_of_trying_every_threshold(self) -> None:
        rng = np.random.default_rng(1)
        masks = np.zeros((30, 24, 24), dtype=bool)
        maps = np.full(masks.shape, -9.0)
        scores: list[list[tuple[float, bool]]] = []
        for mask, odds in zip(masks, maps, strict=True):
            mask[2:8, 2:8] = True
            of_patch = []
            for place, hits in (((2, 2), True), ((12, 2), False), ((12, 14), False)):
                if rng.random() < 0.7:
                    score = float(rng.integers(-2, 6)) + 2 * hits  # ties
                    odds[place[0] : place[0] + 6, place[1] : place[1] + 6] = score
                    of_patch.append((score, hits))
            scores.append(of_patch)
        marks = marks_on(maps, masks)
        weights = np.ones((2, 30))
        weights[1] = rng.multinomial(30, np.full(30, 1 / 30))
        drawn = [at for at, times in enumerate(weights[1]) for _ in range(int(times))]
        curves = sensitivities(marks, weights, 30)
        assert curves[0].tolist() == pytest.approx([slow_curve(scores, at) for at in LEVELS])
        again = [scores[at] for at in drawn]
        assert curves[1].tolist() == pytest.approx([slow_curve(again, at) for at in LEVELS])

    def test_no_mark_at_all(self) -> None:
        masks = np.ones((2, 8, 8), dtype=bool)
        marks = marks_on(np.full(masks.shape, -9.0), masks)
        assert not sensitivities(marks, np.ones((3, 2)), 2).any()

    def test_marking_the_middle_hits_what_lies_there(self) -> None:
        masks = np.zeros((2, 16, 16), dtype=bool)
        masks[0, 5:11, 5:11] = True
        masks[1, 0:6, 0:6] = True
        assert blind_marks(masks, masks).hit.tolist() == [True, False]


class TestTasks:
    """On discs and rings."""

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, cohort: SimpleNamespace) -> dict[str, Any]:
        return run(cohort)

    def test_lesions_are_outlined_and_found(self, found: dict[str, Any]) -> None:
        json.dumps(found, allow_nan=False)
        assert list(found) == ["segmentation", "detection"]
        for task, least in (("segmentation", 0.65), ("detection", 0.5)):
            document = found[task]
            arms = ["real", "real+classical", "real+gan", "real+classical+gan"]
            assert [arm["arm"] for arm in document["arms"]] == arms
            for arm in document["arms"]:
                assert len(arm["per_seed"]) == 2
                figure = arm["figure"]
                assert figure["value"] == pytest.approx(np.mean(arm["per_seed"]))
                assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
                assert figure["value"] > least, (task, arm)
            pairs = [(each["arm"], each["baseline"]) for each in document["comparisons"]]
            assert pairs == [
                ("real+classical+gan", "real+classical"),
                ("real+classical", "real"),
                ("real+gan", "real"),
            ]
        parts = found["segmentation"]["arms"][0]["parts"]
        assert list(parts) == ["cyst", "metastasis"]
        whole = found["segmentation"]["arms"][0]["figure"]["value"]
        assert np.mean([each["value"] for each in parts.values()]) == pytest.approx(whole)

    @pytest.mark.slow
    def test_wrong_masks_hurt(self, cohort: SimpleNamespace) -> None:
        release = cohort.release
        wrong = object.__new__(type(release))
        for name, value in vars(release).items():
            object.__setattr__(wrong, name, value)
        object.__setattr__(wrong, "masks", ~release.masks)
        settings = SHORT.model_copy(update={"synthetic_share": 0.75, "steps": 30})
        document = run(with_changes(cohort, release=wrong), settings)["segmentation"]
        words = {(each["arm"], each["baseline"]): each for each in document["comparisons"]}
        hurt = words["real+gan", "real"]
        assert hurt["difference"]["high"] < 0
        assert hurt["verdict"] == "hurts"

    def test_it_goes_on_from_the_folder(
        self, cohort: SimpleNamespace, found: dict[str, Any], tmp_path: Path
    ) -> None:
        few = SHORT.model_copy(update={"steps": 5})
        first = run(cohort, few, folder=tmp_path)
        kept = sorted(tmp_path.iterdir())
        assert len(kept) == 8
        before = [path.stat().st_mtime_ns for path in kept]
        kept[0].write_bytes(b"damaged")
        assert run(cohort, few, folder=tmp_path) == first != found
        after = [path.stat().st_mtime_ns for path in kept]
        assert [one == other for one, other in zip(before, after, strict=True)] == [False] + [
            True
        ] * 7

    def test_patches_of_one_lesion_are_one_outline(self, cohort: SimpleNamespace) -> None:
        held = cohort.held
        places = tuple(replace(place, lesion="2.25.7") for place in held.locations)
        patients = tuple(held.patients[at // 4 * 4 + at % 2] for at in range(len(held)))
        once = replace(held, locations=places, patients=patients)
        test = HeldOut(once, lineage=cohort.test.lineage)
        few = SHORT.model_copy(update={"steps": 5})
        document = run(with_changes(cohort, test=test), few)["segmentation"]
        assert (document["lesions"], document["patients"]) == (12, 12)

    def test_what_cannot_be_done_is_said(self, cohort: SimpleNamespace) -> None:
        bare = replace(cohort.training, masks=None)
        document = run(with_changes(cohort, training=bare))
        (reason,) = document["detection"]["not_computed"]
        assert reason.startswith("The training patches have no masks")
        assert run(cohort, EvaluationSettings()) == {}

    def test_a_release_without_masks_leaves_the_real_arms(
        self, cohort: SimpleNamespace, make_release: Callable[..., Any]
    ) -> None:
        release = make_release(cohort.release.images, cohort.release.labels, ("cyst", "metastasis"))
        few = SHORT.model_copy(update={"steps": 5})
        document = run(with_changes(cohort, release=release), few)["segmentation"]
        assert [arm["arm"] for arm in document["arms"]] == ["real", "real+classical"]
        assert set(document["arms_left_out"]) == {"real+gan", "real+classical+gan"}

    def test_what_was_trained_on_may_not_judge(self, cohort: SimpleNamespace) -> None:
        test = HeldOut(cohort.training, lineage=())
        with pytest.raises(LeakageError):
            run(with_changes(cohort, test=test))
