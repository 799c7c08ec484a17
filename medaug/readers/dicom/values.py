"""What the stored values of a DICOM image measure, and how they become it (PS3.3 C.11.1).

A value is told by Rescale Slope and Intercept, or by a Modality LUT, per image or per frame. What
then happens depends on the unit:

* HU and SUV are measured: Photometric Interpretation MONOCHROME1, a word on display, changes
  nothing. Other grey values are mirrored within the range of the stored bits, so that more is
  brighter in every volume.
* A padded pixel (Pixel Padding Value [1]_) holds no measurement. In HU it becomes −1024, the air
  that a CT's own field of view ends in; elsewhere the smallest value of its frame that is no
  padding. A floating value that is no number counts as padding.

A window (VOI) is for viewing and never applied. Real World Value Mapping is not applied either:
a file may hold several for the same values, in units that nobody asked for.

.. [1] DICOM PS3.3 C.7.5.1.1.2
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from medaug.domain import Unit
from medaug.readers.dicom.attributes import Said, items, number, text
from medaug.readers.dicom.pixel_data import PixelData
from medaug.readers.dicom.suv import NO_SUV, suv_factor

AIR = -1024.0
"""What a padded pixel measures in HU."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of red, green and blue (ITU-R BT.601, 2.5.1)."""

_TABLE_BITS = 16


@dataclass(frozen=True, eq=False)
class Meaning:
    """How the stored values of one image become measured ones.

    Attributes:
        slope, intercept: the rescale.
        table: measured value of each stored one from ``lowest`` on, instead of the rescale.
        padding: the smallest and largest stored value that stand for no measurement.
        filler: what such a pixel measures; None for the smallest other value of its frame.
        mirror: smallest plus largest value there can be, where grey values are inverted.
    """

    slope: float = 1.0
    intercept: float = 0.0
    table: NDArray[np.float32] | None = None
    lowest: int = 0
    padding: tuple[float, float] | None = None
    filler: float | None = None
    mirror: float | None = None

    def measured(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Stored values → values in the unit of the slice, in float32."""
        if self.table is not None:
            at = np.clip(stored.astype(np.int64) - self.lowest, 0, len(self.table) - 1)
            values: NDArray[Any] = self.table[at]
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # of floating values; see below
                values = stored * self.slope + self.intercept
        if self.mirror is not None:
            values = self.mirror - values
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(values, dtype=np.float32)
        padded = self._padded(stored, values)
        if padded is not None and padded.any():
            rest = values[~padded]
            darkest = float(rest.min()) if rest.size else 0.0
            values[padded] = darkest if self.filler is None else self.filler
        return values

    def _padded(
        self, stored: NDArray[Any], values: NDArray[np.float32]
    ) -> NDArray[np.bool_] | None:
        padded = None
        if self.padding is not None:
            padded = (stored >= self.padding[0]) & (stored <= self.padding[1])
        if stored.dtype.kind == "f":
            nowhere = ~np.isfinite(values)
            padded = nowhere if padded is None else padded | nowhere
        return padded


def meaning_of(
    said: Said, dataset: Dataset, pixels: PixelData, modality: str
) -> tuple[Meaning, Unit, str] | str:
    """How the stored values of an image or a frame are to be understood.

    Args:
        said: the attributes that hold for the image or frame.
        dataset: the whole data set, for its tables.
        pixels: how the values are stored.
        modality: DICOM's word.

    Returns:
        the meaning, the unit, and a remark ("" or words that follow "N file(s)"); or the reason
        why the values cannot be told.
    """
    if pixels.samples > 1:
        return Meaning(), Unit.ARBITRARY, ""
    if pixels.photometric == "PALETTE COLOR":
        return _palette(dataset, pixels)
    told = _table(dataset, pixels) if items(dataset, "ModalityLUTSequence") else _rescale(said)
    if isinstance(told, str):
        return told
    meaning, kind = told
    unit, remark = Unit.ARBITRARY, ""
    if modality == "CT" and kind == "HU":
        unit = Unit.HOUNSFIELD
    elif modality == "PT" and meaning.table is None:
        factor = suv_factor(said)
        if isinstance(factor, str):
            remark = NO_SUV.format(factor)
        else:
            unit = Unit.SUV
            slope, intercept = meaning.slope * factor, meaning.intercept * factor
            meaning = replace(meaning, slope=slope, intercept=intercept)
    if not pixels.floating and not _fits(meaning, pixels):
        return "its Rescale Slope and Intercept give values beyond all measure"
    meaning = replace(
        meaning,
        padding=_padding(dataset, pixels),
        filler=AIR if unit is Unit.HOUNSFIELD else None,
    )
    if unit is Unit.ARBITRARY and pixels.photometric == "MONOCHROME1":
        if pixels.floating:
            return "inverted grey values (MONOCHROME1) without bounds: export as MONOCHROME2"
        meaning = replace(meaning, mirror=_mirror(meaning, pixels))
    return meaning, unit, remark


def _rescale(said: Said) -> tuple[Meaning, str] | str:
    """Rescale, PS3.3 C.11.1.1.2, and what it gives; stored values are not HU by themselves."""
    slope, intercept = number(said, "RescaleSlope"), number(said, "RescaleIntercept")
    if slope is None and intercept is None and not _any_rescale(said):
        return Meaning(), ""
    if slope is None or intercept is None or slope == 0:
        return "its Rescale Slope and Intercept are not two usable numbers"
    return Meaning(slope, intercept), text(said, "RescaleType") or "HU"


def _fits(meaning: Meaning, pixels: PixelData) -> bool:
    """Whether every value that can be stored becomes a number in float32."""
    if meaning.table is not None:
        return bool(np.isfinite(meaning.table).all())
    ends = (end * meaning.slope + meaning.intercept for end in (pixels.lowest, pixels.highest))
    return all(abs(end) < float(np.finfo(np.float32).max) for end in ends)


def _any_rescale(said: Said) -> bool:
    return any(said.get(word) is not None for word in ("RescaleSlope", "RescaleIntercept"))


def _table(dataset: Dataset, pixels: PixelData) -> tuple[Meaning, str] | str:
    """A Modality LUT (PS3.3 C.11.1.1.1), spread over every stored value there can be."""
    if pixels.floating or pixels.stored > _TABLE_BITS:
        return "a Modality LUT for values of more than 16 bits is not read: export with rescale"
    every = _every_value(pixels)
    table = np.asarray(apply_modality_lut(every, dataset), np.float32)
    kind = text(items(dataset, "ModalityLUTSequence")[0], "ModalityLUTType")
    return Meaning(table=table, lowest=pixels.lowest), kind


def _palette(dataset: Dataset, pixels: PixelData) -> tuple[Meaning, Unit, str] | str:
    """Palette Color (PS3.3 C.7.6.3.1.5) as luminance."""
    if pixels.floating or pixels.stored > _TABLE_BITS:
        return "a palette for values of more than 16 bits"
    colours = apply_color_lut(_every_value(pixels), dataset)
    table = (colours.astype(np.float64) @ LUMINANCE).astype(np.float32)
    return Meaning(table=table, lowest=pixels.lowest), Unit.ARBITRARY, ""


def _every_value(pixels: PixelData) -> NDArray[np.integer[Any]]:
    kind = np.int16 if pixels.signed else np.uint16
    return np.arange(pixels.lowest, pixels.highest + 1).astype(kind)


def _mirror(meaning: Meaning, pixels: PixelData) -> float:
    if meaning.table is not None:
        return float(meaning.table.min() + meaning.table.max())
    return (pixels.lowest + pixels.highest) * meaning.slope + 2 * meaning.intercept


def _padding(dataset: Dataset, pixels: PixelData) -> tuple[float, float] | None:
    """Stored values of padding, read with the sign and the bits that the pixels have.

    Writers often give the attribute with the wrong sign (63536 for −2000).
    """
    prefix = {"FloatPixelData": "Float", "DoubleFloatPixelData": "DoubleFloat"}
    word = f"{prefix.get(pixels.keyword, '')}PixelPadding"
    first = number(dataset, f"{word}Value")
    if first is None:
        return None
    last = number(dataset, f"{word}RangeLimit")
    ends = [first, first if last is None else last]
    if not pixels.floating:
        ends = [_wrapped(int(end), pixels) for end in ends]
    return min(ends), max(ends)


def _wrapped(value: int, pixels: PixelData) -> int:
    return (value - pixels.lowest) % (1 << pixels.stored) + pixels.lowest
