"""The key, and what readers hand back: a file that is not sound is refused, with every fault."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medaug.errors import Fault, ReaderError
from medaug.reader_study.kit import ANSWERS_FORMAT, KEY_FORMAT

KINDS = ("real", "synthetic")
_SHOWN = 5  # faults of one sort that are listed, before the rest is counted


@dataclass(frozen=True)
class Key:
    """What the patches of a study are: number to "real" or "synthetic"; and of which class."""

    study: str
    kinds: dict[str, str]
    classes: dict[str, str]


@dataclass(frozen=True)
class Answers:
    """What a reader said: number to "real" or "synthetic"."""

    reader: str
    given: dict[str, str]


def read_key(path: Path) -> Key:
    """The key of a study.

    Raises:
        ReaderError: it is none.
    """
    document = _json(path)
    items = document.get("items")
    sound = isinstance(items, dict) and all(
        isinstance(item, dict) and item.get("kind") in KINDS and isinstance(item.get("class"), str)
        for item in items.values()
    )
    if document.get("format") != KEY_FORMAT or not sound or not items:
        raise ReaderError(Fault(path.name, "this is no key of a reader study", KEY_FORMAT))
    return Key(
        study=str(document.get("study")),
        kinds={number: item["kind"] for number, item in items.items()},
        classes={number: item["class"] for number, item in items.items()},
    )


def read_answers(paths: Sequence[Path], key: Key, unfinished: bool = False) -> list[Answers]:
    """The answers of every reader.

    Args:
        paths: a file of each reader.
        key: of the study.
        unfinished: take files in which answers are missing.

    Raises:
        ReaderError: with every fault of every file.
    """
    faults: list[Fault] = []
    found: dict[str, Answers] = {}
    for path in paths:
        try:
            document = _json(path)
        except ReaderError as error:
            faults += error.faults
            continue
        mine = list(_faults(path.name, document, key, unfinished))
        reader = document.get("reader")
        if not mine and reader in found:
            mine.append(Fault(path.name, f"reader {reader} again", "one file of each reader"))
        faults += mine
        if not mine:
            found[str(reader)] = Answers(str(reader), dict(document["answers"]))
    if faults:
        raise ReaderError(*faults)
    return list(found.values())


def _faults(name: str, document: dict[str, Any], key: Key, unfinished: bool) -> Iterator[Fault]:
    if document.get("format") != ANSWERS_FORMAT:
        yield Fault(f"{name}: format", repr(document.get("format")), ANSWERS_FORMAT)
        return
    if document.get("study") != key.study:
        yield Fault(
            f"{name}: study", repr(document.get("study")), f"{key.study}, as the key has it"
        )
    reader = document.get("reader")
    if not isinstance(reader, str) or not re.fullmatch(r"[A-Za-z0-9]{1,16}", reader):
        yield Fault(f"{name}: reader", repr(reader)[:40], "1 to 16 letters and digits")
    answers = document.get("answers")
    if not isinstance(answers, dict):
        yield Fault(f"{name}: answers", "missing", "an answer for each patch")
        return
    strangers = [number for number in answers if number not in key.kinds]
    wrong = [number for number, said in answers.items() if said not in KINDS]
    missing = [] if unfinished else [number for number in key.kinds if number not in answers]
    for numbers, came, allowed, action in (
        (strangers, "no patch of this study", "numbers that the key has", ""),
        (wrong, "neither real nor synthetic", "real, synthetic", ""),
        (missing, "not answered", "an answer for each patch", "finish, or add --unfinished"),
    ):
        for number in numbers[:_SHOWN]:
            yield Fault(f"{name}: answers.{number[:16]}", came, allowed, action)
        if more := numbers[_SHOWN:]:
            yield Fault(f"{name}: answers", f"{came}: {len(more)} more", allowed, action)


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except OSError as error:
        raise ReaderError(Fault(path.name, f"cannot be read: {error.strerror}")) from None
    except ValueError as error:
        raise ReaderError(
            Fault(path.name, f"this is not JSON as the page saves it: {error}")
        ) from None
    if not isinstance(document, dict):
        raise ReaderError(Fault(path.name, "this is not JSON as the page saves it"))
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a name that is given twice has two values, and neither is the right one."""
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice[0]!r} is there twice")
    return dict(pairs)
