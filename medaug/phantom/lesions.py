"""Three kinds of liver lesion with the look that radiology texts give them.

In the portal-venous phase, where these three are told apart in practice [1]_:

- **cyst**: water (0-15 HU), homogeneous, a sharp border, no enhancement;
- **metastasis**: hypodense (40-80 HU), an ill-defined border, often a rim, sometimes a necrotic
  centre;
- **haemangioma**: discontinuous nodules along the border that enhance towards the blood pool,
  around a hypodense centre; lobulated.

The kinds overlap on purpose: thick slices blur a small cyst, a necrotic metastasis holds fluid,
a rim may look nodular, and in a fatty liver everything hypodense loses its contrast.

.. [1] Frid-Adar et al. 2018, doi:10.1016/j.neucom.2018.09.013
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medaug.domain import Geometry, Region
from medaug.phantom.anatomy import Habitus
from medaug.phantom.dealing import Kind
from medaug.phantom.grid import (
    PLANES,
    Axes,
    Field,
    blend,
    box_around,
    fold,
    millimetres,
    step,
    waves,
)
from medaug.phantom.lobed import FURTHEST, LobedShape

LEAST_CONTRAST = 20.0  # HU by which solid tissue of a lesion lies below the parenchyma
BORDER_MM = 0.8  # spread of a sharp border: the scanner's resolution


@dataclass(frozen=True)
class PhantomLesion:
    """What is true of one lesion.

    Attributes:
        kind: cyst, metastasis or haemangioma.
        centre_mm: centroid, RAS mm.
        diameter_mm: of the ball of the same volume.
    """

    kind: Kind
    centre_mm: tuple[float, float, float]
    diameter_mm: float


def draw_lesion(
    rng: np.random.Generator,
    voxels: Field,
    geometry: Geometry,
    lesion: PhantomLesion,
    habitus: Habitus,
    shift_hu: float = 0.0,
) -> tuple[Region, NDArray[np.bool_]]:
    """Paint one lesion into ``voxels`` (i, j, k) in place, ``shift_hu`` denser than its kind is.

    Returns:
        Its box, and within it the voxels of which it fills at least half.
    """
    lobes, look = _LOOKS[lesion.kind]
    shape = LobedShape.draw(
        rng, np.asarray(lesion.centre_mm), lesion.diameter_mm, rng.uniform(*lobes)
    )
    # 4 mm beyond: an ill-defined border reaches past the surface.
    region = box_around(geometry, lesion.centre_mm, FURTHEST * lesion.diameter_mm / 2 + 4)
    if region is None:
        raise ValueError(f"{lesion} lies outside the volume")
    axes = millimetres(geometry, region, PLANES)
    depth, reach = shape.depths(axes)
    share, hu = look(rng, shape, axes, depth, reach, habitus)
    folded = fold(share)
    tissue = fold(share * hu) / np.maximum(folded, np.float32(1e-6)) + np.float32(shift_hu)
    blend(voxels, region, folded, np.asarray(tissue, dtype=np.float32))
    return region, _largest_piece(fold(step(depth, BORDER_MM)) >= 0.5)


Look = Callable[[np.random.Generator, LobedShape, Axes, Field, Field, Habitus], tuple[Field, Field]]


def _cyst(
    rng: np.random.Generator,
    shape: LobedShape,  # noqa: ARG001 one signature for all looks
    axes: Axes,  # noqa: ARG001
    depth: Field,
    reach: Field,  # noqa: ARG001
    habitus: Habitus,  # noqa: ARG001
) -> tuple[Field, Field]:
    return step(depth, BORDER_MM), np.full_like(depth, rng.uniform(0, 15))


def _metastasis(
    rng: np.random.Generator,
    shape: LobedShape,
    axes: Axes,
    depth: Field,
    reach: Field,
    habitus: Habitus,
) -> tuple[Field, Field]:
    radius = shape.scale
    softness = min(rng.uniform(0.6, 1.8), radius / 6)
    share = 1 / (1 + np.exp(np.clip(-depth / np.float32(softness), -30, 30)))
    solid = _solid_hu(rng, habitus)
    hu = solid + 6 * waves(rng, axes, (8, 24), count=8)
    if rng.random() < 0.4 and radius > 7:
        core = step(np.float32(rng.uniform(0.45, 0.75)) - reach, 0.3)
        hu += core * (np.float32(rng.uniform(10, 35)) - hu)
    if rng.random() < 0.6 and radius > 5.5:
        # An uneven rim, up to or a little above the parenchyma.
        width = min(rng.uniform(1.2, 2.6), radius / 4)
        height = rng.uniform(0.6, 1.0) * (habitus.parenchyma + rng.uniform(0, 20) - solid)
        band = np.exp(-(((depth - np.float32(1.2 * width)) / np.float32(width)) ** 2))
        uneven = np.clip(1 + np.float32(0.4) * waves(rng, axes, (10, 30), count=6), 0, 1.6)
        hu += np.float32(height) * band * uneven
    return np.asarray(share, dtype=np.float32), np.asarray(hu, dtype=np.float32)


def _haemangioma(
    rng: np.random.Generator,
    shape: LobedShape,
    axes: Axes,
    depth: Field,
    reach: Field,  # noqa: ARG001
    habitus: Habitus,
) -> tuple[Field, Field]:
    radius = shape.scale
    hu = np.full_like(depth, _solid_hu(rng, habitus)) + 4 * waves(rng, axes, (8, 24), count=6)
    # How far the contrast agent has come; small haemangiomas fill in sooner.
    filling = rng.uniform(0.22, 0.42) * (1.3 if radius < 8 else 1.0)
    nodules = np.full_like(depth, -np.inf)
    for _ in range(int(rng.integers(6, 15))):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        at = shape.within(direction[None], rng.uniform(0.7, 0.95))[0]
        size = np.float32(radius * filling * rng.uniform(0.6, 1.3))
        x, y, z = (a - np.float32(c) for a, c in zip(axes, at, strict=True))
        np.maximum(nodules, size - np.sqrt(x**2 + y**2 + z**2), out=nodules)
    # Neighbouring nodules run together and none is a ball.
    nodules += np.float32(0.1 * radius * filling) * waves(rng, axes, (5, 15), count=8)
    enhanced = np.float32(habitus.blood - rng.uniform(0, 15))
    hu += step(nodules, max(BORDER_MM, 0.3 * radius * filling)) * (enhanced - hu)
    return step(depth, 2 * BORDER_MM), hu


# Per kind: how lobulated (spread of the surface as a share of the radius), and its look.
_LOOKS: dict[Kind, tuple[tuple[float, float], Look]] = {
    "cyst": ((0.02, 0.10), _cyst),
    "metastasis": ((0.06, 0.18), _metastasis),
    "haemangioma": ((0.08, 0.20), _haemangioma),
}


def _solid_hu(rng: np.random.Generator, habitus: Habitus) -> float:
    """Of unenhanced lesion tissue: 40-80 HU, but always darker than the liver around it."""
    return float(rng.uniform(40, min(80, habitus.parenchyma - LEAST_CONTRAST)))


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest face-connected piece: thick slices may cut a lobe off."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]))
