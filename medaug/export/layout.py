"""Which picture lies in which file.

Sample ``n`` is row ``n`` of the NPZ and file ``<class>/<n>`` of every other format. PNG and
Secondary Capture hold one plane each, so that a sample of several channels becomes several
files there.

Masks of PNG and NIfTI lie in a folder of their own, under the same names: a loader that takes every
file below ``png/cyst`` for a cyst must not meet a mask there.

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

MASKS = {"png": "png-masks", "nifti": "nifti-masks"}
"""Folder of the masks of a format; DICOM carries them in the image, NPZ in an array."""


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
    """One channel of one sample: ``pixels`` (row, column) int16; ``label`` indexes `classes`."""

    number: int
    channel: int
    label: int
    name: str
    pixels: NDArray[np.int16]


def planes(release: Release) -> Iterator[Plane]:
    """Every plane of a release, sample by sample."""
    channels = release.pixels.shape[1]
    for number, (sample, label) in enumerate(zip(release.pixels, release.labels, strict=True)):
        for channel, pixels in enumerate(sample):
            suffix = f"_c{channel}" if channels > 1 else ""
            name = sample_name(number) + suffix
            yield Plane(number, channel, int(label), name, pixels)
