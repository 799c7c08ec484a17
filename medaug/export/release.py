"""A release folder back to a `Release`.

The constructor of `Release` asks again whether the decision covers these very pixels and every
check was run and passed, so that what loads is what the gate let through.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release, ReleaseDecision, Rescale, Unit
from medaug.errors import Fault, ReaderError
from medaug.export.arrays import NPZ, npz_marks, read_npz
from medaug.export.hdf5 import HDF5, hdf5_marks, read_hdf5
from medaug.export.manifest import MANIFEST, Manifest, read_manifest

WHOLE = {"hdf5": (HDF5, read_hdf5, hdf5_marks), "npz": (NPZ, read_npz, npz_marks)}
"""File of each format that holds all of a release, and what reads its arrays and its marks.

Every release has one of them. The one that is mapped comes first.
"""


def load_release(folder: Path) -> Release:
    """The release that `write_release` wrote to ``folder``; figures of checks are rounded.

    Its pixels and masks are mapped from the HDF5 file where there is one, and do not fill memory.

    Raises:
        ReaderError: if a file is missing or damaged.
        DisclosureError: if the files hold other pixels or masks than were approved, or no
            approval.
    """
    return assemble(folder, read_manifest(folder))


def assemble(folder: Path, manifest: Manifest, kind: str = "") -> Release:
    """The release from its manifest and a file of `WHOLE`; errors as in `load_release`.

    Args:
        folder: of the release.
        manifest: of the release.
        kind: format to read; the first of `WHOLE` that the release has if not given.
    """
    kinds = [each for each in WHOLE if each in manifest.formats]
    if not kinds:
        raise ReaderError(Fault(MANIFEST, f"formats are {manifest.formats}", "npz or hdf5"))
    name, read, _ = WHOLE[kind or kinds[0]]
    arrays = read(folder / name)
    decision = ReleaseDecision(
        policy=manifest.policy,
        pixels_digest=manifest.pixels_digest,
        results=manifest.checks,
        drawn={entry.name: entry.drawn for entry in manifest.classes},
        accepted={entry.name: entry.accepted for entry in manifest.classes},
        statements=manifest.statements,
        cost=manifest.cost,
    )
    try:
        return Release(
            pixels=arrays["pixels"],
            labels=arrays["labels"],
            classes=tuple(arrays["classes"].tolist()),
            rescale=Rescale(arrays["slope"].item(), arrays["intercept"].item()),
            unit=Unit(arrays["unit"].item()),
            modality=arrays["modality"].item(),
            mm_per_pixel=arrays["mm_per_pixel"].item(),
            masks=_masks(arrays),
            decision=decision,
            generator_digest=manifest.generator_digest,
        )
    except (TypeError, ValueError) as error:
        raise ReaderError(Fault(name, str(error), "arrays that medaug wrote")) from error


def _masks(arrays: dict[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
    masks = arrays.get("masks")
    if masks is None:
        return None
    if masks.dtype != np.uint8 or (masks.size and masks.max() > 1):
        raise ValueError("masks are uint8, 0 and 1")
    return masks.view(np.bool_)
