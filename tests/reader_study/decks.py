"""A release of flat patches, which compress to next to nothing."""

import numpy as np

from medaug.domain import (
    Candidates,
    CheckResult,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Unit,
    Window,
)

WINDOW = Window(-100, 200)
CLASSES = ("cyst", "metastasis")


def released(shape: tuple[int, ...] = (1, 16, 16), each: int = 40) -> Release:
    """Flat patches of two classes."""
    labels = np.repeat([0, 1], each)
    pixels = np.broadcast_to(np.arange(len(labels)), (*shape, len(labels))).astype(np.int16)
    candidates = Candidates(
        pixels=np.moveaxis(pixels, -1, 0).copy(),
        labels=labels,
        classes=CLASSES,
        rescale=Rescale.of(Unit.HOUNSFIELD, WINDOW),
        unit=Unit.HOUNSFIELD,
        modality="CT",
        mm_per_pixel=1.0,
        seeds=np.arange(len(labels)),
    )
    decision = ReleaseDecision(
        policy=ReleasePolicy(per_class=each, checks=("format",)),
        pixels_digest=candidates.digest,
        results=(CheckResult("format", True, 0, 0, 0, "All are right."),),
        drawn=dict.fromkeys(CLASSES, each),
        accepted=dict.fromkeys(CLASSES, each),
        statements=(),
    )
    return Release.of(candidates, decision, "0" * 64)
