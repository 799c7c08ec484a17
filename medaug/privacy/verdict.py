"""What a review ends in: a release, or the reasons why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from medaug.domain import CheckResult, Release, ReleaseDecision, ReleasePolicy
from medaug.errors import DisclosureError
from medaug.privacy.copies import Calibration

Outcome = Literal[
    "accepted",
    "format",
    "canary",
    "copy",
    "outline",
    "near",
    "single_support",
    "duplicate",
    "cap",
    "quota",
]
# In this order; "outline" where masks are drawn. A check on the quality of a sample is not among
# them: it would take a discriminator that never saw a patient without noise, and none is kept.
CHECKS: tuple[Outcome, ...] = (
    "format",
    "copy",
    "near",
    "single_support",
    "duplicate",
    "cap",
    "quota",
)
OUTLINE: Outcome = "outline"
CANARY: Outcome = "canary"  # where simulated patients were trained on


class Finding(Protocol):
    """What an audit of the survivors says; see `gate.review`."""

    @property
    def passed(self) -> bool:
        """Whether the release may leave."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not; empty exactly when passed."""

    @property
    def statements(self) -> tuple[str, ...]:
        """What may be said outside."""

    @property
    def check(self) -> CheckResult:
        """The audit as one more check."""

    def document(self) -> dict[str, Any]:
        """Everything, for inside."""


@dataclass(frozen=True, eq=False)
class Closest:
    """A candidate that is close to a training patch, for the hospital's own report.

    Attributes:
        image: (channel, row, column) float32, in the unit of the training patches.
        label: its class.
        score: of the copy check.
        outcome: "accepted", or the check that turned it away.
        row: of the nearest patch in the training `PatchSet`.
        pose: how the candidate lies on that patch, in words.
    """

    image: NDArray[np.float32]
    label: str
    score: float
    outcome: Outcome
    row: int
    pose: str


@dataclass(frozen=True, eq=False)
class Review:
    """The end of a review.

    Attributes:
        outcome: "released" or "refused".
        policy: what it was held to.
        reasons: sentences with numbers; empty exactly when released.
        decision: what is bound to the release; None when refused.
        release: what may leave; None when refused.
        calibration: of the copy limit; None when refused before it was set.
        calibration_sentence: what the limit promises.
        drawn, accepted: candidates per class.
        rejections: candidates turned away per check.
        closest: candidates with the highest copy scores, accepted ones and others. Internal.
        sizes: (accepted, drawn) of small, middle and large lesions per class, where masks are
            drawn and the training patches have some.
        audit: what the audit of the survivors found; None without one.
        canaries: what the candidates say of canaries; None where none were trained on.
        beside: findings about the generator that were made before anything was drawn.
    """

    outcome: Literal["released", "refused"]
    policy: ReleasePolicy
    reasons: tuple[str, ...] = ()
    decision: ReleaseDecision | None = None
    release: Release | None = None
    calibration: Calibration | None = None
    calibration_sentence: str = ""
    drawn: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=dict)
    closest: tuple[Closest, ...] = ()
    sizes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    audit: Finding | None = None
    canaries: Finding | None = None
    beside: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        released = self.outcome == "released"
        if released != (self.release is not None) or released != (self.decision is not None):
            raise ValueError("a review ends in a release with its decision, or in neither")
        if released == bool(self.reasons):
            raise ValueError("a refusal has reasons, a release has none")

    def release_or_raise(self) -> Release:
        """The release.

        Raises:
            DisclosureError: with the reasons, if it was refused.
        """
        if self.release is None:
            raise DisclosureError(*self.reasons)
        return self.release

    def document(self) -> dict[str, Any]:
        """``review/decision.json``; the caller adds the file names of the closest pictures."""
        decision, calibration = self.decision, self.calibration
        return {
            "outcome": self.outcome,
            "policy": {**asdict(self.policy), "checks": list(self.policy.checks)},
            "checks": [asdict(result) for result in decision.results] if decision else [],
            "drawn": self.drawn,
            "accepted": self.accepted,
            "rejections": self.rejections,
            "sizes": self.sizes,
            "audit": None if self.audit is None else self.audit.document(),
            "canaries": None if self.canaries is None else self.canaries.document(),
            **{one.check.name: one.document() for one in self.beside},
            "cost": asdict(decision.cost) if decision and decision.cost else None,
            "statements": list(decision.statements) if decision else [],
            "reasons": list(self.reasons),
            "calibration": None
            if calibration is None
            else {**asdict(calibration), "sentence": self.calibration_sentence},
            "closest": [
                {
                    "label": one.label,
                    "score": one.score,
                    "limit": None if calibration is None else calibration.limit,
                    "outcome": one.outcome,
                    "pose": one.pose,
                }
                for one in self.closest
            ],
        }
