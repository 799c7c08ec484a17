"""What a CT itself says against a mask: it lies on the other side of the body, or covers too much.

Both look at one axial slice, the one with most marked voxels, and only where it is worth it: where
a file codes a side, or where the mask is larger than `LARGE_MM2` there. The body is what is denser
than -300 HU, the air in it included. Nothing is said where that is not one piece that ends inside
the picture on both sides and is `NARROWEST_MM` wide: a limb, two legs, a picture of a part.

What cannot be told: a mask without a coded side, and an image that is itself mirrored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medaug.domain import Geometry, Unit, Volume
from medaug.errors import ReaderError
from medaug.readers.lesions import Marking
from medaug.readers.marks.mark import Side

LARGE_MM2 = 3000.0
LARGEST_SHARE = 0.2
"""In an abdomen of 300 x 220 mm a mass 115 mm across; a whole liver takes a quarter and more."""

NARROWEST_MM = 140.0
OFF_CENTRE = 0.1
"""How far beyond the middle, in widths of the body, a mask lies on the wrong side."""

_AIR_HU = -300
_ONE_PIECE = 0.7


def other_side(side: Side, marking: Marking, volume: Volume) -> str:
    """Why a mask cannot lie on the side that its file codes; "" if it may."""
    if not side or marking.mask is None or not _axial_ct(volume):
        return ""
    geometry = volume.geometry
    axis = int(np.argmax(np.abs(geometry.directions[0])))
    body = _body(_largest(marking), volume)
    if body is None or axis == 2 or abs(geometry.directions[0, axis]) < 0.9:
        return ""
    across = np.flatnonzero(body.any(axis=1 - axis))
    first, last = int(across[0]), int(across[-1])
    width = (last - first + 1) * geometry.spacing[axis]
    if first == 0 or last == body.shape[axis] - 1 or width < NARROWEST_MM:
        return ""
    centre = np.argwhere(marking.mask).mean(axis=0)[axis] + marking.box[axis].start
    beyond = (centre - (first + last) / 2) * geometry.spacing[axis]
    to_the_right = float(beyond * np.sign(geometry.directions[0, axis]))
    wrong = -to_the_right if side == "right" else to_the_right
    if wrong <= OFF_CENTRE * width:
        return ""
    return (
        f"it is coded as {side}, and lies {wrong:.0f} mm on the other side of the middle of the "
        "body: left and right are exchanged, or the code is wrong"
    )


def share_of_body(marking: Marking, volume: Volume) -> float | None:
    """Fraction of the body's section that a large mask takes; None where that is not known."""
    if marking.mask is None or not _axial_ct(volume):
        return None
    at = _largest(marking)
    area = int(marking.mask[:, :, at - marking.box[2].start].sum())
    if area * _pixel_mm2(volume.geometry) < LARGE_MM2:
        return None
    body = _body(at, volume)
    return None if body is None else area / int(body.sum())


def _axial_ct(volume: Volume) -> bool:
    hounsfield = volume.unit is Unit.HOUNSFIELD and volume.geometry.in_millimetres
    return hounsfield and volume.geometry.axial_axis == 2


def _largest(marking: Marking) -> int:
    """The slice with most marked voxels."""
    counts = marking.mask.sum(axis=(0, 1)) if marking.mask is not None else [0]
    return int(marking.box[2].start + np.argmax(counts))


def _pixel_mm2(geometry: Geometry) -> float:
    return float(geometry.spacing[0] * geometry.spacing[1])


def _body(k: int, volume: Volume) -> NDArray[np.bool_] | None:
    """The body (i, j) in one slice; None if there is none, or if it is in pieces."""
    columns, rows, _ = volume.geometry.shape
    try:
        values = volume.read((slice(0, columns), slice(0, rows), slice(k, k + 1)))[:, :, 0]
    except ReaderError:
        return None  # whoever reads the voxels of the case is told
    solid = values > _AIR_HU
    numbered, count = ndimage.label(solid)
    if not count:
        return None
    sizes = np.bincount(numbered.ravel())[1:]
    if sizes.max() < _ONE_PIECE * solid.sum():
        return None
    return np.asarray(ndimage.binary_fill_holes(numbered == int(sizes.argmax()) + 1), dtype=bool)
