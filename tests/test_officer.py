"""The officer's commands: what they say, and the code they end with."""

import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medaug import cli
from medaug.errors import CohortError
from medaug.privacy.ledger import Booking, Ledger
from medaug.readers.identity import load_site_key, patient_key
from medaug.road.dealing import refuse_withdrawn
from medaug.site import ledger_path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    load_site_key(tmp_path / "site.key")
    return tmp_path / "site.key"


@pytest.fixture
def site(key: Path) -> Ledger:
    """A ledger beside its key, with a release from patient 4711."""
    ledger = Ledger(ledger_path(None, key), load_site_key(key))
    patients = frozenset({patient_key(load_site_key(key), "4711").token})
    ledger.reserve(Booking("r1", "d1", patients, "a1", "empirical", {"cyst": 9}))
    ledger.commit("r1", "b" * 64, {"cyst": 9}, np.zeros((9, 64, 64), np.int8), "liver")
    return ledger


def medaug(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli._guarded(lambda: cli.app([*map(str, arguments)], standalone_mode=False))
    said = capsys.readouterr()
    return code, said.out, said.err


class TestLedger:
    """``medaug ledger show | verify | withdraw``; tokens, never identifiers."""

    def test_show(self, site: Ledger, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = medaug(capsys, "ledger", "show", "--site-key", key)
        assert code == 0
        lines = out.splitlines()
        assert [line.split()[2] for line in lines] == ["dataset", "attempt", "reserve", "commit"]
        assert "release bbbbbbbbbbbb: 9 cyst" in lines[3]
        code, out, _ = medaug(capsys, "ledger", "show", "--site-key", key, "--json")
        assert [entry["hash"] for entry in json.loads(out)] == [at.hash for at in site.entries()]

    def test_verify(self, site: Ledger, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = medaug(capsys, "ledger", "verify", "--site-key", key)
        assert (code, out.splitlines()[0]) == (0, "4 entries, each as it was written")
        path = ledger_path(None, key)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE entries SET body = '{}' WHERE seq = 2")
        connection.close()
        code, _, err = medaug(capsys, "ledger", "verify", "--site-key", key)
        assert code == 2
        assert "entry 2 was changed" in err
        assert medaug(capsys, "ledger", "show", "--site-key", key)[0] == 3
        del site

    def test_withdraw_by_token_and_by_a_hidden_identifier(
        self,
        site: Ledger,
        key: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("typer.prompt", lambda *_, **__: "4711")
        code, out, _ = medaug(capsys, "ledger", "withdraw", "--site-key", key)
        assert code == 0
        assert "liver  release bbbbbbbbbbbbbbbb: 9 cyst" in out
        assert "4711" not in out
        token = patient_key(load_site_key(key), "4711").token
        assert site.withdrawn({token}) == {token}
        code, out, _ = medaug(capsys, "ledger", "withdraw", "c" * 32, "--site-key", key)
        assert code == 0
        assert "No release" in out

    def test_a_run_with_a_withdrawn_patient_ends_before_it_learns(
        self, site: Ledger, key: Path
    ) -> None:
        patient = patient_key(load_site_key(key), "4711")
        config = SimpleNamespace(ledger=None, site_key=key)
        run = SimpleNamespace(config=config, patches=SimpleNamespace(patient_order=(patient,)))
        refuse_withdrawn(run)  # type: ignore[arg-type]
        site.withdraw(patient.token)
        with pytest.raises(CohortError, match="has withdrawn"):
            refuse_withdrawn(run)  # type: ignore[arg-type]

    def test_no_token(self, site: Ledger, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = medaug(capsys, "ledger", "withdraw", "4711", "--site-key", key)
        assert code == 2
        assert "32 hexadecimal digits" in err
        assert len(site.entries()) == 4

    @pytest.mark.parametrize("command", ["show", "verify", "withdraw"])
    def test_where_there_is_none_none_is_made(
        self, key: Path, capsys: pytest.CaptureFixture[str], command: str
    ) -> None:
        code, _, err = medaug(capsys, "ledger", command, "--site-key", key)
        assert code == 2
        assert "no ledger here" in err
        assert not ledger_path(None, key).exists()

    def test_a_key_open_to_others(
        self, site: Ledger, key: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key.chmod(0o644)
        code, _, err = medaug(capsys, "ledger", "verify", "--site-key", key)
        assert code == 2
        assert "mode 0600" in err
        del site
