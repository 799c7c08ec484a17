"""Slices → volumes: grouped by what they share, ordered by where they lie, or refused.

One volume is one series of one patient, modality and unit, in parallel planes of one size and
spacing. Where several slices lie at one position, what their files state beside it (the
acquisition, the echo, the b-value, the moment) is tried as what tells volumes apart: the first
single statement, or else the smallest set of them, under which no position comes twice. Order
comes from the projection of Image Position (Patient) on the slice normal alone [1]_: file names,
Instance Number and Slice Thickness all mislead in real exports. What the distances must be is said
in `dicom_regular`.

A picture without a place in the patient is a volume of its own. So is a slice that is alone in
its series, if it is axial; it has no thickness then.

.. [1] DICOM PS3.3 C.7.6.2.1.1
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry
from medaug.readers.dicom.header import Slice
from medaug.readers.dicom.plane import Plane
from medaug.readers.dicom.regular import Sampling, arrange, flat_geometry, upward
from medaug.readers.files import Refusal
from medaug.readers.found import GRID_MM
from medaug.readers.lesions import Marking
from medaug.readers.rules import Irregular, Tilt

REPEATED_MM = 0.01
"""Slices whose heights differ by less lie at one position."""

_SMALLEST_MM, _FARTHEST_MM = 1e-3, 1e6
"""Spacings and positions beyond which a file is damaged, whatever it shows."""

_KEPT = "not in the longest run of slices at regular distances, which is kept ({} of {} slices)"


@dataclass(frozen=True, eq=False, repr=False)
class Stack:
    """Slices that form a volume, ordered along the normal.

    Attributes:
        slices: those in the files, at least one; what `locate` counts.
        geometry: grid of the volume's array (column, row, slice).
        sampling: how the slices make that grid; None where they are its own.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry
    sampling: Sampling | None = None

    @cached_property
    def _positions(self) -> NDArray[np.float64]:
        return np.array([one.plane.position for one in self.slices])

    @cached_property
    def _instances(self) -> dict[tuple[str, int | None], int]:
        return {(one.instance, one.frame): at for at, one in enumerate(self.slices)}

    def locate(self, plane: Plane) -> int | None:
        """Index of the slice on whose grid the plane lies; None if there is none."""
        if not plane.parallel_to(self.slices[0].plane):
            return None
        away = np.linalg.norm(self._positions - plane.position, axis=1)
        nearest = int(np.argmin(away))
        return nearest if away[nearest] <= GRID_MM else None

    def locate_instance(self, instance: str, frame: int | None = None) -> int | None:
        """Index of the slice that an object refers to; None if there is none.

        Args:
            instance: SOP Instance UID; "" refers to nothing.
            frame: number of the frame from 0 (DICOM counts from 1); None where the reference
                names none, which is enough where the file is one image.
        """
        if not instance:
            return None
        exact = self._instances.get((instance, frame))
        if exact is None and frame == 0:  # the only frame of a file that is one image
            return self._instances.get((instance, None))
        return exact

    def on_grid(self, marking: Marking) -> Marking:
        """A marking, indexed by column, row and slice as `locate` counts, on `geometry`."""
        if self.sampling is None:
            return marking
        box, mask = self.sampling.mark(marking.box, marking.mask)
        return replace(marking, box=box, mask=mask)


def build_stacks(
    slices: Sequence[Slice], irregular: Irregular = "refuse", tilt: Tilt = "refuse"
) -> tuple[list[Stack], list[Refusal]]:
    """Every volume among the slices, and the reason for each slice that is in none.

    Args:
        slices: in any order.
        irregular: what to do with uneven distances.
        tilt: what to do with slices that drift across their normal.
    """
    stacks: list[Stack] = []
    refused: list[Refusal] = []
    sound = []
    for one in sorted(slices, key=lambda one: (one.file.name, one.frame or 0)):
        if reason := _beyond_belief(one.plane):
            refused.append(Refusal(one.file.name, reason))
        else:
            sound.append(one)
    single, copies = _without_copies(sound)
    refused += copies
    in_series = Counter(_series(one) for one in single)
    for group in _groups(single):
        parts = _apart(group)
        if isinstance(parts, str):
            refused += [Refusal(one.file.name, parts) for one in group]
            continue
        for part in parts:
            stack, left_out = _stack(part, in_series[_series(part[0])], irregular, tilt)
            stacks += stack
            refused += left_out
    return stacks, refused


def _beyond_belief(plane: Plane) -> str:
    if min(plane.spacing) < _SMALLEST_MM or max(plane.spacing) > _FARTHEST_MM:
        return "its Pixel Spacing is no distance in a patient"
    if np.abs(plane.position).max() > _FARTHEST_MM:
        return "its Image Position is no place in a patient"
    return ""


def _series(one: Slice) -> tuple[str, str]:
    # Without a Series Instance UID, what lies in one folder is one series.
    return one.series or one.file.name.rpartition("/")[0], one.patient


def _groups(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices of one series, patient, modality and unit whose planes are parallel and alike."""
    groups: list[list[Slice]] = []
    by_series: dict[tuple[object, ...], list[list[Slice]]] = defaultdict(list)
    alike: dict[tuple[object, ...], list[Slice]] = {}
    for one in slices:
        series, plane = (*_series(one), one.modality, one.unit), one.plane
        if not plane.placed:
            groups.append([one])
            continue
        # Most planes repeat the numbers of the first, which is quicker to see than a rounding.
        numbers = (series, plane.rows, plane.columns, plane.spacing, plane.orientation)
        group = alike.get(numbers)
        if group is None:
            near = (group for group in by_series[series] if plane.parallel_to(group[0].plane))
            group = next(near, None)
        if group is None:
            group = []
            by_series[series].append(group)
            groups.append(group)
        alike[numbers] = group
        group.append(one)
    return groups


def _without_copies(slices: list[Slice]) -> tuple[list[Slice], list[Refusal]]:
    """Drop files that repeat an instance: the same UID at the same position in one series."""
    first: dict[tuple[object, ...], Slice] = {}
    single, copies = [], []
    for one in slices:
        identity = (*_series(one), one.instance, one.frame, one.plane.position)
        kept = first.setdefault(identity, one) if one.instance else one
        if kept is one:
            single.append(one)
            continue
        folder = kept.file.name.rpartition("/")[0] or "the same folder"
        reason = f"a copy of a slice in {folder} (same SOP Instance UID and position)"
        copies.append(Refusal(one.file.name, reason))
    return single, copies


def _apart(group: list[Slice]) -> list[list[Slice]] | str:
    """The volumes of a group, none with two slices at one position; or why they mix."""
    heights = np.array([one.plane.position for one in group]) @ upward(group[0].plane)
    at = _places(heights)
    most = int(np.bincount(at).max())
    if most == 1:
        return [group]
    stated = [dict(one.apart) for one in group]
    names = list(dict.fromkeys(name for one in group for name, _ in one.apart))
    useful = [name for name in names if len({said.get(name, "") for said in stated}) > 1]
    for wanted in _sets_of(useful) if _separates(useful, stated, at) else ():
        parts = _separates(wanted, stated, at)
        alone = sum(len(part) == 1 for part in parts)
        # What differs from slice to slice counts them and tells no volumes apart.
        if parts and (alone <= len(group) // 2 or most == len(group)):
            return [[group[number] for number in part] for part in parts]
    tried = f"tried: {', '.join(names)}" if names else "its files state nothing that could"
    return (
        f"{most} slices of its series lie at one position, several volumes in one series, and "
        f"nothing tells them apart ({tried}): keep them in a series each"
    )


def _separates(
    wanted: Sequence[str], stated: Sequence[dict[str, str]], at: NDArray[np.intp]
) -> list[list[int]]:
    """The parts that agree in what is ``wanted``; none if one has two slices at a position."""
    parts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, said in enumerate(stated):
        parts[tuple(said.get(name, "") for name in wanted)].append(number)
    if any(len(set(at[part].tolist())) < len(part) for part in parts.values()):
        return []
    return [part for _, part in sorted(parts.items())]


def _places(heights: NDArray[np.float64]) -> NDArray[np.intp]:
    """(slice,) number of the position of each; those within `REPEATED_MM` share one."""
    order = np.argsort(heights, kind="stable")
    new = np.diff(heights[order], prepend=-np.inf) >= REPEATED_MM
    places = np.empty(len(heights), dtype=np.intp)
    places[order] = np.cumsum(new) - 1
    return places


def _sets_of(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Single names in their order, then pairs, and so on."""
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


def _stack(
    group: list[Slice], in_series: int, irregular: Irregular, tilt: Tilt
) -> tuple[list[Stack], list[Refusal]]:
    """The volume of slices at different heights, if they make one, and the slices left out."""
    plane = group[0].plane
    reason = _mixed(group)
    if not reason and len(group) == 1:
        flat = _flat(plane, in_series)
        if isinstance(flat, Geometry):
            return [Stack((group[0],), flat)], []
        reason = flat
    if reason:
        return [], [Refusal(one.file.name, reason) for one in group]
    positions = np.array([one.plane.position for one in group])
    order = np.argsort(positions @ upward(plane), kind="stable")
    ordered = [group[at] for at in order]
    found = arrange(plane, positions[order], irregular, tilt)
    if isinstance(found, str):
        return [], [Refusal(one.file.name, found) for one in ordered]
    kept = ordered[found.kept]
    left_out = ordered[: found.kept.start] + ordered[found.kept.stop :]
    why = _KEPT.format(len(kept), len(ordered))
    stack = Stack(tuple(kept), found.geometry, found.sampling)
    return [stack], [Refusal(one.file.name, why) for one in left_out]


def _mixed(group: list[Slice]) -> str:
    """Why slices cannot be taken together, wherever they lie."""
    damaged = [one for one in group if one.damage]
    if damaged:
        of = f"{damaged[0].file.name}: {damaged[0].damage}"
        return f"its series is damaged ({len(damaged)} of {len(group)} files; {of})"
    frames = {one.frame_of_reference for one in group} - {""}
    if len(frames) > 1:
        return (
            f"the slices of its series lie in {len(frames)} frames of reference: their positions "
            "cannot be compared"
        )
    return ""


def _flat(plane: Plane, in_series: int) -> Geometry | str:
    """The grid of a slice that no other is parallel to."""
    if not plane.placed:
        # Column index runs along the row direction, so it takes the second spacing.
        spacing = (plane.spacing[1], plane.spacing[0])
        of = Geometry.of_picture if plane.measured else Geometry.of_pixels
        return of(plane.columns, plane.rows, spacing)
    if in_series > 1:
        return (
            f"a single slice among {in_series} of its series, and none of the others lies beside "
            "it: the distance between slices is not known"
        )
    geometry = flat_geometry(plane)
    if geometry.axial_axis != 2:
        return "a single slice that is not axial: no axial picture of it can be had"
    return geometry
