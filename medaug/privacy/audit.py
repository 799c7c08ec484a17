"""Does the set that is to be released tell who was trained on?

The released samples are compared with members (training patients) and with others who were dealt
out by the same random split and never used for anything that shaped the release. If the samples
are nearer to members, or farther from them, than chance allows, the whole release is refused;
taking away what was found and asking again would only teach the release to hide it.

The unit is the patient: patches are scored, patients are tested. All channels, nine of the
standardised likeness (`nearness`) and sixteen of the attacks (`attacks`), are judged together by
one permutation test (`permutation`), whose p-value already pays for their number; Westfall and
Young's way takes Holm's place, since channels that say the same need not be paid for twice. The
likeness over all scales leads: two thirds of the error are for members at its top.
True positives without a false one are a statistic of that test.

What an audit without a finding is worth is said beside it: the smallest number of leaked members
that it would have found (`planting`), and what the best channel reaches among members alone. A
single leaked patient can never be seen: of two equally likely labels, one patient proves nothing.

::

    found = audit(release.images, training, held_out, seed=0, reference=calibration)
    found.passed, found.statements
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import CheckResult, PatchSet
from medaug.errors import CohortError, Fault, LeakageError
from medaug.privacy.attacks import attack
from medaug.privacy.audit_words import audit_detail, audit_reasons, audit_statements
from medaug.privacy.memory import MEMORY_MB
from medaug.privacy.nearness import CHANNELS, LEADS, nearness
from medaug.privacy.permutation import (
    DEALS,
    Deals,
    Labels,
    Scores,
    auc,
    auc_interval,
    clopper_pearson,
    highest_auc_among_members,
)
from medaug.privacy.pictures import Floats
from medaug.privacy.planting import ROUNDS, Plant, Power

REFUSED_BELOW = 0.01
# A share of 1 % is not to be had from fewer.
ENOUGH_FOR_ONE_PERCENT = 300


@dataclass(frozen=True)
class Channel:
    """One way of looking, over all patients.

    Attributes:
        name: scale and aggregate, or attack and scale.
        auc: area under the ROC curve, members against others.
        p: smallest of its three permutation p-values, not corrected for the other channels.
        ahead: members above every other patient.
    """

    name: str
    auc: float
    p: float
    ahead: int


@dataclass(frozen=True)
class AuditResult:
    """What an audit found. Internal; only `statements` and `check` may be said outside.

    Attributes:
        samples, members, others: how many.
        patients_known: False where every patch counts as a patient.
        p: of the split permutation test over all channels.
        limit: below it, the release is refused.
        decisive: name of the channel with the smallest p-value, and its statistic.
        statistic: "higher", "lower" or "ahead" (see `permutation`).
        best: name of the channel with the highest AUC.
        auc: that AUC; the highest of many, to be read beside `control`.
        interval: 95 %, patients resampled.
        control: what the highest AUC reaches among members alone, in 19 of 20 random splits.
        ahead: members of the best channel above every other patient.
        ahead_interval: 95 %, Clopper-Pearson, of that as a share of members.
        at_one_percent: share of members above all but 1 % of the others in the best
            channel; None, that is not estimable, with fewer than 300 others.
        power: which copies would have been found; None where the release is refused
            anyway, or the power was not asked for.
        reference: patients that the attacks were calibrated by; 0 without.
        channels: each way of looking.
    """

    samples: int
    members: int
    others: int
    patients_known: bool
    p: float
    limit: float
    decisive: str
    statistic: str
    best: str
    auc: float
    interval: tuple[float, float]
    control: float
    ahead: int
    ahead_interval: tuple[float, float]
    at_one_percent: float | None
    power: Power | None
    reference: int
    channels: tuple[Channel, ...]

    @property
    def passed(self) -> bool:
        """Nothing was found by an audit that could have found something."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences with numbers; empty exactly when passed."""
        return audit_reasons(self)

    @property
    def statements(self) -> tuple[str, ...]:
        """The sentences that may be said outside, figures rounded."""
        return audit_statements(self)

    @property
    def check(self) -> CheckResult:
        """As one of the gate's checks; unlike others it fails below its limit, a p-value."""
        p = float(f"{self.p:.2g}")
        return CheckResult("audit", self.passed, p, self.limit, 0, audit_detail(self))

    def document(self) -> dict[str, Any]:
        """Everything, for the hospital's own report."""
        return {
            **asdict(self),
            "passed": self.passed,
            "reasons": list(self.reasons),
            "statements": list(self.statements),
        }


def audit(
    images: Floats,
    training: PatchSet,
    held_out: PatchSet,
    seed: int,
    *,
    reference: PatchSet | None = None,
    deals: int = DEALS,
    rounds: int = ROUNDS,
    memory_mb: int = MEMORY_MB,
) -> AuditResult:
    """Test a set that is to be released, whole.

    Args:
        images: (sample, channel, row, column), or with slices, as they would leave, in the unit of
            ``training``. Labels are not asked for: a member's picture leaks under any label.
        training: every patch that the generator saw.
        held_out: patients of the same random split who served for nothing before: neither
            training, early stopping, the copy limit nor any choice.
        seed: of the permutations and the copies that are planted.
        reference: further patients, neither members nor judged, by whom attacks are calibrated.
        deals: permutations of the labels.
        rounds: of planted copies, for each number of them; 0 does not ask for the power, as
            benches do that measure it.
        memory_mb: working memory.

    Raises:
        LeakageError: if two of the parts share a patient.
        CohortError: for samples or patches that cannot be compared, or fewer than two patients.
    """
    refuse_shared(training, held_out, reference)
    _refuse_unusable(images, training, held_out)
    both = _together(training, held_out)
    member = np.arange(len(both.patient_order)) < len(training.patient_order)
    found = nearness(images, both, memory_mb)
    attacks = attack(images, both, reference, memory_mb)
    names = (*CHANNELS, *attacks)
    by_attack = np.stack(list(attacks.values()))
    scores = np.concatenate([found.channels(), by_attack])
    labels = Deals.of(member, strata(both), seed, deals)
    tested = labels.test(scores, LEADS)
    aucs = [auc(channel, member) for channel in scores]
    best = int(np.argmax(aucs))
    rng = np.random.default_rng([seed, 0x9A17])
    power = None
    if tested.p >= REFUSED_BELOW and rounds:
        plant = Plant.of(labels, found, by_attack, both, member, REFUSED_BELOW, rng)
        power = plant.power(rng, rounds)
    return AuditResult(
        samples=len(images),
        members=int(member.sum()),
        others=int((~member).sum()),
        patients_known=training.patients_known and held_out.patients_known,
        p=tested.p,
        limit=REFUSED_BELOW,
        decisive=names[tested.channel],
        statistic=tested.statistic,
        best=names[best],
        auc=aucs[best],
        interval=auc_interval(scores[best], member, seed),
        control=highest_auc_among_members(scores, member, seed),
        ahead=tested.ahead[best],
        ahead_interval=clopper_pearson(tested.ahead[best], int(member.sum())),
        at_one_percent=_at_one_percent(scores[best], member),
        power=power,
        reference=0 if reference is None else len(reference.patient_order),
        channels=tuple(
            Channel(*row) for row in zip(names, aucs, tested.by_channel, tested.ahead, strict=True)
        ),
    )


def strata(patches: PatchSet) -> NDArray[np.int64]:
    """(patient,): patients with one number show the same classes.

    `medaug.domain.split_patients` deals out by the classes that patients show; among those who show
    the same ones its deal is random, and only there may labels be exchanged.
    """
    shows = np.zeros((len(patches.patient_order), len(patches.classes)), bool)
    shows[patches.patient_index, patches.labels] = True
    _, number = np.unique(shows, axis=0, return_inverse=True)
    return np.asarray(number, np.int64).reshape(-1)


def least_p(training: PatchSet, held_out: PatchSet) -> float:
    """No audit of these patients can reach a lower p-value: one deal of all that are possible."""
    stratum = strata(_together(training, held_out))
    deals = 1
    for one in np.unique(stratum):
        of_stratum = stratum == one
        members = int(of_stratum[: len(training.patient_order)].sum())
        deals *= comb(int(of_stratum.sum()), members)
    return 1 / deals


def refuse_shared(training: PatchSet, held_out: PatchSet, reference: PatchSet | None) -> None:
    """Raise `LeakageError` if two of the parts share a patient."""
    parts = {"training": training, "held-out": held_out, "reference": reference}
    seen = {name: set(part.patients) for name, part in parts.items() if part is not None}
    faults = [
        Fault(
            "audit",
            f"{len(seen[one] & seen[other])} patients stand in the {one} and the {other} part",
            "patients of one part each: who calibrates or trains cannot judge",
            "split by patient, and audit on a part that served for nothing else",
        )
        for one, other in (
            ("training", "held-out"),
            ("training", "reference"),
            ("held-out", "reference"),
        )
        if other in seen and seen[one] & seen[other]
    ]
    if faults:
        raise LeakageError(*faults)


def _together(training: PatchSet, held_out: PatchSet) -> PatchSet:
    """One set, training patients first."""
    return replace(
        training,
        images=np.concatenate([training.images, held_out.images]),
        masks=None,
        labels=np.concatenate([training.labels, held_out.labels]),
        patients=training.patients + held_out.patients,
        locations=training.locations + held_out.locations,
    )


def _at_one_percent(scores: Scores, member: Labels) -> float | None:
    others = np.sort(scores[~member])
    if len(others) < ENOUGH_FOR_ONE_PERCENT:
        return None
    allowed = int(0.01 * len(others))
    return float(np.mean(scores[member] > others[-1 - allowed]))


def _refuse_unusable(images: Floats, training: PatchSet, held_out: PatchSet) -> None:
    faults = [
        Fault("audit: samples", "there are none", "at least 1") for _ in range(not len(images))
    ]
    faults += [
        Fault(f"audit: {name}", "NaN or infinity", "finite intensities")
        for name, those in (
            ("samples", images),
            ("training", training.images),
            ("held-out", held_out.images),
        )
        if not np.isfinite(those).all()
    ]
    faults += [
        Fault(f"audit: {name}", f"{count} patients", "at least 2", "add patients to this part")
        for name, part in (("training", training), ("held-out", held_out))
        if (count := len(part.patient_order)) < 2
    ]
    if training.classes != held_out.classes:
        faults.append(Fault("audit: classes", f"{held_out.classes}", f"{training.classes}"))
    shapes = (images.shape[1:], held_out.images.shape[1:])
    faults += [
        Fault("audit: shape", f"{shape}", f"{training.images.shape[1:]}, as in training")
        for shape in dict.fromkeys(shapes)
        if shape != training.images.shape[1:] and len(images)
    ]
    if faults:
        raise CohortError(*faults)
