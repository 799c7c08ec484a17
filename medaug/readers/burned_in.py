"""Text burned into pixels: what a DICOM header declares, and a look at the border for letters.

A name drawn into an image is in every patch cut there, and no attribute tells. DICOM has an
attribute for it [1]_, and says of secondary captures that they come from a screen, a film or a
paper [2]_; both are refused unless the settings allow them. ImageType ``SECONDARY`` alone is no
sign: it is said of any image made after the examination, such as a reformatted CT.

Where nothing is declared, `has_letters` looks. It finds strokes thin against their surroundings,
in pieces of the size of letters, with one grey value at their core, a quiet surrounding, and at
least `LEAST` of them on one base line. It warns and decides nothing: text that touches itself, runs
upwards, or is dimmer than what surrounds it is missed.

Set on the training part of two public sets of patches (6291 pictures) and on brain and breast MR,
then measured on what had not been looked at: see ``tests/readers/test_burned_in.py``.

.. [1] DICOM PS3.3 C.7.6.1.1 (Burned In Annotation, Image Type)
.. [2] DICOM PS3.3 C.8.6.1 (SC Equipment Module: Conversion Type)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medaug.readers.dicom.attributes import Said, text

BAND = 0.25
"""Letters are looked for in this part of the picture from each edge."""

LEAST = 3
"""Letters on a line; two bright spots side by side occur in patients."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_STROKE = 7  # pixels: what is as wide as this is no stroke of a letter
_BRIGHT = 0.5  # a letter lies in the upper half of the grey values,
_STANDS_OUT = 0.2  # this much above what surrounds it,
_QUIET = 0.5  # and the surroundings vary by no more than this,
_ONE_VALUE = 0.05  # and the letters of a line differ by no more: all of the range of values
_CORE = (0.15, 0.3)  # within the first of its peak lies at least the second of a letter
_LOWEST, _TALLEST = 5, 20  # pixels; in a large picture a tenth of its height
_CROWD = 0.01  # more pieces per pixel are noise


def declared(said: Said) -> str:
    """Why text is to be expected in the pixels, by the header; or "".

    Needs BurnedInAnnotation, SOPClassUID, ConversionType and ImageType.
    """
    sop_class = text(said, "SOPClassUID")
    words = text(said, "ImageType").upper().replace("_", " ")
    reason = ""
    if text(said, "BurnedInAnnotation").upper() == "YES":
        reason = "it declares text burned into its pixels (Burned In Annotation)"
    elif sop_class == _SECONDARY_CAPTURE or sop_class.startswith(f"{_SECONDARY_CAPTURE}."):
        reason = "a secondary capture: a screen or a film, with what stood on it"
    elif text(said, "ConversionType"):
        reason = "captured from a screen or a film (Conversion Type), with what stood on it"
    elif "SCREEN SAVE" in words or "SCREENSHOT" in words:
        reason = "a saved screen (Image Type), with what stood on it"
    return f"{reason}; set `allow: [burned-in]` once somebody has looked" if reason else ""


class _Piece(NamedTuple):
    """A connected piece: its bounds, and its number in the labelled picture."""

    left: int
    right: int
    top: int
    base: int
    number: int

    @property
    def height(self) -> int:
        return self.base - self.top


def has_letters(picture: NDArray[np.floating]) -> bool:
    """Whether a line of letters, bright or dark, seems to stand near an edge.

    Args:
        picture: (row, column), as it is looked at: lines of text run along the rows.
    """
    low, high = float(picture.min()), float(picture.max())
    if not np.isfinite(low) or not np.isfinite(high) or low == high:
        return False
    grey = np.rint((picture - low) * (255 / (high - low))).astype(np.uint8)
    return _bright_letters(grey) or _bright_letters(255 - grey)


def _bright_letters(grey: NDArray[np.uint8]) -> bool:
    thin = (grey - _opened(grey) > _STANDS_OUT * 255) & (grey > _BRIGHT * 255)
    band = max(1, int(BAND * min(grey.shape)))
    thin[band:-band, band:-band] = False
    pieces, count = ndimage.label(thin)
    if not LEAST <= count <= max(60, _CROWD * grey.size):
        return False
    tallest = max(_TALLEST, grey.shape[0] // 10)
    boxes = (
        _Piece(columns.start, columns.stop, rows.start, rows.stop, number)
        for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1)
    )
    letters = sorted(
        box
        for box in boxes
        if _LOWEST <= box.height <= tallest and box.right - box.left <= 2.2 * box.height
    )
    peaks: dict[_Piece, int] = {}
    for at, first in enumerate(letters):
        line = _line(first, letters[at + 1 :])
        if len(line) < LEAST:
            continue
        for one in line:
            if one not in peaks:
                peaks[one] = _peak_of_letter(one, grey, pieces)
        found = sorted(peaks[one] for one in line if peaks[one])
        apart = zip(found, found[LEAST - 1 :], strict=False)
        if any(high - low <= _ONE_VALUE * 255 for low, high in apart):
            return True
    return False


def _line(first: _Piece, after: list[_Piece]) -> list[_Piece]:
    """What stands on the base line of ``first`` to its right, each near the one before."""
    line, edge = [first], first.right
    for one in after:
        gap = one.left - edge
        if gap > 3 * first.height:
            break
        level = abs(one.base - first.base) <= max(1.0, 0.2 * first.height)
        alike = 0.6 <= one.height / first.height <= 1 / 0.6
        if level and alike and gap <= 1.2 * max(first.height, one.height):
            line.append(one)
            edge = max(edge, one.right)
    return line


def _peak_of_letter(piece: _Piece, grey: NDArray[np.uint8], pieces: NDArray[np.int32]) -> int:
    """The grey value of a letter's core; 0 if it is no letter."""
    rows = slice(max(piece.top - 3, 0), piece.base + 3)
    columns = slice(max(piece.left - 3, 0), piece.right + 3)
    around, values = pieces[rows, columns], grey[rows, columns]
    own = around == piece.number
    width = piece.right - piece.left
    if width > 2 and own.sum() > 0.85 * width * piece.height:
        return 0  # a filled block, not strokes
    touching = ndimage.binary_dilation(own, np.ones((3, 3)))
    ring = ndimage.binary_dilation(touching, np.ones((3, 3))) & ~touching & (around == 0)
    if ring.sum() < 4:
        return 0
    surroundings, strokes = values[ring], values[own]
    darkest, brightest = np.percentile(surroundings, [10, 90])
    if brightest - darkest > _QUIET * 255:
        return 0
    if np.percentile(strokes, 75) - np.median(surroundings) < _STANDS_OUT * 255:
        return 0
    peak = int(strokes.max())
    near, share = _CORE
    return peak if (strokes >= peak - near * 255).mean() >= share else 0


def _opened(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey opening with a square of `_STROKE` pixels: what is narrower is gone.

    Runs of the extremum, one axis after the other: many times faster than scipy's filter.
    """
    reach = _STROKE // 2
    padded = np.pad(grey, reach, mode="edge")
    for axis in (0, 1):
        padded = _running(padded, axis, np.minimum)
    padded = np.pad(padded, reach, mode="edge")
    for axis in (0, 1):
        padded = _running(padded, axis, np.maximum)
    return padded


def _running(values: NDArray[np.uint8], axis: int, extremum: np.ufunc) -> NDArray[np.uint8]:
    """The extremum of every `_STROKE` neighbours along an axis; shorter by `_STROKE` - 1."""
    along = np.moveaxis(values, axis, 0)
    count = len(along) - _STROKE + 1
    result = along[:count].copy()
    for step in range(1, _STROKE):
        extremum(result, along[step : step + count], out=result)
    return np.moveaxis(result, 0, axis)
