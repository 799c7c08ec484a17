"""A release may lack classes: which arms can be trained then, and what can be compared.

Per-class quotas (``privacy.per_class``) leave classes out. A classifier has to tell all classes of
the cohort apart, so an arm with nothing real in it cannot be trained; in the mixed arms a class
that was not released is fed with real patches alone. Likeness is asked of the released classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Candidates, PatchSet, Release
from medaug.evaluation.policies import Arm, arms_of
from medaug.evaluation.settings import EvaluationSettings


def lacking(release: Release, classes: Sequence[str]) -> tuple[str, ...]:
    """The ``classes`` of which ``release`` holds no patch."""
    counts = release.per_class()
    return tuple(label for label in classes if not counts.get(label))


def labels_among(release: Release | Candidates, classes: Sequence[str]) -> NDArray[np.int64]:
    """(sample,) the labels of ``release`` as an index into ``classes``, which hold all of its."""
    position = np.array([classes.index(label) for label in release.classes], dtype=np.int64)
    return position[release.labels]


def trainable(
    missing: Sequence[str], settings: EvaluationSettings, refined: bool = False
) -> tuple[tuple[Arm, ...], dict[str, str]]:
    """Of the arms asked for those that can be trained, and why each other one cannot.

    Args:
        missing: classes of which nothing was released.
        settings: name the arms.
        refined: whether there is a second release, made by simulate-and-refine.
    """
    left: dict[str, str] = {}
    asked = arms_of(settings)
    for arm in asked:
        if missing and arm.synthetic and not arm.real:
            left[arm.name] = (
                f"Nothing of the class {', '.join(missing)} was released, and a classifier cannot "
                "learn a class that it is never shown."
            )
        elif arm.refined and not refined:
            left[arm.name] = "No release of simulate-and-refine was given."
    return tuple(arm for arm in asked if arm.name not in left), left


def only(real: PatchSet, classes: Sequence[str]) -> PatchSet:
    """The patches of ``classes`` (sorted), as if there were no others."""
    kept = np.array([label in classes for label in real.classes])
    rows = np.flatnonzero(kept[real.labels])
    renumbered = np.cumsum(kept) - 1
    chosen = real.select(rows)
    names = tuple(label for label in real.classes if label in classes)
    return replace(chosen, labels=renumbered[chosen.labels].astype(np.int64), classes=names)
