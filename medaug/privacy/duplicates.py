"""Two samples that are the same picture.

Pictures are compared at 32x32 after a light low-pass (Gaussian 1 px at 64x64), in the 8 poses of
the square and shifts of up to 2 px, by |NCC|. A collapsed generator, whose samples differ by noise
alone, has almost every candidate turned away here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from medaug.privacy.pictures import (
    RADIUS,
    SIDE,
    Floats,
    disc,
    planes,
    resized,
    smooth,
    standardised,
    unit_contrast,
)
from medaug.privacy.poses import in_square_poses
from medaug.privacy.threads import one_thread

_SIDE = 32
_SMOOTHING = 1.0
_SHIFTS = (-1, 0, 1)  # in pixels of the 32x32 picture
_BLOCK = 512  # pictures that are compared with together


class Gathered:
    """Pictures gathered one by one, 2.6 kB each; knows how like a new one is to those before."""

    def __init__(self) -> None:
        self._blocks: list[Floats] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, image: Floats) -> None:
        """Gather an image (channel, [slice,] row, column)."""
        if self._count == _BLOCK * len(self._blocks):
            self._blocks.append(np.zeros((_BLOCK, _points()), np.float32))
        self._blocks[-1][self._count % _BLOCK] = _vector(_small(image))
        self._count += 1

    def likeness(self, image: Floats) -> float:
        """The highest |NCC| of an image with those gathered; 0 if there is none."""
        posed = _posed(_small(image))
        best = 0.0
        with one_thread():
            for number, block in enumerate(self._blocks):
                rows = block[: self._count - number * _BLOCK]
                best = max(best, float(np.abs(posed @ rows.T).max()))
        return best


def closest_pair(images: Iterable[Floats]) -> float:
    """The highest |NCC| of any two images (channel, row, column); 0 for fewer than two.

    Of a pair the later one is posed, which is not quite symmetric at the border: the order counts
    in the third decimal.
    """
    gathered = Gathered()
    highest = 0.0
    for image in images:
        highest = max(highest, gathered.likeness(image))
        gathered.add(image)
    return highest


def _small(image: Floats) -> Floats:
    """(32, 32): the planes of an image, smoothed and averaged."""
    plain = smooth(unit_contrast(resized(planes(image[None])[0], SIDE)), _SMOOTHING)
    return np.asarray(resized(plain, _SIDE).mean(axis=0), dtype=np.float32)


def _points() -> int:
    return int(_field().sum())


def _field() -> NDArray[np.bool_]:
    return disc(_SIDE, RADIUS * _SIDE / SIDE)


def _vector(small: Floats) -> Floats:
    return standardised(small[_field()], axis=0)


def _posed(small: Floats) -> Floats:
    """(pose, point): the picture in 8 poses and 9 shifts."""
    turned = in_square_poses(small)
    wide = np.pad(turned, ((0, 0), (1, 1), (1, 1)), mode="edge")
    moved = [
        wide[:, 1 + down : 1 + down + _SIDE, 1 + right : 1 + right + _SIDE]
        for down in _SHIFTS
        for right in _SHIFTS
    ]
    return standardised(np.concatenate(moved)[:, _field()], axis=1)
