"""Every rule once more, over the whole set that is to be released."""

from __future__ import annotations

from collections import Counter

import numpy as np

from medaug.domain import Candidates, CheckResult
from medaug.errors import MedaugError
from medaug.privacy.duplicates import Gathered
from medaug.privacy.outlines import SAME
from medaug.privacy.screening import Accepted, Screening, cap_of


def checked_again(screening: Screening, candidates: Candidates) -> tuple[CheckResult, ...]:
    """One result per rule, in order. Values are rounded: a release carries no exact threshold.

    Raises:
        MedaugError: if ``candidates`` are not those that were screened.
    """
    passed = screening.passed
    if len(passed) != len(candidates) or any(
        not np.array_equal(one.pixels, pixels)
        for one, pixels in zip(passed, candidates.pixels, strict=True)
    ):
        raise MedaugError("pixels that were never screened stand in the final set")
    results = [_format(screening, candidates)]
    if (canaries := screening.canaries) is not None:
        results.append(canaries.check)
    results.append(_copy(screening, passed))
    if screening.against.outlines is not None:
        results.append(_outline(screening, passed))
    results += [
        *_neighbours(screening, passed),
        _duplicate(screening, candidates),
        _cap(screening, passed),
        _quota(screening),
    ]
    return tuple(results)


def _format(screening: Screening, candidates: Candidates) -> CheckResult:
    form, masks = screening.against.form, candidates.masks
    faults, contrast = 0, np.inf
    for number, pixels in enumerate(candidates.pixels):
        image = candidates.rescale.restore(pixels)
        faults += form.fault(image, None if masks is None else masks[number]) is not None
        contrast = min(contrast, form.contrast(image))
    shape = " x ".join(str(size) for size in form.shape)
    return CheckResult(
        "format",
        not faults,
        round(contrast, 4),
        round(form.least_contrast, 4),
        screening.rejections["format"],
        f"{len(candidates) - faults} of {len(candidates)} samples are {shape}, finite, inside the "
        f"window and not blank{'' if masks is None else ', with a mask that is not empty'}; "
        "the value is the lowest standard deviation.",
    )


def _copy(screening: Screening, passed: list[Accepted]) -> CheckResult:
    score = max(one.score for one in passed)
    limit = screening.against.detector.calibration.limit
    return CheckResult(
        "copy",
        score <= limit,
        round(score, 2),
        round(limit, 2),
        screening.rejections["copy"],
        f"The highest copy score is {score:.2f}, the limit {limit:.2f}.",
    )


def _outline(screening: Screening, passed: list[Accepted]) -> CheckResult:
    outlines = screening.against.outlines
    assert outlines is not None
    overlap = max(one.overlap for one in passed)
    telling = (
        "the limit"
        if outlines.limit < SAME
        else "so alike are those of new patients that no copied outline could be told: the limit"
    )
    return CheckResult(
        "outline",
        overlap <= outlines.limit,
        round(overlap, 4),
        round(outlines.limit, 4),
        screening.rejections["outline"],
        f"The highest overlap of a mask with a training outline is {overlap:.3f}, {telling} is "
        f"{outlines.limit:.3f}, set by {outlines.patients} patients.",
    )


def _neighbours(screening: Screening, passed: list[Accepted]) -> tuple[CheckResult, CheckResult]:
    """Here less is worse: the value is the lowest, the limit the least that is allowed."""
    neighbours = screening.against.neighbours
    nearest = min(one.place.nearest for one in passed)
    ratio = min(one.place.ratio for one in passed)
    return (
        CheckResult(
            "near",
            nearest >= neighbours.near_limit,
            round(nearest, 3),
            round(neighbours.near_limit, 3),
            screening.rejections["near"],
            f"The smallest low-pass distance to a training patient is {nearest:.3f}; real patients "
            f"below {neighbours.near_limit:.3f} are as rare as the policy says.",
        ),
        CheckResult(
            "single_support",
            ratio >= neighbours.single_limit,
            round(ratio, 3),
            round(neighbours.single_limit, 3),
            screening.rejections["single_support"],
            "The distance to the nearest patient is at least "
            f"{ratio:.3f} of that to the fifth nearest; the limit is "
            f"{neighbours.single_limit:.3f}.",
        ),
    )


def _duplicate(screening: Screening, candidates: Candidates) -> CheckResult:
    limit, earlier = screening.policy.duplicate_limit, 0
    gathered, highest = Gathered(), 0.0
    for images in screening.against.earlier:
        for image in images:
            gathered.add(image)
            earlier += 1
    for pixels in candidates.pixels:
        image = candidates.rescale.restore(pixels)
        highest = max(highest, gathered.likeness(image))
        gathered.add(image)
    before = f", {earlier} samples of earlier releases included" if earlier else ""
    return CheckResult(
        "duplicate",
        highest <= limit,
        round(highest, 4),
        limit,
        screening.rejections["duplicate"],
        f"The two most alike samples correlate by {highest:.3f}, the limit is {limit:g}{before}.",
    )


def _cap(screening: Screening, passed: list[Accepted]) -> CheckResult:
    cap = cap_of(screening.policy, screening.against.neighbours, len(passed))
    most = max(Counter(one.place.patient for one in passed).values())
    return CheckResult(
        "cap",
        most <= cap,
        float(most),
        float(cap),
        screening.rejections["cap"],
        f"At most {most} of {len(passed)} samples share one nearest training patient, the limit is "
        f"{cap}.",
    )


def _quota(screening: Screening) -> CheckResult:
    allowed, accepted = screening.against.allowed, screening.accepted
    label = max(accepted, key=lambda name: accepted[name] / max(allowed[name], 1))
    return CheckResult(
        "quota",
        all(accepted[name] <= allowed[name] for name in accepted),
        float(accepted[label]),
        float(allowed[label]),
        screening.rejections["quota"],
        f"Of class {label}, {accepted[label]} samples leave and {allowed[label]} may, at "
        f"{screening.policy.per_patient} for each training patient over all releases.",
    )
