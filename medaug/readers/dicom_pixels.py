"""Pixels of DICOM slices, decoded one slice at a time and only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from medaug.errors import Fault, ReaderError
from medaug.readers.dicom_header import Slice
from medaug.readers.oddities import UNREADABLE, withheld

SLICES_KEPT = 32
"""Decoded slices kept for neighbouring patches: 32 MB at 512 x 512."""

SliceDecoder = Callable[[Slice], NDArray[np.float32]]


def stored_values(one: Slice) -> NDArray[Any]:
    """Stored values (column, row) of a slice, before any rescale.

    Raises:
        ReaderError: if the pixels cannot be decoded.
    """
    shape = (one.plane.rows, one.plane.columns)
    try:
        with withheld():
            return np.asarray(pixel_array(one.file.path, raw=True)).reshape(shape).T
    except UNREADABLE:
        # The library's text is dropped: it may quote the file.
        raise ReaderError(
            Fault(one.file.name, "its pixels cannot be decoded: the file is damaged")
        ) from None


def is_mask(slices: Sequence[Slice]) -> bool:
    """Whether a sample of a series (first, middle, last) holds 0, 1 and 255 only, at most two."""
    sample = [slices[at] for at in sorted({0, len(slices) // 2, len(slices) - 1})]
    try:
        values = {value for one in sample for value in np.unique(stored_values(one)).tolist()}
    except ReaderError:
        return False
    return len(values) <= 2 and values <= {0, 1, 255}


def slice_decoder() -> SliceDecoder:
    """A decoder for one pass over a source; it remembers the last `SLICES_KEPT` slices."""

    def rescaled(one: Slice) -> NDArray[np.float32]:
        values = stored_values(one) * one.slope + one.intercept
        return np.ascontiguousarray(values, dtype=np.float32)

    return lru_cache(SLICES_KEPT)(rescaled)
