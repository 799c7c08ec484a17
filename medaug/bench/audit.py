"""What audits find and what they miss, on phantom lesions and with fixed seeds.

``medaug bench audit --out DIR`` writes ``audit.csv`` (a row for each figure: what came, what must
hold), ``audit_power.csv`` and ``audit.png``. The figures:

- P3 nothing leaked: how often p ≤ 0.05, over 200 releases; the same for twins and canaries;
- P4 power: exact copies of 0 to 12 of 50 members among 150 samples;
- P5 a generator that repeats its training patches; canaries that are repeated;
- P6 a DCGAN overfitted on 25 patients;
- P7 the phantom itself as the generator, through the whole gate.

With ``--quick`` fewer rounds and no P6 and P7: the shares are then coarse.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medaug.atomic import replacing
from medaug.domain import (
    Candidates,
    Drawn,
    PatchLocation,
    PatchSet,
    PatientKey,
    ReleasePolicy,
    Rescale,
    TrainingRecord,
    Unit,
    Window,
)
from medaug.phantom import lesion_renderer
from medaug.privacy.audit import AuditResult, audit
from medaug.privacy.canaries import choose_canaries, exposure
from medaug.privacy.one_run import epsilon_bound, guess
from medaug.privacy.twins import audit_twins, deal_twins
from medaug.progress import Progress

CLASSES = ("cyst", "metastasis")
WINDOW = Window(-100.0, 250.0)
LEAKED = (0, 1, 3, 5, 8, 12)
POOL = 4000
SAMPLES = 150  # in each release
DEALS = 1999  # enough for a p-value of 0.01; the gate takes more
_Images = NDArray[np.float32]

_RENDER = lesion_renderer({name: name for name in CLASSES}, "CT", Unit.HOUNSFIELD, (1, 64, 64), 1.0)


@dataclass(frozen=True)
class Figure:
    """One line of ``audit.csv``."""

    name: str
    what: str
    came: str
    wanted: str
    holds: bool | None


@dataclass(eq=False)
class Findings:
    """What was measured so far."""

    figures: list[Figure] = field(default_factory=list)
    null: list[float] = field(default_factory=list)
    power: list[tuple[int, float, float]] = field(default_factory=list)

    def add(self, name: str, what: str, came: str, wanted: str, holds: bool | None) -> None:
        """One more line."""
        self.figures.append(Figure(name, what, came, wanted, holds))


def bench_audit(out: Path, progress: Progress, *, quick: bool = False) -> tuple[Figure, ...]:
    """Measure, and write CSV and plot into ``out``.

    Args:
        out: a folder; made if need be.
        progress: told of every round.
        quick: a tenth of the rounds, without P6 and P7.
    """
    out.mkdir(parents=True, exist_ok=True)
    findings = Findings()
    pool = _pool(POOL // (2 if quick else 1), progress)
    _null(findings, pool, 20 if quick else 200, progress)
    _power(findings, pool, 10 if quick else 50, progress)
    _memoriser(findings, pool)
    _canaries(findings, pool, 20 if quick else 200, progress)
    _twins(findings, 20 if quick else 200, progress)
    _one_run(findings, 100 if quick else 1000)
    if not quick:
        _overfit(findings, out / "overfit", progress)
        _phantom_as_generator(findings, 100, progress)
    _write(out, findings)
    return tuple(findings.figures)


def rendered(numbers: Sequence[int], slices: int = 1) -> PatchSet:
    """Patients with one lesion each; further slices are shifted by up to 1 px, with noise."""
    images, labels, keys = [], [], []
    for number in numbers:
        label = int(number) % len(CLASSES)
        plain = _RENDER(CLASSES[label], [int(number)])[0][0, 0]
        for at in range(slices):
            rng = np.random.default_rng([int(number), at])
            rows, columns = rng.integers(-1, 2, 2) * (at > 0)
            moved = np.roll(plain, (int(rows), int(columns)), (0, 1))
            images.append(moved[None] + (at > 0) * rng.normal(0, 8, (1, 64, 64)))
            labels.append(label)
            keys.append(int(number))
    return patch_set(np.array(images, np.float32), labels, keys)


def patch_set(images: _Images, labels: Sequence[int], numbers: Sequence[int]) -> PatchSet:
    """A `PatchSet` of numbered patients."""
    return PatchSet(
        images=images,
        masks=None,
        labels=np.asarray(labels, np.int64),
        classes=CLASSES,
        patients=tuple(PatientKey(f"{number:032x}") for number in numbers),
        locations=tuple(
            PatchLocation(f"case{row}", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 1.0)
            for row in range(len(images))
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


def _pool(count: int, progress: Progress) -> PatchSet:
    progress.start("rendering lesions", count)
    images = np.empty((count, 1, 64, 64), np.float32)
    for number in range(count):
        images[number] = _RENDER(CLASSES[number % 2], [number])[0][0]
        progress.advance()
    return patch_set(images, [number % 2 for number in range(count)], range(count))


def _dealt(pool: PatchSet, sizes: Sequence[int], rng: np.random.Generator) -> list[PatchSet]:
    """Disjoint random parts of the pool."""
    order = rng.permutation(len(pool))
    ends = np.cumsum(sizes)
    return [pool.select(order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _share(hits: Sequence[bool] | NDArray[np.bool_]) -> str:
    return f"{np.mean(hits):.1%} of {len(hits)}"


def _null(findings: Findings, pool: PatchSet, runs: int, progress: Progress) -> None:
    progress.start("P3: audits of honest releases", runs)
    for run in range(runs):
        rng = np.random.default_rng([3, run])
        members, others, reference, fresh = _dealt(pool, (50, 50, 50, SAMPLES), rng)
        found = audit(
            fresh.images, members, others, run, reference=reference, deals=DEALS, rounds=0
        )
        findings.null.append(found.p)
        progress.advance()
    p = np.array(findings.null)
    share = float(np.mean(p <= 0.05))
    findings.add("P3", "null audit, p ≤ 0.05", _share(p <= 0.05), "2-8.5 %", 0.02 <= share <= 0.085)
    findings.add("P3", "null audit, refused (p < 0.01)", _share(p < 0.01), "about 1 %", None)


def _power(findings: Findings, pool: PatchSet, runs: int, progress: Progress) -> None:
    progress.start("P4: leaked copies", runs * len(LEAKED))
    for leaked in LEAKED:
        p = np.empty(runs)
        for run in range(runs):
            rng = np.random.default_rng([4, run])
            members, others, reference, fresh = _dealt(pool, (50, 50, 50, SAMPLES), rng)
            images = fresh.images.copy()
            images[:leaked] = members.images[:leaked]
            images = images[rng.permutation(len(images))]
            p[run] = audit(
                images, members, others, run, reference=reference, deals=DEALS, rounds=0
            ).p
            progress.advance()
        findings.power.append((leaked, float(np.mean(p <= 0.05)), float(np.mean(p < 0.01))))
        if leaked == 8:
            share = float(np.mean(p <= 0.05))
            findings.add(
                "P4", "n = 50, 8 leaked copies, p ≤ 0.05", _share(p <= 0.05), "≥ 90 %", share >= 0.9
            )
            findings.add("P4", "the same, refused (p < 0.01)", _share(p < 0.01), "printed", None)


def _memoriser(findings: Findings, pool: PatchSet) -> None:
    rng = np.random.default_rng(5)
    members, others, reference = _dealt(pool, (50, 50, 50), rng)
    images = members.images[rng.integers(0, 50, 300)]
    found = audit(images, members, others, 5, reference=reference, deals=DEALS, rounds=0)
    findings.add("P5", "memoriser: highest AUC", f"{found.auc:.3f}", "≥ 0.99", found.auc >= 0.99)
    findings.add("P5", "memoriser: p", f"{found.p:.4f}", "refused", not found.passed)


def _canaries(findings: Findings, pool: PatchSet, runs: int, progress: Progress) -> None:
    progress.start("canaries", runs)
    there, samples = pool.images[:1000], pool.images[1000:]
    silent, some = [], []
    for run in range(runs):
        rng = np.random.default_rng([6, run])
        chosen = choose_canaries(12, run)
        drawn = samples[rng.permutation(len(samples))[:200]]
        silent.append(exposure(drawn, there, chosen).p < 0.05)
        leaking = np.concatenate([drawn, there[chosen[:4]]])
        some.append(exposure(leaking, there, chosen).found)
        progress.advance()
    everyone = exposure(there[chosen], there, chosen)
    findings.add(
        "P5",
        "memorised canaries: exposure in bits, lowest of 12",
        f"{everyone.bits.min():.2f}",
        "10 (ceiling 9.95)",
        everyone.bits.min() >= 9.9,
    )
    findings.add(
        "P5",
        "memorised canaries: samples removed",
        f"{everyone.canary_like.mean():.0%}",
        "100 %",
        bool(everyone.canary_like.all()),
    )
    findings.add("canaries", "none remembered, p < 0.05", _share(silent), "about 5 %", None)
    findings.add(
        "canaries", "4 of 12 repeated once, found (p < 0.01)", _share(some), "printed", None
    )


def _twins(findings: Findings, runs: int, progress: Progress) -> None:
    """Scores of twins are simulated: a patient's own level, noise, and a shift for members."""
    progress.start("twins", 3 * runs)
    for shift in (0.0, 0.25, 0.5):
        p = []
        for run in range(runs):
            rng = np.random.default_rng([7, run])
            halves = deal_twins(50, 12, run)
            scores = rng.normal(0, 2, 50) + rng.normal(size=halves.shape) + shift * halves
            p.append(audit_twins(scores, halves, run, deals=999).p <= 0.05)
            progress.advance()
        what = f"12 twins, n = 50, members {shift:g} spreads higher: p ≤ 0.05"
        findings.add("twins", what, _share(p), "about 5 %" if shift == 0 else "printed", None)


def _one_run(findings: Findings, runs: int) -> None:
    for examples in (50, 100, 200):
        top = epsilon_bound(examples, examples, examples)
        wanted = {50: 2.78, 100: 3.49, 200: 4.19}[examples]
        findings.add(
            "one run",
            f"ceiling at m = {examples}",
            f"{top.epsilon:.2f}",
            f"{wanted}",
            round(top.epsilon, 2) == wanted,
        )
    above = []
    for run in range(runs):
        rng = np.random.default_rng([8, run])
        coins = rng.random(100) < 0.5
        # Randomised response at ε = 1: the plainest mechanism that is exactly (1, 0)-private.
        told = np.where(rng.random(100) < 1 / (1 + np.exp(-1)), coins, ~coins)
        scores = told + rng.random(100) * 0.5
        guesses, right = guess(scores, coins)
        above.append(epsilon_bound(100, guesses, right).epsilon > 1)
    findings.add(
        "one run",
        "bound above the true ε = 1 (m = 100)",
        _share(above),
        "≤ 5 %",
        float(np.mean(above)) <= 0.065,
    )


def _overfit(findings: Findings, folder: Path, progress: Progress) -> None:
    from medaug.generators.settings import GeneratorSettings
    from medaug.generators.training import train_generator

    members, others = rendered(range(25), 4), rendered(range(10_000, 10_025), 4)
    reference = rendered(range(20_000, 20_025), 4)
    settings = GeneratorSettings(
        preset="radford-2015", window=(WINDOW.low, WINDOW.high), batch=32, images=96_000
    )
    generator = train_generator(members, settings, 0, folder, progress)
    images = np.concatenate([generator.sample(label, range(150)) for label in CLASSES])
    images = images[np.random.default_rng(9).permutation(len(images))]
    report_overfit(findings, images, members, others, reference)


def report_overfit(
    findings: Findings, images: _Images, members: PatchSet, others: PatchSet, reference: PatchSet
) -> AuditResult:
    """P6: what the audit, pixel distance and the copy check say of an overfitted generator."""
    from medaug.privacy.copies import CopyDetector

    found = audit(images, members, others, 9, reference=reference)
    low = max(one.auc for one in found.channels if one.name.startswith("low"))
    pixels = _pixel_auc(images, members, others)
    detector = CopyDetector.fit(members, reference)
    copies = int((detector.scores(images).scores > detector.calibration.limit).sum())
    findings.add("P6", "DCGAN on 25 patients: low-pass AUC", f"{low:.2f}", "≥ 0.75", low >= 0.75)
    findings.add("P6", "pixel L2 AUC", f"{pixels:.2f}", "0.1 below", low - pixels >= 0.1)
    findings.add("P6", "p", f"{found.p:.4f}", "refused", not found.passed)
    findings.add("P6", "copies found", f"{copies} of {len(images)}", "0", copies == 0)
    return found


def _pixel_auc(images: _Images, members: PatchSet, others: PatchSet) -> float:
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


@dataclass(frozen=True)
class _Phantom:
    """The phantom as a `Sampler`: fresh lesions, nothing learnt."""

    record: TrainingRecord
    classes: tuple[str, ...] = CLASSES

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        """One lesion of each seed, within the window."""
        return Drawn(_RENDER(label, seeds)[0].clip(WINDOW.low, WINDOW.high))


def _phantom_as_generator(findings: Findings, runs: int, progress: Progress) -> None:
    from medaug.privacy.gate import review

    progress.start("P7: the phantom as generator", runs)
    released: list[bool] = []
    reasons: list[str] = []
    for run in range(runs):
        first = 10**6 * (run + 1)
        parts = [
            rendered(range(first + at, first + at + n))
            for at, n in ((0, 46), (1000, 22), (2000, 22))
        ]
        for part in parts:
            part.images.clip(WINDOW.low, WINDOW.high, out=part.images)
        training, calibration, _ = parts
        record = TrainingRecord(frozenset(training.patients), training.digest, "0" * 64, {}, run, 0)
        verdict = review(
            _Phantom(record),
            ReleasePolicy(per_class=25),
            training=training,
            calibration=calibration,
            rescale=Rescale.of(Unit.HOUNSFIELD, WINDOW),
            window=WINDOW,
            mm_per_pixel=1.0,
            seed=run,
            audit=partial(_audited, parts, run),
        )
        released.append(verdict.outcome == "released")
        reasons += verdict.reasons
        progress.advance()
    findings.add(
        "P7",
        "phantom released by the gate",
        _share(released),
        "≥ 95 %",
        float(np.mean(released)) >= 0.95,
    )
    for reason in reasons:
        findings.add("P7", "refused", reason, "", None)


def _audited(parts: Sequence[PatchSet], seed: int, survivors: Candidates) -> AuditResult:
    training, calibration, test = parts
    return audit(survivors.images, training, test, seed, reference=calibration)


def _write(out: Path, findings: Findings) -> None:
    rows = [
        [one.name, one.what, one.came, one.wanted, {None: "", True: "yes", False: "no"}[one.holds]]
        for one in findings.figures
    ]
    _write_csv(out / "audit.csv", ["figure", "what", "came", "wanted", "holds"], rows)
    shares = [[str(n), f"{five:.3f}", f"{one:.3f}"] for n, five, one in findings.power]
    _write_csv(out / "audit_power.csv", ["leaked of 50", "p <= 0.05", "refused, p < 0.01"], shares)
    _plot(out / "audit.png", findings)


def _write_csv(path: Path, head: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _plot(path: Path, findings: Findings) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(page)
    left, right = page.subplots(1, 2)
    p = np.sort(findings.null)
    left.plot([0, 1], [0, 1], color="0.7", label="wanted")
    left.step(p, np.arange(1, len(p) + 1) / len(p), where="post", label="measured")
    left.set(xlabel="p of audits with nothing leaked", ylabel="share at most so high")
    leaked, five, one = zip(*findings.power, strict=True)
    right.plot(leaked, five, "o-", label="p ≤ 0.05")
    right.plot(leaked, one, "s--", label="refused, p < 0.01")
    right.set(xlabel="leaked patients of 50", ylabel="share of audits that find them", ylim=(0, 1))
    for axes in (left, right):
        axes.legend()
    with replacing(path) as temporary:
        page.savefig(temporary, dpi=150, format="png", metadata={"Software": None})
