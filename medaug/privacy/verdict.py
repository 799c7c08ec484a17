"""What a review ends in: a release, or the reasons why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release, ReleaseDecision, ReleasePolicy
from medaug.errors import DisclosureError
from medaug.privacy.audit import AuditResult
from medaug.privacy.copies import Calibration

Outcome = Literal["accepted", "format", "copy", "duplicate"]


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
        audit: of the whole set; None if it was not asked for or not reached. Internal.
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
    audit: AuditResult | None = None

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
            "statements": list(decision.statements) if decision else [],
            "reasons": list(self.reasons),
            "calibration": None
            if calibration is None
            else {**asdict(calibration), "sentence": self.calibration_sentence},
            "audit": None if self.audit is None else self.audit.document(),
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
