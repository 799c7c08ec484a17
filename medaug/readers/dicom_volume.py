"""A stack of DICOM slices as a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Region, Volume
from medaug.readers.dicom_pixels import SliceDecoder
from medaug.readers.dicom_stack import Stack


def volume_of(stack: Stack, decoder: SliceDecoder) -> Volume:
    """The volume of a stack; a region decodes the slices it touches."""
    slices = stack.slices

    def decode(region: Region) -> NDArray[np.float32]:
        i, j, k = region
        planes = [decoder(one)[i, j] for one in slices[k]]
        return np.stack(planes, axis=2)

    return Volume(stack.geometry, slices[0].modality, slices[0].unit, decode)
