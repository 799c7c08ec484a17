"""What was spent on whom: every data set, attempt and release of a site, in order.

A run reserves before it draws anything and commits before it writes anything. Killed in between,
its reservation stands: a budget is never under-counted. A run is known by a digest of all that
determines it, so that the same run, taken up again or repeated, spends once.

::

    ledger = Ledger(path, site_key)
    earlier = ledger.reserve(Booking(run, dataset, patients, attempt, "empirical", {"cyst": 100}))
    ...                                       # draw and review; `earlier` limits both
    anchor = ledger.commit(run, release.digest, release.per_class(), pictures_of(release.images))

Patients are tokens (`PatientKey.token`), never identifiers. The file stays on site: whoever holds
it and the site key can rewrite it. `ledger_chain` says how everything short of that is found.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.errors import DisclosureError
from medaug.privacy.ledger_chain import Anchor, Appender, BrokenChainError, Chain, Entry
from medaug.privacy.ledger_pictures import packed, pictures_of, unpacked
from medaug.privacy.ledger_rules import (
    ATTEMPTS,
    Booking,
    Cap,
    audit_reasons,
    loss,
    why_not,
    withdrawn_reasons,
)
from medaug.privacy.ledger_runs import Runs, line_of

__all__ = ["ATTEMPTS", "Booking", "Cap", "Earlier", "Ledger", "Taken", "pictures_of"]


@dataclass(frozen=True, eq=False)
class Earlier:
    """What other runs over any of the same patients have released or reserved.

    Attributes:
        counts: samples per class; of a reservation without an end, the samples it wanted.
        pictures: (sample, 64, 64) int8, every released sample, see `ledger_pictures`.
    """

    counts: dict[str, int]
    pictures: NDArray[np.int8]


@dataclass(frozen=True)
class Taken:
    """A release that a patient took part in."""

    entry: int
    at: str
    release: str
    name: str
    counts: dict[str, int]


class Ledger:
    """The ledger of a site.

    Args:
        path: of the file, made on first use.
        site_key: 32 secret bytes, kept outside the file.

    Raises:
        SettingsError: if others may use the file, or it is no ledger.
    """

    def __init__(self, path: Path, site_key: bytes) -> None:
        self._chain = Chain(path, site_key)

    def reserve(self, booking: Booking, cap: Cap | None = None) -> Earlier:
        """Spend before anything is drawn; the same run again spends nothing more.

        Args:
            booking: what is about to be spent.
            cap: on the privacy loss of every patient; None where the mode claims none.

        Raises:
            DisclosureError: if a patient has withdrawn, the cap or the audits are used up, an
                audit would be left out after one that failed, the run was recorded with other
                figures, or the ledger does not verify. Nothing is spent then.
        """
        with self._appending() as chain:
            runs = Runs(chain.entries)
            if reasons := why_not(runs, booking, cap):
                raise DisclosureError(*reasons)
            if runs.state(booking.run) in ("new", "abort"):
                _write_reservation(chain, runs, booking)
            others = [run for run in runs.of_patients(booking.patients) if run != booking.run]
            counts: Counter[str] = Counter()
            for run in others:
                counts.update(runs.counts(run))
            return Earlier(dict(counts), unpacked(runs.pictures(others)))

    def foresee(self, booking: Booking) -> None:
        """Refuse before a training what `reserve` is sure to refuse after it; writes nothing.

        Args:
            booking: with any ``run``: it is not known yet. A run that was tried with the same
                ``attempt`` may be this one.

        Raises:
            DisclosureError: if the audits are used up, or one would be left out after it failed.
        """
        runs = Runs(self.entries())
        looks = runs.audits(booking.cohort)
        alike = {look.run for look in looks if look.attempt == booking.attempt}
        if reasons := audit_reasons(runs, booking, alike):
            raise DisclosureError(*reasons)

    def commit(
        self,
        run: str,
        release: str,
        counts: Mapping[str, int],
        pictures: NDArray[np.int8],
        name: str = "",
    ) -> Anchor:
        """Record what is about to leave; written before any file of the release is.

        Args:
            run: as reserved.
            release: `Release.digest`.
            counts: samples per class.
            pictures: (sample, 64, 64) int8 of `ledger_pictures.pictures_of`.
            name: of the study.

        Returns:
            The place of this entry, for ``release.json``. The same release again gives the same.

        Raises:
            DisclosureError: if the run was not reserved, another release of it was committed,
                or the ledger does not verify.
        """
        with self._appending() as chain:
            runs = Runs(chain.entries)
            done = runs.committed(run)
            if done is not None and done.body["release"] != release:
                raise DisclosureError(
                    f"This run was released before with other pixels (ledger entry {done.seq}), by "
                    "another machine or version: this would be a second release that nothing was "
                    "reserved for. Set another seed, and it counts as one."
                )
            if done is None:
                if runs.state(run) != "reserve":
                    raise DisclosureError("The ledger holds no open reservation of this run.")
                body = {"run": run, "release": release, "counts": dict(counts), "name": name}
                done = chain.append("commit", body, packed(pictures))
            return Anchor(done.seq, done.hash)

    def share(self, release: str, weights: str, form: str, grounds: str) -> None:
        """Record, once, that the generator of a release leaves.

        Args:
            release: `Release.digest`, as committed.
            weights: SHA-256 of the generator's weights.
            form: what it is written as.
            grounds: why it may leave, in words.

        Raises:
            DisclosureError: if no such release was committed, a patient of it has withdrawn, or
                the ledger does not verify.
        """
        with self._appending() as chain:
            runs = Runs(chain.entries)
            committed = [e for e in chain.entries if e.kind == "commit"]
            found = next((e for e in committed if e.body["release"] == release), None)
            if found is None:
                raise DisclosureError(
                    "The ledger holds no release of this generator: it is another site's ledger, "
                    "or the release was not made here."
                )
            run = found.body["run"]
            if reasons := withdrawn_reasons(runs, runs.patients(run)):
                raise DisclosureError(*reasons)
            body = {"run": run, "weights": weights, "form": form, "grounds": grounds}
            if not runs.has("share", **body):
                chain.append("share", body)

    def abort(self, run: str, reasons: Iterable[str]) -> None:
        """Record that a reserved run released nothing. A privacy loss stays spent."""
        with self._appending() as chain:
            if Runs(chain.entries).state(run) == "reserve":
                chain.append("abort", {"run": run, "reasons": list(reasons)})

    def audit(self, run: str, figures: Mapping[str, Any]) -> None:
        """Record what an audit of a run found, once."""
        with self._appending() as chain:
            if not Runs(chain.entries).has("audit", run=run, figures=dict(figures)):
                chain.append("audit", {"run": run, "figures": dict(figures)})

    def train(self, dataset: str, patients: frozenset[str], weights: str) -> None:
        """Record that a generator learnt from a data set, once.

        Raises:
            DisclosureError: if a patient has withdrawn, or the ledger does not verify.
        """
        with self._appending() as chain:
            runs = Runs(chain.entries)
            if reasons := withdrawn_reasons(runs, patients):
                raise DisclosureError(*reasons)
            _write_dataset(chain, runs, dataset, patients)
            if not runs.has("train", dataset=dataset, weights=weights):
                chain.append("train", {"dataset": dataset, "weights": weights})

    def withdraw(self, token: str) -> tuple[Taken, ...]:
        """Record that a patient's consent is withdrawn; no later run may train on the patient.

        Returns:
            The releases that the patient took part in: what has left cannot be called back here.
        """
        with self._appending() as chain:
            runs = Runs(chain.entries)
            if token not in runs.revoked:
                chain.append("revoke", {"patient": token})
            found = [runs.committed(run) for run in runs.of_patients({token})]
            return tuple(_taken(entry) for entry in found if entry is not None)

    def withdrawn(self, tokens: Iterable[str]) -> frozenset[str]:
        """Those of ``tokens`` whose consent is withdrawn."""
        return frozenset(tokens) & Runs(self.entries()).revoked

    def spent(self, token: str, compose: Callable[[Sequence[Any]], float]) -> float:
        """The epsilon of everything reserved on a patient; infinite after a release without one."""
        return loss(Runs(self.entries()).charged(token), compose)

    def history(self, patients: Collection[str]) -> list[dict[str, Any]]:
        """Every entry about runs over any of these patients, without tokens, for the own report.

        Returns:
            Per entry its number ``entry``, ``at``, ``kind``, the first digits of the ``run``, and
            what is said in one line.
        """
        entries = self.entries()
        runs = Runs(entries)
        about = set(runs.of_patients(patients))
        return [line_of(entry) for entry in entries if entry.body.get("run") in about]

    def entries(self) -> tuple[Entry, ...]:
        """Everything, in order.

        Raises:
            DisclosureError: if the ledger does not verify.
        """
        try:
            return self._chain.entries()
        except BrokenChainError as error:
            raise _not_verified(self._chain.path, error) from error

    def problems(self, anchor: Anchor | None = None) -> tuple[str, ...]:
        """What is wrong with the ledger, in sentences; nothing if it is as it was written.

        Args:
            anchor: of a release of this site; finds that the last entries were cut off.
        """
        try:
            entries = self._chain.entries()
        except BrokenChainError as error:
            return error.problems
        if anchor is None:
            return ()
        if anchor.entry > len(entries):
            cut = (
                f"the ledger ends at entry {len(entries)}, the release was recorded as entry "
                f"{anchor.entry}: the last entries were cut off, or this is another ledger"
            )
            return (cut,)
        if entries[anchor.entry - 1].hash != anchor.head:
            other = (
                f"entry {anchor.entry} is not the one that the release was recorded as: entries "
                "were changed, or this is the ledger of another site (--site-key, --ledger)"
            )
            return (other,)
        return ()

    @contextmanager
    def _appending(self) -> Iterator[Appender]:
        """`Chain.appending`, with a broken chain as the gate's refusal."""
        try:
            with self._chain.appending() as chain:
                yield chain
        except BrokenChainError as error:
            raise _not_verified(self._chain.path, error) from error


def _not_verified(path: Path, error: BrokenChainError) -> DisclosureError:
    return DisclosureError(
        *(f"The ledger {path.name} does not verify: {problem}." for problem in error.problems),
        "Restore it from a backup that verifies: medaug ledger verify.",
    )


def _write_dataset(chain: Appender, runs: Runs, dataset: str, patients: frozenset[str]) -> None:
    """The patients of a data set stand in the ledger once; later entries name the data set."""
    if not runs.has("dataset", dataset=dataset, patients=sorted(patients)):
        chain.append("dataset", {"dataset": dataset, "patients": sorted(patients)})


def _write_reservation(chain: Appender, runs: Runs, booking: Booking) -> None:
    _write_dataset(chain, runs, booking.dataset, booking.patients)
    run = {"run": booking.run, "dataset": booking.dataset}
    if runs.state(booking.run) == "new":
        attempt: dict[str, Any] = {"attempt": booking.attempt, "audited": booking.audited}
        if booking.cohort:
            attempt["cohort"] = hashlib.sha256("".join(sorted(booking.cohort)).encode()).hexdigest()
            _write_dataset(chain, runs, attempt["cohort"], booking.cohort)
        chain.append("attempt", {**run, **attempt})
    chain.append("reserve", {**run, **booking.figures()})


def _taken(entry: Entry) -> Taken:
    body = entry.body
    return Taken(entry.seq, body["at"], body["release"], body["name"], body["counts"])
