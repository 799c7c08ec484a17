"""What a radiologist's statistician measures of a patch: intensities, texture, place, shape.

First-order statistics, GLCM at three distances, GLRLM and GLSZM with the names of the Image
Biomarker Standardisation Initiative [1]_, and two families of our own: intensity in rings about
the centre (a lesion sits there, and texture alone would not notice if it moved), and, for patches
of several slices, how alike neighbouring slices are. Texture is 2-D ("2D averaged", see `texture`):
adjacent slices are averaged; of a 3-D patch, whose voxels are cubes, the three planes through its
middle are (axial, coronal, sagittal), so that what only a side view shows is measured too. Where
masks are given, the shape of the mask and its contrast are added. Nothing is learned and nothing is
downloaded.

>>> images = np.zeros((2, 1, 16, 16), np.float32)
>>> radiomic_features(images).shape == (2, len(feature_names(images.shape)))
True

.. [1] Zwanenburg et al. 2020, doi:10.1148/radiol.2020191145
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import perimeter_crofton

from medaug.domain import central
from medaug.domain.patch import Scalar
from medaug.evaluation.texture import (
    LEVELS,
    Floats,
    Named,
    cooccurrence,
    discretise,
    runs,
    zones,
)

DISTANCES = (1, 2, 4)
"""Pixels between the two of a co-occurrence: fine, middle and coarse texture."""
RINGS = 4
LEAST_SIDE = 8
_AT_ONCE = 1 << 20  # pixels; bounds memory at about 200 MB

_INTENSITY = (
    "mean intensity",
    "intensity variance",
    "intensity skewness",
    "intensity kurtosis",
    "median intensity",
    "minimum intensity",
    "10th intensity percentile",
    "90th intensity percentile",
    "maximum intensity",
    "intensity interquartile range",
    "intensity mean absolute deviation",
    "intensity robust mean absolute deviation",
    "discretised intensity entropy",
    "discretised intensity uniformity",
)
_SHAPE = (
    "area",
    "perimeter",
    "compactness",
    "elongation",
    "distance from the centre",
    "mean intensity in the mask",
    "intensity deviation in the mask",
    "contrast of the mask",
)


def radiomic_features(
    images: NDArray[np.floating], masks: NDArray[np.bool_] | None = None
) -> Floats:
    """Features of patches on [-1, 1].

    Args:
        images: (patch, channel, row, column) or (patch, 1, slice, row, column), 8 or more pixels
            along each side.
        masks: (patch, row, column), of the middle channel, or (patch, slice, row, column); the
            lesion, or None.

    Returns:
        (patch, feature) float64, finite; `feature_names` names the columns.

    Raises:
        ValueError: for NaN or infinity, or patches too small.
    """
    if images.ndim not in (4, 5) or min(images.shape[2:]) < LEAST_SIDE:
        raise ValueError(
            f"patches are (patch, channel, row, column), 8 x 8 or more: {images.shape}"
        )
    if not np.isfinite(images).all():
        raise ValueError("a patch holds NaN or infinity")
    return _features(images, masks)[1]


def feature_names(shape: Sequence[int], masks: bool = False) -> tuple[str, ...]:
    """Names of the columns that `radiomic_features` gives for images of this shape."""
    blank = np.zeros((1, *shape[1:]))
    outline = np.zeros((1, *shape[2:]), dtype=bool) if masks else None
    return _features(blank, outline)[0]


def _features(images: NDArray[np.floating], masks: NDArray[np.bool_] | None) -> Named:
    views = planes_of(images)
    measured = [_of_planes(view) for view in views]
    families = [(measured[0][0], np.asarray(np.mean([each[1] for each in measured], axis=0)))]
    slices = images.reshape(len(images), -1, *images.shape[-2:])
    if slices.shape[1] > 1:
        families.append((("correlation of neighbouring planes",), _between_planes(slices)))
    if masks is not None:
        outlines = planes_of(masks[:, None])
        if images.ndim == 4:
            views = (central(images),)
        shapes = [
            _shape(view[:, 0], outline[:, 0]) for view, outline in zip(views, outlines, strict=True)
        ]
        families.append((_SHAPE, np.asarray(np.mean(shapes, axis=0))))
    names = tuple(name for family, _ in families for name in family)
    return names, np.concatenate([values for _, values in families], axis=1)


def planes_of(images: NDArray[Scalar]) -> tuple[NDArray[Scalar], ...]:
    """The planes that are looked at, as stacks (patch, plane, row, column).

    Of (patch, channel, row, column) all channels; of (patch, 1, slice, row, column) the axial, the
    coronal and the sagittal plane through the middle, rows of the last two running to the head.
    """
    if images.ndim == 4:
        return (images,)
    _, _, _, rows, columns = images.shape
    return central(images), images[:, :, :, rows // 2], images[..., columns // 2]


def _of_planes(planes: NDArray[np.floating]) -> Named:
    """Features of (patch, plane, row, column), averaged over planes."""
    count, deep, *side = planes.shape
    flat = planes.reshape(-1, *side)
    step = max(1, _AT_ONCE // (side[0] * side[1]))
    parts: list[Floats] = []
    names: tuple[str, ...] = ()
    for start in range(0, len(flat), step):
        names, values = _of_pictures(flat[start : start + step].astype(np.float64))
        parts.append(values)
    return names, np.concatenate(parts).reshape(count, deep, -1).mean(axis=1)


def _of_pictures(pictures: Floats) -> Named:
    levels = discretise(pictures)
    families = [_intensity(pictures, levels), _rings(pictures)]
    for distance in DISTANCES:
        names, values = cooccurrence(levels, distance)
        families.append((tuple(f"{name}, distance {distance}" for name in names), values))
    families += [runs(levels), zones(levels)]
    names = tuple(name for family, _ in families for name in family)
    return names, np.concatenate([values for _, values in families], axis=1)


def _intensity(pictures: Floats, levels: NDArray[np.int64]) -> Named:
    """First-order statistics (IBSI UHIW), and entropy and uniformity of the levels (ZVCW)."""
    values = pictures.reshape(len(pictures), -1)
    low, p10, p25, median, p75, p90, high = np.percentile(
        values, [0, 10, 25, 50, 75, 90, 100], axis=1
    )
    mean = values.mean(axis=1)
    centred = values - mean[:, None]
    variance = (centred**2).mean(axis=1)
    flat = variance < 1e-12  # IBSI sets skewness and kurtosis of a constant to 0
    spread = np.where(flat, 1.0, variance)
    within = (values >= p10[:, None]) & (values <= p90[:, None])
    core = (values * within).sum(axis=1) / within.sum(axis=1)
    robust = (np.abs(values - core[:, None]) * within).sum(axis=1) / within.sum(axis=1)
    code = np.arange(len(levels))[:, None] * LEVELS + levels.reshape(len(levels), -1) - 1
    occurs = np.bincount(code.ravel(), minlength=len(levels) * LEVELS).reshape(-1, LEVELS)
    shares = occurs / values.shape[1]
    bits = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    features = [
        mean,
        variance,
        np.where(flat, 0.0, (centred**3).mean(axis=1) / spread**1.5),
        np.where(flat, 0.0, (centred**4).mean(axis=1) / spread**2 - 3),
        median,
        low,
        p10,
        p90,
        high,
        p75 - p25,
        np.abs(centred).mean(axis=1),
        robust,
        -(shares * bits).sum(axis=1),
        (shares**2).sum(axis=1),
    ]
    return _INTENSITY, np.stack(features, axis=1)


def _rings(pictures: Floats) -> Named:
    """Mean (relative to the patch's) and deviation in rings of equal width about the centre."""
    rows, columns = pictures.shape[1:]
    row, column = np.ogrid[:rows, :columns]
    radius = np.hypot((row + 0.5) / rows * 2 - 1, (column + 0.5) / columns * 2 - 1)
    # Corners belong to the outermost ring.
    ring = np.minimum((radius * RINGS).astype(int), RINGS - 1)
    names, features = [], []
    mean = pictures.mean(axis=(1, 2))
    for at in range(RINGS):
        values = pictures[:, ring == at]
        names += [f"mean intensity in ring {at + 1}", f"intensity deviation in ring {at + 1}"]
        features += [values.mean(axis=1) - mean, values.std(axis=1)]
    return tuple(names), np.stack(features, axis=1)


def _between_planes(planes: NDArray[np.floating]) -> Floats:
    """(patch, 1) mean correlation of each plane with the next; 0 where one is constant."""
    centred = planes.astype(np.float64) - planes.mean(axis=(2, 3), keepdims=True)
    length = np.sqrt((centred**2).sum(axis=(2, 3)))
    both = length[:, :-1] * length[:, 1:]
    product = (centred[:, :-1] * centred[:, 1:]).sum(axis=(2, 3))
    correlation = np.divide(product, both, out=np.zeros_like(product), where=both > 1e-12)
    return np.asarray(correlation.mean(axis=1, keepdims=True))


def _shape(pictures: NDArray[np.floating], masks: NDArray[np.bool_]) -> Floats:
    """(patch, feature) of pictures and masks (patch, row, column); 0 for an empty mask."""
    values = np.zeros((len(pictures), len(_SHAPE)))
    for patch in np.flatnonzero(masks.any(axis=(1, 2))):
        values[patch] = _of_mask(pictures[patch], masks[patch])
    return values


def _of_mask(picture: NDArray[np.floating], mask: NDArray[np.bool_]) -> list[float]:
    """In `_SHAPE`'s order; lengths in pixels."""
    row, column = np.nonzero(mask)
    area = len(row)
    around = float(perimeter_crofton(mask))  # type: ignore[no-untyped-call]
    spread = np.cov(np.stack([row, column]), bias=True) + np.eye(2) / 12  # a pixel has extent
    minor, major = np.linalg.eigvalsh(spread)
    centre = np.array(mask.shape) / 2 - 0.5
    off = float(np.hypot(row.mean() - centre[0], column.mean() - centre[1]))
    rim = ndimage.binary_dilation(mask, iterations=3) & ~mask
    inside = picture[mask]
    outside = float(picture[rim].mean()) if rim.any() else float(inside.mean())
    return [
        float(area),
        around,
        4 * np.pi * area / max(around, 1.0) ** 2,
        float(np.sqrt(minor / major)),
        off,
        float(inside.mean()),
        float(inside.std()),
        float(inside.mean()) - outside,
    ]
