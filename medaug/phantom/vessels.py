"""Portal and hepatic veins: two trees of tapering tubes in the liver.

Each branch is two straight pieces with a bend; it forks into a thicker and a thinner daughter
whose areas sum to about the mother's (Murray's law [1]_ gives cubes; veins lie between).

.. [1] Murray 1926, doi:10.1073/pnas.12.3.207
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry
from medaug.phantom.anatomy import CAVA, Habitus
from medaug.phantom.grid import PLANES, Field, blend, box_around, fold, millimetres, step

Vector = NDArray[np.float64]
Tube = tuple[Vector, Vector, float]  # from, to (RAS mm), radius (mm)

THINNEST_MM = 0.9
_THICKEST_TWIG_MM = 2.6
# Where a trunk starts, where it heads, and its radius: portal vein right and left, then the
# right, middle and left hepatic veins.
_TRUNKS = (
    ((22.0, 2.0, -16.0), (1.0, -0.15, 0.25), 5.5),
    ((22.0, 2.0, -16.0), (-0.3, 0.9, 0.5), 4.5),
    ((CAVA[0] + 6, CAVA[1] + 6, 40.0), (0.85, -0.1, -0.5), 4.8),
    ((CAVA[0] + 4, CAVA[1] + 8, 40.0), (0.4, 0.8, -0.45), 4.2),
    ((CAVA[0], CAVA[1] + 8, 40.0), (-0.2, 0.95, -0.25), 3.6),
)


def draw_vessels(
    rng: np.random.Generator,
    voxels: Field,
    geometry: Geometry,
    liver: Field,
    habitus: Habitus,
) -> None:
    """Paint the veins into ``voxels`` (i, j, k) in place, inside the liver only."""
    for start, heading, radius in _TRUNKS:
        at = np.asarray(start) + rng.normal(0, 2, 3)
        for tube in _grow(rng, at, _unit(np.asarray(heading)), radius, geometry, liver):
            _paint(voxels, geometry, liver, tube, habitus.blood)


def draw_twigs(
    rng: np.random.Generator,
    voxels: Field,
    geometry: Geometry,
    liver: Field,
    habitus: Habitus,
) -> None:
    """Paint a few veins into a slice that shows too little of a liver for its trunks."""
    half = np.asarray(geometry.shape) * geometry.spacing / 2
    middle = geometry.world((np.asarray(geometry.shape) - 1) / 2)
    for _ in range(int(rng.integers(1, 4))):
        at = middle + rng.uniform(-1, 1, 3) * half
        radius = float(np.exp(rng.uniform(np.log(THINNEST_MM), np.log(_THICKEST_TWIG_MM))))
        for tube in _grow(rng, at, _unit(rng.standard_normal(3)), radius, geometry, liver):
            _paint(voxels, geometry, liver, tube, habitus.blood)


def _grow(
    rng: np.random.Generator,
    at: Vector,
    heading: Vector,
    radius: float,
    geometry: Geometry,
    liver: Field,
) -> Iterator[Tube]:
    """The tubes of a branch and, depth first, of all that spring from it."""
    if radius < THINNEST_MM:
        return
    for _ in range(2):
        heading = _unit(heading + rng.normal(0, 0.18, 3))
        end = at + heading * radius * rng.uniform(2.2, 4.2)
        yield at, end, radius
        at = end
    if not _inside(geometry, liver, at):
        return
    aside = _unit(np.cross(heading, rng.standard_normal(3)))
    for share, turn in ((rng.uniform(0.78, 0.88), -0.45), (rng.uniform(0.5, 0.72), 0.75)):
        turned = _unit(heading + turn * rng.uniform(0.6, 1.3) * aside)
        yield from _grow(rng, at, turned, radius * share, geometry, liver)


def _inside(geometry: Geometry, liver: Field, at: Vector) -> bool:
    """Whether a point lies in the liver, or above or below the volume."""
    i, j, k = np.rint(geometry.index(at)).astype(int)
    if not (0 <= i < liver.shape[0] and 0 <= j < liver.shape[1]):
        return False
    return bool(liver[i, j, min(max(k, 0), liver.shape[2] - 1)] > 2)


def _paint(voxels: Field, geometry: Geometry, liver: Field, tube: Tube, hu: float) -> None:
    start, end, radius = tube
    middle = (start + end) / 2
    region = box_around(geometry, middle, np.abs(end - start) / 2 + radius + 1)
    if region is None:
        return
    x, y, z = millimetres(geometry, region, PLANES)
    along = end - start
    length = float(np.linalg.norm(along))
    ux, uy, uz = (along / length).astype(np.float32)
    dx, dy, dz = (a - np.float32(s) for a, s in zip((x, y, z), start, strict=True))
    travelled = np.clip(dx * ux + dy * uy + dz * uz, 0, length)
    away = np.sqrt(
        (dx - travelled * ux) ** 2 + (dy - travelled * uy) ** 2 + (dz - travelled * uz) ** 2
    )
    share = fold(step(radius - away, 1.0)) * step(liver[region] - 1, 1.0)
    blend(voxels, region, share, hu)


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))
