"""What marks lesions on a volume of DICOM slices: whatever the object, it answers as a `Mark`."""

from __future__ import annotations

from typing import Protocol

from medaug.readers.dicom_stack import Stack
from medaug.readers.lesions import Marking
from medaug.readers.settings import Per


class Mark(Protocol):
    """A mask series, a segmentation, contours, a report; its pixels are not read yet."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its files, relative to the data root."""

    @property
    def patient(self) -> str:
        """Text that names the patient, or "" where its files do not say."""

    @property
    def per(self) -> Per:
        """One lesion per marking, or per connected component of it."""

    def drawn_on(self, stacks: list[Stack]) -> list[Stack]:
        """Those it refers to; every one if it refers to none."""

    def stacks_among(self, stacks: list[Stack]) -> list[Stack]:
        """Of those it refers to, the ones on whose grid it lies."""

    def read(self, stack: Stack) -> list[Marking]:
        """What it marks; empty if it marks nothing. Boxes count slices as `Stack.locate` does.

        Raises:
            ReaderError: if it is damaged, or marks something off the grid.
        """
