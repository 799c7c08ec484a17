"""One round of each measurement of `medaug.bench.audit`; a round follows from its number alone.

Rounds return what JSON can hold, so that what was measured is kept and never measured twice.
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from medaug.bench.lesions import CLASSES, WINDOW, HonestPhantom, Images, dealt, rendered
from medaug.domain import Candidates, PatchSet, ReleasePolicy, Rescale, TrainingRecord, Unit
from medaug.privacy.audit import AuditResult, audit
from medaug.privacy.canaries import POOL, choose_canaries, exposure
from medaug.privacy.one_run import epsilon_bound, guess
from medaug.privacy.twins import audit_twins, deal_twins
from medaug.progress import Progress

LESIONS = 2000
SAMPLES = 150  # in each release
DEALS = 1999  # enough for a p-value of 0.01; the gate takes more
SHIFTS = (0.0, 0.25, 0.5)
OVERFIT_IMAGES = 24_000


class Bench:
    """What rounds share: rendered lesions, made when they are first asked for.

    Attributes:
        folder: takes the generator that is trained.
        progress: told of what takes long within a round.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress

    @cached_property
    def lesions(self) -> PatchSet:
        """Two thousand patients of one lesion each."""
        self.progress.start("rendering lesions", LESIONS)
        return rendered(range(LESIONS), progress=self.progress)


def audited(bench: Bench, run: int, leaked: int, stream: int) -> float:
    """The p-value of an audit with copies of so many of 50 members among 150 samples (P3, P4)."""
    rng = np.random.default_rng([stream, run])
    members, others, reference, fresh = dealt(bench.lesions, (50, 50, 50, SAMPLES), rng)
    images = fresh.images.copy()
    images[:leaked] = members.images[:leaked]
    images = images[rng.permutation(len(images))]
    return audit(images, members, others, run, reference=reference, deals=DEALS, rounds=0).p


def memoriser(bench: Bench, run: int) -> dict[str, Any]:
    """A generator that repeats its 50 patients, and one that repeats its canaries (P5)."""
    rng = np.random.default_rng([5, run])
    members, others, reference = dealt(bench.lesions, (50, 50, 50), rng)
    images = members.images[rng.integers(0, 50, 300)]
    found = audit(images, members, others, run, reference=reference, deals=DEALS, rounds=0)
    there, chosen = bench.lesions.images[:POOL], choose_canaries(12, run)
    canaries = exposure(there[chosen], there, chosen)
    return {
        "auc": found.auc,
        "p": found.p,
        "refused": not found.passed,
        "bits": float(canaries.bits.min()),
        "removed": float(canaries.canary_like.mean()),
        "found": canaries.found,
    }


def canaries(bench: Bench, run: int) -> dict[str, Any]:
    """Twelve canaries: nothing remembered, and four repeated once."""
    there, samples = bench.lesions.images[:POOL], bench.lesions.images[POOL:]
    chosen = choose_canaries(12, run)
    drawn = samples[np.random.default_rng([6, run]).permutation(len(samples))[:100]]
    silent = exposure(drawn, there, chosen)
    leaking = exposure(np.concatenate([drawn, there[chosen[:4]]]), there, chosen)
    lost = float(silent.canary_like.mean())
    return {"silent": silent.p, "lost": lost, "four": leaking.p}


def twins(_: Bench, run: int) -> list[float]:
    """p-values for `SHIFTS`. Scores are simulated: a patient's own level, noise, and a shift."""
    halves, found = deal_twins(50, 12, run), []
    for shift in SHIFTS:
        rng = np.random.default_rng([7, run])
        scores = rng.normal(0, 2, 50) + rng.normal(size=halves.shape) + shift * halves
        found.append(audit_twins(scores, halves, run, deals=999).p)
    return found


def one_run(_: Bench, run: int) -> float:
    """The bound where ε = 1 is true: randomised response, the plainest such mechanism."""
    rng = np.random.default_rng([8, run])
    coins = rng.random(100) < 0.5
    told = np.where(rng.random(100) < 1 / (1 + np.exp(-1)), coins, ~coins)
    guesses, right = guess(told + rng.random(100) * 0.5, coins)
    return epsilon_bound(100, guesses, right).epsilon


def overfit(bench: Bench, run: int) -> dict[str, Any]:
    """A DCGAN on 25 patients of four slices, trained until it knows them (P6)."""
    from medaug.generators.settings import GeneratorSettings
    from medaug.generators.training import train_generator
    from medaug.privacy.copies import CopyDetector

    members, others = rendered(range(25), 4), rendered(range(10_000, 10_025), 4)
    reference = rendered(range(20_000, 20_025), 4)
    settings = GeneratorSettings(
        preset="radford-2015",
        window=(WINDOW.low, WINDOW.high),
        batch=32,
        images=OVERFIT_IMAGES,
        min_patients=10,
    )
    generator = train_generator(members, settings, run, bench.folder / "overfit", bench.progress)
    images = np.concatenate([generator.sample(label, range(150)) for label in CLASSES])
    images = images[np.random.default_rng(9).permutation(len(images))]
    found = audit(images, members, others, 9, reference=reference)
    detector = CopyDetector.fit(members, reference)
    return {
        "low": max(one.auc for one in found.channels if one.name.startswith("low")),
        "pixels": _pixel_auc(images, members, others),
        "p": found.p,
        "refused": not found.passed,
        "samples": len(images),
        "copies": int((detector.scores(images).scores > detector.calibration.limit).sum()),
    }


def phantom(_: Bench, run: int) -> list[str]:
    """Why the gate and the audit turn fresh phantom lesions away; empty where they do not (P7)."""
    from medaug.privacy.gate import review

    first = 10**6 * (run + 1)
    parts = [
        rendered(range(first + at, first + at + n)) for at, n in ((0, 42), (1000, 20), (2000, 20))
    ]
    for part in parts:
        part.images.clip(WINDOW.low, WINDOW.high, out=part.images)
    training, calibration, test = parts
    record = TrainingRecord(frozenset(training.patients), training.digest, "0" * 64, {}, run, 0)

    def at_the_end(survivors: Candidates) -> AuditResult:
        return audit(survivors.images, training, test, run, reference=calibration, rounds=20)

    verdict = review(
        HonestPhantom(record),
        ReleasePolicy(per_class=12),
        training=training,
        calibration=calibration,
        rescale=Rescale.of(Unit.HOUNSFIELD, WINDOW),
        window=WINDOW,
        mm_per_pixel=1.0,
        seed=run,
        audit=at_the_end,
    )
    return list(verdict.reasons)


def _pixel_auc(images: Images, members: PatchSet, others: PatchSet) -> float:
    from medaug.privacy.permutation import auc

    flat = images.reshape(len(images), -1)
    scores = []
    for part in (members, others):
        far = np.array([np.square(flat - one.ravel()).sum(axis=1).min() for one in part.images])
        nearest = np.full(len(part.patient_order), np.inf)
        np.minimum.at(nearest, part.patient_index, far)
        scores.append(-nearest)
    member = np.arange(sum(map(len, scores))) < len(scores[0])
    return auc(np.concatenate(scores), member)


NULL = partial(audited, leaked=0, stream=3)
