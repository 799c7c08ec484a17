"""What rules a release out before, or after, anything is drawn.

Errors are raised for what nobody may decide on; the sentences returned are a refusal, a valid
outcome.
"""

from __future__ import annotations

from collections.abc import Mapping

from medaug.domain import PatchSet, ReleasePolicy, Sampler
from medaug.errors import Fault, LeakageError, SettingsError
from medaug.privacy.copies import Calibration
from medaug.privacy.limits import FEWEST_PATIENTS
from medaug.privacy.lineage import lineage_reasons
from medaug.privacy.verdict import CHECKS


def refuse_settings(sampler: Sampler, policy: ReleasePolicy, training: PatchSet) -> None:
    """Raise `SettingsError` with every fault of the policy."""
    faults = []
    if policy.mode != "empirical":
        faults.append(Fault("privacy.mode", policy.mode, "empirical"))
    faults += [
        Fault("privacy.checks", f"unknown check '{name}'", ", ".join(CHECKS))
        for name in policy.checks
        if name not in CHECKS
    ]
    named = {} if isinstance(policy.per_class, int) else policy.per_class
    faults += [
        Fault(f"privacy.per_class.{name}", "no class has this name", ", ".join(sampler.classes))
        for name in named
        if name not in sampler.classes
    ]
    wanted = [policy.per_class] if isinstance(policy.per_class, int) else list(named.values())
    if min(wanted, default=0) < 1 or policy.tries < 1:
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


def refuse_leakage(sampler: Sampler, training: PatchSet, calibration: PatchSet) -> None:
    """Raise `LeakageError` where the calibration patients are not held out."""
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


def why_not_begin(
    sampler: Sampler, policy: ReleasePolicy, training: PatchSet, calibration: PatchSet
) -> tuple[str, ...]:
    """Sentences for what rules a release out before anything is drawn."""
    reasons = lineage_reasons(sampler.record, training)
    patients = training.patients_per_class()
    least = policy.min_patients_per_class
    reasons += [
        f"Class {label}: {patients[label]} training patients, {least} are needed: "
        f"{least - patients[label]} more."
        for label in sampler.classes
        if policy.quota(label) and patients[label] < least
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


def why_ask(policy: ReleasePolicy, calibration: Calibration, known: bool) -> tuple[str, ...]:
    """Sentences for patients who look like one; patches without patients may well be alike."""
    if not calibration.look_alikes or not known or policy.look_alikes == "different people":
        return ()
    count = len(calibration.look_alikes)
    sentence = (
        f"{count} real patients look like another one, as if one person stood under two names: "
        "then a copy limit and a split by patient mean nothing. Look at them (review/decision.json "
        "names their rows) and merge them; if they are different people, set "
        "privacy.look_alikes: different people."
    )
    return (sentence,)


def why_spent(
    policy: ReleasePolicy, allowed: Mapping[str, int], training: PatchSet
) -> tuple[str, ...]:
    """Sentences for classes of which everything that may be released has been."""
    patients = training.patients_per_class()
    return tuple(
        f"Class {label}: {policy.per_patient * patients[label]} samples, {policy.per_patient} "
        f"for each of {patients[label]} training patients, have already been released."
        for label in training.classes
        if policy.quota(label) and patients[label] and not allowed[label]
    )


def why_not_release(
    policy: ReleasePolicy,
    drawn: Mapping[str, int],
    accepted: Mapping[str, int],
    rejections: Mapping[str, int],
) -> tuple[str, ...]:
    """Sentences for classes of which too little was accepted."""
    turned_away = ", ".join(f"{name} {count}" for name, count in rejections.items())
    least = policy.min_acceptance
    return tuple(
        f"Class {label}: {accepted[label]} of {count} candidates accepted, at least {least:.0%} "
        f"are needed (turned away over all classes: {turned_away}). Mend the training: a "
        "generator that copies or repeats itself is not thinned until it passes."
        for label, count in drawn.items()
        if accepted[label] == 0 or accepted[label] / count < least
    )
