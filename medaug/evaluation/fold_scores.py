"""What a cross-validation hands to the statistics: probabilities of one fold and one seed.

>>> import numpy as np
>>> from medaug.domain import PatientKey
>>> few = Scored(np.full((1, 2), 0.5, np.float32), np.zeros(1, np.int64), (PatientKey("0" * 32),))
>>> FoldScores(fold=0, seed=1, test=few, tuning=few).test.labels.tolist()
[0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatientKey


@dataclass(frozen=True)
class Scored:
    """Patches that one trained classifier scored.

    Attributes:
        probabilities: (patch, class) float32.
        labels: (patch,) int64, index into the classes.
        patients: one key per patch.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    patients: tuple[PatientKey, ...]


@dataclass(frozen=True)
class FoldScores:
    """One training: the test part of its fold, and the tuning part that chose for it."""

    fold: int
    seed: int
    test: Scored
    tuning: Scored
