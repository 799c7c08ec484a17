"""The poses in which a candidate is laid on a real patch.

>>> len(LOW_POSES)
3600
>>> print(Pose(mirrored=True, degrees=90.0, scale=1.0, shift=(3, -6)))
mirrored, turned 90°, shifted (3, -6)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from medaug.privacy.pictures import RADIUS, SIDE, Floats

GRID = 16


@dataclass(frozen=True)
class Pose:
    """What is done to a candidate: mirror its columns, turn it counter-clockwise, scale, shift.

    ``shift`` is (down, right) in pixels of the 64x64 picture.
    """

    mirrored: bool
    degrees: float
    scale: float
    shift: tuple[int, int]

    def __str__(self) -> str:
        words = [
            "mirrored" if self.mirrored else "",
            f"turned {self.degrees:g}°" if self.degrees else "",
            f"scaled {self.scale:g}" if self.scale != 1 else "",
            f"shifted {self.shift}" if any(self.shift) else "",
        ]
        return ", ".join(word for word in words if word) or "as it is"


LOW_POSES = tuple(
    Pose(mirrored, degrees, scale, (down, right))
    for mirrored in (False, True)
    for degrees in np.arange(0.0, 360.0, 15.0).tolist()
    for scale in (0.87, 1.0, 1.15)
    for down in (-6, -3, 0, 3, 6)
    for right in (-6, -3, 0, 3, 6)
)

SQUARE_POSES = tuple(
    Pose(mirrored, degrees, 1.0, (0, 0))
    for mirrored in (False, True)
    for degrees in (0.0, 90.0, 180.0, 270.0)
)


def in_square_poses(picture: Floats) -> Floats:
    """(8, side, side): the picture (side, side) in each of `SQUARE_POSES`."""
    return np.stack(
        [np.rot90(side, turns) for side in (picture, picture[:, ::-1]) for turns in range(4)]
    )


@cache
def posing() -> csr_array:
    """(pose * point, 64 * 64): samples a picture in every one of `LOW_POSES` at `grid_points`."""
    return _bilinear(LOW_POSES)


@cache
def sampling() -> csr_array:
    """(point, 64 * 64): samples a picture as it is at `grid_points`."""
    return _bilinear((Pose(False, 0.0, 1.0, (0, 0)),))


@cache
def grid_points() -> NDArray[np.float64]:
    """(point, 2): rows and columns of a 16x16 grid under the circular mask, from the centre, px."""
    at = (np.arange(GRID) - (GRID - 1) / 2) * (SIDE / GRID)
    points = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(points[np.hypot(*points.T) < RADIUS])


def _source_places(pose: Pose) -> NDArray[np.float64]:
    """Where in the picture (row, column) the posed picture's grid points come from."""
    turn = np.deg2rad(pose.degrees)
    # Rows count downwards: this undoes a counter-clockwise turn as seen on a screen.
    undo = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    places = (grid_points() - pose.shift) @ undo.T / pose.scale
    if pose.mirrored:
        places = places * [1.0, -1.0]
    return np.asarray(places + (SIDE - 1) / 2)


def _bilinear(poses: Sequence[Pose]) -> csr_array:
    """Bilinear sampling at `grid_points` in poses; beyond the border the border is repeated."""
    points = len(poses) * len(grid_points())
    weights = np.empty((points, 4), np.float32)
    sources = np.empty((points, 4), np.int32)
    # Pose by pose, and into place: what is between takes five times the memory of what is kept.
    for number, pose in enumerate(poses):
        rows = slice(number * len(grid_points()), (number + 1) * len(grid_points()))
        inside = np.clip(_source_places(pose), 0, SIDE - 1)
        corner = np.minimum(inside.astype(np.int64), SIDE - 2)
        part = inside - corner
        for at, (down, right) in enumerate((down, right) for down in (0, 1) for right in (0, 1)):
            sources[rows, at] = (corner[:, 0] + down) * SIDE + corner[:, 1] + right
            weights[rows, at] = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
    starts = np.arange(0, 4 * points + 1, 4, dtype=np.int32)
    return csr_array((weights.ravel(), sources.ravel(), starts), shape=(points, SIDE * SIDE))
