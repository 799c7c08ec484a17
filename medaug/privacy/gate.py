"""The gate: candidates go in, a `Release` or reasons come out.

Candidates are drawn class by class from fresh seeds, stored as the 16-bit integers that would
leave, and held against the rules in order:

1. format: shape, NaN, range, a dead picture, an empty mask (`format`)
   canary: where simulated patients were trained on, like one of them (`canaries`)
2. copy: a training patch, however turned and altered (`copies`); where masks are drawn, also
   outline: the outline of a training lesion under whatever image (`outlines`)
3. near: nearer to a training patient than real patients are (`neighbours`)
4. single_support: near one training patient and no other (`neighbours`)
5. duplicate: the same picture as another of this release or of an earlier one (`duplicates`)
6. cap: one training patient is nearest to too many samples
7. quality: absent. It would need a discriminator that never saw a patient without noise
8. quota: so many samples per training patient, over all releases

What is turned away is replaced by new seeds until the quota is met or the tries are used up. Then
every rule is held against the whole set once more (`final`), an audit may look at the survivors,
and the set is shuffled; only then does it become a `Release`. Acceptance is told per class and
size.

A refusal is a valid outcome, not an error: it comes back as a `Review` with reasons. Errors
are raised for what nobody may decide on: parts that share patients, settings that make no sense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medaug.domain import (
    Candidates,
    CheckResult,
    PatchSet,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Sampler,
    TrainingRecord,
    Window,
)
from medaug.privacy.canaries import CanaryWatch
from medaug.privacy.claims import calibration_phrase, calibration_sentence, release_statements
from medaug.privacy.comparing import Elsewhere
from medaug.privacy.copies import CopyDetector
from medaug.privacy.final import checked_again
from medaug.privacy.format import Format
from medaug.privacy.lineage import lineage_statements
from medaug.privacy.memory import MEMORY_MB
from medaug.privacy.neighbours import Neighbours
from medaug.privacy.outlines import Outlines
from medaug.privacy.refusals import (
    refuse_leakage,
    refuse_settings,
    why_ask,
    why_not_begin,
    why_not_release,
    why_spent,
)
from medaug.privacy.screening import Against, Screening, allowed_of, cap_of
from medaug.privacy.sizes import Sizes
from medaug.privacy.verdict import CANARY, Finding, Review
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
    memory_mb: int = MEMORY_MB,
    progress: Progress | None = None,
    earlier: Sequence[NDArray[np.float32]] = (),
    released_before: Mapping[str, int] | None = None,
    audit: Callable[[Candidates], Finding] | None = None,
    canaries: CanaryWatch | None = None,
    beside: Sequence[Finding] = (),
    workers: Elsewhere | None = None,
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
        memory_mb: working memory, prepared training patches included; what passed comes on top.
        progress: told of every patch compared and every candidate accepted.
        earlier: images of earlier releases, (sample, channel, row, column) each, in the same unit.
        released_before: samples of each class in earlier releases from these patients.
        audit: looks at the survivors in the end, and "audit" joins the checks of the policy. A
            finding refuses the whole release; nothing is taken away until it passes.
        canaries: looks at every candidate, where simulated patients were trained on besides
            ``training``, and "canary" joins the checks. If they are remembered, the release is
            refused.
        beside: findings about the generator that were made before. Their checks join those of the
            policy, and one that did not pass refuses the release before anything is drawn.
        workers: do the copy check, see `comparing`; the result is the same.

    Raises:
        LeakageError: if training and calibration share a patient, or the generator saw one
            of the calibration patients.
        SettingsError: for an unknown mode or check, or a class without training patches.
        CohortError: if no limit can be set on these patches.
    """
    refuse_settings(sampler, policy, training)
    refuse_leakage(sampler, training, calibration)
    policy = replace(policy, checks=(*policy.checks, *_promised(audit, canaries, beside)))
    allowed = allowed_of(policy, training, released_before or {})
    reasons = why_not_begin(sampler, policy, training, calibration)
    reasons += why_spent(policy, allowed, training)
    reasons += tuple(reason for one in beside for reason in one.reasons)
    if reasons:
        return Review("refused", policy, reasons, beside=tuple(beside))
    ticker = progress or Silent()
    limits = _Limits(allowed, memory_mb, workers)
    against = _against(sampler, policy, training, calibration, rescale, window, limits, ticker)
    against = replace(against, earlier=earlier, canaries=canaries, beside=tuple(beside))
    screening = Screening(policy, rescale, against)
    known = training.patients_known and calibration.patients_known
    reasons = why_ask(policy, against.detector.calibration, known)
    if reasons := reasons or _draw(screening, sampler, seed, ticker):
        return _refusal(screening, reasons, known)
    candidates = _gathered(screening, sampler, training, mm_per_pixel)
    results, reasons, found = _whole(screening, candidates, audit)
    if reasons:
        return _refusal(screening, reasons, known, found)
    # The order must not tell what was drawn first.
    order = np.random.default_rng(np.random.SeedSequence([seed, len(sampler.classes)]))
    shuffled = candidates.select(order.permutation(len(candidates)))
    return _released(screening, results, shuffled, sampler.record, known, found)


def _promised(
    audit: Callable[[Candidates], Finding] | None,
    canaries: CanaryWatch | None,
    beside: Sequence[Finding],
) -> tuple[str, ...]:
    """Checks beside those of the policy: a release must show that what was promised was run."""
    promised = {"audit": audit is not None, CANARY: canaries is not None}
    return (*(one for one in promised if promised[one]), *(one.check.name for one in beside))


def _draw(screening: Screening, sampler: Sampler, seed: int, progress: Progress) -> tuple[str, ...]:
    """Screen candidates of every class; returns why what passed may not leave."""
    policy = screening.policy
    for index, label in enumerate(sampler.classes):
        if quota := policy.quota(label):
            progress.start(f"reviewing {label}", quota)
            screening.draw(sampler, index, _fresh_seeds(seed, index), progress)
    screening.keep_to_cap(sampler.classes)
    reasons = why_not_release(policy, screening.drawn, screening.accepted, screening.rejections)
    return screening.remembered + reasons


def _whole(
    screening: Screening,
    candidates: Candidates,
    audit: Callable[[Candidates], Finding] | None,
) -> tuple[tuple[CheckResult, ...], tuple[str, ...], Finding | None]:
    """Results of every rule over the whole set and of the audit; what failed; what was found."""
    beside = screening.against.beside
    results = (*checked_again(screening, candidates), *(one.check for one in beside))
    failed = tuple(result.detail for result in results if not result.passed)
    if failed or audit is None:
        return results, failed, None
    screening.let_go()  # the audit has views of its own
    found = audit(candidates)
    return (*results, found.check), found.reasons, found


@dataclass(frozen=True, eq=False)
class _Limits:
    """What may be spent: samples of each class, and memory; and who compares."""

    allowed: Mapping[str, int]
    memory_mb: int
    workers: Elsewhere | None


def _against(
    sampler: Sampler,
    policy: ReleasePolicy,
    training: PatchSet,
    calibration: PatchSet,
    rescale: Rescale,
    window: Window,
    limits: _Limits,
    progress: Progress,
) -> Against:
    """Fit everything that candidates are held against."""
    detector = CopyDetector.fit(
        training,
        calibration,
        false_rejection=policy.copy_false_rejection,
        memory_mb=limits.memory_mb,
        progress=progress,
        workers=limits.workers,
    )
    neighbours = Neighbours.fit(training, calibration, policy.near_share)
    wanted = sum(min(policy.quota(label), limits.allowed[label]) for label in sampler.classes)
    return Against(
        form=Format.of(training, window, rescale.slope),
        detector=detector,
        outlines=Outlines.fit(training, calibration, policy.copy_false_rejection),
        neighbours=neighbours,
        sizes=Sizes.of(training),
        allowed=limits.allowed,
        cap=cap_of(policy, neighbours, wanted),
    )


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
    # A class that is not to be released is no class of the release.
    classes = tuple(screening.drawn)
    index = [classes.index(sampler.classes[one.label]) for one in passed]
    return Candidates(
        pixels=np.stack([one.pixels for one in passed]),
        labels=np.array(index, dtype=np.int64),
        classes=classes,
        rescale=screening.rescale,
        unit=training.unit,
        modality=training.modality,
        mm_per_pixel=mm_per_pixel,
        seeds=np.array([one.seed for one in passed], dtype=np.int64),
        masks=np.stack(masks) if masks else None,
    )


def _released(
    screening: Screening,
    results: tuple[CheckResult, ...],
    candidates: Candidates,
    record: TrainingRecord,
    patients_known: bool,
    found: Finding | None,
) -> Review:
    policy = screening.policy
    phrase = _calibration_phrase(screening, patients_known)
    decision = ReleaseDecision(
        policy=policy,
        pixels_digest=candidates.digest,
        results=results,
        drawn=screening.drawn,
        accepted=screening.accepted,
        statements=(
            *release_statements(
                samples=len(candidates),
                calibration=phrase,
                duplicate_limit=policy.duplicate_limit,
                highest_duplicate=next(at.value for at in results if at.name == "duplicate"),
                accepted=screening.accepted,
                drawn=screening.drawn,
                copies=screening.rejections["copy"],
                patients_known=patients_known,
                masks=candidates.masks is not None,
                outlines=screening.against.outlines is not None,
                withheld=screening.rejections["near"] + screening.rejections["single_support"],
                audited=found is not None,
            ),
            *(found.statements if found is not None else ()),
            *screening.said_besides,
            *lineage_statements(record),
        ),
    )
    release = Release.of(candidates, decision, record.weights_digest)
    return Review(
        "released",
        policy,
        decision=decision,
        release=release,
        calibration=screening.against.detector.calibration,
        calibration_sentence=calibration_sentence(phrase),
        drawn=screening.drawn,
        accepted=screening.accepted,
        rejections=screening.rejections,
        closest=tuple(screening.closest),
        sizes=screening.sizes,
        audit=found,
        canaries=screening.canaries,
        beside=screening.against.beside,
    )


def _refusal(
    screening: Screening,
    reasons: tuple[str, ...],
    patients_known: bool,
    found: Finding | None = None,
) -> Review:
    return Review(
        "refused",
        screening.policy,
        reasons,
        calibration=screening.against.detector.calibration,
        calibration_sentence=calibration_sentence(_calibration_phrase(screening, patients_known)),
        drawn=screening.drawn,
        accepted=screening.accepted,
        rejections=screening.rejections,
        closest=tuple(screening.closest),
        sizes=screening.sizes,
        audit=found,
        canaries=screening.canaries,
        beside=screening.against.beside,
    )


def _calibration_phrase(screening: Screening, patients_known: bool) -> str:
    calibration = screening.against.detector.calibration
    return calibration_phrase(
        patients=calibration.patients,
        bound=calibration.bound,
        wanted=screening.policy.copy_false_rejection,
        patients_known=patients_known,
    )
