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


@dataclass(frozen=True)
class Booking:
    """What a run is about to spend.

    Attributes:
        run: digest of all that determines the release. Where noise is drawn from seeds that are
            thrown away, a random number of the run must be part of it.
        dataset: digest of the patches trained on.
        patients: their tokens.
        attempt: digest of the whole cohort and the settings, without the seed that deals patients
            out and draws: under it attempts are counted.
        mode: of the privacy policy.
        wanted: samples per class.
        event: what a differentially private mechanism does to the data, as JSON; None if none.
    """

    run: str
    dataset: str
    patients: frozenset[str]
    attempt: str
    mode: str
    wanted: Mapping[str, int]
    event: Any = None

    def __post_init__(self) -> None:
        if not self.patients:
            raise ValueError("a booking is for at least one patient")

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


def why_not(runs: Runs, booking: Booking, cap: Cap | None, attempts: int | None) -> tuple[str, ...]:
    """Sentences for what forbids a booking."""
    return (
        *withdrawn_reasons(runs, booking.patients),
        *_other_figures(runs, booking),
        *_too_many_attempts(runs, booking, attempts),
        *([] if cap is None else _over_cap(runs, booking, cap)),
    )


def withdrawn_reasons(runs: Runs, patients: Collection[str]) -> tuple[str, ...]:
    """Sentences for patients who must not be trained on any more."""
    gone = sorted(runs.revoked.intersection(patients))
    return tuple(
        f"Patient {token} has withdrawn: take the files out of the sources and run again."
        for token in gone
    )


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


def _too_many_attempts(runs: Runs, booking: Booking, attempts: int | None) -> Iterator[str]:
    others = runs.attempts(booking.attempt) - {booking.run}
    if attempts is not None and len(others) >= attempts:
        yield (
            f"{len(others)} runs have tried this cohort with these settings, {attempts} may: "
            "trying seeds until one passes would make the audit worthless. Mend the training or "
            "bring other patients."
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
