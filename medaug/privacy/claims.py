"""What may be said about a release: sentences made from figures.

The sentences say what was measured and on how many patients. None says that a release is without
risk, because no check here can show that.
"""

from __future__ import annotations

EMPIRICAL = (
    "Mode empirical: the checks see the training patches. No differential privacy is claimed."
)
NOT_AUDITED = "No membership-inference attack was run on this release."
STAGE = (
    "The copy check looks at mirrored, turned, shifted, rescaled and inverted copies. "
    "Copies that are turned by free angles, covered by strong noise or mixed from several patients "
    "may pass it."
)
MASKS = (
    "Copies and duplicates are told by the images. The drawn masks were not compared with those of "
    "training patches, and no reader has confirmed them."
)
PATCH_LEVEL = (
    "Patch-level only: the source names no patients, so patches of one patient may stand in the "
    "training and in the calibration part, and no statement about patients can be made."
)


def calibration_phrase(*, patients: int, bound: float, wanted: float, patients_known: bool) -> str:
    """What the copy limit promises about a new real patient, and on what evidence."""
    whom = "patients" if patients_known else "patches"
    phrase = (
        f"calibrated so that at most {_percent(max(bound, wanted))} of new real {whom} would be "
        f"rejected (95 % confidence, {patients} {whom})"
    )
    if bound > wanted:
        phrase += f"; {_percent(wanted)} was wanted and {patients} {whom} cannot show it"
    return phrase


def calibration_sentence(phrase: str) -> str:
    """The same as a sentence of its own."""
    return f"The copy threshold is {phrase}."


def copy_sentence(samples: int, calibration: str) -> str:
    """The one sentence about copies; ``calibration`` is `calibration_phrase`."""
    return f"{samples} samples; none exceeded the copy threshold, {calibration}."


def duplicate_sentence(limit: float, highest: float) -> str:
    """How alike the two most alike samples are."""
    return (
        f"No two samples correlate above {limit:g} in any of 8 orientations and small shifts; "
        f"the highest correlation is {highest:.3f}."
    )


def acceptance_sentence(label: str, accepted: int, drawn: int) -> str:
    """Acceptance of a class: rare lesions are turned away most."""
    return (
        f"Class {label}: {accepted} of {drawn} candidates accepted ({_percent(accepted / drawn)})."
    )


def withheld_sentence(copies: int, patients_known: bool) -> str:
    """Why some candidates are missing, and what that does not mean."""
    whom = "patient" if patients_known else "patch"
    return (
        f"{copies} candidates withheld by the copy check were closer to a training {whom} than a "
        f"new real {whom} typically is: a heuristic that gives no differential-privacy guarantee "
        "and may itself reveal information."
    )


def release_statements(
    *,
    samples: int,
    calibration: str,
    duplicate_limit: float,
    highest_duplicate: float,
    accepted: dict[str, int],
    drawn: dict[str, int],
    copies: int,
    patients_known: bool,
    masks: bool,
    audited: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Everything that a release says about its review."""
    statements = [
        copy_sentence(samples, calibration),
        duplicate_sentence(duplicate_limit, highest_duplicate),
        *(acceptance_sentence(label, accepted[label], drawn[label]) for label in drawn),
    ]
    if copies:
        statements.append(withheld_sentence(copies, patients_known))
    statements += [EMPIRICAL, *(audited or (NOT_AUDITED,)), STAGE]
    if masks:
        statements.append(MASKS)
    if not patients_known:
        statements.append(PATCH_LEVEL)
    return tuple(statements)


def _percent(share: float) -> str:
    """Rounded up to a tenth of a per cent, so that a bound stays one."""
    tenths = -int(-(share * 1000 - 1e-9) // 1)
    return f"{tenths / 10:g} %"
