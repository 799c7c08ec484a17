"""The forms in which a name or a number may hide.

Letters of either case count as equal in text; base64, hexadecimal digits and digests depend on
case, so they are made of the marker as it is, in capitals, in small letters and in title case. Of a
digest the first 8 bytes are searched, because many cut it. Names are sought in either order, days
as they are usually written, and both without accents (`variants`). A number of fewer than 8 digits
counts where no other digit but a leading zero stands beside it: it is in others by chance.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import unicodedata
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass

from medaug.errors import Fault, SettingsError
from medaug.scan.variants import variants_of

SHORTEST = 4
_SHORTEST_BASE64 = 6  # Shorter ones turn up in any base64 text by chance.
_LONG_NUMBER = 8  # digits
_DIGEST_BYTES = 8
_DIGESTS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256"}
_ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@dataclass(frozen=True)
class Needle:
    """A string of bytes to look for.

    Attributes:
        marker: number of the marker, from 1.
        form: how it is written, for people.
        content: the bytes; in small letters where ``folded``.
        folded: whether capitals and small letters are equal.
        squeezed: whether white space inside does not count, as in wrapped base64.
        alone: for a short number, the bytes from one digit to the next; 0 where anything may
            stand beside it.
    """

    marker: int
    form: str
    content: bytes
    folded: bool
    squeezed: bool = False
    alone: int = 0

    def stands(self, seen: bytes, start: int) -> bool:
        """Whether no other digit stands beside it at ``start``; zeros may stand before it."""
        if not self.alone:
            return True
        before, end = start - self.alone, start + len(self.content)
        while before >= 0 and seen[before : before + 1] == b"0":
            before -= self.alone
        # Where a code unit has its zeros first, those of the needle's first digit were cut off.
        after = end if self.content.endswith(b"\0") else end + self.alone - 1
        beside = (seen[before : before + 1] if before >= 0 else b"") + seen[after : after + 1]
        return not any(byte in b"0123456789" for byte in beside)


def read_markers(text: str) -> list[str]:
    """The markers of a file: one a line; empty lines and lines that start with # are left out.

    Raises:
        SettingsError: if there is none, or for markers too short to mean anything.
    """
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    markers = [line for line in lines if line and not line.startswith("#")]
    faults = [
        Fault(f"marker {number}", f"{len(marker)} characters", f"{SHORTEST} or more",
              "shorter ones turn up by chance: write more of the name or number")
        for number, marker in enumerate(markers, start=1)
        if len(marker) < SHORTEST
    ]  # fmt: skip
    if not markers:
        faults = [Fault("markers", "no marker in the file", "one name or number a line")]
    if faults:
        raise SettingsError(*faults)
    return markers


def needles_of(markers: list[str]) -> tuple[Needle, ...]:
    """Every form of every marker, each once."""
    found: dict[tuple[bytes, bool], Needle] = {}
    for number, marker in enumerate(markers, start=1):
        for needle in _forms(number, marker):
            found.setdefault((needle.content, needle.folded), needle)
    return tuple(found.values())


def _forms(number: int, marker: str) -> Iterator[Needle]:
    short = marker.isdecimal() and marker.isascii() and len(marker) < _LONG_NUMBER
    for text in _spellings(variants_of(marker)):
        for encoding in _ENCODINGS:
            try:
                content = text.encode(encoding)
            except UnicodeEncodeError:
                continue
            name = "text" if encoding in ("utf-8", "latin-1") else encoding.upper()[:6]
            # Without leading zeros: otherwise a needle could begin anywhere in an empty picture.
            unit = len("0".encode(encoding)) if short else 0
            yield Needle(number, name, content.lower().lstrip(b"\0"), folded=True, alone=unit)
    for text in _cases(variants_of(marker, common=True)):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            content = text.encode(encoding)
            yield Needle(number, "hex", content.hex().encode(), folded=True, squeezed=True)
            for written in _base64_of(content):
                yield Needle(number, "base64", written, folded=False, squeezed=True)
        for name, algorithm in _DIGESTS.items():
            digest = hashlib.new(algorithm, text.encode(), usedforsecurity=False).digest()
            start = digest[:_DIGEST_BYTES]
            yield Needle(number, name, start, folded=False)
            yield Needle(number, f"{name} hex", start.hex().encode(), folded=True, squeezed=True)
            for written in _base64_of(start):
                yield Needle(number, f"{name} base64", written, folded=False, squeezed=True)


def _cases(variants: set[str]) -> set[str]:
    texts = {case for text in variants for case in (text, text.lower(), text.upper(), text.title())}
    return {unicodedata.normalize(form, text) for text in texts for form in ("NFC", "NFD")}


def _spellings(variants: set[str]) -> set[str]:
    """Also as JSON, an address or HTML would escape it."""
    cases = _cases(variants)
    escapes = (lambda text: json.dumps(text)[1:-1], urllib.parse.quote, html.escape)
    return cases | {escape(text) for text in cases for escape in escapes}


def _base64_of(content: bytes) -> Iterator[bytes]:
    """The digits that depend on ``content`` alone, wherever it stands in what was encoded."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + content)
        own = encoded[-(-8 * before // 6) : 8 * (before + len(content)) // 6]
        if len(own) >= _SHORTEST_BASE64:
            yield own
            yield own.translate(bytes.maketrans(b"+/", b"-_"))
