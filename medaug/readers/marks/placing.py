"""Masks made of planes, put where they belong in a stack of slices.

On the grid of the image, plane by plane. On another grid in the same frame of reference, by
nearest neighbour (see `regrid`), unless the settings forbid it. Else not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry, Region, lps_to_ras
from medaug.readers.dicom.plane import Plane
from medaug.readers.dicom.stack import Stack
from medaug.readers.found import GRID_MM, OFF_GRID
from medaug.readers.lesions import Marking, gather
from medaug.readers.marks.contours import in_plane
from medaug.readers.regrid import apart_mm, cropped, differs, inside, onto
from medaug.readers.rules import OtherGrid

RESAMPLED = "hold masks on another grid than the image; they were resampled to it"
CUT = "hold masks that reach beyond the image; what lies outside was cut off"
TOO_FINE = "hold masks too small for the grid of the image: no voxel's centre lies in them"

LEAST_INSIDE = 0.9
"""Of what a mask on another grid marks; with less inside the image, the lesion is cut."""

_MOST_EMPTY = 50
"""Planes between two marked ones before their positions count as nonsense."""

_SIDES = (
    ("left and right", (-1.0, 1.0, 1.0)),
    ("front and back", (1.0, -1.0, 1.0)),
    ("head and foot", (1.0, 1.0, -1.0)),
    ("left and right and front and back", (-1.0, -1.0, 1.0)),
)

Planes = Callable[[], Iterable[tuple[int, NDArray[np.bool_]]]]
"""Reads (number of the site, mask (column, row)) of every plane that may be marked."""

Make = Callable[[Region, NDArray[np.bool_]], Marking]


@dataclass(frozen=True)
class Site:
    """Where one plane of a mask lies: in the patient, or on an image that it names.

    Attributes:
        plane: its grid; `Plane.placed` is False where it has no place in the patient.
        instance: SOP Instance UID of the image it was drawn on, or "".
        frame: number of that image's frame from 0, or None.
    """

    plane: Plane
    instance: str = ""
    frame: int | None = None

    def slice_of(self, stack: Stack) -> int | None:
        """Index of the slice it lies on, pixel by pixel; None if there is none."""
        if self.plane.placed:
            return stack.locate(self.plane)
        k = stack.locate_instance(self.instance, self.frame)
        if k is None:
            return None
        there = stack.slices[k].plane
        same = (there.rows, there.columns) == (self.plane.rows, self.plane.columns)
        return k if same else None


@dataclass(frozen=True)
class Placement:
    """Where the planes of one mask lie.

    Attributes:
        sites: one per plane.
        frame_of_reference: UID, or "".
        other_grid: what is to be done with a mask on another grid than the image.
        step: mm between planes as the file states it, or None; only a help where planes were
            left out.
    """

    sites: tuple[Site, ...]
    frame_of_reference: str
    other_grid: OtherGrid
    step: float | None = None

    def among(self, stacks: list[Stack], *, every: bool) -> list[Stack] | str:
        """The volumes on whose grid a plane (or every plane) lies, or that it can be resampled to.

        Returns:
            the volumes, or the reason why there is none.
        """
        enough = all if every else any
        on_grid = [
            stack
            for stack in stacks
            if enough(site.slice_of(stack) is not None for site in self.sites)
        ]
        if on_grid or not stacks:
            return on_grid or OFF_GRID
        reasons = {stack: self._kept_off(stack) for stack in stacks}
        fitting = [stack for stack, reason in reasons.items() if not reason]
        same = [stack for stack in stacks if self._shares_frame(stack)]
        return fitting or reasons[(same or stacks)[0]]

    def put(
        self, planes: Planes, make: Make, stack: Stack, remarks: Counter[str]
    ) -> Marking | str | None:
        """Read the planes of one marking.

        Returns:
            the marking on the grid of the volume; None if nothing is marked; or the reason why
            it cannot be placed.
        """
        ks = [site.slice_of(stack) for site in self.sites]
        marked = sorted(at for at, mask in planes() if mask.any()) if None in ks else []
        if all(ks[at] is not None for at in marked):
            found = gather((k, mask) for at, mask in planes() if (k := ks[at]) is not None)
            return None if found is None else stack.on_grid(make(*found))
        lost = sum(ks[at] is None for at in marked)
        if lost < len(marked):
            return f"{OFF_GRID}: {lost} of its {len(marked)} marked planes lie on no slice"
        if reason := self._kept_off(stack):
            return reason
        return self._resampled(planes, marked, make, stack, remarks)

    def _resampled(
        self, planes: Planes, marked: Sequence[int], make: Make, stack: Stack, remarks: Counter[str]
    ) -> Marking | str | None:
        grid = grid_of([self.sites[at].plane for at in marked], self.step)
        if isinstance(grid, str):
            return f"{OFF_GRID}, and cannot be resampled: {grid}"
        geometry, numbers = grid
        ks = dict(zip(marked, numbers, strict=True))
        found = gather((ks[at], mask) for at, mask in planes() if at in ks)
        if found is None:
            return None
        source = cropped(geometry, found[0])
        share = inside(found[1], source, stack.geometry)
        if share < LEAST_INSIDE:
            return f"{OFF_GRID}: {share:.0%} of what it marks lies within the image"
        moved = onto(found[1], source, stack.geometry)
        if moved is None:
            remarks[TOO_FINE] += 1
            return None
        remarks[RESAMPLED] += 1
        if share < 1:
            remarks[CUT] += 1
        return make(*moved)

    def _shares_frame(self, stack: Stack) -> bool:
        there = stack.slices[0].frame_of_reference
        return bool(self.frame_of_reference) and there == self.frame_of_reference

    def _kept_off(self, stack: Stack) -> str:
        """Why the mask must not be resampled to a volume; "" if it may."""
        placed = [site.plane for site in self.sites if site.plane.placed]
        if not placed:
            return "no frame of it names an image of the volume, of the same size"
        if swapped := _mirrored(placed, stack):
            return (
                f"it fits the image only with {swapped} exchanged: a sign of its coordinates was "
                "lost; export it again"
            )
        if not self._shares_frame(stack):
            both = self.frame_of_reference and stack.slices[0].frame_of_reference
            frame = "in another frame of reference" if both else "no frame of reference ties them"
            return f"{OFF_GRID}, {frame}"
        if self.other_grid == "refuse":
            return f"{OFF_GRID}, and `other_grid` forbids to resample it"
        grid = grid_of(placed, self.step)
        if isinstance(grid, str):
            return f"{OFF_GRID}, and cannot be resampled: {grid}"
        geometry, target = grid[0], stack.geometry
        whole = np.ones(1, dtype=bool)
        if onto(np.broadcast_to(whole, (1, 1, 1)), _as_one_voxel(geometry), target) is None:
            far = apart_mm(geometry, target)
            return f"{OFF_GRID}: {differs(geometry, target)}; {far:.0f} mm off, it meets no voxel"
        return ""


def grid_of(planes: Sequence[Plane], step: float | None) -> tuple[Geometry, list[int]] | str:
    """The regular grid that planes with gaps lie on, and the index of each; or why there is none.

    Args:
        planes: at least one.
        step: mm between neighbours as the file states it; used for a lone plane, and where the
            positions agree with it.
    """
    first = planes[0]
    if not all(plane.parallel_to(first) for plane in planes):
        return "its planes are not parallel and alike"
    along_row, along_column = np.reshape(first.orientation, (2, 3))
    normal = np.cross(along_row, along_column)
    positions = np.array([plane.position for plane in planes])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    gaps = gaps[gaps > GRID_MM]
    if gaps.size and not (step and _multiples(gaps, step)):
        step = float(gaps.min())
    if not step or step <= 0:
        return "it has one plane and states no distance between planes"
    steps = (heights - heights[order[0]]) / step
    if steps.max() > _MOST_EMPTY * len(planes) or not _multiples(gaps, step):
        return "its planes lie at uneven distances"
    numbers = np.rint(steps).astype(int)
    drift = normal * step
    if numbers.max():
        drift = (positions[order[-1]] - positions[order[0]]) / int(numbers.max())
    affine = np.eye(4)
    affine[:3, 0] = along_row * first.spacing[1]
    affine[:3, 1] = along_column * first.spacing[0]
    affine[:3, 2] = drift
    affine[:3, 3] = positions[order[0]]
    if np.abs(positions - affine[:3, 3] - numbers[:, None] * drift).max() > 2 * GRID_MM:
        return "its planes do not lie in line"
    shape = (first.columns, first.rows, int(numbers.max()) + 1)
    return Geometry(shape, lps_to_ras(affine)), numbers.tolist()


def _multiples(gaps: NDArray[np.float64], step: float) -> bool:
    return bool(np.abs(gaps / step - np.rint(gaps / step)).max(initial=0.0) < 0.1)


def _as_one_voxel(geometry: Geometry) -> Geometry:
    """The grid's whole extent as a single voxel."""
    affine = geometry.affine.copy()
    affine[:3, :3] *= geometry.shape
    affine[:3, 3] = geometry.world((np.array(geometry.shape) - 1) / 2)
    return Geometry((1, 1, 1), affine)


def _mirrored(planes: Sequence[Plane], stack: Stack) -> str:
    """Which sides must be exchanged for every plane to lie on the stack's grid; "" if none.

    A plane that covers the very area of a slice is only stored from another corner, and no
    mistake; where picture and mirror image cover one area, nothing can be told.
    """
    if any(_same_area(planes[0], one.plane) for one in stack.slices):
        return ""
    for words, signs in _SIDES:
        turn = np.array(signs)
        for origin in (turn, np.ones(3)):  # the sign of the origin lost with it, or kept
            if all(
                stack.locate(
                    replace(
                        plane,
                        orientation=tuple(
                            (np.reshape(plane.orientation, (2, 3)) * turn).ravel().tolist()
                        ),
                        position=tuple((np.array(plane.position) * origin).tolist()),
                    )
                )
                is not None
                for plane in planes
            ):
                return words
    return ""


def _same_area(plane: Plane, other: Plane) -> bool:
    """Whether the corners of one lie on the corners of the other."""
    axes = np.reshape(plane.orientation, (2, 3)) * [[plane.spacing[1]], [plane.spacing[0]]]
    ends = [
        (0, 0),
        (plane.columns - 1, 0),
        (0, plane.rows - 1),
        (plane.columns - 1, plane.rows - 1),
    ]
    corners = np.array(plane.position) + np.array(ends) @ axes
    normal = np.cross(*np.reshape(other.orientation, (2, 3)))
    flat = np.abs((corners - other.position) @ normal).max() <= GRID_MM
    at = np.sort(in_plane(corners, other), axis=0)
    last = np.array([other.columns - 1, other.rows - 1])
    expected = np.array([[0, 0], [0, 0], last, last])
    return bool(flat and np.abs(at - expected).max() <= GRID_MM)
