"""What marks lesions on a volume of DICOM slices: whatever the object, it answers as a `Mark`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol

from medaug.readers.dicom.stack import Stack
from medaug.readers.lesions import Marking
from medaug.readers.rules import Per

Side = Literal["", "left", "right"]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A marking on the grid of a volume, and the side of the body that its file codes for it."""

    marking: Marking
    side: Side = ""


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

    def where(self, stacks: list[Stack]) -> list[Stack] | str:
        """The volumes it can lie on, or why there is none."""

    def read(self, stack: Stack, remarks: Counter[str]) -> list[Drawn]:
        """What it marks, on `Stack.geometry`; empty if it marks nothing.

        Args:
            stack: one that `where` gave.
            remarks: counts what is odd and does not keep the mark from being used; a remark
                follows the words "N file(s)".

        Raises:
            ReaderError: if it is damaged, or marks something that is not in the volume.
        """
