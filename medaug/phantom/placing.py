"""Where lesions lie: inside the liver, apart from one another, of sizes that say nothing of kind.

Sizes are log-uniform over 8-60 mm and drawn without regard to the kind. The largest is placed
first; one that finds no room shrinks until it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medaug.domain import Geometry
from medaug.phantom.dealing import Kind
from medaug.phantom.grid import Field
from medaug.phantom.lesions import PhantomLesion
from medaug.phantom.lobed import FURTHEST

SMALLEST_MM, LARGEST_MM = 8.0, 60.0
GAP_MM = 8.0  # more than a voxel's diagonal, so that two lesions never touch
SHRINK = 0.88
SURROUND_MM = 32.0  # of the slice that is to be seen around a lesion's centre
_COARSE = 3  # room is searched on every third pixel


def place_lesions(
    rng: np.random.Generator, kinds: Sequence[Kind], geometry: Geometry, liver: Field
) -> tuple[PhantomLesion, ...]:
    """Find a place for a lesion of each of ``kinds``; ``liver`` is the depth in mm (i, j, k)."""
    inside = np.pad(liver[::_COARSE, ::_COARSE] > 0, 1)
    dx, dy, dz = geometry.spacing
    room = ndimage.distance_transform_edt(inside, sampling=(dx * _COARSE, dy * _COARSE, dz))
    room = room[1:-1, 1:-1, 1:-1]
    index = np.moveaxis(np.indices(room.shape), 0, -1) * (_COARSE, _COARSE, 1)
    at = geometry.world(index)
    for axis in (0, 1):
        margin = round(SURROUND_MM / (geometry.spacing[axis] * _COARSE))
        edges = np.moveaxis(room, axis, 0)
        edges[:margin] = edges[-margin:] = 0
    sizes = np.exp(rng.uniform(np.log(SMALLEST_MM), np.log(LARGEST_MM), len(kinds)))
    placed: list[PhantomLesion] = []
    for which in np.argsort(-sizes):
        diameter = float(sizes[which])
        while not (fits := np.flatnonzero(room > FURTHEST * diameter / 2)).size:
            diameter *= SHRINK
        spot = at.reshape(-1, 3)[rng.choice(fits)]
        # Off the grid by up to half a voxel, as nature would have it.
        spot = spot + rng.uniform(-0.5, 0.5, 3) * geometry.spacing
        centre = (float(spot[0]), float(spot[1]), float(spot[2]))
        placed.append(PhantomLesion(kinds[which], centre, diameter))
        taken = np.linalg.norm(at - spot, axis=-1) - FURTHEST * diameter / 2 - GAP_MM
        room = np.minimum(room, taken)
    return tuple(placed)
