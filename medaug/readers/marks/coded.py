"""Coded concepts as DICOM objects give them, and the classes that the settings make of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydicom import Dataset

from medaug.domain import CodedConcept
from medaug.readers.marks.mark import Side

_CODE = re.compile(r"[A-Za-z0-9.-]{1,16}")

_SIDES: dict[tuple[str, str], Side] = {
    ("24028007", "SCT"): "right",
    ("7771000", "SCT"): "left",
    ("G-A100", "SRT"): "right",
    ("G-A101", "SRT"): "left",
}


def concept(item: Dataset) -> CodedConcept:
    """Value, scheme and meaning of one item of a code sequence; "" for what it lacks."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    scheme = item.get("CodingSchemeDesignator") or ""
    meaning = item.get("CodeMeaning") or ""
    return CodedConcept(str(value), str(scheme), str(meaning).strip())


def class_of(code: CodedConcept, labels: Mapping[str, str]) -> str:
    """The class of a concept, by its meaning or its value; "" if it is not wanted.

    Without labels, every meaning is a class.
    """
    if not labels:
        return code.meaning.casefold()
    return label_of([code.meaning, code.value], labels)


def label_of(names: Iterable[str], labels: Mapping[str, str]) -> str:
    """The class of the first of these names that is wanted; "" if none is."""
    wanted = {key.strip().casefold(): label for key, label in labels.items()}
    found = (wanted.get(name.strip().casefold(), "") for name in names)
    return next((label for label in found if label), "")


def shown(code: CodedConcept) -> str:
    """Value and scheme in words after a blank; "" where they are no codes.

    A code tells what to ask for; a meaning might be free text.
    """
    plain = _CODE.fullmatch(code.value) and _CODE.fullmatch(code.scheme)
    return f" coded {code.value} ({code.scheme})" if plain else ""


def side_of(codes: Iterable[CodedConcept]) -> Side:
    """The side that modifiers give; "" if they give none, or both."""
    sides: set[Side] = {_SIDES.get((code.value, code.scheme), "") for code in codes}
    sides.discard("")
    return sides.pop() if len(sides) == 1 else ""
