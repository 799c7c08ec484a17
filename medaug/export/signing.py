r"""Detached Ed25519 signatures in the format of minisign [1]_.

Digests find damage; only a signature finds somebody who rewrites files and digests together. Keys,
signatures and public keys are those of the tool ``minisign``: a receiver without medaug checks with
``minisign -Vm SHA256SUMS -p PUBLIC_KEY``, and a key of ``minisign -GW`` signs here.

======================  ==================================================================
secret key, 158 bytes   ``Ed``, ``\0\0`` (no password), ``B2``, 48 bytes of a password's salt and
                        limits, number of the key (8), seed (32), public point (32), checksum (32)
public key, 42 bytes    ``Ed``, number of the key, public point
signature, 74 bytes     ``ED``, number of the key, Ed25519 [2]_ over the BLAKE2b-512 of the file
global signature, 64    Ed25519 over the first signature and the trusted comment
======================  ==================================================================

Ed25519 draws nothing: the same key and file give the same signature. No time is written. A key with
a password is refused, since a run asks nobody; sign with ``minisign -S`` itself instead.

.. [1] https://jedisct1.github.io/minisign/
.. [2] RFC 8032
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medaug.errors import Fault, SettingsError

_KIND, _OF_A_DIGEST, _NO_PASSWORD = b"Ed", b"ED", b"\0\0"
_SECRET, _PUBLIC, _SIGNATURE, _GLOBAL = 158, 42, 74, 64
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
# What medaug writes, and what minisign does. Nothing vouches for this line: any other is refused.
_COMMENTS = ("signature of a medaug release", "signature from minisign secret key")


@dataclass(frozen=True)
class PublicKey:
    """What a receiver checks with: the key's number (8 bytes) and its point (32 bytes)."""

    number: bytes
    point: bytes

    @property
    def name(self) -> str:
        """The number as minisign prints it."""
        return self.number[::-1].hex().upper()


@dataclass(frozen=True)
class SecretKey:
    """What a site signs with: the key's number (8 bytes) and its seed (32 bytes)."""

    number: bytes
    seed: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The other half."""
        point = _ed25519().Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return PublicKey(self.number, point.public_bytes_raw())


def make_keys(path: Path) -> PublicKey:
    """Draw a key pair: the secret half to ``path`` (mode 0600), the other beside it as ``.pub``.

    Raises:
        SettingsError: if one of the files exists, or without the package cryptography.
    """
    public_path = path.with_suffix(".pub")
    taken = [each for each in {path, public_path} if each.exists() or path == public_path]
    if taken:
        raise SettingsError(
            *(Fault(str(each), "is there or would be overwritten", "a new name") for each in taken)
        )
    key = SecretKey(secrets.token_bytes(8), secrets.token_bytes(32))
    public = key.public
    secret = _KIND + _NO_PASSWORD + b"B2" + bytes(48) + key.number + key.seed + public.point
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii", newline="\n") as file:
        # minisign's own first line; with it, minisign reads the file.
        file.write(f"{_UNTRUSTED}minisign encrypted secret key\n{_coded(secret + bytes(32))}\n")
    text = f"{_UNTRUSTED}minisign public key {public.name}\n"
    text += f"{_coded(_KIND + public.number + public.point)}\n"
    public_path.write_text(text, encoding="ascii", newline="\n")
    return public


def load_secret_key(path: Path) -> SecretKey:
    """The secret key in the file ``path``.

    Raises:
        SettingsError: if others may read the file, or it holds no key without a password.
    """
    raw = _key_bytes(path, _SECRET, "export.sign_with")
    mode = path.stat().st_mode
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(
            Fault(
                str(path),
                f"others than the owner may use this key (mode {stat.S_IMODE(mode):04o})",
                "mode 0600",
                "chmod 600 the file, and ask who may have read it",
            )
        )
    if raw[2:4] != _NO_PASSWORD:
        raise SettingsError(
            Fault(
                str(path),
                "this key has a password",
                "a key of medaug keygen, or of minisign -GW",
                "or leave export.sign_with out and sign with minisign -Sm SHA256SUMS",
            )
        )
    key = SecretKey(raw[54:62], raw[62:94])
    if key.public.point != raw[94:126]:
        raise SettingsError(Fault(str(path), "the key is damaged", "its halves belong together"))
    return key


def load_public_key(path: Path) -> PublicKey:
    """The public key in the file ``path``.

    Raises:
        SettingsError: if it holds none.
    """
    raw = _key_bytes(path, _PUBLIC, "--signed-by")
    return PublicKey(raw[2:10], raw[10:])


def sign(key: SecretKey, data: bytes, comment: str) -> str:
    """The signature file of ``data``; ``comment`` is one line, and signed as well."""
    private = _ed25519().Ed25519PrivateKey.from_private_bytes(key.seed)
    signature = private.sign(hashlib.blake2b(data).digest())
    overall = private.sign(signature + comment.encode())
    return _file(_COMMENTS[0], _OF_A_DIGEST + key.number + signature, comment, overall)


def signer_of(text: bytes) -> str | None:
    """Number of the key that a signature file names; None if the file is not well formed.

    It is a claim and no more: `signature_fault` checks it.
    """
    parts = _parts(text)
    return None if parts is None else PublicKey(parts[0][2:10], b"").name


def signature_fault(text: bytes, data: bytes, key: PublicKey) -> str | None:
    """Why the signature file ``text`` is not one of ``data`` by ``key``; None if it is."""
    parts = _parts(text)
    if parts is None:
        return "is not a signature as medaug or minisign writes it"
    head, comment, overall = parts
    if head[2:10] != key.number:
        return f"is by the key {PublicKey(head[2:10], b'').name}, not by {key.name}"
    point = _ed25519().Ed25519PublicKey.from_public_bytes(key.point)
    from cryptography.exceptions import InvalidSignature

    try:
        point.verify(head[10:], hashlib.blake2b(data).digest())
        point.verify(overall, head[10:] + comment.encode())
    except InvalidSignature:
        return f"was not made with the key {key.name} of these digests"
    return None


def _parts(text: bytes) -> tuple[bytes, str, bytes] | None:
    """Signature, trusted comment and global signature; None unless every byte is as it must be."""
    try:
        first, head, second, overall = text.decode().split("\n")[:4]
        raw = base64.b64decode(head, validate=True), base64.b64decode(overall, validate=True)
    except (ValueError, binascii.Error):
        return None
    comment = second.removeprefix(_TRUSTED)
    opening = first.removeprefix(_UNTRUSTED)
    # Written again it is the same: no second spelling of the same signature goes through.
    whole = _file(opening, raw[0], comment, raw[1]).encode() == text
    if opening not in _COMMENTS or not whole or raw[0][:2] != _OF_A_DIGEST:
        return None
    if (len(raw[0]), len(raw[1])) != (_SIGNATURE, _GLOBAL):
        return None
    return raw[0], comment, raw[1]


def _file(opening: str, head: bytes, comment: str, overall: bytes) -> str:
    lines = (f"{_UNTRUSTED}{opening}", _coded(head), f"{_TRUSTED}{comment}", _coded(overall))
    return "".join(f"{line}\n" for line in lines)


def _key_bytes(path: Path, size: int, where: str) -> bytes:
    """What the second line of a key file holds."""
    allowed = "a key file of medaug keygen or minisign"
    try:
        raw = base64.b64decode(path.read_text(encoding="utf-8").splitlines()[1], validate=True)
    except OSError as error:
        raise SettingsError(
            Fault(where, f"{path} cannot be read: {error.strerror}", allowed)
        ) from None
    except (ValueError, IndexError, binascii.Error):
        raw = b""
    if len(raw) != size or raw[:2] != _KIND:
        raise SettingsError(Fault(where, f"{path} does not hold such a key", allowed))
    return raw


def _coded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise SettingsError(
            Fault(
                "signature",
                "the package cryptography is not installed",
                "",
                "pip install medaug[sign], or check with minisign -Vm SHA256SUMS -p PUBLIC_KEY",
            )
        ) from None
    return ed25519
