"""Small pictures of released samples, to find later that one is released twice.

They show what has left anyway. A picture is the mean of the planes in which two samples are
compared (`duplicates`), each at 64x64 and with the same contrast: what that comparison averages
over anyway, so that a stored picture stands for its sample in every layout and at every patch size.
8 bits keep the correlation of two pictures to about a thousandth.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from medaug.privacy.pictures import SIDE, planes, resized, unit_contrast


def pictures_of(images: NDArray[np.float32]) -> NDArray[np.int8]:
    """(sample, 64, 64): one picture of each image (sample, channel, [slice,] row, column)."""
    small = np.empty((len(images), SIDE, SIDE))
    for row in range(len(images)):
        small[row] = unit_contrast(resized(planes(images[row : row + 1])[0], SIDE)).mean(axis=0)
    small -= small.mean(axis=(1, 2), keepdims=True)
    largest = np.abs(small).max(axis=(1, 2), keepdims=True)
    return np.rint(127 * small / np.where(largest > 0, largest, 1)).astype(np.int8)


def packed(pictures: NDArray[np.int8]) -> bytes:
    """As the ledger keeps them.

    Raises:
        ValueError: for anything else than `pictures_of` gives.
    """
    if pictures.dtype != np.int8 or pictures.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"pictures are int8 (sample, {SIDE}, {SIDE})")
    return zlib.compress(np.ascontiguousarray(pictures).tobytes(), 6)


def unpacked(packages: Iterable[bytes]) -> NDArray[np.int8]:
    """(sample, 64, 64): the pictures of several releases together."""
    parts = [np.frombuffer(zlib.decompress(each), np.int8) for each in packages]
    flat = np.concatenate(parts) if parts else np.empty(0, np.int8)
    return flat.reshape(-1, SIDE, SIDE)
