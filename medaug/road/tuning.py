"""How a generator in training is judged by the tuning patients.

The distance is one of the evaluation's, which the generators, a station too, do not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medaug.domain import PatchSet, Window

if TYPE_CHECKING:
    from medaug.generators.evidence import Distance, Tuning


def judged_by(tuning: PatchSet, window: Window) -> Tuning:
    """Of each class with enough patches, how far others lie from those of the tuning patients."""
    from medaug.evaluation.fidelity import distance_to
    from medaug.generators.evidence import FEWEST, Tuning

    distances: dict[str, Distance] = {}
    for label in tuning.classes:
        of_class = window.to_signed(tuning.of_class(label).images)
        if len(of_class) >= FEWEST:
            distances[label] = _of_images(distance_to(of_class))
    return Tuning(tuning, distances)


def _of_images(distance: Callable[[Any, None], float]) -> Distance:
    return lambda images: distance(images, None)
