"""Is a lesion there, and where? Marks on a map of log odds, and their free-response curve.

A mark is a connected region of the map above `FAINT`; its score is the highest log odds in it, its
box the smallest around those of its pixels that reach half of the highest probability. A mark hits
if its box and the box around the lesion's mask overlap by at least `OVERLAP` (intersection over
union); every other mark is false, a second one on the same lesion neither.

The curve (FROC) [1]_ is the share of lesions that are hit against the number of false marks per
patient, over all thresholds. It is read at `LEVELS`, and the mean of these readings is the figure
that arms are compared by, as in LUNA16 [2]_ at other levels.

What it means here: patches were cut around lesions, so each holds one, near its middle. The curve
says how well a lesion is found and bounded in a region that somebody has pointed at, and how
often something else in it is taken for one. It says nothing about search in whole volumes.
How far one gets by always marking the middle is therefore given as well (`blind_marks`).

.. [1] Bunch et al. 1977, doi:10.1117/12.955926
.. [2] Setio et al. 2017, doi:10.1016/j.media.2017.06.015
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

FAINT = 0.1
"""Probability from which a pixel can belong to a mark."""
OVERLAP = 0.3
LEVELS = (0.125, 0.25, 0.5, 1.0)
"""False marks per patient."""

Boxes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Marks:
    """All marks on all patches.

    Attributes:
        score: (mark,) log odds.
        patch: (mark,) row of the patch.
        hit: (mark,) the highest-scoring mark that hits this patch's lesion.
        idle: (mark,) another one that hits it, which counts neither way.
    """

    score: NDArray[np.float64]
    patch: NDArray[np.int64]
    hit: NDArray[np.bool_]
    idle: NDArray[np.bool_]


def box_around(mask: NDArray[np.bool_]) -> Boxes:
    """(2, axis): the first pixel along each axis, and the one just beyond the last."""
    where = np.argwhere(mask)
    return np.stack([where.min(axis=0), where.max(axis=0) + 1])


def overlap(one: Boxes, other: Boxes) -> float:
    """Intersection over union of two boxes.

    >>> overlap(np.array([[0, 0], [4, 4]]), np.array([[0, 2], [4, 6]]))
    0.3333333333333333
    """
    sides = np.minimum(one[1], other[1]) - np.maximum(one[0], other[0])
    shared = int(np.prod(np.maximum(sides, 0)))
    return shared / int(np.prod(one[1] - one[0]) + np.prod(other[1] - other[0]) - shared)


def marks_on(maps: NDArray[np.floating], masks: NDArray[np.bool_]) -> Marks:
    """Marks on each map, judged by its lesion.

    Args:
        maps: (patch, [slice,] row, column) log odds.
        masks: of the same shape, none of them empty.
    """
    rows = []
    for at, (odds, mask) in enumerate(zip(maps, masks, strict=True)):
        lesion = box_around(mask)
        chance = expit(odds.astype(np.float64))
        regions, count = ndimage.label(chance >= FAINT)
        found = []
        for place, part in enumerate(ndimage.find_objects(regions, count), start=1):
            inside = np.where(regions[part] == place, chance[part], 0.0)
            start = np.array([side.start for side in part])
            box = box_around(inside >= inside.max() / 2) + start
            highest = float(odds[part][regions[part] == place].max())
            found.append((highest, overlap(box, lesion) >= OVERLAP))
        found.sort(key=lambda mark: -mark[0])
        met = False
        for score, hits in found:
            rows.append((score, at, hits and not met, hits and met))
            met |= hits
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return Marks(
        np.array(columns[0], np.float64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.bool_),
        np.array(columns[3], np.bool_),
    )


def blind_marks(learnt: NDArray[np.bool_], masks: NDArray[np.bool_]) -> Marks:
    """One mark in the middle of each patch, as large as half of the lesions in ``learnt`` are.

    Args:
        learnt: masks of training patches; empty ones are passed over.
        masks: of the patches to mark, none of them empty.
    """
    boxes = np.stack([box_around(mask) for mask in learnt if mask.any()])
    size = np.median(boxes[:, 1] - boxes[:, 0], axis=0)
    start = np.rint((np.array(masks.shape[1:]) - size) / 2).astype(np.int64)
    middle = np.stack([start, start + np.rint(size).astype(np.int64)])
    hits = np.array([overlap(middle, box_around(mask)) >= OVERLAP for mask in masks])
    count = len(masks)
    return Marks(np.zeros(count), np.arange(count), hits, np.zeros(count, np.bool_))


def sensitivities(marks: Marks, weights: NDArray[np.float64], patients: int) -> NDArray[np.float64]:
    """The free-response curve at `LEVELS`, on the cohort and on every replicate.

    The highest sensitivity with at most so many false marks per patient; marks of equal score come
    together.

    Args:
        marks: from `marks_on`.
        weights: (replicate, patch), how often each patch stands in each replicate.
        patients: how many there are, in each replicate.

    Returns:
        (replicate, level) shares of lesions.
    """
    order = np.argsort(-marks.score, kind="stable")
    order = order[~marks.idle[order]]
    of_mark = weights[:, marks.patch[order]]
    hit, score = marks.hit[order], marks.score[order]
    last = np.append(score[1:] != score[:-1], True) if len(score) else np.zeros(0, np.bool_)
    found = np.cumsum(of_mark * hit, axis=1)[:, last]
    wrong = np.cumsum(of_mark * ~hit, axis=1)[:, last] / patients
    found = np.pad(found, ((0, 0), (1, 0))) / weights.sum(axis=1, keepdims=True)
    read = []
    for level in LEVELS:
        at = (wrong <= level + 1e-12).sum(axis=1)
        read.append(np.take_along_axis(found, at[:, None], axis=1)[:, 0])
    return np.stack(read, axis=1)
