"""Frames of one file, each told as if it were an image of its own.

Enhanced objects say what differs between frames in functional groups: sequences of one item, per
frame or shared by all (PS3.3 C.7.6.16). A `Frame` answers for an attribute from the groups of the
frame, then from the shared ones, then from the data set. What places an image in the patient is
never taken from the data set of several frames: it would put them all in one place.
"""

from __future__ import annotations

from typing import Any

from pydicom import Dataset

from medaug.readers.dicom.attributes import items, tag_of

SMALLEST_FRAME = 32
"""Bytes of pixel data that a frame must have which nothing else in the file describes."""

_PLACES = frozenset(map(tag_of, ("ImagePositionPatient", "ImageOrientationPatient")))

# The one group that keeps a value apart inside a further sequence.
_INNER = tag_of("DiffusionGradientDirectionSequence")


class Frame:
    """The attributes that hold for one frame.

    Args:
        dataset: the data set of the file.
        groups: the functional groups of the frame before those shared by all.
        alone: whether it is the only frame, so that the data set may place it.
    """

    def __init__(self, dataset: Dataset, groups: list[Dataset], alone: bool) -> None:
        self._dataset = dataset
        self._unsaid = frozenset() if alone else _PLACES
        self._holder: dict[int, Dataset] = {}
        for group in reversed(groups):
            for element in group:
                if element.VR == "SQ" and len(element.value) == 1:
                    self._add(element.value[0])

    def _add(self, item: Dataset) -> None:
        self._holder.update(dict.fromkeys(map(int, item.keys()), item))
        if _INNER in item and len(item[_INNER].value) == 1:
            self._add(item[_INNER].value[0])

    def get(self, keyword: str, /) -> Any:
        """The value, or None."""
        tag = tag_of(keyword)
        holder = self._holder.get(tag)
        if holder is not None:
            return holder[tag].value
        return None if tag in self._unsaid else self._dataset.get(keyword)


def frames_of(dataset: Dataset, count: int, bytes_of_pixels: int) -> list[Frame] | str:
    """The frames of a file that has several, or why they cannot be told apart."""
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = items(dataset, "SharedFunctionalGroupsSequence")[:1]
    if per_frame and len(per_frame) != count:
        return f"it has {count} frames and describes {len(per_frame)} of them"
    if not per_frame and count * SMALLEST_FRAME > bytes_of_pixels:
        return f"it claims {count} frames, more than its bytes can hold"
    if not per_frame:
        everything = Frame(dataset, shared, count == 1)
        return [everything] * count
    return [Frame(dataset, [own, *shared], count == 1) for own in per_frame]
