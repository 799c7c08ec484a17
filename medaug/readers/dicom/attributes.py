"""Attributes of a data set as plain text and numbers, or nothing where they are malformed."""

from __future__ import annotations

from functools import cache
from math import isfinite
from typing import Any, Literal, Protocol

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

# PS3.5 6.2: the default character repertoire and nothing else, so that no character set matters.
_PLAIN = {"CS", "DA", "DS", "DT", "IS", "TM", "UI"}


class Said(Protocol):
    """Whatever answers for attributes by keyword: a data set, or the view of a frame."""

    def get(self, keyword: str, /) -> Any:
        """The value, or None."""


@cache
def tag_of(keyword: str) -> int:
    """The tag of a keyword of DICOM's dictionary."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return Tag(tag)


@cache
def _is_plain(keyword: str) -> bool:
    return dictionary_VR(keyword) in _PLAIN


def text(said: Said, keyword: str) -> str:
    """The value as text without padding, several values with a backslash between; or ""."""
    if (plain := _plain(said, keyword)) is not None:
        return plain
    value = _value(said, keyword)
    if value is None:
        return ""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return str(value).strip()
    return "\\".join(str(part).strip() for part in value)


def numbers(said: Said, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly ``count`` finite numbers, or None."""
    plain = _plain(said, keyword)
    value = _value(said, keyword) if plain is None else plain.split("\\") if plain else None
    if value is None:
        return None
    parts: Any = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        found = tuple(float(part) for part in parts)
    except (ValueError, TypeError):
        return None
    return found if len(found) == count and all(map(isfinite, found)) else None


def number(said: Said, keyword: str) -> float | None:
    """One finite number, or None."""
    found = numbers(said, keyword, 1)
    return None if found is None else found[0]


def integer(said: Said, keyword: str) -> int | None:
    """One whole number, or None."""
    if isinstance(said, Dataset):
        try:
            raw: Any = said.get_item(tag_of(keyword))
        except KeyError:
            return None
        if isinstance(raw, RawDataElement) and raw.VR == "US" and raw.length == 2:
            order: Literal["little", "big"] = "little" if raw.is_little_endian else "big"
            return int.from_bytes(raw.value or b"", order)
    value = number(said, keyword)
    return None if value is None or value != int(value) else int(value)


def items(said: Said, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where there is no sequence."""
    value = _value(said, keyword)
    return list(value) if isinstance(value, Sequence) else []


def _value(said: Said, keyword: str) -> Any:
    """The value, or None; what is not there costs a data set less by tag than by keyword."""
    if isinstance(said, Dataset) and tag_of(keyword) not in said.keys():  # noqa: SIM118 # its `in` is slow
        return None
    return said.get(keyword)


def _plain(said: Said, keyword: str) -> str | None:
    """The text of an element that pydicom has not converted yet: a tenth of the time."""
    if not (_is_plain(keyword) and isinstance(said, Dataset)):
        return None
    try:
        raw: Any = said.get_item(tag_of(keyword))
    except KeyError:
        return ""
    if not isinstance(raw, RawDataElement) or not isinstance(raw.value, bytes):
        return None
    whole = raw.value.decode("latin-1")
    if "\\" not in whole:
        return whole.strip(" \0")
    return "\\".join(part.strip(" \0") for part in whole.split("\\"))
