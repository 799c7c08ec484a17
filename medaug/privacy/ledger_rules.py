"""What may be spent, and why not.

Entries that are charged and never given back: every reservation that ever was. A run that was
refused or killed may have shown its figures to somebody; it stays spent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medaug.privacy.ledger_runs import Charge, Runs

ATTEMPTS = 3
"""Runs over one cohort that may be audited, whatever their settings and seeds."""


@dataclass(frozen=True)
class Booking:
    """What a run is about to spend.

    Attributes:
        run: digest of all that determines the release. Where noise is drawn from seeds that are
            thrown away, a random number of the run must be part of it.
        dataset: digest of the patches trained on.
        patients: their tokens.
        attempt: digest of what was tried: the whole cohort's patches, and the settings.
        mode: of the privacy policy.
        wanted: samples per class.
        event: what a differentially private mechanism does to the data, as JSON; None if none.
        cohort: tokens of all patients, those who calibrate and judge too: by them audits are
            counted. Empty where none could be.
        audited: whether the samples will be attacked before they leave.
    """

    run: str
    dataset: str
    patients: frozenset[str]
    attempt: str
    mode: str
    wanted: Mapping[str, int]
    event: Any = None
    cohort: frozenset[str] = frozenset()
    audited: bool = False

    def __post_init__(self) -> None:
        if not self.patients:
            raise ValueError("a booking is for at least one patient")
        if self.audited and not self.cohort:
            raise ValueError("an audited booking names its whole cohort")

    def figures(self) -> dict[str, Any]:
        """What one run may reserve only one way."""
        return {
            "dataset": self.dataset,
            "mode": self.mode,
            "wanted": dict(self.wanted),
            "event": self.event,
        }


@dataclass(frozen=True)
class Cap:
    """The most that may be spent on one patient.

    Attributes:
        epsilon: over all that was ever reserved.
        compose: the epsilon of a list of events, at the delta of the site.
    """

    epsilon: float
    compose: Callable[[Sequence[Any]], float]


def why_not(runs: Runs, booking: Booking, cap: Cap | None) -> tuple[str, ...]:
    """Sentences for what forbids a booking."""
    return (
        *withdrawn_reasons(runs, booking.patients),
        *_other_figures(runs, booking),
        *audit_reasons(runs, booking, ()),
        *([] if cap is None else _over_cap(runs, booking, cap)),
    )


def withdrawn_reasons(runs: Runs, patients: Collection[str]) -> tuple[str, ...]:
    """Sentences for patients who must not be trained on any more."""
    gone = sorted(runs.revoked.intersection(patients))
    return tuple(
        f"Patient {token} has withdrawn: take the files out of the sources and run again."
        for token in gone
    )


def audit_reasons(runs: Runs, booking: Booking, alike: Collection[str]) -> tuple[str, ...]:
    """An audit that may be repeated until it passes, or left out once it has failed, is none.

    Args:
        runs: of the ledger.
        booking: asked for.
        alike: digests of runs that count as this one.
    """
    if booking.mode != "empirical":
        return ()
    own = {booking.run, *alike}
    others = [look for look in runs.audits(booking.cohort) if look.run not in own]
    failed = [look for look in others if not look.released]
    instead = "Bring other patients, or release with differential privacy (privacy.mode: dp-vote)."
    if booking.audited and len(others) >= ATTEMPTS:
        entries = ", ".join(str(look.entry) for look in others)
        used_up = (
            f"{len(others)} runs over these patients have been audited (ledger entries {entries}), "
            f"{ATTEMPTS} may, whatever their settings and seeds: trying until one passes would "
            f"make the audit worthless. {instead}"
        )
        return (used_up,)
    if not booking.audited and failed:
        left_out = (
            f"A run over these patients was audited and did not leave (ledger entry "
            f"{failed[0].entry}): a release that says that no attack was run would mislead. Set "
            f"privacy.audit: true. {instead}"
        )
        return (left_out,)
    return ()


def loss(charges: Sequence[Charge], compose: Callable[[Sequence[Any]], float]) -> float:
    """Epsilon of some charges; what has no event has no bound, once it may have left."""
    if any(charge.event is None for charge in charges):
        return math.inf
    return compose([charge.event for charge in charges]) if charges else 0.0


def _other_figures(runs: Runs, booking: Booking) -> Iterator[str]:
    before = runs.reservation(booking.run)
    if before is not None and booking.figures() != {
        key: before.body[key] for key in booking.figures()
    }:
        yield (
            f"This run was reserved with other figures (ledger entry {before.seq}); a run that "
            "spends something else is another run."
        )


def _over_cap(runs: Runs, booking: Booking, cap: Cap) -> Iterator[str]:
    if runs.reservation(booking.run) is not None:
        return  # Spent already.
    own = Charge(booking.run, booking.event)
    groups: dict[tuple[Charge, ...], list[str]] = {}
    for token in sorted(booking.patients):
        groups.setdefault((*runs.charged(token), own), []).append(token)
    for charges, tokens in groups.items():
        epsilon = loss(charges, cap.compose)
        if epsilon <= cap.epsilon:
            continue
        whom = f"{len(tokens)} of {len(booking.patients)} patients (the first: {tokens[0]})"
        if math.isinf(epsilon):
            yield (
                f"{whom} stand in a run without differential privacy, or in this one: their "
                f"loss has no bound, the cap is epsilon {cap.epsilon:g} (privacy.epsilon_cap)."
            )
        else:
            yield (
                f"{whom} would have spent epsilon {epsilon:.3g} over {len(charges)} runs, the cap "
                f"is {cap.epsilon:g} (privacy.epsilon_cap; not set, it is privacy.epsilon). "
                "Leave them out, spend less, or raise the cap if your site allows it."
            )
