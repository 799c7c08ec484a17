"""A TIFF of several pages as a volume: (column, row, page).

A TIFF says nothing of the patient, and its resolution is that of a printer: the spacing comes
from the settings, and the orientation is not known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medaug.domain import Region
from medaug.errors import ReaderError
from medaug.readers.bounded import File
from medaug.readers.files import SourceFile
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.volumes.file import HEADER_DAMAGED, NOT_NUMBERS, VolumeFile, Wanted, fault, grid

NAMES = (".tif", ".tiff")

_GREY = ("L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


class _Pages:
    """The pages of a file, decoded when they are asked for."""

    packed = False
    slope = 1.0
    intercept = 0.0

    def __init__(self, file: SourceFile, shape: tuple[int, int, int], mode: str) -> None:
        self._file = file
        self._shape = shape
        self._mode = mode

    def check(self) -> None:
        """Every page was looked at when the file was opened."""

    def read(self, region: Region) -> NDArray[Any]:
        i, j, k = region
        with File(self._file.path) as stream, Image.open(stream) as picture:
            pages = []
            for page in range(k.start, k.stop):
                picture.seek(page)
                if (*picture.size, picture.mode) != (*self._shape[:2], self._mode):
                    raise ValueError
                pages.append(np.asarray(picture).T[i, j])
        return np.stack(pages, axis=-1)

    def unpack(self) -> NDArray[Any]:
        i, j, k = self._shape
        return self.read((slice(0, i), slice(0, j), slice(0, k)))


def read_tiff(file: SourceFile, wanted: Wanted) -> VolumeFile:
    """The pages of a TIFF, none decoded.

    Raises:
        ReaderError: if its pages are no volume of grey values, or if the settings give no spacing.
    """
    if wanted.spacing_mm is None:
        raise fault(
            file,
            "a TIFF does not say where its voxels lie",
            "set `spacing_mm` to the mm between columns, rows and pages",
        )
    try:
        with withheld(), File(file.path) as stream, Image.open(stream) as picture:
            if picture.format != "TIFF":
                raise fault(file, "not a TIFF file")
            kinds = set()
            count = int(getattr(picture, "n_frames", 1))
            for page in range(count):
                picture.seek(page)
                kinds.add((*picture.size, picture.mode))
    except ReaderError:
        raise
    except PermissionError:
        raise fault(file, "it cannot be opened: permission denied") from None
    except (*UNREADABLE, Image.DecompressionBombError):
        raise fault(file, HEADER_DAMAGED.format("TIFF")) from None
    if len(kinds) > 1:
        raise fault(file, "its pages differ in size or kind: they form no volume")
    columns, rows, mode = kinds.pop()
    if mode not in _GREY:
        raise fault(file, NOT_NUMBERS)
    shape = (columns, rows, count)
    geometry = grid(file, shape, np.diag([*wanted.spacing_mm, 1.0]), lps=True)
    return VolumeFile(file, geometry, (_Pages(file, shape, mode),), oriented=False)
