"""Boxes from masks: what a detector is trained on.

>>> mask = np.zeros((1, 6, 8), dtype=bool)
>>> mask[0, 2:4, 3:7] = True
>>> boxes_of(mask).tolist()
[[2, 3, 4, 7]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The smallest box around all that each mask marks, be it one piece or several.

    Args:
        masks: (sample, row, column) bool.

    Returns:
        (sample, 4) int64: first row, first column, and the row and column just beyond the last,
        so that ``mask[top:bottom, left:right]`` is the box. In pixels.

    Raises:
        ValueError: if ``masks`` has another shape, or a mask marks nothing and has no box.
    """
    if masks.ndim != 3 or masks.dtype != bool:
        raise ValueError(f"expected bool (sample, row, column), got {masks.dtype} {masks.shape}")
    rows, columns = np.asarray(masks.any(axis=2)), np.asarray(masks.any(axis=1))
    empty = np.flatnonzero(~rows.any(axis=1))
    if len(empty):
        raise ValueError(f"{len(empty)} masks mark no pixel, the first is number {empty[0]}")
    bounds = []
    for along in (rows, columns):
        first = along.argmax(axis=1)
        bounds.append((first, along.shape[1] - along[:, ::-1].argmax(axis=1)))
    (top, bottom), (left, right) = bounds
    return np.stack([top, left, bottom, right], axis=1).astype(np.int64)
