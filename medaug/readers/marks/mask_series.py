"""Masks kept as a DICOM series of two values, on the grid of the images they mark.

3D-IRCADb is kept so. Such masks have a study, a series and a patient name of their own and no
frame of reference; what ties them to the images is the grid alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Region
from medaug.errors import Fault, ReaderError
from medaug.readers.dicom.header import Slice
from medaug.readers.dicom.pixels import stored_values
from medaug.readers.dicom.stack import Stack
from medaug.readers.lesions import Marking
from medaug.readers.marks.mark import Drawn
from medaug.readers.marks.placing import Placement, Site
from medaug.readers.rules import OtherGrid, Per


@dataclass(frozen=True, eq=False, repr=False)
class MaskSeries:
    """The files of one mask; ``patient`` is "" where they do not say."""

    slices: tuple[Slice, ...]
    label: str
    per: Per
    patient: str
    other_grid: OtherGrid

    @property
    def names(self) -> tuple[str, ...]:
        """Its files, relative to the data root."""
        return tuple(one.file.name for one in self.slices)

    @cached_property
    def _placement(self) -> Placement:
        sites = tuple(Site(one.plane) for one in self.slices)
        return Placement(sites, self.slices[0].frame_of_reference, self.other_grid)

    def where(self, stacks: list[Stack]) -> list[Stack] | str:
        """Those on whose grid every plane lies: a mask series refers to no other series."""
        return self._placement.among(stacks, every=True)

    def read(self, stack: Stack, remarks: Counter[str]) -> list[Drawn]:
        """The marked voxels; empty if there are none.

        Raises:
            ReaderError: if the series holds more than two values, or is damaged.
        """
        values: set[float] = set()

        def planes() -> Iterator[tuple[int, NDArray[np.bool_]]]:
            for at, one in enumerate(self.slices):
                stored = stored_values(one)
                values.update(np.unique(stored).tolist())
                yield at, stored != 0

        def make(box: Region, mask: NDArray[np.bool_]) -> Marking:
            identity = self.slices[0].series or self.names[0]
            return Marking(self.label, f"mask series\0{identity}\0{self.label}", box, mask)

        found = self._placement.put(planes, make, stack, remarks)
        if len(values - {0}) > 1:
            raise ReaderError(
                Fault(self.names[0], f"a mask series has two values, this one has {len(values)}")
            )
        if isinstance(found, str):
            raise ReaderError(Fault(self.names[0], found))
        return [] if found is None else [Drawn(found)]
