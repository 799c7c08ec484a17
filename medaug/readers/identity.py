"""Identifiers in, tokens out.

A token is HMAC-SHA256 [1]_ over the use and the text, under a key of the site, cut to 128 bits.
Without the key nobody can recompute a token from a guessed Patient ID; with it, the same patient
has the same token in every run at this site. The use ("patient", "case", "lesion") is part of
what is hashed, so that tokens of different uses are never equal.

>>> key = bytes(32)
>>> patient_key(key, "4711") == patient_key(key, " 4711 ")
True
>>> patient_key(key, "4711").token == case_token(key, "4711")
False

.. [1] RFC 2104; FIPS 198-1
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import unicodedata
from pathlib import Path

import platformdirs

from medaug.domain import PatientKey
from medaug.errors import Fault, ReaderError

_KEY_BYTES = 32


def patient_key(site_key: bytes, text: str) -> PatientKey:
    """The key of the patient whom a file calls ``text``."""
    return PatientKey(_token(site_key, "patient", text))


def picture_key(site_key: bytes, path: str) -> PatientKey:
    """The key that stands in for a patient where a source knows none: one per picture."""
    return PatientKey(_token(site_key, "picture", path))


def case_token(site_key: bytes, text: str) -> str:
    """The token of a series or an image file: 32 hexadecimal digits."""
    return _token(site_key, "case", text)


def lesion_uid(site_key: bytes, text: str) -> str:
    """The Tracking UID (0062,0021) of a lesion, under the 2.25 root (PS3.5 B.2)."""
    return f"2.25.{int(_token(site_key, 'lesion', text), 16)}"


def load_site_key(path: Path | None = None) -> bytes:
    """The key of this site, 32 bytes; made on first use.

    Args:
        path: the key file. By default ``site.key`` in the user's data folder for medaug.

    Raises:
        ReaderError: if others may read the file, or if it holds something else than a key.
    """
    path = site_key_path(path)
    if not path.exists():
        _make(path)
    mode = path.stat().st_mode
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ReaderError(
            Fault(
                str(path),
                f"others than the owner may use the site key (mode {stat.S_IMODE(mode):04o})",
                "mode 0600",
                "chmod 600 the file, and ask who may have read it",
            )
        )
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ReaderError(
            Fault(
                str(path),
                "the site key file does not hold a key",
                f"{2 * _KEY_BYTES} hexadecimal digits",
                "restore it from a backup; with a new key every patient gets a new token",
            )
        )
    return key


def site_key_path(path: Path | None = None) -> Path:
    """Where the key lies: ``path``, or ``site.key`` in the user's data folder for medaug."""
    return path or Path(platformdirs.user_data_dir("medaug", appauthor=False)) / "site.key"


def _make(path: Path) -> None:
    """Write a fresh key; if another process was faster, its key stands."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, fails where the name is taken.
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _token(site_key: bytes, use: str, text: str) -> str:
    if len(site_key) != _KEY_BYTES:
        raise ValueError(f"a site key has {_KEY_BYTES} bytes, got {len(site_key)}")
    plain = unicodedata.normalize("NFC", text.strip())
    message = f"medaug/{use}\0{plain}".encode("utf-8", "surrogatepass")
    return hmac.new(site_key, message, hashlib.sha256).hexdigest()[:32]
