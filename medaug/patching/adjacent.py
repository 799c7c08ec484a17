"""Slices beside a lesion's own, as further channels of its patch ("2.5-D").

A channel lies ``slice_mm`` beyond its neighbour along the normal of the slices, towards the head
as their number rises. Between two slices of the volume it is interpolated linearly, so that
no more than two slices are decoded for it; beyond the volume its last slice is repeated, as
its edge is within a slice. Nothing is smoothed across slices: a slice stays as thick as the
scanner made it, and the middle channel is the lesion's own slice, untouched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry
from medaug.domain.section import View


@dataclass(frozen=True, eq=False)
class Between:
    """Where a channel lies: between two slices of the volume, which may be one and the same.

    Attributes:
        below: index of the first slice.
        above: index of the second slice.
        share: of the second slice, 0 to below 1.
        position: mm (back, left) in the slice of what the patch is centred on.
    """

    below: int
    above: int
    share: float
    position: NDArray[np.float64]


def channels(
    geometry: Geometry, view: View, at: int, position: NDArray[np.float64], offsets: list[float]
) -> list[Between]:
    """Where the channels lie whose slices are ``offsets`` mm nearer to the head than slice ``at``.

    Args:
        geometry: of the volume.
        view: of that grid.
        at: index of the lesion's slice.
        position: mm (back, left) of the patch's centre in that slice.
        offsets: in mm; negative towards the feet.
    """
    axial, row, column = view.axes
    normal = np.cross(geometry.directions[:, row], geometry.directions[:, column])
    normal /= np.linalg.norm(normal)
    toward_head = geometry.directions[:, axial] * np.sign(geometry.affine[2, axial])
    normal *= np.sign(normal @ toward_head)
    centre = geometry.world(view.array_index(at, position))
    last = geometry.shape[axial] - 1
    found = []
    for offset in offsets:
        index = geometry.index(centre + offset * normal)
        height = float(np.clip(index[axial], 0, last))
        nearest = round(height)
        if abs(height - nearest) < 1e-6:  # rounding: it is that slice
            height = float(nearest)
        below = int(height)
        in_slice = view.to_mm @ index[[row, column]]
        found.append(Between(below, min(below + 1, last), height - below, in_slice))
    return found
