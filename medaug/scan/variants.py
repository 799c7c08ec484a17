"""Other ways to write what stands in a list of markers: names turned round, dates, accents.

>>> sorted(variants_of("Doe^Jane"))[:3]
['Doe Jane', 'Doe, Jane', 'Doe,Jane']
>>> "24.07.1931" in variants_of("1931-07-24")
True
>>> "Mueller" in variants_of("Müller") and "Muller" in variants_of("Müller")
True
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from datetime import date

_BETWEEN = re.compile(r"[\s^,=_]+")
_COMMON = (" ", "^", ", ")
_JOINS = (*_COMMON, ",", "_", "-", ".", "")
_MOST_PARTS = 3  # A name of more is sought in the orders of its first and last parts alone.
_DATE = re.compile(
    r"(?P<year>\d{4})[-./]?(?P<month>\d{2})[-./]?(?P<day>\d{2})"
    r"|(?P<d>\d{1,2})[-./](?P<m>\d{1,2})[-./](?P<y>\d{4})"
)
_MONTHS = "January February March April May June July August September October November December"
_PLAIN = {"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "ı": "i"}
_GERMAN = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa"}


def variants_of(marker: str, *, common: bool = False) -> set[str]:
    """The marker itself, and what else it may be written as; or the ``common`` ways alone."""
    days = list(_dates(marker))
    found = {marker, *(days[:3] if common else days)}
    if not any(character.isdigit() for character in marker):
        found |= set(_orders(marker, _COMMON if common else _JOINS))
    return found | {plain for text in found for plain in _without_accents(text)}


def _orders(name: str, joins: tuple[str, ...]) -> Iterator[str]:
    """Given and family name either way round, and what people put between them."""
    parts = [part for part in _BETWEEN.split(name) if part]
    if len(parts) < 2:
        return
    if len(parts) > _MOST_PARTS:
        parts = [parts[0], parts[-1]]
    orders = itertools.permutations(parts)
    for order, join in itertools.product(orders, joins):
        yield join.join(order)
    if len(parts) > 2:  # A middle name is left out, or stands behind the comma.
        first, *middle, last = parts
        for pair, join in itertools.product(((first, last), (last, first)), joins):
            yield join.join(pair)
        yield f"{last}, {first} {' '.join(middle)}"
        yield f"{first}, {last} {' '.join(middle)}"


def _dates(text: str) -> Iterator[str]:
    """A day as tables, letters and DICOM write it; where day and month may be exchanged, both."""
    found = _DATE.fullmatch(text)
    if found is None:
        return
    group = found.groupdict()
    if group["year"]:
        days = [(group["year"], group["month"], group["day"])]
    else:
        days = [(group["y"], group["m"], group["d"]), (group["y"], group["d"], group["m"])]
    for year, month, day in days:
        try:
            yield from _written(date(int(year), int(month), int(day)))
        except ValueError:
            continue


def _written(day: date) -> Iterator[str]:
    year, month, at = f"{day.year:04d}", f"{day.month:02d}", f"{day.day:02d}"
    yield from (year + month + at, f"{year}-{month}-{at}", f"{at}.{month}.{year}")  # the common
    for join in ("-", ".", "/"):
        for parts in ((year, month, at), (at, month, year), (month, at, year)):
            yield join.join(parts)
            yield join.join(part.lstrip("0") for part in parts)
    yield at + month + year
    name = _MONTHS.split()[day.month - 1]
    for word, number in itertools.product((name, name[:3]), (str(day.day), at)):
        yield f"{number} {word} {year}"
        yield f"{number}. {word} {year}"
        yield f"{number}-{word}-{year}"
        yield f"{number}{word}{year}"
        yield f"{word} {number}, {year}"
        yield f"{word} {number} {year}"


def _without_accents(text: str) -> Iterator[str]:
    composed = unicodedata.normalize("NFC", text).lower()
    if composed.isascii():
        return
    for table in (_PLAIN, _GERMAN):
        letters = "".join(table.get(letter, letter) for letter in composed)
        bare = unicodedata.normalize("NFD", letters)
        yield "".join(letter for letter in bare if not unicodedata.combining(letter)).title()
