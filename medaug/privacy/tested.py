"""What follows from one p-value: whether a generator passed, and why not.

Canaries and twins look at the generator, not at single samples, and end in one such finding;
`verdict.Finding` is what the gate asks of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

from medaug.domain import CheckResult

FOUND_BELOW = 0.01


@dataclass(frozen=True, kw_only=True)
class Tested(ABC):
    """A finding by one test; the words are the subclass's.

    Attributes:
        p: chance of as much where there is nothing to find.
    """

    p: float

    @abstractmethod
    def reason(self) -> str:
        """Why the release is refused, where it is."""

    @property
    def passed(self) -> bool:
        """The samples do not tell who was trained on."""
        return self.p >= FOUND_BELOW

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the release is refused; empty exactly when passed."""
        return () if self.passed else (self.reason(),)

    def as_check(self, name: str, rejected: int, detail: str) -> CheckResult:
        """As one of the gate's checks; it fails below its limit, a p-value."""
        p = float(f"{self.p:.2g}")
        return CheckResult(name, self.passed, p, FOUND_BELOW, rejected, detail)

    def document(self) -> dict[str, Any]:
        """Everything, for the hospital's own report."""
        return {**asdict(self), "passed": self.passed}
