"""Masks and label maps in volume files → markings on the grid of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Geometry
from medaug.errors import Fault, ReaderError
from medaug.readers.found import GRID_MM, OFF_GRID
from medaug.readers.lesions import Marking, tight
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.regrid import inside, mirrored, onto
from medaug.readers.rules import OtherGrid
from medaug.readers.volumes.file import VolumeFile, Voxels

UNLISTED = "hold values that are not among `values`; these were not read"
RESAMPLED = "hold masks on another grid than the image; they were resampled to it"
CUT = "hold masks that reach beyond the image; what lies outside was cut off"


@dataclass(frozen=True)
class Naming:
    """What a mask's values mean; at most one of them is given.

    Attributes:
        values: value → class; others are not read.
        segments: name of a 3D Slicer segment in lower case → class; others are not read.
        label: the class of every value.
    """

    values: Mapping[int, str] = field(default_factory=dict)
    segments: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None


def read_label_map(
    mask: VolumeFile,
    image: Geometry,
    naming: Naming,
    other_grid: OtherGrid,
    oddities: Counter[str],
) -> list[Marking]:
    """What a file marks on an image, a value at a time.

    Raises:
        ReaderError: if it is damaged, no label map, without a lesion, or on another grid than the
            image and not to be resampled.
    """
    source = mask.geometry
    moved = not source.same_grid(image, GRID_MM)
    if moved:
        _refuse_off_grid(mask.file.name, source, image, other_grid)
    for layer in mask.voxels:
        layer.check()
    found: list[Marking] = []
    values: set[int] = set()
    for label, value, voxels in _named(mask, naming, values):
        marked = voxels == value
        box = onto(marked, source, image) if moved else tight(marked)
        if moved and inside(marked, source, image) < 1:
            oddities[CUT] += 1
        if box is not None:
            identity = f"label map\0{mask.file.name}\0{value}"
            if naming.segments:
                identity += f"\0{label}"
            found.append(Marking(label, identity, *box))
    if naming.values and values - set(naming.values):
        oddities[UNLISTED] += 1
    if not found:
        raise ReaderError(Fault(mask.file.name, _no_lesion(values, moved)))
    if moved:
        oddities[RESAMPLED] += 1
    return found


def _no_lesion(values: set[int], moved: bool) -> str:
    why = ""
    if values:
        why = f"; its values {sorted(values)[:20]} are not among those asked for"
    if values and moved:
        why = f"; {OFF_GRID}, and none of its lesions lies in the image"
    return f"a mask with no lesion{why}"


def _named(
    mask: VolumeFile, naming: Naming, values: set[int]
) -> Iterator[tuple[str, int, NDArray[np.generic]]]:
    """(class, value, voxels that hold it); ``values`` is told what the file holds."""
    if naming.segments:
        if not mask.segments:
            came = "`segments` is set, and it is no segmentation of 3D Slicer"
            raise ReaderError(Fault(mask.file.name, came))
        for number, layer in enumerate(mask.voxels):
            voxels = _voxels(mask, layer)
            values.update(_values(mask, voxels))
            for segment in mask.segments:
                label = naming.segments.get(segment.name.strip().lower())
                if label is not None and segment.layer == number:
                    yield label, segment.value, voxels
        return
    if len(mask.voxels) > 1:
        came = f"its segments overlap in {len(mask.voxels)} layers"
        raise ReaderError(Fault(mask.file.name, f"{came}: name them by the setting `segments`"))
    voxels = _voxels(mask, mask.voxels[0])
    values.update(_values(mask, voxels))
    if naming.label is not None:
        named: Mapping[int, str] = dict.fromkeys(values, naming.label)
    else:
        named = naming.values or {value: f"value-{value}" for value in values}
    for value in sorted(values & set(named)):
        yield named[value], value, voxels


def _voxels(mask: VolumeFile, layer: Voxels) -> NDArray[np.generic]:
    try:
        with withheld():
            stored = layer.unpack()
    except UNREADABLE:
        came = "a damaged file: its voxels cannot be read"
        raise ReaderError(Fault(mask.file.name, came)) from None
    if (layer.slope, layer.intercept) == (1.0, 0.0):
        return stored
    return np.asarray(stored * layer.slope + layer.intercept)


def _values(mask: VolumeFile, voxels: NDArray[np.generic]) -> list[int]:
    values = np.unique(voxels[voxels != 0])
    whole = values.dtype.kind in "iu" or (
        np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    )
    if not whole:
        came = "not a label map: it holds values that are no whole numbers"
        raise ReaderError(Fault(mask.file.name, came))
    return [int(value) for value in values]


def _refuse_off_grid(name: str, mask: Geometry, image: Geometry, other_grid: OtherGrid) -> None:
    if sides := mirrored(mask, image):
        raise ReaderError(
            Fault(
                name,
                f"{OFF_GRID}: it would fit if {sides} were swapped, so one of the two headers is "
                "wrong",
                action="find out which, and correct it",
            )
        )
    if other_grid == "refuse":
        raise ReaderError(
            Fault(
                name,
                f"{OFF_GRID}: {_difference(mask, image)}; where both are in one space, set "
                "`other_grid: resample`",
            )
        )


def _difference(mask: Geometry, image: Geometry) -> str:
    if mask.shape != image.shape:
        sizes = ("x".join(map(str, grid.shape)) for grid in (mask, image))
        return "{} voxels, the image has {}".format(*sizes)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape])).reshape(3, -1).T
    away = np.linalg.norm(mask.world(corners) - image.world(corners), axis=1).max()
    return f"its voxels lie up to {away:.3g} mm from the image's"
