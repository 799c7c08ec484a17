"""A stack of DICOM slices as a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Region, Volume
from medaug.readers.dicom.pixels import SliceDecoder
from medaug.readers.dicom.stack import Stack


def volume_of(stack: Stack, decoder: SliceDecoder) -> Volume:
    """The volume of a stack; a region decodes the slices it depends on."""
    slices, sampling = stack.slices, stack.sampling

    def decode(region: Region) -> NDArray[np.float32]:
        if sampling is not None:
            return sampling.read(region, lambda at: decoder(slices[at]))
        i, j, k = region
        planes = [decoder(one)[i, j] for one in slices[k]]
        return np.stack(planes, axis=2)

    return Volume(stack.geometry, slices[0].modality, slices[0].unit, decode)
