"""Slices that lie unevenly or aslant → a regular, upright grid, where the settings ask for it.

Everything is judged by Image Position and Orientation (Patient) alone [1]_. A series is regular
when every slice lies within `TOLERANCE` of the slice distance from where a regular grid has it, and
its slices drift across their normal by no more than `TILT`. That lets pass positions which were
rounded in the file; a missing slice is off by half a distance or more. What is not regular is
refused, or repaired as the settings say:

* ``irregular: resample``: slices at regular distances, each interpolated linearly between its two
  neighbours. The distance is the median one; or, where slices are merely missing, the one of which
  all others are multiples, so that the slices that are there stay as they are. Nothing is
  interpolated across more than `WIDEST` distances, nor among fewer than `FEWEST` slices.
* ``irregular: longest-block``: the longest run of slices at one distance, held to half the
  tolerance; of two equally long ones the lower. The others are left out.
* ``tilt: shear``: each slice is moved within its plane, by linear interpolation, to where an
  upright grid has it. The grid spans all slices. Beyond the edge of a slice its edge is repeated,
  as in patching: no value comes in that the scanner did not measure.

Marks go the same way by nearest neighbour, a tie to the higher index as in `regrid`, so a mark
keeps its voxels through a shear. A mark whose slices are nearest to no slice of the new grid goes
to the slice nearest to it: it is moved by less than one distance, and never lost.

.. [1] DICOM PS3.3 C.7.6.2.1.1
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry, Region, lps_to_ras
from medaug.readers.dicom.plane import Plane
from medaug.readers.lesions import tight
from medaug.readers.rules import Irregular, Tilt

TOLERANCE = 0.1
"""Allowed distance of a slice from its place in the regular grid, in slice distances."""

TILT = 0.02
"""Allowed drift across the normal, per slice distance: 1.1 degrees."""

STEEPEST = 1.0
"""Drift across the normal beyond which it is no tilt: 45 degrees; gantries tilt by up to 30."""

WIDEST = 3
"""Gap, in slice distances, beyond which nothing is interpolated: two slices missing in a row."""

FEWEST = 3
"""Slices without which no distance and no tilt can be told from a mistake."""

LARGEST = 5
"""Voxels of the upright grid per voxel of the slices."""

_SNAP = 0.01
"""Slice distances within which a slice is taken for the grid's own."""

_NEAR = 1e-3
"""Pixels within which a shift is taken for a whole number: positions are rounded in the file."""

_TIE = 1e-6
"""Pixels and slices by which a centre is moved up, so that rounding errors do not decide ties."""

_BY_IRREGULAR = "set `irregular: resample` or `irregular: longest-block` to use it all the same"
_BY_TILT = "set `tilt: shear` to resample it to an upright grid"


@dataclass(frozen=True, eq=False)
class Sampling:
    """How the slices of a grid come from the slices in the files.

    Attributes:
        below: (grid slice,) source slice at or below each.
        share: (grid slice,) share of the source slice after it, in [0, 1).
        height: (source slice,) where each lies along the normal, in grid slices.
        shift: (source slice, 2) where its first pixel lies in the grid: column, row; not below 0.
    """

    below: NDArray[np.intp]
    share: NDArray[np.float64]
    height: NDArray[np.float64]
    shift: NDArray[np.float64]

    def read(
        self, region: Region, picture: Callable[[int], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Voxels (i, j, k) of a region of the grid.

        Args:
            region: with known bounds inside the grid.
            picture: number of a source slice → its pixels (column, row); asked for those only
                which the region depends on.
        """
        planes = []
        for k in range(region[2].start, region[2].stop):
            source, share = int(self.below[k]), np.float32(self.share[k])
            plane = self._moved(picture(source), source, region)
            if share:
                other = self._moved(picture(source + 1), source + 1, region)
                plane = (1 - share) * plane + share * other
            planes.append(plane)
        return np.stack(planes, axis=2)

    def _moved(
        self, pixels: NDArray[np.float32], source: int, region: Region
    ) -> NDArray[np.float32]:
        for axis in (0, 1):
            start = region[axis].start - self.shift[source, axis]
            count = region[axis].stop - region[axis].start
            pixels = _line(pixels, axis, float(start), count)
        return pixels

    def mark(
        self, box: Region, mask: NDArray[np.bool_] | None
    ) -> tuple[Region, NDArray[np.bool_] | None]:
        """A box of the source slices, and the mask in it, on the grid."""
        sources = np.arange(box[2].start, box[2].stop)
        if mask is not None:
            sources = sources[mask.any(axis=(0, 1))]
        nearest = self.below + (self.share >= 0.5 - _TIE)
        pairs = [(k, int(nearest[k])) for k in np.flatnonzero(np.isin(nearest, sources)).tolist()]
        if not pairs:
            last = len(self.below) - 1
            pairs = [(min(int(self.height[one] + 0.5), last), one) for one in sources.tolist()]
        whole = np.ceil(self.shift - 0.5 - _TIE).astype(int)
        moves = whole[[source for _, source in pairs]]
        low, high = moves.min(axis=0), moves.max(axis=0)
        i = slice(box[0].start + int(low[0]), box[0].stop + int(high[0]))
        j = slice(box[1].start + int(low[1]), box[1].stop + int(high[1]))
        k_box = slice(min(k for k, _ in pairs), max(k for k, _ in pairs) + 1)
        if mask is None:
            return (i, j, k_box), None
        moved = np.zeros([part.stop - part.start for part in (i, j, k_box)], dtype=bool)
        columns, rows = mask.shape[:2]
        for (k, source), (a, b) in zip(pairs, moves - low, strict=True):
            plane = moved[a : a + columns, b : b + rows, k - k_box.start]
            plane |= mask[:, :, source - box[2].start]
        return _within((i, j, k_box), moved)


@dataclass(frozen=True, eq=False)
class Arrangement:
    """What becomes of the slices of a group.

    Attributes:
        kept: which of them, in order.
        geometry: the grid that comes out.
        sampling: None where the slices are the grid's own; counts the slices kept.
    """

    kept: slice
    geometry: Geometry
    sampling: Sampling | None


def arrange(
    plane: Plane, positions: NDArray[np.float64], irregular: Irregular, tilt: Tilt
) -> Arrangement | str:
    """The grid of parallel slices, or the reason why they make none.

    Args:
        plane: the grid of one of them.
        positions: (slice, 3) LPS mm of their first pixels, at least two, in increasing order
            along the normal, no two at one height.
        irregular: what to do with uneven distances.
        tilt: what to do with a drift across the normal.
    """
    at = positions @ np.linalg.inv(_axes(plane)).T
    kept = slice(0, len(at))
    uneven = _uneven(at[:, 2])
    if uneven and irregular == "longest-block":
        kept = _longest_block(at[:, 2])
        if kept.stop - kept.start < FEWEST:
            return f"{uneven}; no {FEWEST} slices in a row lie at one distance"
        at, uneven = at[kept], ""
    aslant = _drift(at, plane) > TILT
    reasons = [_sideways(at, plane)]
    if uneven:
        reasons.append(_not_resampled(at[:, 2], uneven, irregular))
    if aslant:
        reasons.append(_not_sheared(at, plane, tilt))
    if any(reasons):
        return "; ".join(reason for reason in reasons if reason)
    if not (uneven or aslant):
        return Arrangement(kept, _as_they_lie(plane, positions[kept]), None)
    resampled = _resampled(plane, at, uneven=bool(uneven), aslant=aslant)
    return resampled if isinstance(resampled, str) else Arrangement(kept, *resampled)


def _axes(plane: Plane) -> NDArray[np.float64]:
    """(3, 3): columns are one step along column index, row index (LPS mm), and 1 mm upwards."""
    along_row, along_column = np.reshape(plane.orientation, (2, 3))
    normal = np.cross(along_row, along_column)
    # Column index runs along the row direction, so it takes the second spacing.
    return np.column_stack(
        [
            along_row * plane.spacing[1],
            along_column * plane.spacing[0],
            normal / np.linalg.norm(normal),
        ]
    )


def upward(plane: Plane) -> NDArray[np.float64]:
    """Unit normal (3,) of a plane in LPS."""
    return np.asarray(_axes(plane)[:, 2])


def flat_geometry(plane: Plane) -> Geometry:
    """The grid of a single slice: where it lies, and no thickness."""
    affine = np.eye(4)
    affine[:3, :3] = _axes(plane)
    affine[:3, 3] = plane.position
    return Geometry((plane.columns, plane.rows, 1), lps_to_ras(affine), flat=True)


def _as_they_lie(plane: Plane, positions: NDArray[np.float64]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = _axes(plane)
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0]
    return Geometry((plane.columns, plane.rows, len(positions)), lps_to_ras(affine))


def _uneven(heights: NDArray[np.float64]) -> str:
    """What is irregular about heights in increasing order; or ""."""
    gaps = np.diff(heights)
    distance = float(np.median(gaps))
    if gaps.max() > 1.5 * distance:
        return (
            f"slices are missing: neighbours are {distance:.3g} mm apart, "
            f"in one place {gaps.max():.3g} mm"
        )
    regular = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - regular).max() > TOLERANCE * distance:
        return (
            f"uneven distances between slices ({gaps.min():.3g} to {gaps.max():.3g} mm; "
            f"allowed: {TOLERANCE:.0%} of the distance off a regular grid)"
        )
    return ""


def _longest_block(heights: NDArray[np.float64]) -> slice:
    """The longest run that is regular about some distance; the first of equally long ones.

    A run from its first slice on is regular if one distance d fits every slice of it:
    ``|height - first - n d| <= t d`` for the n-th, or d between height/(n + t) and height/(n - t).
    With t half the tolerance, every slice is within the whole of it from the line that joins
    the run's ends.
    """
    half = TOLERANCE / 2
    best = slice(0, 1)
    for first in range(len(heights) - 1):
        if len(heights) - first <= best.stop - best.start:
            break
        above = heights[first + 1 :] - heights[first]
        number = np.arange(1, len(above) + 1)
        least = np.maximum.accumulate(above / (number + half))
        most = np.minimum.accumulate(above / (number - half))
        failing = np.flatnonzero(least > most)
        stop = first + 1 + (int(failing[0]) if failing.size else len(above))
        if stop - first > best.stop - best.start:
            best = slice(first, stop)
    return best


def _drift(at: NDArray[np.float64], plane: Plane) -> float:
    """Tangent of the angle between the line through the slices and their normal."""
    across, height = (at[-1] - at[0])[:2], at[-1, 2] - at[0, 2]
    return float(np.linalg.norm(across * plane.spacing[::-1]) / height)


def _sideways(at: NDArray[np.float64], plane: Plane) -> str:
    """Whether slices lie off the line through them, across the normal; or ""."""
    height = at[:, 2] - at[0, 2]
    line = at[0, :2] + np.outer(height / height[-1], (at[-1] - at[0])[:2])
    off = float(np.linalg.norm((at[:, :2] - line) * plane.spacing[::-1], axis=1).max())
    if off > min(TOLERANCE * float(np.median(np.diff(height))), min(plane.spacing) / 2):
        return (
            f"a slice lies {off:.3g} mm aside of the line through the others, which is no tilt: "
            "its position is wrong, or it belongs to another volume"
        )
    return ""


def _not_resampled(heights: NDArray[np.float64], uneven: str, irregular: Irregular) -> str:
    if irregular != "resample":
        return f"{uneven}; {_BY_IRREGULAR}"
    gaps = np.diff(heights)
    if len(heights) < FEWEST or gaps.max() > (WIDEST + TOLERANCE) * np.median(gaps):
        return (
            f"{uneven}; nothing is interpolated across more than {WIDEST} distances: "
            "`irregular: longest-block` keeps what is regular"
        )
    return ""


def _not_sheared(at: NDArray[np.float64], plane: Plane, tilt: Tilt) -> str:
    drift = _drift(at, plane)
    distance = (at[-1, 2] - at[0, 2]) / (len(at) - 1)
    shift = (
        f"slices shift by {drift * distance:.3g} mm across the normal "
        f"per {distance:.3g} mm along it"
    )
    if drift > STEEPEST:
        return f"{shift}, more than any gantry tilts: their positions or orientation are wrong"
    if len(at) < FEWEST:
        return f"{shift}; {len(at)} slices do not tell a tilted gantry from wrong positions"
    return "" if tilt == "shear" else f"a tilted gantry: {shift}; {_BY_TILT}"


def _resampled(
    plane: Plane, at: NDArray[np.float64], *, uneven: bool, aslant: bool
) -> tuple[Geometry, Sampling] | str:
    """The regular grid over slices at ``at`` (slice, 3): column, row, height in mm."""
    if uneven:
        distance = _distance(at[:, 2])
        height = (at[:, 2] - at[0, 2]) / distance
        below, share = _between(height)
    else:
        distance = float(at[-1, 2] - at[0, 2]) / (len(at) - 1)
        height = np.arange(len(at), dtype=np.float64)
        below, share = np.arange(len(at)), np.zeros(len(at))
    # One slice up, in pixels aside and mm up. Upright if aslant; or else the slight drift stays.
    step = np.array([0.0, 0.0, distance])
    shift, first = np.zeros((len(at), 2)), at[0].copy()
    if aslant:
        aside = at[:, :2] - at[0, :2]
        aside = np.where(np.abs(aside - np.rint(aside)) < _NEAR, np.rint(aside), aside)
        least = np.floor(aside.min(axis=0))
        shift = aside - least
        first[:2] += least
    else:
        step[:2] = (at[-1] - at[0])[:2] / height[-1]
    columns, rows = (np.array([plane.columns, plane.rows]) + np.ceil(shift.max(axis=0))).tolist()
    if columns * rows * len(below) > LARGEST * plane.columns * plane.rows * len(at):
        return "an upright grid over its slices would be mostly empty: too few of them overlap"
    shape = (int(columns), int(rows), len(below))
    axes = _axes(plane)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([axes[:, 0], axes[:, 1], axes @ step])
    affine[:3, 3] = axes @ first
    return Geometry(shape, lps_to_ras(affine)), Sampling(below, share, height, shift)


def _distance(heights: NDArray[np.float64]) -> float:
    """The distance of the regular grid; the median may be a rounded figure, the sum is none."""
    gaps = np.diff(heights)
    median = float(np.median(gaps))
    steps = np.maximum(np.rint(gaps / median), 1)
    if np.abs(gaps / median - steps).max() > TOLERANCE:
        return median
    return float(gaps.sum() / steps.sum())


def _between(height: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each whole number up to the last height: the source below it and the share above."""
    wanted = np.arange(int(np.floor(height[-1] + _SNAP)) + 1, dtype=np.float64)
    below = np.searchsorted(height, wanted + _SNAP, side="right") - 1
    above = np.minimum(below + 1, len(height) - 1)
    over = wanted - height[below]
    room = np.maximum(height[above] - height[below], _SNAP)
    return below, np.where(over > _SNAP, over / room, 0.0)


def _line(values: NDArray[np.float32], axis: int, start: float, count: int) -> NDArray[np.float32]:
    """``count`` values along an axis from ``start`` on, between whole indices linearly."""
    first = int(np.floor(start))
    share = np.float32(start - first)
    at, last = np.arange(first, first + count), values.shape[axis] - 1
    lower = values.take(at.clip(0, last), axis=axis)
    if not share:
        return lower
    upper = values.take((at + 1).clip(0, last), axis=axis)
    return np.asarray((1 - share) * lower + share * upper, dtype=np.float32)


def _within(box: Region, mask: NDArray[np.bool_]) -> tuple[Region, NDArray[np.bool_]]:
    """The box of what is marked, and the mask in it."""
    found = tight(mask)
    if found is None:
        raise ValueError("a marking marks at least one voxel")
    inner, result = found
    i, j, k = (
        slice(whole.start + part.start, whole.start + part.stop)
        for whole, part in zip(box, inner, strict=True)
    )
    return (i, j, k), result
