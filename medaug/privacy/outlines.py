"""Is a drawn mask the outline of a training lesion?

A generator that draws masks can leak a patient through the outline alone, under an image that is
new. So masks are compared too, apart from the images: no mask can excuse an image, and no
image a mask. Each mask is brought to 64x64, its centroid to the middle, and its overlap
(intersection over union) with every training outline taken in the 8 poses of the square.

The limit is set as that of the copy check, by patients who were not trained on: the order
statistic of `limits` over held-out patients, each at the highest overlap of its patches. Small or
round lesions are alike by nature; where two people's outlines coincide, the limit is 1 and the
check can find nothing, which is what `CheckResult.detail` then says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet
from medaug.privacy.limits import limit_of, share_above
from medaug.privacy.pictures import SIDE, Floats, resized
from medaug.privacy.poses import in_square_poses
from medaug.privacy.threads import one_thread

# Overlap above which two outlines are the same up to rounding.
SAME = 1 - 1e-6
# Outlines that a mask is compared with together.
_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Outlines:
    """Training outlines, and how alike those of new patients are.

    Attributes:
        masks: (patch, 64 * 64) bool, centred.
        limit: a higher overlap is a copy.
        patients: held-out patients that set it.
        bound: at most this share of new patients lies above, with 95 % confidence.
    """

    masks: NDArray[np.bool_]
    limit: float
    patients: int
    bound: float

    @classmethod
    def fit(cls, training: PatchSet, calibration: PatchSet, share: float) -> Outlines | None:
        """None where a part has no masks: then no outline can be compared."""
        if training.masks is None or calibration.masks is None:
            return None
        masks = np.stack([_centred(mask).reshape(-1) > 0 for mask in training.masks])
        open_ended = cls(masks, 1.0, 0, 1.0)
        highest = np.zeros(len(calibration.patient_order))
        for mask, patient in zip(calibration.masks, calibration.patient_index, strict=True):
            highest[patient] = max(highest[patient], open_ended.overlap(mask))
        limit = limit_of(highest, share)
        above = int((highest > limit).sum())
        return cls(masks, limit, len(highest), share_above(len(highest), above))

    def overlap(self, mask: NDArray[np.bool_]) -> float:
        """The highest overlap of a mask ([slice,] row, column) with a training outline."""
        posed = in_square_poses(_centred(mask)).reshape(8, -1)
        marked, highest = posed.sum(axis=1)[:, None], 0.0
        with one_thread():
            for at in range(0, len(self.masks), _AT_ONCE):
                masks = self.masks[at : at + _AT_ONCE].astype(np.float32)
                shared = posed @ masks.T
                either = marked + masks.sum(axis=1)[None] - shared
                highest = max(highest, float(np.max(shared / np.maximum(either, 1))))
        return highest


def _centred(mask: NDArray[np.bool_]) -> Floats:
    """(64, 64) float32 of 0 and 1: the mask with its centroid in the middle."""
    flat = mask[len(mask) // 2] if mask.ndim == 3 else mask
    at_side = resized(flat[None].astype(np.float32), SIDE)[0]
    marked = at_side >= min(0.5, float(at_side.max()))
    if not marked.any():
        return np.zeros((SIDE, SIDE), np.float32)
    middle = np.argwhere(marked).mean(axis=0)
    down, right = np.round((SIDE - 1) / 2 - middle).astype(int)
    return np.asarray(np.roll(marked, (down, right), axis=(0, 1)), np.float32)
