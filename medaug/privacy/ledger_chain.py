"""A file that can only grow: numbered entries, each bound to all before it.

One SQLite file [1]_ in WAL mode with ``synchronous=FULL``: what was written survives a power cut,
and two processes write one after the other. Triggers refuse UPDATE and DELETE. Whoever goes
round them is found, because every entry holds

- ``hash = SHA-256(previous hash ‖ number, 8 bytes big-endian ‖ body)``, so that nothing before it
  can be changed, left out or put in; and
- ``mac = HMAC-SHA256(key, hash)`` under a key that is derived from the site's key and kept outside
  the file, so that nobody without it can compute the chain anew.

What no file can tell of itself is that its last entries, or all of it, are gone. For that an
`Anchor` leaves with every release. Whoever holds key and file can rewrite everything.

The body is JSON with a random salt, so that nobody can guess an entry from a published hash.

.. [1] https://www.sqlite.org/wal.html. WAL needs a local disk: no network share.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medaug.errors import Fault, MedaugError, SettingsError

_FIRST = bytes(32)
_WAIT_SECONDS = 60.0
_SCHEMA = {
    "entries": "CREATE TABLE entries (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, "
    "attachment BLOB, hash TEXT NOT NULL, mac TEXT NOT NULL)",
    "no_update": "CREATE TRIGGER no_update BEFORE UPDATE ON entries "
    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    "no_delete": "CREATE TRIGGER no_delete BEFORE DELETE ON entries "
    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    "in_order": "CREATE TRIGGER in_order BEFORE INSERT ON entries "
    "WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM entries) "
    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
}


@dataclass(frozen=True)
class Entry:
    """One entry: its number, what it says, and the bytes that came with it."""

    seq: int
    body: dict[str, Any]
    hash: str
    attachment: bytes | None = None

    @property
    def kind(self) -> str:
        """What was recorded."""
        return str(self.body["kind"])


@dataclass(frozen=True)
class Anchor:
    """Where the chain stood: carried outside, it shows later that nothing was cut off."""

    entry: int
    head: str


class BrokenChainError(MedaugError):
    """The ledger is not as it was written. ``problems`` are sentences, the first comes first."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Chain:
    """The file. Made on first use, readable by its owner alone.

    Args:
        path: of the file; its folder is made if need be.
        site_key: 32 secret bytes; the chain's own key is derived from them.

    Raises:
        SettingsError: if others may use the file, or it holds something else than a ledger.
    """

    def __init__(self, path: Path, site_key: bytes) -> None:
        self.path = path
        self._key = hmac.new(site_key, b"medaug/ledger", hashlib.sha256).digest()
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError(
                Fault(
                    str(path),
                    f"others than the owner may use the ledger (mode {stat.S_IMODE(mode):04o})",
                    "mode 0600",
                    "chmod 600 the file, and run: medaug ledger verify",
                )
            )
        try:
            with closing(self._connect()) as connection:
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        except (BrokenChainError, sqlite3.DatabaseError) as error:
            raise self._not_a_ledger(str(error)) from error
        if "entries" not in tables:
            raise self._not_a_ledger("no entries in it")

    def entries(self) -> tuple[Entry, ...]:
        """All of them, verified.

        Raises:
            BrokenChainError: if the file is not as it was written.
        """
        with closing(self._connect()) as connection:
            return self._verified(connection)

    @contextmanager
    def appending(self) -> Iterator[Appender]:
        """Read and append with nobody in between; on any exception nothing was written.

        Raises:
            BrokenChainError: if the file is not as it was written.
            SettingsError: if another process holds it for a minute.
        """
        with closing(self._connect()) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise SettingsError(
                    Fault(
                        str(self.path),
                        f"the ledger cannot be written: {error}",
                        "a local disk, and one run at a time",
                        "wait for the other run, then run the same command: it goes on from here",
                    )
                ) from error
            try:
                yield Appender(connection, self._key, list(self._verified(connection)))
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise BrokenChainError(f"the file is damaged: {error}") from error
        return connection

    def _not_a_ledger(self, came: str) -> SettingsError:
        return SettingsError(
            Fault(
                str(self.path),
                f"this file is not a ledger of medaug: {came}",
                "a ledger, or a path where none is yet",
                "restore it from a backup; a new ledger does not know what was spent",
            )
        )

    def _verified(self, connection: sqlite3.Connection) -> tuple[Entry, ...]:
        try:
            schema = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
            rows = connection.execute(
                "SELECT seq, body, attachment, hash, mac FROM entries ORDER BY seq"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise BrokenChainError(f"the file is damaged: {error}") from error
        problems = [
            f"the rule '{name}' of the file was removed or changed"
            for name, sql in _SCHEMA.items()
            if schema.get(name) != sql
        ]
        previous, entries = _FIRST, []
        for at, (seq, body, attachment, digest, mac) in enumerate(rows, start=1):
            if seq != at:
                problems.append(f"entry {at} is missing")
                break
            problem = self._problem(previous, seq, body, attachment, digest, mac)
            if problem:
                problems.append(problem)
                break
            entries.append(Entry(seq, json.loads(body), digest, attachment))
            previous = bytes.fromhex(digest)
        if problems:
            raise BrokenChainError(*problems)
        return tuple(entries)

    def _problem(
        self, previous: bytes, seq: int, body: Any, attachment: Any, digest: Any, mac: Any
    ) -> str | None:
        if not isinstance(body, str) or digest != _hash(previous, seq, body):
            return f"entry {seq} was changed, or an entry before it was"
        if not (isinstance(mac, str) and hmac.compare_digest(mac, _mac(self._key, digest))):
            return f"entry {seq} was written with another site key, or by somebody without it"
        if json.loads(body).get("attachment") != _attachment_digest(attachment):
            return f"what is attached to entry {seq} was changed"
        return None


class Appender:
    """The entries so far, and the one way to add another."""

    def __init__(self, connection: sqlite3.Connection, key: bytes, entries: list[Entry]) -> None:
        self._connection = connection
        self._key = key
        self.entries = entries

    def append(self, kind: str, body: dict[str, Any], attachment: bytes | None = None) -> Entry:
        """Add an entry; it stands once `Chain.appending` ends without an exception."""
        seq = len(self.entries) + 1
        document = {
            "kind": kind,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "salt": secrets.token_hex(16),
            **body,
            "attachment": _attachment_digest(attachment),
        }
        text = json.dumps(document, sort_keys=True, allow_nan=False)
        previous = bytes.fromhex(self.entries[-1].hash) if self.entries else _FIRST
        digest = _hash(previous, seq, text)
        self._connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?)",
            (seq, text, attachment, digest, _mac(self._key, digest)),
        )
        entry = Entry(seq, json.loads(text), digest, attachment)
        self.entries.append(entry)
        return entry


def _hash(previous: bytes, seq: int, body: str) -> str:
    return hashlib.sha256(previous + seq.to_bytes(8, "big") + body.encode()).hexdigest()


def _mac(key: bytes, digest: str) -> str:
    return hmac.new(key, bytes.fromhex(digest), hashlib.sha256).hexdigest()


def _attachment_digest(attachment: bytes | None) -> str | None:
    return None if attachment is None else hashlib.sha256(attachment).hexdigest()


def _make(path: Path) -> None:
    """An empty ledger, whole or absent; if another process was faster, its file stands."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for sql in _SCHEMA.values():
                connection.execute(sql)
        # A link, unlike a rename, fails where the name is taken.
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
