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
from medaug.export.arrays import NPZ, read_npz
from medaug.export.manifest import Manifest, read_manifest


def load_release(folder: Path) -> Release:
    """The release that `write_release` wrote to ``folder``; figures of checks are rounded.

    Raises:
        ReaderError: if a file is missing or damaged.
        DisclosureError: if the files hold other pixels or masks than were approved, or no
            approval.
    """
    return assemble(folder, read_manifest(folder))


def assemble(folder: Path, manifest: Manifest) -> Release:
    """The release from its manifest and the NPZ in ``folder``; errors as in `load_release`."""
    arrays = read_npz(folder / NPZ)
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
        raise ReaderError(Fault(NPZ, str(error), "arrays that medaug wrote")) from error


def _masks(arrays: dict[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
    masks = arrays.get("masks")
    if masks is None:
        return None
    if masks.dtype != np.uint8 or (masks.size and masks.max() > 1):
        raise ValueError("masks are uint8, 0 and 1")
    return masks.astype(bool)
