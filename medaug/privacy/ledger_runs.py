"""What the entries of a ledger say about runs and patients."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from medaug.privacy.ledger_chain import Entry

_STATES = ("reserve", "commit", "abort")


@dataclass(frozen=True, eq=False)
class Charge:
    """A run that a patient is charged for; ``event`` is None where it claims no privacy."""

    run: str
    event: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charge) and self.run == other.run

    def __hash__(self) -> int:
        return hash(self.run)


@dataclass(frozen=True)
class Audited:
    """A run whose samples were attacked, or may have been.

    Attributes:
        run: digest.
        attempt: digest of the patches and settings it was tried with.
        entry: number of its attempt in the ledger.
        released: whether it left.
    """

    run: str
    attempt: str
    entry: int
    released: bool


class Runs:
    """The entries of a ledger, read once.

    Attributes:
        revoked: tokens of patients who have withdrawn.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)
        self.revoked = frozenset(e.body["patient"] for e in self._entries if e.kind == "revoke")
        self._patients: dict[str, set[str]] = {}
        self._of_run: dict[str, list[Entry]] = {}
        for entry in self._entries:
            if entry.kind == "dataset":
                members = self._patients.setdefault(entry.body["dataset"], set())
                members.update(entry.body["patients"])
            elif entry.kind in _STATES:
                self._of_run.setdefault(entry.body["run"], []).append(entry)

    def has(self, kind: str, **fields: Any) -> bool:
        """Whether an entry of this kind says all of this."""
        return any(
            entry.kind == kind and all(entry.body.get(key) == fields[key] for key in fields)
            for entry in self._entries
        )

    def state(self, run: str) -> str:
        """``reserve`` while open, ``commit``, ``abort``, or ``new``."""
        return self._of_run[run][-1].kind if run in self._of_run else "new"

    def reservation(self, run: str) -> Entry | None:
        """The first reservation of a run."""
        return self._of_run[run][0] if run in self._of_run else None

    def patients(self, run: str) -> frozenset[str]:
        """Tokens of the patients of a run."""
        return frozenset(self._patients[self._of_run[run][0].body["dataset"]])

    def committed(self, run: str) -> Entry | None:
        """The entry of a run's release."""
        return next((e for e in self._of_run.get(run, ()) if e.kind == "commit"), None)

    def audits(self, cohort: Collection[str]) -> list[Audited]:
        """Runs that were audited over at least half of these patients, in order.

        A run without an end may have been. One that was refused before its audit was not: nobody
        has learnt from it how the attacks end.
        """
        asked = frozenset(cohort)
        audited = {entry.body["run"] for entry in self._entries if entry.kind == "audit"}
        found = []
        for entry in self._entries:
            if entry.kind != "attempt" or not entry.body.get("audited"):
                continue
            run, patients = entry.body["run"], self._patients[entry.body["cohort"]]
            looked = run in audited or self.state(run) == "reserve"
            if looked and 2 * len(asked & patients) >= len(asked):
                left = self.committed(run) is not None
                found.append(Audited(run, entry.body["attempt"], entry.seq, left))
        return found

    def of_patients(self, tokens: Collection[str]) -> list[str]:
        """Runs over any of these patients, in order."""
        asked = frozenset(tokens)
        return [
            run
            for run, (first, *_) in self._of_run.items()
            if not asked.isdisjoint(self._patients[first.body["dataset"]])
        ]

    def counts(self, run: str) -> dict[str, int]:
        """Samples per class that a run has released, or may yet release."""
        done = self.committed(run)
        if done is not None:
            return dict(done.body["counts"])
        return {} if self.state(run) == "abort" else dict(self._of_run[run][0].body["wanted"])

    def pictures(self, runs: Iterable[str]) -> list[bytes]:
        """The packed pictures of what these runs released."""
        done = (self.committed(run) for run in runs)
        return [entry.attachment for entry in done if entry is not None and entry.attachment]

    def charged(self, token: str) -> tuple[Charge, ...]:
        """What a patient is charged for.

        Everything that was ever reserved with an event; without one, what has left or may yet.
        """
        charges = ((run, self._of_run[run][0].body["event"]) for run in self.of_patients({token}))
        return tuple(
            Charge(run, event)
            for run, event in charges
            if event is not None or self.state(run) != "abort"
        )


def line_of(entry: Entry) -> dict[str, Any]:
    """An entry for people: number, time, kind, first digits of the run, and one line of words."""
    body = entry.body
    words = {
        "dataset": lambda: f"{len(body['patients'])} patients",
        "train": lambda: f"weights {body['weights'][:12]}",
        "attempt": lambda: f"of {body['attempt'][:12]}, {_whether(body)} audit",
        "reserve": lambda: (
            f"{body['mode']}: {_counted(body['wanted']) or 'no samples yet'}"
            + (f"; {_asked(body['event'])}" if body["event"] is not None else "")
        ),
        "commit": lambda: f"release {body['release'][:12]}: {_counted(body['counts'])}",
        "abort": lambda: " ".join(body["reasons"]),
        "audit": lambda: f"{len(body['figures'])} figures",
        "share": lambda: f"generator {body['weights'][:12]} as {body['form']}: {body['grounds']}",
        "revoke": lambda: f"patient {body['patient']} has withdrawn",
    }
    return {
        "entry": entry.seq,
        "at": body["at"],
        "kind": entry.kind,
        "run": body.get("run", "")[:12],
        "words": words[entry.kind](),
    }


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.items())


def _asked(event: Any) -> str:
    """What a mechanism asked of the patients, in words."""
    if not isinstance(event, dict):
        return str(event)
    return ", ".join(
        f"{key} {str(value)[:12]}" for key, value in event.items() if key != "mechanism"
    )


def _whether(attempt: dict[str, Any]) -> str:
    return "with an" if attempt.get("audited") else "without"
