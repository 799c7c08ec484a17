"""A release folder back to a `Release`.

The constructor of `Release` asks again whether the decision covers these very pixels and every
check was run and passed, so that what loads is what the gate let through.
"""

from __future__ import annotations

from pathlib import Path

from medaug.domain import Release, ReleaseDecision, Rescale, Unit
from medaug.errors import Fault, ReaderError
from medaug.export.arrays import NPZ, read_npz
from medaug.export.manifest import Manifest, read_manifest


def load_release(folder: Path) -> Release:
    """The release that `write_release` wrote to ``folder``; figures of checks are rounded.

    Raises:
        ReaderError: if a file is missing or damaged.
        DisclosureError: if the files hold other pixels than were approved, or no approval.
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
            decision=decision,
            generator_digest=manifest.generator_digest,
        )
    except (TypeError, ValueError) as error:
        raise ReaderError(Fault(NPZ, str(error), "arrays that medaug wrote")) from error
