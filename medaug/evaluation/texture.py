"""Grey-level texture of 2-D patches, as the Image Biomarker Standardisation Initiative defines it.

Co-occurrence of grey levels (GLCM), runs of one level (GLRLM) and connected zones of one level
(GLSZM) [1]_, each computed per direction and averaged, "2D averaged" in its words. All patches of
a batch are counted at once: runs and zones are lists (patch, level, size), and their matrices are
never built. No package at hand does this in a way we could rely on (docs/decisions/0004).

Level 0 stands for "outside the region"; whole patches have none.

>>> levels = np.array([[[1, 1, 2], [1, 2, 2]]])
>>> names, values = zones(levels)
>>> float(values[0, names.index("zone percentage")].round(3))  # 2 zones in 6 pixels
0.333

.. [1] Zwanenburg et al. 2020, doi:10.1148/radiol.2020191145; definitions in arXiv:1612.07003
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected

Floats = NDArray[np.float64]
Levels = NDArray[np.integer]
Named = tuple[tuple[str, ...], Floats]
"""Names of features, and their values (patch, feature)."""

LEVELS = 32
"""Grey levels over the window: bins of fixed width, the same for every patch."""
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""(row, column) to the neighbour in each of the four directions."""

_COOCCURRENCE = (
    "joint maximum",
    "joint variance",
    "joint entropy",
    "difference average",
    "difference entropy",
    "contrast",
    "angular second moment",
    "inverse difference",
    "correlation",
)


def discretise(images: NDArray[np.floating]) -> NDArray[np.int64]:
    """Signed intensities on [-1, 1], any shape, to levels 1 to `LEVELS`."""
    binned = np.floor((images.astype(np.float64) + 1) * (LEVELS / 2)).astype(np.int64)
    return np.asarray(np.clip(binned, 0, LEVELS - 1) + 1)


def cooccurrence(levels: Levels, distance: int = 1) -> Named:
    """GLCM features of (patch, row, column), symmetric, at ``distance`` pixels (IBSI LFYI)."""
    per_direction = [
        _of_matrix(_pairs(levels, row * distance, column * distance)) for row, column in STEPS
    ]
    return _COOCCURRENCE, np.asarray(np.mean(per_direction, axis=0))


def _pairs(levels: Levels, down: int, across: int) -> Floats:
    """(patch, level, level) probability of two levels lying (down, across) apart."""
    count, rows, columns = levels.shape
    top = int(levels.max())
    first = levels[:, : rows - down, max(0, -across) : columns - max(0, across)]
    second = levels[:, down:, max(0, across) : columns - max(0, -across)]
    patch = np.arange(count)[:, None, None]
    code = (patch * top + first - 1) * top + second - 1
    inside = (first > 0) & (second > 0)
    matrix = np.bincount(code[inside], minlength=count * top * top).reshape(count, top, top)
    matrix = matrix + matrix.transpose(0, 2, 1)
    return np.asarray(matrix / matrix.sum(axis=(1, 2), keepdims=True), dtype=np.float64)


def _of_matrix(joint: Floats) -> Floats:
    """(patch, feature) of symmetric matrices (patch, level, level), in `_COOCCURRENCE`'s order."""
    top = joint.shape[1]
    level = np.arange(1, top + 1)
    apart = np.abs(level[:, None] - level)
    single = joint.sum(axis=2)
    mean = single @ level
    variance = single @ level**2 - mean**2
    product = np.einsum("nij,i,j->n", joint, level, level)
    difference = np.stack([joint[:, apart == step].sum(axis=1) for step in range(top)], axis=1)
    step = np.arange(top)
    flat = variance < 1e-12  # one level only: IBSI sets its correlation to 1
    correlation = np.where(flat, 1.0, (product - mean**2) / np.where(flat, 1.0, variance))
    features = [
        joint.max(axis=(1, 2)),
        variance,
        _entropy(joint.reshape(len(joint), -1)),
        difference @ step,
        _entropy(difference),
        difference @ step**2,
        (joint**2).sum(axis=(1, 2)),
        difference @ (1 / (1 + step)),
        correlation,
    ]
    return np.stack(features, axis=1)


def _entropy(probabilities: Floats) -> Floats:
    """In bits, over the last axis."""
    bits = np.log2(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return np.asarray(-(probabilities * bits).sum(axis=-1))


def runs(levels: Levels) -> Named:
    """GLRLM features of (patch, row, column): runs of one level along a line (IBSI TP0I)."""
    per_direction = [_of_list(*_runs_along(levels, step), levels) for step in STEPS]
    return _names("run"), np.asarray(np.mean(per_direction, axis=0))


def _runs_along(levels: Levels, step: tuple[int, int]) -> tuple[Levels, Levels, Levels]:
    """Patch, level and length of every run in one direction."""
    count, rows, columns = levels.shape
    row, column = (axis.ravel() for axis in np.mgrid[:rows, :columns])
    line = row * step[1] - column * step[0]  # constant along the direction
    order = np.lexsort((row, column, line)) if step == (0, 1) else np.lexsort((row, line))
    along = levels.reshape(count, -1)[:, order]
    starts = np.ones(along.shape, dtype=bool)
    starts[:, 1:] = (along[:, 1:] != along[:, :-1]) | (np.diff(line[order]) != 0)
    first = np.flatnonzero(starts)
    length = np.diff(np.append(first, along.size))
    level = along.ravel()[first]
    inside = level > 0
    return (first // along.shape[1])[inside], level[inside], length[inside]


def zones(levels: Levels) -> Named:
    """GLSZM features of (patch, row, column): zones of one level, corners count (IBSI 9SAK)."""
    # Neighbours in the stack get different levels, so that no zone reaches into the next patch.
    odd = (np.arange(len(levels)) % 2)[:, None, None]
    apart = np.where(levels > 0, levels * 2 + odd, 0)
    marked = connected(apart, background=0, connectivity=3).ravel()  # type: ignore[no-untyped-call]
    number, first, size = np.unique(marked, return_index=True, return_counts=True)
    inside = number > 0
    first = first[inside]
    patch = first // levels[0].size
    return _names("zone"), _of_list(patch, levels.ravel()[first], size[inside], levels)


def _names(what: str) -> tuple[str, ...]:
    short, long = ("short", "long") if what == "run" else ("small", "large")
    size = "run length" if what == "run" else "zone size"
    return (
        f"{short} {what}s emphasis",
        f"{long} {what}s emphasis",
        f"low grey level {what} emphasis",
        f"high grey level {what} emphasis",
        f"normalised grey level non-uniformity of {what}s",
        f"normalised {size} non-uniformity",
        f"{what} percentage",
        f"grey level variance of {what}s",
        f"{size} variance",
        f"{what} entropy",
    )


def _of_list(patch: Levels, level: Levels, size: Levels, levels: Levels) -> Floats:
    """(patch, feature) of runs or zones, in `_names`' order; both share their formulas."""
    count = len(levels)
    total = np.bincount(patch, minlength=count).astype(np.float64)

    def mean(values: NDArray[np.floating] | Levels) -> Floats:
        return np.asarray(np.bincount(patch, values, minlength=count) / total)

    level_shares = _shares((level,), patch, total)
    size_shares = _shares((size,), patch, total)
    joint_shares = _shares((level, size), patch, total)
    features = [
        mean(1 / size**2),
        mean(size**2),
        mean(1 / level**2),
        mean(level**2),
        _per_patch(level_shares[0], level_shares[1] ** 2, count),
        _per_patch(size_shares[0], size_shares[1] ** 2, count),
        total / (levels > 0).sum(axis=(1, 2)),
        mean(level**2) - mean(level) ** 2,
        mean(size**2) - mean(size) ** 2,
        _per_patch(joint_shares[0], -joint_shares[1] * np.log2(joint_shares[1]), count),
    ]
    return np.stack(features, axis=1)


def _shares(keys: Sequence[Levels], patch: Levels, total: Floats) -> tuple[Levels, Floats]:
    """Patch and share of every combination of keys that occurs in it."""
    code = patch.astype(np.int64)
    for key in keys:
        code = code * (int(key.max()) + 1) + key
    _, first, occurs = np.unique(code, return_index=True, return_counts=True)
    owner = patch[first]
    return owner, occurs / total[owner]


def _per_patch(owner: Levels, values: Floats, count: int) -> Floats:
    return np.asarray(np.bincount(owner, values, minlength=count))
