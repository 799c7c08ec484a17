"""Slices → volumes: grouped by what they share, ordered by where they lie, or refused.

Order comes from the projection of Image Position (Patient) on the slice normal alone [1]_: file
names, Instance Number and Slice Thickness all mislead in real exports.

A stack is accepted when every slice lies within `TOLERANCE` of the slice distance from where a
regular grid has it. This lets pass positions that were rounded in the file, and stops a missing
slice (off by half a distance or more), a change of the distance, and a tilted gantry of about
6 degrees or more; a drift across the normal is held to the tighter `TILT`.

.. [1] DICOM PS3.3 C.7.6.2.1.1
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry, lps_to_ras
from medaug.readers.dicom_header import Plane, Slice
from medaug.readers.files import Refusal
from medaug.readers.found import GRID_MM
from medaug.readers.lesions import Marking

TOLERANCE = 0.1
"""Allowed distance of a slice from its place in the regular grid, in slice distances."""

TILT = 0.02
"""Allowed drift across the normal, per slice distance: 1.1 degrees."""


@dataclass(frozen=True, eq=False, repr=False)
class Stack:
    """Slices that form a volume, ordered along the normal.

    Attributes:
        slices: at least two.
        geometry: grid of the array (column, row, slice).
    """

    slices: tuple[Slice, ...]
    geometry: Geometry

    @cached_property
    def _positions(self) -> NDArray[np.float64]:
        return np.array([one.plane.position for one in self.slices])

    def locate(self, plane: Plane) -> int | None:
        """Index of the slice on whose grid the plane lies; None if there is none."""
        if not plane.parallel_to(self.slices[0].plane):
            return None
        away = np.linalg.norm(self._positions - plane.position, axis=1)
        nearest = int(np.argmin(away))
        return nearest if away[nearest] <= GRID_MM else None

    def on_grid(self, marking: Marking) -> Marking:
        """A marking, indexed by column, row and slice as `locate` counts, on `geometry`."""
        return marking


def build_stacks(slices: Sequence[Slice]) -> tuple[list[Stack], list[Refusal]]:
    """Every volume among the slices, and the reason for each slice that is in none."""
    stacks: list[Stack] = []
    refused: list[Refusal] = []
    for group in _groups(slices):
        single, copies = _without_copies(group)
        refused += copies
        built = _stack(single)
        if isinstance(built, Stack):
            stacks.append(built)
        else:
            refused += [Refusal(one.file.name, built) for one in single]
    return stacks, refused


def _groups(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices of one series and patient whose planes are parallel and alike."""
    by_series: dict[tuple[str, str, str], list[list[Slice]]] = defaultdict(list)
    for one in slices:
        # Without a Series Instance UID, what lies in one folder is one series.
        series = one.series or one.file.name.rpartition("/")[0]
        groups = by_series[series, one.patient, one.modality]
        for group in groups:
            if one.plane.parallel_to(group[0].plane):
                group.append(one)
                break
        else:
            groups.append([one])
    return [group for groups in by_series.values() for group in groups]


def _without_copies(group: list[Slice]) -> tuple[list[Slice], list[Refusal]]:
    """Drop files that repeat an instance: the same UID at the same position."""
    first: dict[tuple[str, tuple[float, ...]], Slice] = {}
    copies = []
    for one in group:
        kept = first.setdefault((one.instance, one.plane.position), one)
        if kept is not one and one.instance:
            folder = kept.file.name.rpartition("/")[0] or "the same folder"
            reason = f"a copy of a slice in {folder} (same SOP Instance UID and position)"
            copies.append(Refusal(one.file.name, reason))
        elif kept is not one:
            first[one.file.name, one.plane.position] = one
    return list(first.values()), copies


def _stack(group: list[Slice]) -> Stack | str:
    damaged = [one for one in group if one.damage]
    if damaged:
        of = f"{damaged[0].file.name}: {damaged[0].damage}"
        return f"its series is damaged ({len(damaged)} of {len(group)} files; {of})"
    if len(group) == 1:
        return "a single slice: the distance between slices is not known"
    plane = group[0].plane
    along_row, along_column = np.reshape(plane.orientation, (2, 3))
    normal = np.cross(along_row, along_column)
    positions = np.array([one.plane.position for one in group])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    if reason := _irregular(positions, normal):
        return reason
    if len({one.unit for one in group}) > 1:
        return "the slices of its series are not all in the same unit (some in HU, others not)"

    # Column index runs along the row direction, so array axis 0 takes the second spacing.
    affine = np.eye(4)
    affine[:3, 0] = along_row * plane.spacing[1]
    affine[:3, 1] = along_column * plane.spacing[0]
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(group) - 1)
    affine[:3, 3] = positions[0]
    geometry = Geometry((plane.columns, plane.rows, len(group)), lps_to_ras(affine))
    return Stack(tuple(group[at] for at in order), geometry)


def _irregular(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> str:
    """Why positions (slice, 3), sorted along the normal, are no regular stack; or ""."""
    steps = np.diff(positions, axis=0)
    gaps = steps @ normal
    if gaps.min() < 1e-3:
        shared = int((gaps < 1e-3).sum()) + 1
        return f"{shared} slices of its series lie at one position: several volumes in one series"
    distance = float(np.median(gaps))
    if gaps.max() > 1.5 * distance:
        return (
            f"slices are missing: neighbours are {distance:.3g} mm apart, "
            f"in one place {gaps.max():.3g} mm"
        )
    drift = np.linalg.norm((steps - np.outer(gaps, normal)).mean(axis=0))
    if drift > TILT * gaps.mean():
        return (
            f"a tilted gantry: slices shift by {drift:.3g} mm across the normal per "
            f"{gaps.mean():.3g} mm along it; resample the series to an upright grid"
        )
    regular = np.linspace(positions[0], positions[-1], len(positions))
    off = float(np.linalg.norm(positions - regular, axis=1).max())
    if off > TOLERANCE * distance:
        return (
            f"uneven distances between slices ({gaps.min():.3g} to {gaps.max():.3g} mm; "
            f"allowed: {TOLERANCE:.0%} of the distance off a regular grid)"
        )
    return ""
