"""A release as subjects of TorchIO, for those whose augmentation is TorchIO's.

Needs the extra ``medaug[torchio]``. TorchIO's images are volumes (channel, i, j, k) with an affine
to millimetres in RAS+. Columns of a patch run to the left of the patient, rows to the back,
slices to the head, so that i is the column, j the row and k the slice. A flat patch has one slice;
adjacent slices that are channels elsewhere become slices again, and their mask is 0 beside the
middle one.
Patches have no place in a body: the corner lies at the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from medaug.datasets import SyntheticPatches
from medaug.errors import Fault, SettingsError
from medaug.export.manifest import read_manifest

if TYPE_CHECKING:
    import torchio


def subjects_dataset(
    folder: Path | str, *, verify: bool = True, transform: Callable[[Any], Any] | None = None
) -> torchio.SubjectsDataset:
    """The released patches as a ``torchio.SubjectsDataset``.

    Each subject has ``image``, ``label`` (int), ``source`` ("synthetic") and, where masks were
    drawn, ``mask``. All patches are held in memory.

    Args:
        folder: of the release.
        verify: as in `medaug.datasets.SyntheticPatches`.
        transform: of TorchIO's, applied to each subject.

    Raises:
        ReaderError: if the folder does not verify.
        SettingsError: without TorchIO.
    """
    try:
        import torchio
    except ImportError:
        raise SettingsError(
            Fault("torchio", "not installed", action="pip install 'medaug[torchio]'")
        ) from None
    patches = SyntheticPatches(folder, verify=verify)
    image = read_manifest(patches.folder).image
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    if image.mm_per_pixel is not None:
        flat = len(image.shape) == 3
        between = image.slice_mm if flat and image.slice_mm else image.mm_per_pixel
        affine = np.diag([-image.mm_per_pixel, -image.mm_per_pixel, between, 1.0])
    release = patches.release
    subjects = []
    for at in range(len(patches)):
        pixels = release.rescale.restore(release.pixels[at])
        parts: dict[str, Any] = {
            "image": torchio.ScalarImage(tensor=_volume(pixels), affine=affine),
            "label": int(release.labels[at]),
            "source": "synthetic",
        }
        if release.masks is not None:
            mask = _mask(release.masks[at], pixels.shape).astype(np.uint8)
            parts["mask"] = torchio.LabelMap(tensor=_volume(mask), affine=affine)
        subjects.append(torchio.Subject(parts))
    return torchio.SubjectsDataset(subjects, transform=transform)


def _volume(pixels: NDArray[Any]) -> torch.Tensor:
    """(1, column, row, slice) of (channel, row, column) or (1, slice, row, column)."""
    slices = pixels[0] if pixels.ndim == 4 else pixels
    return torch.from_numpy(np.ascontiguousarray(slices.transpose(2, 1, 0)[None]))


def _mask(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask with the axes of a patch of ``shape``."""
    if len(shape) == 4:
        return mask[None]
    whole = np.zeros(shape, np.bool_)
    whole[shape[0] // 2] = mask
    return whole
