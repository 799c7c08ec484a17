"""Which picture lies in which file.

Sample ``n`` is row ``n`` of the NPZ and file ``<class>/<n>`` of every other format. A sample may
hold several slices (a 3-D patch, or adjacent slices as channels); a NIfTI file holds them all. PNG
and Secondary Capture hold one slice each, so that such a sample becomes several files there:
``<class>/<n>_s<slice>.png`` and ``<class>/<n>/<slice>.dcm``, counted from 0 at the feet.

The mask of a 3-D patch is 3-D; that of adjacent slices is of the middle one alone. Masks
lie in a folder of their own, under the same names (in DICOM always one file, ``<class>/<n>.dcm``):
a loader that takes every file below ``png/cyst`` for a cyst must not meet a mask there.

>>> folder_names(("cyst", "Zyste (groß)", "../x"))
('cyst', 'Zyste_gro', 'x')
>>> folder_names(("a b", "A_b"))
('0_a_b', '1_A_b')
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release

MASKS = {"png": "png-masks", "nifti": "nifti-masks", "dicom": "dicom-masks"}
"""Folder of the masks of a format; NPZ carries them in an array."""


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A folder name for each class that every file system takes, unique in any case."""
    names = [re.sub(r"[^A-Za-z0-9-]+", "_", label).strip("_")[:64] for label in classes]
    if all(names) and len({name.lower() for name in names}) == len(names):
        return tuple(names)
    return tuple(f"{at}_{name}" for at, name in enumerate(names))


def sample_name(number: int) -> str:
    """File name, without suffix, of a whole sample."""
    return f"{number:06d}"


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of one sample.

    Attributes:
        number: of the sample.
        slice: from 0 at the feet.
        label: index into `classes`.
        name: of a file that stands beside those of other samples.
        pixels: (row, column) int16.
        mask: (row, column) bool; None where none was drawn of this slice.
    """

    number: int
    slice: int
    label: int
    name: str
    pixels: NDArray[np.int16]
    mask: NDArray[np.bool_] | None


def depth_of(shape: Sequence[int]) -> int:
    """Slices of a sample of ``shape`` (channel, row, column) or (1, slice, row, column).

    >>> depth_of((1, 64, 64)), depth_of((3, 64, 64)), depth_of((1, 32, 32, 32))
    (1, 3, 32)
    """
    return shape[-3]


def masked_slices(shape: Sequence[int]) -> range:
    """The slices of a sample of ``shape`` that a mask is drawn of.

    >>> list(masked_slices((3, 64, 64))), len(masked_slices((1, 32, 32, 32)))
    ([1], 32)
    """
    depth = depth_of(shape)
    return range(depth) if len(shape) == 4 else range(depth // 2, depth // 2 + 1)


def planes(release: Release) -> Iterator[Plane]:
    """Every slice of a release, sample by sample, from feet to head."""
    shape = release.pixels.shape[1:]
    stacks = release.pixels.reshape(len(release), *shape[-3:])
    drawn = masked_slices(shape)
    for number, (stack, label) in enumerate(zip(stacks, release.labels, strict=True)):
        for at, pixels in enumerate(stack):
            suffix = f"_s{at:02d}" if len(stack) > 1 else ""
            mask = None
            if release.masks is not None and at in drawn:
                mask = release.masks[number].reshape(-1, *shape[-2:])[at - drawn.start]
            yield Plane(number, at, int(label), sample_name(number) + suffix, pixels, mask)
