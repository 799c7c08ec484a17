"""The gate: candidates go in, a `Release` or reasons come out.

Candidates are drawn class by class from fresh seeds, stored as the 16-bit integers that would
leave, and held against three checks in order: format, copy, duplicate (`screening`). What is turned
away is replaced by new seeds until the quota is met or the tries are used up. Then the whole set
is checked once more, shuffled, and only then becomes a `Release`.

A refusal is a valid outcome, not an error: it comes back as a `Review` with reasons. Errors
are raised for what nobody may decide on: parts that share patients, settings that make no sense.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from medaug.domain import (
    Candidates,
    CheckResult,
    PatchSet,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Sampler,
    Window,
)
from medaug.errors import Fault, LeakageError, SettingsError
from medaug.privacy.audit import AuditResult, audit, refuse_shared
from medaug.privacy.claims import calibration_phrase, calibration_sentence, release_statements
from medaug.privacy.copies import CopyDetector
from medaug.privacy.duplicates import closest_pair
from medaug.privacy.format import Format
from medaug.privacy.limits import FEWEST_PATIENTS
from medaug.privacy.screening import CHECKS, Screening
from medaug.privacy.verdict import Review
from medaug.progress import Progress, Silent


def review(
    sampler: Sampler,
    policy: ReleasePolicy,
    *,
    training: PatchSet,
    calibration: PatchSet,
    rescale: Rescale,
    window: Window,
    mm_per_pixel: float,
    seed: int,
    memory_mb: int = 256,
    progress: Progress | None = None,
    audit_on: PatchSet | None = None,
) -> Review:
    """Draw candidates, check them, and release those that pass or say why none may leave.

    Args:
        sampler: the trained generator.
        policy: limits, fixed beforehand.
        training: every patch that the generator saw.
        calibration: real patches of other patients; they set the copy limit.
        rescale: how intensities are stored.
        window: intensities that the generator knows.
        mm_per_pixel: nominal pixel size; 0 where the source has no spacing.
        seed: of the candidates' seeds and of the order in the release.
        memory_mb: working memory beside the patches.
        progress: told of every patch compared and every candidate accepted.
        audit_on: patients who served for nothing so far; the set is audited on them before it
            leaves, and "audit" joins the checks of the policy. None: no audit, and it is said so.

    Raises:
        LeakageError: if training and calibration share a patient, or the generator saw one
            of the calibration patients, or ``audit_on`` shares a patient with either.
        SettingsError: for an unknown mode or check, or a class without training patches.
        CohortError: if no limit can be set on these patches.
    """
    _refuse_settings(sampler, policy, training, audit_on is not None)
    _refuse_leakage(sampler, training, calibration)
    if audit_on is not None:
        refuse_shared(training, audit_on, calibration)
        asked = dict.fromkeys((*policy.checks, "audit"))
        policy = replace(policy, checks=tuple(asked))
    reasons = _why_not_begin(sampler, policy, training, calibration)
    if reasons:
        return Review("refused", policy, reasons)
    ticker = progress or Silent()
    detector = CopyDetector.fit(
        training,
        calibration,
        false_rejection=policy.copy_false_rejection,
        memory_mb=memory_mb,
        progress=ticker,
    )
    form = Format.of(training, window, rescale.slope)
    screening = Screening(policy, rescale, form, detector, memory_mb)
    for index, label in enumerate(sampler.classes):
        ticker.start(f"reviewing {label}", policy.per_class)
        screening.draw(sampler, index, _fresh_seeds(seed, index), ticker)
    reasons = _why_not_release(screening)
    known = training.patients_known and calibration.patients_known
    if reasons:
        return _refusal(screening, reasons, known)
    candidates = _gathered(screening, sampler, training, mm_per_pixel)
    results = _check_again(screening, candidates)
    failed = tuple(result.detail for result in results if not result.passed)
    if failed:
        return _refusal(screening, failed, known)
    # The order must not tell what was drawn first.
    order = np.random.default_rng(np.random.SeedSequence([seed, len(sampler.classes)]))
    shuffled = candidates.select(order.permutation(len(candidates)))
    audited = None
    if audit_on is not None:
        audited = audit(
            shuffled.images, training, audit_on, seed, reference=calibration, memory_mb=memory_mb
        )
        if not audited.passed:
            return replace(_refusal(screening, audited.reasons, known), audit=audited)
        results += (audited.check,)
    return _released(screening, results, shuffled, sampler.record.weights_digest, known, audited)


def _fresh_seeds(seed: int, index: int) -> Iterator[int]:
    """63-bit seeds of one class, each once; the same for the same ``seed``."""
    source = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    used: set[int] = set()
    while True:
        fresh = int(source.integers(0, 2**63))
        if fresh not in used:
            used.add(fresh)
            yield fresh


def _gathered(
    screening: Screening, sampler: Sampler, training: PatchSet, mm_per_pixel: float
) -> Candidates:
    """All that passed, in the order drawn."""
    passed = screening.passed
    masks = [one.mask for one in passed if one.mask is not None]
    return Candidates(
        pixels=np.stack([one.pixels for one in passed]),
        labels=np.array([one.label for one in passed], dtype=np.int64),
        classes=sampler.classes,
        rescale=screening.rescale,
        unit=training.unit,
        modality=training.modality,
        mm_per_pixel=mm_per_pixel,
        seeds=np.array([one.seed for one in passed], dtype=np.int64),
        masks=np.stack(masks) if masks else None,
    )


def _check_again(screening: Screening, candidates: Candidates) -> tuple[CheckResult, ...]:
    """Every check over the whole set; a copy score is a function of the pixels, kept by digest.

    Values are rounded: a release does not carry the exact threshold.
    """
    policy, form, rejections = screening.policy, screening.form, screening.rejections
    images, masks = candidates.images, candidates.masks
    faults = [
        fault
        for number, image in enumerate(images)
        if (fault := form.fault(image, None if masks is None else masks[number])) is not None
    ]
    contrast = form.lowest_contrast(images)
    score = max(screening.copy_score(pixels) for pixels in candidates.pixels)
    limit = screening.detector.calibration.limit
    pair = closest_pair(images, memory_mb=screening.memory_mb)
    shape = " x ".join(str(size) for size in form.shape)
    return (
        CheckResult(
            "format",
            not faults,
            round(contrast, 4),
            round(form.least_contrast, 4),
            rejections["format"],
            f"{len(images) - len(faults)} of {len(images)} samples are {shape}, finite, inside the "
            f"window and not blank{'' if masks is None else ', with a mask that is not empty'}; "
            "the value is the lowest standard deviation.",
        ),
        CheckResult(
            "copy",
            score <= limit,
            round(score, 2),
            round(limit, 2),
            rejections["copy"],
            f"The highest copy score is {score:.2f}, the limit {limit:.2f}.",
        ),
        CheckResult(
            "duplicate",
            pair <= policy.duplicate_limit,
            round(pair, 4),
            policy.duplicate_limit,
            rejections["duplicate"],
            f"The two most alike samples correlate by {pair:.3f}, the limit is "
            f"{policy.duplicate_limit:g}.",
        ),
    )


def _released(
    screening: Screening,
    results: tuple[CheckResult, ...],
    candidates: Candidates,
    generator_digest: str,
    patients_known: bool,
    audited: AuditResult | None,
) -> Review:
    policy = screening.policy
    phrase = _calibration_phrase(screening, patients_known)
    decision = ReleaseDecision(
        policy=policy,
        pixels_digest=candidates.digest,
        results=results,
        drawn=screening.drawn,
        accepted=screening.accepted,
        statements=release_statements(
            samples=len(candidates),
            calibration=phrase,
            duplicate_limit=policy.duplicate_limit,
            highest_duplicate=results[2].value,
            accepted=screening.accepted,
            drawn=screening.drawn,
            copies=screening.rejections["copy"],
            patients_known=patients_known,
            masks=candidates.masks is not None,
            audited=audited.statements if audited else (),
        ),
    )
    release = Release(
        pixels=candidates.pixels,
        labels=candidates.labels,
        classes=candidates.classes,
        rescale=candidates.rescale,
        unit=candidates.unit,
        modality=candidates.modality,
        mm_per_pixel=candidates.mm_per_pixel,
        masks=candidates.masks,
        decision=decision,
        generator_digest=generator_digest,
    )
    return Review(
        "released",
        policy,
        decision=decision,
        release=release,
        calibration=screening.detector.calibration,
        calibration_sentence=calibration_sentence(phrase),
        drawn=screening.drawn,
        accepted=screening.accepted,
        rejections=screening.rejections,
        closest=tuple(screening.closest),
        audit=audited,
    )


def _refusal(screening: Screening, reasons: tuple[str, ...], patients_known: bool) -> Review:
    return Review(
        "refused",
        screening.policy,
        reasons,
        calibration=screening.detector.calibration,
        calibration_sentence=calibration_sentence(_calibration_phrase(screening, patients_known)),
        drawn=screening.drawn,
        accepted=screening.accepted,
        rejections=screening.rejections,
        closest=tuple(screening.closest),
    )


def _calibration_phrase(screening: Screening, patients_known: bool) -> str:
    calibration = screening.detector.calibration
    return calibration_phrase(
        patients=calibration.patients,
        bound=calibration.bound,
        wanted=screening.policy.copy_false_rejection,
        patients_known=patients_known,
    )


def _refuse_settings(
    sampler: Sampler, policy: ReleasePolicy, training: PatchSet, audited: bool
) -> None:
    faults = []
    known = (*CHECKS, "audit") if audited else CHECKS
    if policy.mode != "empirical":
        faults.append(Fault("privacy.mode", policy.mode, "empirical"))
    faults += [
        Fault("privacy.checks", f"unknown check '{name}'", ", ".join(known))
        for name in policy.checks
        if name not in known
    ]
    if policy.per_class < 1 or policy.tries < 1:
        faults.append(
            Fault("privacy", f"per_class {policy.per_class}, tries {policy.tries}", "at least 1")
        )
    faults += [
        Fault("generator", f"it draws the class '{label}'", ", ".join(training.classes))
        for label in sampler.classes
        if label not in training.classes
    ]
    if faults:
        raise SettingsError(*faults)


def _refuse_leakage(sampler: Sampler, training: PatchSet, calibration: PatchSet) -> None:
    held_out = set(calibration.patients)
    faults = [
        Fault(
            "privacy gate: calibration",
            f"{shared} of its patients {how}",
            "patients that were not trained on",
            "split by patient and train again",
        )
        for how, shared in (
            ("stand in the training part", len(held_out & set(training.patients))),
            ("were seen by the generator", len(held_out & sampler.record.patients)),
        )
        if shared
    ]
    if faults:
        raise LeakageError(*faults)


def _why_not_begin(
    sampler: Sampler, policy: ReleasePolicy, training: PatchSet, calibration: PatchSet
) -> tuple[str, ...]:
    """Sentences for what rules a release out before anything is drawn."""
    reasons = []
    unseen = len(sampler.record.patients - set(training.patients))
    if unseen:
        reasons.append(
            f"The generator saw {unseen} patients whose patches the gate does not hold: copies of "
            "them could not be found."
        )
    elif sampler.record.patches_digest != training.digest:
        reasons.append(
            "The generator was trained on other patches than those the gate holds: copies of them "
            "could not be found."
        )
    patients = training.patients_per_class()
    least = policy.min_patients_per_class
    reasons += [
        f"Class {label}: {patients[label]} training patients, {least} are needed: "
        f"{least - patients[label]} more."
        for label in sampler.classes
        if patients[label] < least
    ]
    for name, part, fewest in (
        ("training", training, FEWEST_PATIENTS),
        ("calibration", calibration, max(policy.min_calibration_patients, FEWEST_PATIENTS)),
    ):
        count = len(part.patient_order)
        if count < fewest:
            reasons.append(
                f"The {name} part has {count} patients; a copy limit needs {fewest}: "
                f"{fewest - count} more."
            )
    if not (training.patients_known and calibration.patients_known) and not policy.patch_level_only:
        reasons.append(
            "The source names no patients, so patches of one patient may stand in training and "
            "calibration and nothing can be said about patients. If a release marked patch-level "
            "only is meant, set privacy.patch_level_only: true."
        )
    return tuple(reasons)


def _why_not_release(screening: Screening) -> tuple[str, ...]:
    """Sentences for classes of which too little was accepted."""
    turned_away = ", ".join(f"{name} {count}" for name, count in screening.rejections.items())
    least = screening.policy.min_acceptance
    return tuple(
        f"Class {label}: {accepted} of {drawn} candidates accepted, at least {least:.0%} are "
        f"needed (turned away over all classes: {turned_away}). Mend the training: a "
        "generator that copies or repeats itself is not thinned until it passes."
        for label, drawn in screening.drawn.items()
        if (accepted := screening.accepted[label]) == 0 or accepted / drawn < least
    )
