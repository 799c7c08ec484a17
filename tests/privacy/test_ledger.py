"""What is spent is written down before it is spent, and nobody can change it unseen (P12)."""

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_worker import KEY, PATIENTS, booking
from scipy.ndimage import gaussian_filter

from medaug.errors import DisclosureError, SettingsError
from medaug.privacy.duplicates import Gathered
from medaug.privacy.ledger import Cap, Ledger
from medaug.privacy.ledger_chain import Anchor
from medaug.privacy.ledger_pictures import pictures_of

WORKER = Path(__file__).with_name("ledger_worker.py")
PICTURES = np.arange(3 * 64 * 64, dtype=np.int64).reshape(3, 64, 64).astype(np.int8)
A_PATIENT = min(PATIENTS)


def added(events: Sequence[Any]) -> float:
    """Epsilons that add up: the plainest composition."""
    return float(sum(events))


def in_a_process(path: Path, run: str, end: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(path), run, end]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what it said."""
    with process:
        said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger(path, KEY)


def kinds(ledger: Ledger) -> list[str]:
    return [entry.kind for entry in ledger.entries()]


def released(ledger: Ledger, run: str, **changes: object) -> Anchor:
    ledger.reserve(booking(run, **changes))
    return ledger.commit(run, f"release of {run}", {"cyst": 10}, PICTURES)


class TestReserveThenCommit:
    """Reserve before generating, commit before writing; the same run spends once."""

    def test_the_order(self, ledger: Ledger) -> None:
        anchor = released(ledger, "r1")
        assert kinds(ledger) == ["dataset", "attempt", "reserve", "commit"]
        assert anchor.entry == 4

    def test_the_same_run_again_writes_nothing(self, ledger: Ledger) -> None:
        anchor = released(ledger, "r1")
        before = ledger.entries()
        assert released(ledger, "r1") == anchor
        assert ledger.entries() == before
        assert ledger.spent(A_PATIENT, added) == 1.0

    def test_nothing_is_committed_that_was_not_reserved(self, ledger: Ledger) -> None:
        with pytest.raises(DisclosureError, match="no open reservation"):
            ledger.commit("r1", "x", {}, PICTURES)

    def test_a_run_has_one_release(self, ledger: Ledger) -> None:
        released(ledger, "r1")
        with pytest.raises(DisclosureError, match="with other pixels"):
            ledger.commit("r1", "another", {"cyst": 10}, PICTURES)

    @pytest.mark.parametrize("other", [{"event": 0.5}, {"wanted": {"cyst": 11}}, {"mode": "x"}])
    def test_a_run_reserves_one_thing(self, ledger: Ledger, other: dict[str, Any]) -> None:
        ledger.reserve(booking("r1"))
        with pytest.raises(DisclosureError, match="other figures"):
            ledger.reserve(booking("r1", **other))

    def test_a_refusal_stays_spent_and_is_written_once(self, ledger: Ledger) -> None:
        ledger.reserve(booking("r1"))
        ledger.abort("r1", ["too near"])
        ledger.abort("r1", ["too near"])
        assert kinds(ledger).count("abort") == 1
        assert ledger.spent(A_PATIENT, added) == 1.0
        ledger.reserve(booking("r1"))
        assert ledger.spent(A_PATIENT, added) == 1.0
        assert kinds(ledger).count("attempt") == 1

    def test_no_identifier_and_no_two_salts_alike(self, ledger: Ledger) -> None:
        released(ledger, "r1")
        salts = [entry.body["salt"] for entry in ledger.entries()]
        assert len(set(salts)) == len(salts)


class TestEarlierReleases:
    """Two runs over the same patients compose."""

    def test_counts_and_pictures_of_others_that_share_a_patient(self, ledger: Ledger) -> None:
        released(ledger, "r1")
        released(ledger, "stranger", dataset="d2", patients=frozenset({"f" * 32}))
        one = booking("r2", dataset="d3", patients=frozenset({A_PATIENT, "e" * 32}))
        earlier = ledger.reserve(one)
        assert earlier.counts == {"cyst": 10}
        np.testing.assert_array_equal(earlier.pictures, PICTURES)

    def test_not_those_of_the_run_itself(self, ledger: Ledger) -> None:
        released(ledger, "r1")
        earlier = ledger.reserve(booking("r1"))
        assert earlier.counts == {}
        assert earlier.pictures.shape == (0, 64, 64)

    def test_an_open_reservation_counts_what_it_wanted_a_refused_one_nothing(
        self, ledger: Ledger
    ) -> None:
        ledger.reserve(booking("r1", wanted={"cyst": 7}))
        assert ledger.reserve(booking("r2")).counts == {"cyst": 7}
        ledger.abort("r1", ["x"])
        assert ledger.reserve(booking("r2")).counts == {}

    @pytest.mark.parametrize("shape", [(3, 1, 96, 96), (3, 3, 64, 64), (3, 1, 32, 32, 32)])
    def test_a_picture_stands_for_its_sample_in_the_search_for_duplicates(
        self, shape: tuple[int, ...]
    ) -> None:
        noise = np.random.default_rng(0).normal(size=shape)
        images = gaussian_filter(1000 * noise, (0, 0, 2, 2, 2)[: len(shape)]).astype(np.float32)
        kept = Gathered()
        for picture in pictures_of(images[:2]):
            kept.add(picture[None].astype(np.float32))
        found = [kept.likeness(image) for image in images]
        assert min(found[:2]) > 0.995
        assert found[2] < 0.9


class TestCap:
    """The budget is per patient, over all that contains the patient; past the cap: refused."""

    def test_refused_past_the_cap_and_nothing_is_spent(self, ledger: Ledger) -> None:
        cap = Cap(2.5, added)
        ledger.reserve(booking("r1"), cap)
        ledger.reserve(booking("r2"), cap)
        before = ledger.entries()
        with pytest.raises(DisclosureError, match=r"epsilon 3 over 3 runs, the cap is 2\.5"):
            ledger.reserve(booking("r3"), cap)
        assert ledger.entries() == before
        ledger.reserve(booking("r2"), cap)

    def test_one_patient_in_common_is_enough(self, ledger: Ledger) -> None:
        cap = Cap(1.5, added)
        ledger.reserve(booking("r1"), cap)
        fresh = frozenset({"f" * 32})
        ledger.reserve(booking("r2", dataset="d2", patients=fresh), cap)
        both = fresh | {A_PATIENT}
        with pytest.raises(DisclosureError, match="1 of 2 patients"):
            ledger.reserve(booking("r3", dataset="d3", patients=both), cap)

    def test_what_claims_no_privacy_has_no_bound(self, ledger: Ledger) -> None:
        ledger.reserve(booking("r1", mode="empirical", event=None))
        with pytest.raises(DisclosureError, match="has no bound"):
            ledger.reserve(booking("r2"), Cap(100, added))
        assert ledger.spent(A_PATIENT, added) == math.inf
        ledger.abort("r1", ["refused"])
        ledger.reserve(booking("r2"), Cap(100, added))
        assert ledger.spent("f" * 32, added) == 0.0

    def test_composition_sees_all_events_of_a_patient(self, ledger: Ledger) -> None:
        for number in range(3):
            ledger.reserve(booking(f"r{number}", event={"sigma": number}))
        seen: list[Sequence[Any]] = []

        def remember(events: Sequence[Any]) -> float:
            seen.append(events)
            return 0.0

        ledger.reserve(booking("r3", event={"sigma": 3}), Cap(1, remember))
        assert seen == [[{"sigma": number} for number in range(4)]]


class TestAttempts:
    """Three runs over a cohort may be audited, whatever their settings; a resumed run is no other.

    Trying until an audit passes is the p-hacking that the count is for; leaving the audit out after
    it has failed would be the same under another name.
    """

    COHORT = frozenset({*PATIENTS, *(f"{number:032x}" for number in range(20, 40))})

    def looked(self, ledger: Ledger, run: str, end: str = "refused", **changes: object) -> None:
        empirical = {"mode": "empirical", "event": None, "cohort": self.COHORT, "audited": True}
        ledger.reserve(booking(run, **{**empirical, "attempt": f"settings of {run}", **changes}))
        if end != "killed":
            ledger.audit(run, {"p": 0.001})
        if end == "refused":
            ledger.abort(run, ["the audit found them"])
        if end == "released":
            ledger.commit(run, f"release of {run}", {"cyst": 10}, PICTURES)

    def test_the_fourth_is_refused_whatever_its_settings(self, ledger: Ledger) -> None:
        for run, end in (("r1", "refused"), ("r2", "released"), ("r3", "killed")):
            self.looked(ledger, run, end)
        before = ledger.entries()
        with pytest.raises(DisclosureError, match="3 runs over these patients have been audited"):
            self.looked(ledger, "r4")
        assert ledger.entries() == before
        self.looked(ledger, "r3")
        ledger.reserve(booking("dp", dataset="d2"))

    @pytest.mark.parametrize(("kept", "refused"), [(40, True), (15, True), (19, True), (10, False)])
    def test_leaving_patients_out_or_adding_some_gives_no_new_count(
        self, ledger: Ledger, kept: int, refused: bool
    ) -> None:
        """Half of the new cohort, or more, was looked at before."""
        for number in range(3):
            self.looked(ledger, f"r{number}")
        fresh = frozenset(f"{number:032x}" for number in range(100, 115))
        cohort = frozenset(sorted(self.COHORT)[:kept]) | fresh
        if refused:
            with pytest.raises(DisclosureError, match="have been audited"):
                self.looked(ledger, "r4", cohort=cohort)
        else:
            self.looked(ledger, "r4", cohort=cohort)

    def test_what_is_sure_to_be_refused_is_refused_before_training(self, ledger: Ledger) -> None:
        """Unless it may be one of those runs, repeated."""
        for number in range(3):
            self.looked(ledger, f"r{number}")
        before = ledger.entries()
        asked = booking("?", mode="empirical", cohort=self.COHORT, audited=True, attempt="others")
        with pytest.raises(DisclosureError, match="have been audited"):
            ledger.foresee(asked)
        ledger.foresee(replace(asked, attempt="settings of r1"))
        ledger.foresee(replace(asked, cohort=frozenset({"f" * 32})))
        with pytest.raises(DisclosureError, match="would mislead"):
            ledger.foresee(replace(asked, audited=False))
        assert ledger.entries() == before

    def test_refused_before_the_audit_is_no_look(self, ledger: Ledger) -> None:
        """Mending a training that copies is what a refusal asks for."""
        for number in range(4):
            self.looked(ledger, f"r{number}", "killed")
            ledger.abort(f"r{number}", ["copies"])
        assert kinds(ledger).count("attempt") == 4

    @pytest.mark.parametrize(("end", "refused"), [("refused", True), ("released", False)])
    def test_an_audit_that_failed_cannot_be_left_out(
        self, ledger: Ledger, end: str, refused: bool
    ) -> None:
        self.looked(ledger, "r1", end)
        unaudited = booking("r2", mode="empirical", event=None, cohort=self.COHORT, audited=False)
        if refused:
            before = ledger.entries()
            with pytest.raises(DisclosureError, match="no attack was run would mislead"):
                ledger.reserve(unaudited)
            assert ledger.entries() == before
        else:
            ledger.reserve(unaudited)


class TestWithdrawal:
    """Consent withdrawn: the releases are listed, and no later run may use the patient."""

    def test_lists_the_releases_and_refuses_new_runs(self, ledger: Ledger) -> None:
        released(ledger, "r1")
        released(ledger, "r2", dataset="d2", patients=frozenset({"f" * 32}))
        ledger.reserve(booking("r3"))
        taken = ledger.withdraw(A_PATIENT)
        assert [(one.release, one.counts) for one in taken] == [("release of r1", {"cyst": 10})]
        assert ledger.withdrawn(PATIENTS) == {A_PATIENT}
        before = ledger.entries()
        for run in ("r4", "r3"):
            with pytest.raises(DisclosureError, match=f"Patient {A_PATIENT} has withdrawn"):
                ledger.reserve(booking(run))
        with pytest.raises(DisclosureError, match="has withdrawn"):
            ledger.train("d1", PATIENTS, "w")
        ledger.withdraw(A_PATIENT)
        assert ledger.entries() == before

    def test_training_and_audits_are_recorded_once(self, ledger: Ledger) -> None:
        for _ in range(2):
            ledger.train("d1", PATIENTS, "w")
            ledger.audit("r1", {"auc": 0.5})
        assert kinds(ledger) == ["dataset", "train", "audit"]


class TestTwoProcesses:
    """Killed between reserve and commit, or both at once: never under-counted."""

    def test_killed_after_reserving_the_budget_is_spent(self, path: Path, ledger: Ledger) -> None:
        assert ended(in_a_process(path, "r1", "kill"))[0] == -signal.SIGKILL
        assert kinds(ledger) == ["dataset", "attempt", "reserve"]
        assert ledger.spent(A_PATIENT, added) == 1.0
        assert ledger.reserve(booking("r2")).counts == {"cyst": 10}
        assert ended(in_a_process(path, "r1", "commit"))[0] == 0
        assert kinds(ledger)[-2:] == ["reserve", "commit"]
        assert ledger.spent(A_PATIENT, added) == 2.0

    def test_killed_in_the_middle_of_writing_leaves_nothing(
        self, path: Path, ledger: Ledger
    ) -> None:
        process = in_a_process(path, "r1", "hold")
        assert process.stdout is not None
        assert process.stdout.readline() == "in the middle\n"
        process.kill()
        ended(process)
        assert ledger.entries() == ()
        ledger.reserve(booking("r1"))
        assert ledger.problems() == ()

    def test_all_at_once_each_sees_those_before(self, path: Path) -> None:
        """Nobody made the file before them."""
        processes = [in_a_process(path, f"r{number}", "commit") for number in range(4)]
        ends = [ended(process) for process in processes]
        assert sorted(ends) == [(0, f"{seen}\n") for seen in (0, 10, 20, 30)]
        ledger = Ledger(path, KEY)
        assert kinds(ledger).count("commit") == 4
        assert kinds(ledger).count("dataset") == 1
        assert not list(path.parent.glob(".*"))


def edit(sql: str, *values: object) -> Callable[[Path], None]:
    """Change the file behind the ledger's back, rules taken away first and put back after."""

    def tamper(path: Path) -> None:
        connection = sqlite3.connect(path)
        rules = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        rules = rules.fetchall()
        for name, _ in rules:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(sql, values).rowcount > 0
        for _, rule in rules:
            connection.execute(rule)
        connection.commit()
        connection.close()

    return tamper


class TestTampering:
    """Edit, delete, cut off: all found; afterwards nothing can be reserved."""

    @pytest.mark.parametrize(
        ("tamper", "says"),
        [
            (edit("UPDATE entries SET body = replace(body, '10', '1') WHERE seq = 3"), "entry 3"),
            (edit("UPDATE entries SET attachment = x'00' WHERE seq = 4"), "attached to entry 4"),
            (edit("UPDATE entries SET hash = lower(hex(randomblob(32))) WHERE seq = 4"), "entry 4"),
            (edit("UPDATE entries SET mac = hash WHERE seq = 2"), "another site key"),
            (edit("DELETE FROM entries WHERE seq = 3"), "entry 3 is missing"),
            (edit("DELETE FROM entries WHERE seq = 1"), "entry 1 is missing"),
            (edit("UPDATE entries SET seq = seq - 4 WHERE seq > 4"), ""),
        ],
    )
    def test_is_found(
        self, path: Path, ledger: Ledger, tamper: Callable[[Path], None], says: str
    ) -> None:
        released(ledger, "r1")
        if not says:
            # A whole release taken out and the next moved up.
            released(ledger, "r2")
            edit("DELETE FROM entries WHERE seq BETWEEN 1 AND 4")(path)
            says = "entry 1"
        tamper(path)
        assert any(says in problem for problem in ledger.problems()), ledger.problems()
        for act in (lambda: ledger.reserve(booking("r9")), lambda: ledger.withdraw(A_PATIENT)):
            with pytest.raises(DisclosureError, match="does not verify"):
                act()

    def test_a_chain_computed_anew_without_the_key(self, path: Path, ledger: Ledger) -> None:
        released(ledger, "r1")
        forger = Ledger(path.with_name("forged.sqlite"), bytes(32))
        released(forger, "r1")
        shutil.copyfile(path.with_name("forged.sqlite"), path)
        assert "another site key" in ledger.problems()[0]

    @pytest.mark.parametrize("sql", ["UPDATE entries SET mac = ''", "DELETE FROM entries"])
    def test_the_file_refuses_plain_changes(self, path: Path, ledger: Ledger, sql: str) -> None:
        released(ledger, "r1")
        connection = sqlite3.connect(path, isolation_level=None)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(sql)
        again = "INSERT OR REPLACE INTO entries SELECT 1, body, attachment, hash, mac FROM entries"
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(again)
        connection.execute("DROP TRIGGER no_delete")
        connection.close()
        assert "rule 'no_delete'" in ledger.problems()[0]

    def test_cut_off_entries_are_found_by_the_anchor_alone(
        self, path: Path, ledger: Ledger
    ) -> None:
        anchor = released(ledger, "r1")
        ledger.reserve(booking("r2"))
        assert ledger.problems(anchor) == ()
        edit("DELETE FROM entries WHERE seq > 3")(path)
        assert ledger.problems() == ()
        assert "cut off" in ledger.problems(anchor)[0]
        ledger.commit("r1", "another release", {"cyst": 10}, PICTURES)
        assert "is not the one" in ledger.problems(anchor)[0]

    def test_a_damaged_page(self, path: Path, ledger: Ledger) -> None:
        released(ledger, "r1")
        content = bytearray(path.read_bytes())
        content[4096:8192] = bytes(4096)
        path.write_bytes(content)
        with pytest.raises(DisclosureError, match="does not verify"):
            ledger.reserve(booking("r2"))


class TestBadFiles:
    """A file that others may use, or that is no ledger, is refused as a setting."""

    def test_made_for_the_owner_alone(self, path: Path, ledger: Ledger) -> None:
        released(ledger, "r1")
        assert path.stat().st_mode & 0o777 == 0o600

    @pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
    @pytest.mark.parametrize("mode", [0o640, 0o606])
    def test_open_to_others(self, path: Path, ledger: Ledger, mode: int) -> None:
        del ledger
        path.chmod(mode)
        with pytest.raises(SettingsError, match=f"{mode:04o}"):
            Ledger(path, KEY)

    @pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(200)])
    def test_no_ledger(self, path: Path, content: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SettingsError, match="not a ledger"):
            Ledger(path, KEY)
        assert path.read_bytes() == content

    def test_another_process_holds_it(
        self, path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("medaug.privacy.ledger_chain._WAIT_SECONDS", 0.05)
        process = in_a_process(path, "r1", "hold")
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(SettingsError, match="cannot be written"):
            ledger.reserve(booking("r2"))
        process.kill()
        ended(process)
