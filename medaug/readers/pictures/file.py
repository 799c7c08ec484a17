"""One picture of a file: PNG, JPEG or TIFF, as grey values.

Values are taken as they are stored: 8 or 16 bits, or the 32-bit floating point numbers of a TIFF.
Colour is refused unless every pixel is grey.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medaug.errors import Fault, ReaderError
from medaug.readers.bounded import File
from medaug.readers.files import SourceFile
from medaug.readers.oddities import UNREADABLE, withheld

NAMES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

_GREY = ("L", "I", "I;16", "I;16B", "I;16L", "I;16N")


def decode_picture(file: SourceFile) -> NDArray[np.float32]:
    """Grey values (column, row, 1) of a picture.

    Raises:
        ReaderError: if it is damaged, coloured, or not a still picture of 8 or 16 bits or of
            floating point numbers.
    """
    return np.asarray(_decoded(file), dtype=np.float32)


def decode_mask(file: SourceFile) -> NDArray[np.bool_]:
    """Marked pixels (column, row, 1) of a picture of two values, one of them 0.

    Raises:
        ReaderError: as `decode_picture`, or if it holds more than two values.
    """
    values = _decoded(file, one_bit=True)
    kinds = np.unique(values)
    if len(kinds) > 2 or (len(kinds) == 2 and kinds[0] != 0):
        came = f"a mask has the value 0 and one other, this one has {len(kinds)} values"
        raise ReaderError(Fault(file.name, came, action="save it as PNG, a JPEG blurs the edges"))
    return np.asarray(values != 0)


def _decoded(file: SourceFile, one_bit: bool = False) -> NDArray[np.generic]:
    try:
        with withheld(), File(file.path) as stream, Image.open(stream) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ReaderError(Fault(file.name, "several pictures in one file"))
            values = _grey(picture, one_bit)
    except PermissionError:
        raise ReaderError(Fault(file.name, "it cannot be opened: permission denied")) from None
    except (*UNREADABLE, Image.DecompressionBombError):
        raise ReaderError(Fault(file.name, "a damaged picture: it cannot be decoded")) from None
    if isinstance(values, str):
        raise ReaderError(Fault(file.name, values))
    return np.ascontiguousarray(values.T[:, :, np.newaxis])


def _grey(picture: Image.Image, one_bit: bool) -> NDArray[np.generic] | str:
    """Values (row, column), or why the picture is no grey one."""
    if picture.mode in _GREY:
        values = np.asarray(picture)
        if values.dtype.itemsize > 2 and not 0 <= values.min() <= values.max() < 2**16:
            return "more than 16 bits per pixel"
        return values
    if picture.mode == "F":
        numbers = np.asarray(picture)
        return numbers if np.isfinite(numbers).all() else "pixels that are no numbers (NaN)"
    if picture.mode == "1":
        if one_bit:
            return np.asarray(picture)
        return "one bit per pixel: a mask, not a picture"
    if picture.mode not in ("RGB", "RGBA", "LA", "P", "PA"):
        return f"pixels of an unsupported kind ({picture.mode}): 8 or 16 bit grey is needed"
    if "RGB;16" in str(getattr(picture, "tile", "")):
        return "a colour picture of 16 bits per channel: one grey channel is needed"
    channels = np.asarray(picture.convert("RGBA"))
    if (channels[..., 3] != 255).any():
        return "partly transparent: what lies behind is not known"
    if (channels[..., :3] != channels[..., :1]).any():
        return "a colour picture: one grey channel is needed"
    return channels[..., 0]
