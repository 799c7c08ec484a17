"""The review of a release: reserved in the site's ledger first, and recorded there last.

What is about to be spent is reserved before anything is drawn, and what leaves is committed before
any file of it is written. A run that is killed in between has spent what it reserved.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from medaug.config import PipelineConfig
from medaug.domain import Candidates, HeldOut, PatchSet, PatientSplit, Rescale, Window, digest_of
from medaug.errors import MedaugError
from medaug.progress import Progress
from medaug.road import canaries, private
from medaug.site import ledger_path, open_ledger

if TYPE_CHECKING:
    from medaug.generators.refined import RefinedGenerator
    from medaug.generators.trained import TrainedGenerator
    from medaug.privacy.audit import AuditResult
    from medaug.privacy.comparing import Elsewhere
    from medaug.privacy.ledger import Booking, Earlier, Ledger
    from medaug.privacy.verdict import Finding, Review
    from medaug.privacy.voted import VotedGenerator

    Generator = TrainedGenerator | RefinedGenerator | VotedGenerator


@dataclass(frozen=True, eq=False)
class Recorded:
    """A review and what the ledger holds of it.

    Attributes:
        outcome: of the review.
        anchor: number and hash of the release's entry; None where nothing is released.
        day: when that entry was written (UTC), which is the day of release; None likewise.
        history: the ledger's entries about these patients, for people.
    """

    outcome: Review
    anchor: tuple[int, str] | None
    day: date | None
    history: list[dict[str, Any]]


def review_and_record(
    config: PipelineConfig,
    generator: Generator,
    patches: PatchSet,
    split: PatientSplit | None,
    folder: Path,
    progress: Progress,
    beside: Sequence[Finding] = (),
    workers: Elsewhere | None = None,
) -> Recorded:
    """Reserve, review, and commit or abort.

    Args:
        config: the study.
        generator: as it was trained.
        patches: of the whole cohort; with differential privacy only unit, modality and shape are
            read.
        split: of the patients; not read with differential privacy.
        folder: of the generator.
        progress: who is told.
        beside: findings about the generator that were made before; see `gate.review`.
        workers: do the copy check; see `gate.review`.

    Raises:
        DisclosureError: if the ledger does not verify or forbids the run.
        LeakageError: if patients who calibrate or judge were trained on.
    """
    ledger = open_ledger(config.ledger, config.site_key)
    look: Callable[[Earlier], Review]
    if config.privacy.mode == "empirical":
        assert split is not None  # only differential privacy does without
        parts = (
            split.part(patches, "training"),
            split.part(patches, "tuning"),
            split.part(patches, "test"),
        )
        booking, cap = _booking(config, generator, patches, parts), None
        # The settings let votes stand with differential privacy alone.
        trained = cast("TrainedGenerator | RefinedGenerator", generator)
        look = partial(
            _held_against,
            config,
            trained,
            parts,
            progress=progress,
            beside=beside,
            workers=workers,
        )
    else:
        booking, cap = private.booking(config, generator, folder), private.cap(config)

        def look(_: Earlier) -> Review:
            return private.review(config, generator, patches, folder, progress)

    ledger.train(booking.dataset, booking.patients, generator.record.weights_digest)
    earlier = ledger.reserve(booking, cap)
    try:
        outcome = look(earlier)
    except MedaugError as error:
        ledger.abort(booking.run, [type(error).__name__])
        raise
    anchor = _record(ledger, booking, outcome, config.name)
    day = None if anchor is None else _day(ledger, anchor[0])
    return Recorded(outcome, anchor, day, ledger.history(booking.patients))


def foresee_refusal(config: PipelineConfig, patches: PatchSet) -> None:
    """Before hours of training: what the ledger is sure to refuse after them.

    Raises:
        DisclosureError: if no further run over these patients may be audited, or the audit
            would be left out after one that failed; or if the ledger does not verify.
    """
    from medaug.privacy.ledger import Booking

    tokens = frozenset(key.token for key in patches.patient_order)
    if config.privacy.mode != "empirical" or not tokens:
        return
    if not ledger_path(config.ledger, config.site_key).exists():
        return
    booking = Booking(
        run="",
        dataset="",
        patients=tokens,
        attempt=_attempt(config, patches),
        mode=config.privacy.mode,
        wanted={},
        cohort=tokens,
        audited=config.privacy.audited,
    )
    open_ledger(config.ledger, config.site_key).foresee(booking)


def _attempt(config: PipelineConfig, patches: PatchSet) -> str:
    """What is tried: the patches of the cohort, and the settings that decide."""
    settings = config.resolved()
    chosen = [settings["cohort"], settings["generator"], config.privacy.decisive()]
    return digest_of(patches.digest, chosen)


def _booking(
    config: PipelineConfig, generator: Generator, patches: PatchSet, parts: tuple[PatchSet, ...]
) -> Booking:
    """What the release is about to spend, known by all that determines it."""
    from medaug.privacy.ledger import Booking

    training, policy = parts[0], config.privacy.policy()
    generating = config.resolved()["generator"]
    # How it was trained stands in the weights: a checkpoint more or less is no other run.
    drawn = {key: generating.get(key) for key in ("window", "render")}
    digests = [generator.record.weights_digest, *(part.digest for part in parts)]
    return Booking(
        run=digest_of(digests, drawn, config.privacy.decisive(), config.seed),
        dataset=training.digest,
        patients=frozenset(key.token for key in training.patient_order),
        attempt=_attempt(config, patches),
        mode=config.privacy.mode,
        wanted={label: policy.quota(label) for label in generator.classes if policy.quota(label)},
        cohort=frozenset(key.token for key in patches.patient_order),
        audited=config.privacy.audited,
    )


def _held_against(
    config: PipelineConfig,
    generator: TrainedGenerator | RefinedGenerator,
    parts: tuple[PatchSet, PatchSet, PatchSet],
    earlier: Earlier,
    *,
    progress: Progress,
    beside: Sequence[Finding],
    workers: Elsewhere | None,
) -> Review:
    """Hold the samples against training data and what has left before; audit the survivors."""
    from medaug.privacy.audit import audit
    from medaug.privacy.gate import review

    training, tuning, test = parts
    if config.privacy.audited:
        HeldOut(test, lineage=(generator.record,))  # raises for patients who were trained on

    def audited(survivors: Candidates) -> AuditResult:
        memory = config.privacy.memory_mb
        return audit(
            survivors.images, training, test, config.seed, reference=tuning, memory_mb=memory
        )

    window = Window(*config.generator.window)
    pictures = earlier.pictures[:, None].astype(np.float32)
    planted, sampler = canaries.watch_and_sampler(config, training, generator, progress)
    return review(
        sampler,
        config.privacy.policy(),
        training=training,
        calibration=tuning,
        rescale=Rescale.of(generator.unit, window),
        window=window,
        mm_per_pixel=generator.mm_per_pixel,
        seed=config.seed,
        memory_mb=config.privacy.memory_mb,
        progress=progress,
        earlier=[pictures] if len(pictures) else [],
        released_before=earlier.counts,
        audit=audited if config.privacy.audited else None,
        canaries=planted,
        beside=beside,
        workers=workers,
    )


def _record(ledger: Ledger, booking: Booking, outcome: Review, name: str) -> tuple[int, str] | None:
    """What was found, then what leaves or why nothing does."""
    from medaug.privacy.ledger import pictures_of

    if outcome.audit is not None:
        # As the ledger reads it back: a repeated run adds no second entry.
        ledger.audit(booking.run, json.loads(json.dumps(outcome.audit.document())))
    release = outcome.release
    if release is None:
        ledger.abort(booking.run, outcome.reasons)
        return None
    pictures = pictures_of(release.images)
    place = ledger.commit(booking.run, release.digest, release.per_class(), pictures, name)
    return place.entry, place.head


def _day(ledger: Ledger, number: int) -> date:
    """Of the ledger and not of the clock: a release that is written again keeps its day."""
    (at,) = [entry.body["at"] for entry in ledger.entries() if entry.seq == number]
    return date.fromisoformat(at[:10])
