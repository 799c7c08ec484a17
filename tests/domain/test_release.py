"""A `Release` cannot exist without approval. Unknown means refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medaug.domain import (
    Candidates,
    CheckResult,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Unit,
)
from medaug.errors import DisclosureError

COLUMNS: dict[str, Any] = {
    "pixels": np.arange(2 * 16, dtype=np.int16).reshape(2, 1, 4, 4),
    "labels": np.array([0, 1]),
    "classes": ("cyst", "metastasis"),
    "rescale": Rescale(1.0, 0.0),
    "unit": Unit.HOUNSFIELD,
    "modality": "CT",
    "mm_per_pixel": 1.0,
}
MASKS = np.arange(2 * 16).reshape(2, 4, 4) % 5 == 0
COPY = CheckResult("copy", True, 0.2, 0.5, 3, "the closest is 0.2")
DUPLICATE = CheckResult("duplicate", True, 0.3, 0.98, 0, "the closest is 0.3")


def digest_of_candidates(**columns: Any) -> str:
    seeds = np.zeros(len(columns["pixels"]), np.int64)
    return Candidates(**columns, seeds=seeds).digest


def approve(
    columns: dict[str, Any],
    results: tuple[CheckResult, ...] = (COPY, DUPLICATE),
    checks: tuple[str, ...] = ("copy", "duplicate"),
) -> ReleaseDecision:
    digest = digest_of_candidates(**columns)
    return ReleaseDecision(ReleasePolicy(1, checks), digest, results, {}, {}, ())


def release(decision: ReleaseDecision, **changes: Any) -> Release:
    return Release(**{**COLUMNS, **changes}, decision=decision, generator_digest="0")


class TestApproval:
    def test_an_approved_set_may_leave(self):
        ready = release(approve(COLUMNS))
        assert len(ready) == 2
        assert ready.per_class() == {"cyst": 1, "metastasis": 1}
        assert ready.images.dtype == np.float32

    @pytest.mark.parametrize(
        ("decision", "words"),
        [
            (approve(COLUMNS, checks=()), "asks for no check"),
            (approve(COLUMNS, results=(COPY,)), "'duplicate' was asked for and not run"),
            (approve(COLUMNS, results=()), "'copy' was asked for and not run"),
            (
                approve(COLUMNS, results=(COPY, replace(DUPLICATE, passed=False))),
                "'duplicate' failed",
            ),
            (
                approve(COLUMNS, (COPY, DUPLICATE, CheckResult("extra", False, 1, 0, 0, ""))),
                "'extra' failed",
            ),
            (approve(COLUMNS, (replace(COPY, passed=False), COPY, DUPLICATE)), "'copy' failed"),
            (approve(COLUMNS, (COPY, DUPLICATE, replace(COPY, passed=False))), "'copy' failed"),
        ],
        ids=[
            "no-check",
            "one-not-run",
            "none-run",
            "failed",
            "unasked-failed",
            "failed-then-passed",
            "passed-then-failed",
        ],
    )
    def test_without_every_check_it_does_not_exist(self, decision, words):
        with pytest.raises(DisclosureError, match=words):
            release(decision)

    @pytest.mark.parametrize(
        "change",
        [
            {"pixels": COLUMNS["pixels"] + np.int16(1)},
            {"pixels": COLUMNS["pixels"][::-1]},
            {"pixels": COLUMNS["pixels"][:1], "labels": COLUMNS["labels"][:1]},
            {"labels": np.array([1, 1])},
            {"classes": ("cyst", "haemangioma")},
            {"rescale": Rescale(2.0, 0.0)},
            {"unit": Unit.SUV},
            {"modality": "MR"},
            {"mm_per_pixel": 0.5},
            {"masks": MASKS},
        ],
        ids="-".join,
    )
    def test_the_decision_covers_these_very_pixels(self, change):
        with pytest.raises(DisclosureError, match="other pixels"):
            release(approve(COLUMNS), **change)

    @pytest.mark.parametrize("masks", [None, MASKS[::-1], MASKS.transpose(0, 2, 1)])
    def test_and_these_very_masks(self, masks):
        decision = approve({**COLUMNS, "masks": MASKS})
        assert release(decision, masks=MASKS).masks is MASKS
        with pytest.raises(DisclosureError, match="other pixels or masks"):
            release(decision, masks=masks)

    def test_nothing_is_not_a_release(self):
        empty = {"pixels": np.zeros((0, 1, 4, 4), np.int16), "labels": np.zeros(0, np.int64)}
        with pytest.raises(DisclosureError, match="nothing to release"):
            release(approve({**COLUMNS, **empty}), **empty)

    def test_every_reason_is_told_at_once(self):
        decision = replace(
            approve(COLUMNS, results=(replace(COPY, passed=False),)), pixels_digest="0" * 64
        )
        with pytest.raises(DisclosureError) as caught:
            release(decision)
        assert len(caught.value.reasons) == 3

    def test_it_carries_no_seed(self):
        assert not hasattr(release(approve(COLUMNS)), "seeds")


class TestCandidates:
    def test_select_keeps_the_columns_together(self):
        candidates = Candidates(**COLUMNS, seeds=np.array([11, 12]), masks=MASKS)
        found = candidates.select(np.array([1]))
        assert (found.seeds.tolist(), found.labels.tolist()) == ([12], [1])
        np.testing.assert_array_equal(found.pixels[0], COLUMNS["pixels"][1])
        np.testing.assert_array_equal(found.masks, MASKS[1:])

    @pytest.mark.parametrize(
        "change",
        [
            {"pixels": np.zeros((2, 1, 4, 4), np.float32)},
            {"labels": np.array([0])},
            {"labels": np.array([0, 2])},
            {"seeds": np.array([1])},
            {"masks": MASKS[:1]},
            {"masks": MASKS[:, :3]},
            {"masks": MASKS.astype(np.uint8)},
        ],
    )
    def test_no_such_candidates(self, change):
        with pytest.raises(ValueError, match=r"int16|one label|no class|one seed|masks are"):
            Candidates(**{**COLUMNS, "seeds": np.array([1, 2]), **change})
