r"""The shape of a lesion: an ellipsoid with lobes, of known centre and volume.

A star-shaped body: along every direction u from a middle, the surface lies at

.. math:: r(u) = s \, (1 + \sum_w a_w \sin(k_w \cdot u + \phi_w))

in a frame that is rotated and stretched (determinant 1). The scale s and the middle are chosen so
that the volume is that of a ball of the nominal diameter and the centroid is the nominal centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.phantom.grid import Axes, Field

Vector = NDArray[np.float64]
_WAVES = 6

FURTHEST = 1.4  # of the nominal radius: no point of a lesion lies further from its centre


@dataclass(frozen=True, eq=False)
class LobedShape:
    """A star-shaped body.

    Attributes:
        middle: from where directions are taken, RAS mm.
        to_ball: (3, 3) with determinant 1, from offsets in mm to the unstretched frame.
        scale: s of the formula, mm.
        waves: (w, 3), the k of the formula.
        heights: (w,), the a of the formula.
        phases: (w,), the phi of the formula.
    """

    middle: Vector
    to_ball: Vector
    scale: float
    waves: Vector
    heights: Vector
    phases: Vector

    @classmethod
    def draw(
        cls, rng: np.random.Generator, centre: Vector, diameter_mm: float, lobes: float
    ) -> LobedShape:
        """Draw shapes until one lies within `FURTHEST`.

        Args:
            rng: source of randomness.
            centre: centroid, RAS mm.
            diameter_mm: of the ball of the same volume.
            lobes: spread (standard deviation) of r(u), as a share of the radius.
        """
        while True:
            rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
            stretch = np.exp(rng.uniform(-0.16, 0.16, 3))
            to_ball = np.diag(np.cbrt(stretch.prod()) / stretch) @ rotation.T
            waves = rng.standard_normal((_WAVES, 3))
            waves *= rng.uniform(2, 5, (_WAVES, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
            heights = np.sqrt(2 * rng.dirichlet(np.full(_WAVES, 3.0))) * lobes
            phases = rng.uniform(0, 2 * np.pi, _WAVES)
            shape = cls(centre, to_ball, 1.0, waves, heights, phases)._settled(diameter_mm / 2)
            surface = shape.within(_directions(512), 1.0)
            if np.linalg.norm(surface - centre, axis=1).max() <= FURTHEST * diameter_mm / 2:
                return shape

    def _settled(self, radius: float) -> LobedShape:
        """The same body with the volume of a ball of ``radius`` and its centroid at `middle`."""
        around = _directions(2048)
        r = self.surface(*around.T.astype(np.float32)).astype(np.float64)
        scale = radius / np.cbrt(np.mean(r**3))
        # Centroid of a star-shaped body: 3/4 of the mean of r^4 u over the mean of r^3.
        centroid = 0.75 * scale * (r[:, None] ** 4 * around).mean(axis=0) / np.mean(r**3)
        middle = self.middle - np.linalg.inv(self.to_ball) @ centroid
        return LobedShape(middle, self.to_ball, scale, self.waves, self.heights, self.phases)

    def surface(self, x: Field, y: Field, z: Field) -> Field:
        """r(u) in mm along the unit directions (x, y, z) of the unstretched frame."""
        total = np.ones_like(x)
        for (kx, ky, kz), height, phase in zip(
            self.waves.astype(np.float32), self.heights, self.phases, strict=True
        ):
            total += np.float32(height) * np.sin(x * kx + y * ky + z * kz + np.float32(phase))
        return np.asarray(total * np.float32(self.scale))

    def depths(self, axes: Axes) -> tuple[Field, Field]:
        """Depth under the surface in mm (negative outside), and the reach: 0 middle, 1 surface."""
        to_ball = self.to_ball.astype(np.float32)
        x, y, z = (a - np.float32(m) for a, m in zip(axes, self.middle, strict=True))
        balled = [row[0] * x + row[1] * y + row[2] * z for row in to_ball]
        out = np.sqrt(balled[0] ** 2 + balled[1] ** 2 + balled[2] ** 2) + np.float32(1e-4)
        surface = self.surface(balled[0] / out, balled[1] / out, balled[2] / out)
        return surface - out, out / surface

    def within(self, directions: Vector, reach: float) -> Vector:
        """The points (n, 3), RAS mm, at ``reach`` of the way to the surface along unit vectors."""
        out = self.surface(*directions.T.astype(np.float32)) * reach
        return np.asarray(self.middle + (directions * out[:, None]) @ np.linalg.inv(self.to_ball).T)


def _directions(count: int) -> Vector:
    """Evenly spread unit vectors (count, 3): a Fibonacci spiral."""
    at = np.arange(count) + 0.5
    z = 1 - 2 * at / count
    turn = np.pi * (1 + np.sqrt(5)) * at
    flat = np.sqrt(1 - z**2)
    return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), z])
