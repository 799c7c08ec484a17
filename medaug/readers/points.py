"""Lesions from text tables: points with a diameter (as in LUNA16 [1]_) and boxes.

What a number means is said by the settings and never guessed: the space (LPS or RAS mm, or
voxels), the number of the first voxel, whether the last one belongs to the box. Every line that
cannot be right is reported, all of them at once, by its number.

A voxel belongs to the box of a lesion when its centre does; the box has one voxel at least. A
diameter makes a sphere, whose box is tight on a grid of any direction.

.. [1] https://luna16.grand-challenge.org/Data/
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry, Region, lps_to_ras
from medaug.errors import Fault, ReaderError
from medaug.readers.lesions import Marking
from medaug.readers.rules import PointsRule
from medaug.readers.tables import Line, columns_of, read_lines, shortened

NOT_HERE = "are named by the tables of points or boxes and are not there (lines of these tables)"

_TINY = 1e-6

Three = tuple[float, float, float]


@dataclass(frozen=True, repr=False)
class Place:
    """One line of a table.

    Attributes:
        where: table and line, for messages.
        label: the class.
        image: what the line calls its image.
        low: the corner of low numbers (x, y, z) in mm, or (i, j, k) where voxel i reaches from
            i - 0.5 to i + 0.5.
        high: the corner opposite.
        diameter_mm: of the sphere in that box; None for a box.
    """

    where: str
    label: str
    image: str
    low: Three
    high: Three
    diameter_mm: float | None


def read_points(rule: PointsRule, folder: Path) -> dict[str, tuple[Place, ...]]:
    """The lines of all tables, by the image that they name.

    Raises:
        ReaderError: with every fault of every table: one that is not there, a column it does not
            have, a number that is none, a size that is not positive, a line that repeats another.
    """
    places: dict[str, list[Place]] = defaultdict(list)
    faults: list[Fault] = []
    seen: dict[tuple[object, ...], str] = {}
    for name in rule.files:
        try:
            lines = read_lines(folder / name, name, rule.separator)
            head = next(lines, None)
            if head is None:
                raise ReaderError(Fault(name, "an empty table"))
            at = columns_of(head, name, _columns(rule))
            for line in lines:
                place = _place(rule, line, at, f"{name}, line {line.number}")
                if isinstance(place, Fault):
                    faults.append(place)
                elif place is not None:
                    same = (place.image, place.label, place.low, place.high)
                    first = seen.setdefault(same, place.where)
                    if first != place.where:
                        faults.append(Fault(place.where, f"repeats {first}", action="remove one"))
                    places[place.image].append(place)
        except ReaderError as error:
            faults += error.faults
    if faults:
        raise ReaderError(*shortened(faults))
    return {image: tuple(found) for image, found in places.items()}


def markings(places: Sequence[Place], rule: PointsRule, geometry: Geometry) -> list[Marking]:
    """The boxes of lines on the grid of their image, without masks.

    Raises:
        ReaderError: with one fault per line that lies outside of the image.
    """
    found: list[Marking] = []
    faults: list[Fault] = []
    for place in places:
        box = _box(place, rule, geometry)
        if isinstance(box, str):
            faults.append(Fault(place.where, box, action="check `space` and the columns"))
            continue
        spot = (*place.low, *place.high)
        identity = f"points\0{place.image}\0{' '.join(f'{one:.6g}' for one in spot)}"
        found.append(Marking(place.label, identity, box, None, diameter_mm=place.diameter_mm))
    if faults:
        raise ReaderError(*shortened(faults))
    return found


def in_one_sentence(error: ReaderError) -> str:
    """Every line that is wrong, as the reason of one refusal."""
    return "; ".join(f"{one.where}: {one.came}" for one in error.faults)


@dataclass(frozen=True, eq=False, repr=False)
class PointsOn:
    """The lines of the tables about one image, without knowing what holds it."""

    rule: PointsRule
    places: tuple[Place, ...]

    def read(self, geometry: Geometry) -> list[Marking]:
        """See `markings`."""
        return markings(self.places, self.rule, geometry)


def points_of(
    rule: PointsRule, places: Mapping[str, tuple[Place, ...]], keys: Sequence[str]
) -> PointsOn | None:
    """What the tables say of the image that goes by ``keys``; None if nothing."""
    found = tuple(place for key in dict.fromkeys(keys) for place in places.get(key, ()))
    return PointsOn(rule, found) if found else None


def _columns(rule: PointsRule) -> list[str]:
    many = (rule.centre, rule.first, rule.last, rule.size)
    places = [name for names in many for name in names]
    return [one for one in (rule.image_column, *places, rule.diameter, rule.label_column) if one]


def _place(rule: PointsRule, line: Line, at: Mapping[str, int], where: str) -> Place | Fault | None:
    """A line as a place; None where its class is not asked for."""
    image = line.cell(at[rule.image_column])
    label = rule.label
    if rule.label_column is not None:
        raw = line.cell(at[rule.label_column])
        if rule.labels and raw not in rule.labels:
            return None if raw else Fault(where, f"no class in {rule.label_column}")
        label = rule.labels.get(raw, raw)
    if not image or not label:
        return Fault(where, "no image" if not image else f"no class in {rule.label_column}")
    try:
        numbers = {
            name: _number(line.cell(at[name]), name, rule)
            for name in _columns(rule)
            if name not in (rule.image_column, rule.label_column)
        }
        low, high = _corners(rule, numbers)
    except ValueError as error:
        return Fault(where, str(error))
    diameter = numbers[rule.diameter] if rule.diameter is not None else None
    return Place(where, label, image, low, high, diameter)


def _number(text: str, column: str, rule: PointsRule) -> float:
    plain = text
    if rule.decimal == "comma":
        plain = "not a number" if "." in text else text.replace(",", ".")
    try:
        number = float(plain)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        hint = ""
        if rule.decimal == "point" and text.count(",") == 1:
            hint = ": if the comma is a decimal one, set `decimal: comma`"
        raise ValueError(f"no number in {column}{hint}") from None
    return number


def _corners(rule: PointsRule, numbers: Mapping[str, float]) -> tuple[Three, Three]:
    """The corners (see `Place`) of a line.

    Raises:
        ValueError: if a size is not positive; its text is for the user.
    """
    voxel = rule.space == "voxel"

    def take(columns: Sequence[str]) -> NDArray[np.float64]:
        return np.array([numbers[one] for one in columns])

    shift = rule.counted_from
    if rule.centre:
        centre = take(rule.centre) - shift
        sizes = take(rule.size) if rule.size else np.full(len(centre), numbers[str(rule.diameter)])
        low, high = centre - sizes / 2, centre + sizes / 2
    else:
        low = take(rule.first) - shift - (0.5 if voxel else 0.0)
        if rule.size:
            high = low + take(rule.size)
        else:
            high = take(rule.last) - shift
            if voxel:
                high += 0.5 if rule.last_belongs else -0.5
    if not (high > low).all():
        what = (
            "the last corner is not beyond the first" if rule.last else "its size is not positive"
        )
        raise ValueError(what)
    return _three(low, -0.5), _three(high, 0.5)


def _three(place: NDArray[np.float64], third: float) -> Three:
    x, y, *z = (float(one) for one in place)
    return x, y, z[0] if z else third


def _box(place: Place, rule: PointsRule, geometry: Geometry) -> Region | str:
    """The voxels of a place, or why there are none."""
    low, high = np.array(place.low), np.array(place.high)
    if rule.space != "voxel":
        low, high = _indices(place, rule.space == "lps", geometry)
    elif place.diameter_mm is not None:
        middle, radii = (low + high) / 2, place.diameter_mm / 2 / np.array(geometry.spacing)
        low, high = middle - radii, middle + radii
    middle = (low + high) / 2
    size = np.array(geometry.shape)
    if (middle < -0.5).any() or (middle > size - 0.5).any():
        away = np.abs(np.clip(middle, -0.5, size - 0.5) - middle) * geometry.spacing
        unit = "mm" if geometry.in_millimetres else "pixels"
        return f"lies outside of its image, by {np.linalg.norm(away):.3g} {unit}"
    start = np.ceil(low - _TINY)
    if rule.space == "voxel" and place.diameter_mm is None:
        stop = start + np.maximum(np.rint(high - low), 1)
    else:
        stop = np.floor(high + _TINY) + 1
    nearest = np.clip(np.floor(middle + 0.5), 0, size - 1)
    start = np.where(stop > start, np.clip(start, 0, nearest), nearest).astype(int)
    stop = np.clip(np.maximum(stop, nearest + 1), None, size).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return i, j, k


def _indices(
    place: Place, lps: bool, geometry: Geometry
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners in voxel indices of what a place in mm spans."""
    turn = lps_to_ras(np.eye(4))[:3, :3] if lps else np.eye(3)
    if place.diameter_mm is not None:
        middle = geometry.index(turn @ (np.array(place.low) + place.high) / 2)
        # A sphere of radius r reaches r |row a of the inverse| along index axis a.
        rows = np.linalg.inv(geometry.affine)[:3, :3]
        radii = place.diameter_mm / 2 * np.linalg.norm(rows, axis=1)
        return middle - radii, middle + radii
    corners = np.array(np.meshgrid(*zip(place.low, place.high, strict=True))).reshape(3, -1).T
    at = geometry.index(corners @ turn.T)
    return at.min(axis=0), at.max(axis=0)
