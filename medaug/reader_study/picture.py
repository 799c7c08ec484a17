"""One patch as a PNG that tells nothing but its grey levels.

Compressed, noise takes more bytes than smooth synthetic tissue, and the size of a file would give
the answer away. Nothing is compressed: of one deck, all pictures have as many bytes.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

MARK = (
    "REAL OR SYNTHETIC - MAY SHOW A PATIENT - MUST NOT LEAVE THE HOSPITAL - NOT FOR DIAGNOSTIC USE"
)


def png_of(slices: NDArray[np.uint8]) -> bytes:
    """(slice, row, column) → a grey PNG, slices one below the other, the same mark in each."""
    mark = PngInfo()
    mark.add_text("Disclaimer", MARK)
    file = io.BytesIO()
    stacked = np.ascontiguousarray(slices.reshape(-1, slices.shape[-1]))
    Image.fromarray(stacked).save(file, "PNG", compress_level=0, pnginfo=mark)
    return file.getvalue()
