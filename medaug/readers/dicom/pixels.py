"""Pixels of DICOM slices, decoded one slice at a time and only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.errors import Fault, ReaderError
from medaug.readers.bounded import File
from medaug.readers.dicom.header import Slice
from medaug.readers.dicom.pixel_data import read_frame
from medaug.readers.dicom.values import LUMINANCE
from medaug.readers.oddities import UNREADABLE, withheld

SLICES_KEPT = 32
"""Decoded slices kept for neighbouring patches: 32 MB at 512 x 512."""

SliceDecoder = Callable[[Slice], NDArray[np.float32]]


def stored_values(one: Slice) -> NDArray[Any]:
    """Stored values (column, row) of a slice, before any rescale; of colours, the luminance.

    Raises:
        ReaderError: if the pixels cannot be decoded.
    """
    if one.damage:
        raise ReaderError(Fault(one.file.name, one.damage))
    try:
        with withheld(), File(one.file.path) as stream:
            values, photometric = read_frame(one.pixels, stream, one.frame or 0)
    except UNREADABLE:
        # The library's text is dropped: it may quote the file.
        raise ReaderError(
            Fault(one.file.name, "its pixels cannot be decoded: the file is damaged")
        ) from None
    return (values if values.ndim == 2 else _luminance(values, photometric)).T


def _luminance(values: NDArray[Any], photometric: str) -> NDArray[np.float32]:
    """(row, column, sample) → (row, column); Y of a YBR image is its luminance already."""
    if photometric.startswith("YBR_FULL"):
        return values[..., 0].astype(np.float32)
    return np.asarray(values @ np.array(LUMINANCE), np.float32)


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
        return one.values.measured(stored_values(one))

    return lru_cache(SLICES_KEPT)(rescaled)
