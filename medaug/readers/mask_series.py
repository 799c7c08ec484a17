"""Masks kept as a DICOM series of two values, on the grid of the images they mark.

3D-IRCADb is kept so. Such masks have a study, a series and a patient name of their own and no
frame of reference; what ties them to the images is the grid alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.errors import Fault, ReaderError
from medaug.readers.dicom_header import Slice
from medaug.readers.dicom_pixels import stored_values
from medaug.readers.dicom_stack import Stack
from medaug.readers.found import OFF_GRID
from medaug.readers.lesions import Marking, gather
from medaug.readers.settings import Per


@dataclass(frozen=True, eq=False, repr=False)
class MaskSeries:
    """The files of one mask; ``patient`` is "" where they do not say."""

    slices: tuple[Slice, ...]
    label: str
    per: Per
    patient: str

    @property
    def names(self) -> tuple[str, ...]:
        """Its files, relative to the data root."""
        return tuple(one.file.name for one in self.slices)

    def drawn_on(self, stacks: list[Stack]) -> list[Stack]:
        """A mask series refers to no other series: all."""
        return stacks

    def stacks_among(self, stacks: list[Stack]) -> list[Stack]:
        """Those on whose grid every plane lies."""
        return [
            stack
            for stack in stacks
            if all(stack.locate(one.plane) is not None for one in self.slices)
        ]

    def read(self, stack: Stack) -> list[Marking]:
        """The marked voxels; empty if there are none.

        Raises:
            ReaderError: if the series holds more than two values, or is damaged.
        """
        values: set[float] = set()

        def planes() -> Iterator[tuple[int, NDArray[np.bool_]]]:
            for one in self.slices:
                k = stack.locate(one.plane)
                stored = stored_values(one)
                values.update(np.unique(stored).tolist())
                if k is None:
                    raise ReaderError(Fault(one.file.name, OFF_GRID))
                yield k, stored != 0

        marked = gather(planes())
        if len(values - {0}) > 1:
            raise ReaderError(
                Fault(self.names[0], f"a mask series has two values, this one has {len(values)}")
            )
        if marked is None:
            return []
        identity = self.slices[0].series or self.names[0]
        return [Marking(self.label, f"mask series\0{identity}\0{self.label}", *marked)]
