"""The upper abdomen around a liver, in the portal-venous phase, without lesions or noise.

Everything lies in a frame of RAS millimetres whose origin is the middle of the trunk: +x to the
patient's right, where the liver is. HU follow what radiology texts give for the phase:
parenchyma 90-130 (a fatty liver 60-85), veins 145-180, fat about -100, muscle 60, kidney 190.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from medaug.domain import Geometry
from medaug.phantom.grid import (
    Axes,
    Field,
    blend,
    box_around,
    ellipsoid_depth,
    millimetres,
    step,
    waves,
)
from medaug.phantom.noise import band_noise

SOFT_MM = 1.2  # how far an organ's border spreads in the plane
CAVA = (20.0, -30.0)  # (x, y) where the inferior vena cava runs along z
AORTA = (-14.0, -36.0)
WALL_MM = 13.0  # muscle and ribs between the fat and the cavity


@dataclass(frozen=True)
class Habitus:
    """What differs between patients before any lesion.

    Attributes:
        parenchyma: mean HU of the liver.
        blood: HU of the portal and hepatic veins.
        trunk: half-axes (x, y) of the body in mm.
        fat: thickness of the fat under the skin in mm.
        liver: size of the liver against the pattern.
    """

    parenchyma: float
    blood: float
    trunk: tuple[float, float]
    fat: float
    liver: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Habitus:
        """A patient; about one in six has a fatty liver."""
        fatty = rng.random() < 1 / 6
        parenchyma = rng.uniform(60, 85) if fatty else rng.uniform(90, 130)
        return cls(
            parenchyma=parenchyma,
            blood=rng.uniform(max(145.0, parenchyma + 28), 180),
            trunk=(rng.uniform(148, 168), rng.uniform(104, 122)),
            fat=rng.uniform(8, 24),
            liver=rng.uniform(0.94, 1.08),
        )


class Organ(NamedTuple):
    """An ellipsoid of one tissue: centre and half-axes in mm, and its HU."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: float


def draw_abdomen(
    rng: np.random.Generator, geometry: Geometry, habitus: Habitus
) -> tuple[Field, Field]:
    """Draw everything but vessels within the liver, lesions and noise.

    Returns:
        HU (i, j, k), and the depth under the liver's surface in mm (approximate off the surface;
        negative outside the liver).
    """
    axes = millimetres(geometry)
    cavity = _trunk_depth(axes, habitus) - np.float32(habitus.fat + WALL_MM)
    beside = _neighbours(rng)
    liver = np.minimum(_liver_depth(rng, axes, habitus), cavity - 2)
    liver = np.minimum(liver, -_spine_depth(axes) - 6)
    for organ in beside:
        _carve(liver, geometry, organ)

    voxels = _trunk(rng, axes, habitus)
    _lung(voxels, axes, cavity, liver, habitus)
    for organ in _bowel(rng):
        _paint(voxels, geometry, organ, within=cavity)
    parenchyma = habitus.parenchyma + 3 * waves(rng, axes, (35, 90))
    texture = band_noise(rng, geometry.shape, geometry.spacing[0], 0.13, 0.5)
    voxels += step(liver, SOFT_MM) * (parenchyma + rng.uniform(2.5, 5) * texture - voxels)
    for organ in beside:
        _paint(voxels, geometry, organ, within=cavity)
    for (x, y), radius in ((CAVA, 12.5), (AORTA, 11.0)):
        tube = radius - np.hypot((axes[0] - x) / np.float32(1.15), axes[1] - y)
        voxels += step(tube, SOFT_MM) * (np.float32(habitus.blood - 6) - voxels)
    _spine(voxels, axes)
    return voxels, liver


def _trunk_depth(axes: Axes, habitus: Habitus) -> Field:
    """Depth (i, j, 1) under the skin in mm, along the ray from the middle of the trunk."""
    x, y, _ = axes
    a, b = (np.float32(half) for half in habitus.trunk)
    reach = (np.abs(x / a) ** 2.4 + np.abs(y / b) ** 2.4) ** np.float32(1 / 2.4)
    return np.asarray(np.hypot(x, y) * (1 / np.maximum(reach, np.float32(1e-3)) - 1))


def _trunk(rng: np.random.Generator, axes: Axes, habitus: Habitus) -> Field:
    """Air, skin, fat, the muscle wall with ribs, and the fat of the cavity."""
    wall = habitus.fat + WALL_MM
    knots = [-0.7, 0.7, 1.8, 3.2, habitus.fat - 1, habitus.fat + 1, wall - 1, wall + 1]
    layers = [-1000.0, 30.0, 30.0, -105.0, -105.0, 58.0, 58.0, -98.0]
    depth = _trunk_depth(axes, habitus)
    x, y, z = axes
    flat = np.interp(depth, knots, layers).astype(np.float32)
    voxels = flat + 6 * waves(rng, axes, (18, 60), count=8) * (depth > 2)
    # Ribs run obliquely: lower in front, so an axial slice cuts several of them.
    ring = step(3.6 - np.abs(depth - np.float32(wall - 5)), 1.5) * (y > -75)
    rise = np.sin((z + np.float32(0.45) * y + np.float32(0.15) * x) * np.float32(2 * np.pi / 31))
    voxels += ring * step(rise - np.float32(0.35), 0.5) * (np.float32(280) - voxels)
    return voxels


def _lung(voxels: Field, axes: Axes, cavity: Field, liver: Field, habitus: Habitus) -> None:
    """Lung between the wall and a diaphragm that lies a few mm over the liver."""
    size = habitus.liver
    arch = ellipsoid_depth(axes, (28, 0, -6), (110 * size, 92 * size, 68 * size))
    dome = np.maximum(arch, liver + 2)
    depth = np.minimum(np.minimum(-dome, cavity + 1), axes[2] - 12)
    voxels += step(depth, SOFT_MM) * (np.float32(-860) - voxels)


def _liver_depth(rng: np.random.Generator, axes: Axes, habitus: Habitus) -> Field:
    """The liver with an undulating surface."""
    joined = reference_depth(axes, habitus)
    return np.asarray(joined + 2.2 * waves(rng, axes, (45, 110)) - 3, dtype=np.float32)


def reference_depth(axes: Axes, habitus: Habitus) -> Field:
    """Depth (mm) in a smooth liver: a right and a left lobe that flow into one another."""
    size = habitus.liver
    right = ellipsoid_depth(axes, (72, -6, -4), (60 * size, 76 * size, 72 * size))
    left = ellipsoid_depth(axes, (12, 36, 16), (64 * size, 36 * size, 44 * size))
    # Smooth maximum: the lobes join without a crease (10 mm).
    return np.asarray(10 * np.logaddexp(right / np.float32(10), left / np.float32(10)))


def _neighbours(rng: np.random.Generator) -> list[Organ]:
    """Kidney with its fat and pelvis, and a gallbladder: they press into the liver."""
    x, y, z = rng.uniform([54, -56, -78], [62, -50, -62])
    bile = rng.uniform([42, 30, -64], [54, 40, -50])
    gallbladder = (float(bile[0]), float(bile[1]), float(bile[2]))
    return [
        Organ((x, y, z), (31, 29, 57), -95),
        Organ((x, y, z), (25, 23, 51), rng.uniform(165, 205)),
        Organ((x - 8, y + 4, z), (11, 9, 27), -40),
        Organ(gallbladder, (14, 20, 26), 70),
        Organ(gallbladder, (12, 18, 24), rng.uniform(2, 16)),
    ]


def _bowel(rng: np.random.Generator) -> list[Organ]:
    """The stomach, and loops of bowel below the liver."""
    places = rng.uniform([-75, -15, -110], [70, 80, -40], size=(14, 3))
    loops = [
        Organ((x, y, z), tuple(rng.uniform(11, 20, 3)), rng.uniform(15, 80)) for x, y, z in places
    ]
    stomach = Organ((-66, 38, 14), (46, 36, 56), rng.uniform(15, 45))
    return [*loops, stomach._replace(radii=(49, 39, 59), hu=75), stomach]


def _paint(voxels: Field, geometry: Geometry, organ: Organ, within: Field) -> None:
    region = box_around(geometry, organ.centre, [r + 2 for r in organ.radii])
    if region is not None:
        depth = ellipsoid_depth(millimetres(geometry, region), organ.centre, organ.radii)
        share = step(np.minimum(depth, within[region[0], region[1]] - 1), SOFT_MM)
        blend(voxels, region, share, organ.hu)


def _carve(liver: Field, geometry: Geometry, organ: Organ) -> None:
    """Take an organ out of the liver."""
    region = box_around(geometry, organ.centre, [r + 2 for r in organ.radii])
    if region is not None:
        depth = ellipsoid_depth(millimetres(geometry, region), organ.centre, organ.radii)
        liver[region] = np.minimum(liver[region], -depth)


def _spine_depth(axes: Axes) -> Field:
    """Depth (i, j, 1) in the vertebral body."""
    return ellipsoid_depth(
        (axes[0], axes[1], np.zeros((1, 1, 1), np.float32)), (0, -62, 0), (23, 18, 18)
    )


def _spine(voxels: Field, axes: Axes) -> None:
    """Vertebral bodies with a dense shell, discs between them, arch, canal and back muscles."""
    x, y, z = axes
    flat = np.zeros((1, 1, 1), np.float32)
    for side in (-1, 1):
        muscle = ellipsoid_depth((x, y, flat), (side * 30, -86, 0), (24, 15, 15))
        voxels += step(muscle, SOFT_MM) * (np.float32(58) - voxels)
    body = _spine_depth(axes)
    disc = step(np.abs((z + 7) % 34 - 17) - 13, 1.5)
    marrow = 175 - 90 * disc
    voxels += step(body, SOFT_MM) * (marrow + (330 - marrow) * step(2.2 - body, 1) - voxels)
    for centre, radii, hu in (
        ((0, -84, 0), (17, 11, 11), 330.0),
        ((0, -82, 0), (10, 8, 8), 35.0),
        ((0, -98, 0), (3.5, 11, 11), 300.0),
    ):
        depth = ellipsoid_depth((x, y, flat), centre, radii)
        voxels += step(depth, SOFT_MM) * (np.float32(hu) - voxels)
