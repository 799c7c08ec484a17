"""How one DICOM object points to an image or a frame of another (PS3.3 10.8)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset


def image_of(references: Sequence[Dataset]) -> tuple[str, int | None]:
    """(SOP Instance UID, frame from 0 or None); ("", None) unless exactly one image is named."""
    if len(references) != 1:
        return "", None
    frames = frames_of(references[0])
    instance = str(references[0].get("ReferencedSOPInstanceUID") or "")
    return instance, min(frames) if frames else None


def frames_of(reference: Dataset) -> frozenset[int] | None:
    """The frames that a reference is restricted to, counted from 0; None for all."""
    frames = whole_numbers(reference, "ReferencedFrameNumber")
    return frozenset(number - 1 for number in frames) if frames else None


def whole_numbers(item: Dataset, keyword: str) -> list[int]:
    """Values of an attribute that holds one or several whole numbers, or none."""
    value = item.get(keyword)
    if value is None:
        return []
    return [int(one) for one in value] if isinstance(value, Sequence) else [int(value)]
