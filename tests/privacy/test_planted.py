"""What gate and audit say of each planted generator: the table of ``docs/results``.

Run with ``-s`` to have it printed.
"""

from collections.abc import Callable

import numpy as np
import planted
import pytest
from planted import CLASSES, WINDOW, Planted, patients

from medaug.domain import Candidates, PatchSet, ReleasePolicy, Rescale, Unit
from medaug.privacy.audit import AuditResult, audit
from medaug.privacy.gate import review

TRAINING = patients(range(44))
CALIBRATION = patients(range(1000, 1022))
HELD_OUT = patients(range(2000, 2040))


def everybody() -> PatchSet:
    return patients([*range(44), *range(2000, 2040)])


def attacked(images: np.ndarray) -> AuditResult:
    return audit(images, TRAINING, HELD_OUT, 0, reference=CALIBRATION, deals=1999, rounds=0)


# Generator, the rule that turns most of its samples away (none: "audit" or nobody refuses), and
# what the audit says of its samples before any rule has looked.
TABLE: dict[str, tuple[Callable[[], Planted], str, str]] = {
    "exact memoriser": (lambda: planted.memoriser(TRAINING), "copy", "found"),
    "transform memoriser": (lambda: planted.transform_memoriser(TRAINING), "copy", "found"),
    "patchwork": (lambda: planted.patchwork(TRAINING), "copy", "found"),
    "blender": (lambda: planted.blender(TRAINING), "copy", "found"),
    "low-pass memoriser": (lambda: planted.low_pass_memoriser(TRAINING), "copy", "found"),
    "label-leaker": (lambda: planted.label_leaker(TRAINING), "copy", "found"),
    "single-patient leaker": (lambda: planted.leaker(TRAINING, 7, 0.5), "copy", "nothing"),
    "mode-collapsed": (lambda: planted.collapsed(TRAINING), "duplicate", "nothing"),
    "hole-maker": (lambda: planted.hole_maker(TRAINING, everybody()), "audit", "found"),
    "honest phantom": (lambda: planted.honest(TRAINING), "", "nothing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_verdict(name: str) -> None:
    make, rule, said = TABLE[name]
    sampler = make()
    seeds = np.random.default_rng(0).integers(0, 2**40, 80)
    images = np.stack([sampler.one(int(seed), CLASSES[at % 2]) for at, seed in enumerate(seeds)])
    found = attacked(images.astype(np.float32))
    assert ("found" if found.p < 0.01 else "nothing") == said
    if said == "found":
        assert found.statistic == ("lower" if name == "hole-maker" else found.statistic)

    def at_the_end(survivors: Candidates) -> AuditResult:
        return attacked(survivors.images)

    verdict = review(
        sampler,
        # An audit of few samples sees little.
        ReleasePolicy(per_class=12 if rule == "audit" else 6),
        training=TRAINING,
        calibration=CALIBRATION,
        rescale=Rescale.of(Unit.HOUNSFIELD, WINDOW),
        window=WINDOW,
        mm_per_pixel=1.0,
        seed=0,
        audit=at_the_end,
    )
    accepted, drawn = sum(verdict.accepted.values()), sum(verdict.drawn.values())
    away = {rule: count for rule, count in verdict.rejections.items() if count}
    print(  # noqa: T201 - the table itself
        f"| {name} | {accepted} of {drawn} | {away} | {found.p:.4f} {found.statistic} "
        f"{found.decisive} AUC {found.auc:.2f} | {verdict.outcome} |"
    )
    if rule in verdict.rejections:
        assert verdict.outcome == "refused"
        assert max(verdict.rejections, key=lambda one: verdict.rejections[one]) == rule
        assert "Mend the training" in verdict.reasons[0]
    elif rule == "audit":
        assert "keep away from training patients" in verdict.reasons[0]
    else:
        assert verdict.outcome == "released"
