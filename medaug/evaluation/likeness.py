"""Every statistic of likeness between two samples of patches, by name.

A sample is what the statistics read of its patches, computed once: points in a feature space,
intensities and, where there are masks, intensities inside them and lesion sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medaug.evaluation import agreement
from medaug.evaluation.distances import (
    frechet_at_infinity,
    frechet_distance,
    frechet_estimable,
    kernel_distance,
    neighbourhood,
)
from medaug.evaluation.statistics import Interval

Floats = NDArray[np.float64]
Better = Literal["lower", "higher"]

BETTER: dict[str, Better] = {
    "kernel distance": "lower",
    "Fréchet distance": "lower",
    "Fréchet distance, extrapolated": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "intensity distance": "lower",
    "intensity distance in the mask": "lower",
    "lesion size distance": "lower",
    "lesion size, largest gap of shares": "lower",
}
"""Every statistic, in the order of the report, and which direction is better."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Patches as columns of what the statistics read; None where there are no masks."""

    points: Floats
    intensity: Floats
    inside: Floats | None
    diameter: Floats | None

    def at(self, rows: NDArray[np.int64]) -> Sample:
        """The patches at ``rows``."""
        columns = (self.points, self.intensity, self.inside, self.diameter)
        return Sample(*(None if each is None else each[rows] for each in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Figure:
    """One statistic of a group.

    Attributes:
        name: of the statistic.
        unit: of its values; "" where it has none.
        better: which direction is.
        synthetic: half of the real patches against as many synthetic ones.
        baseline: the same half against the other half.
        difference: ``synthetic`` minus ``baseline``, halving by halving.
    """

    name: str
    unit: str
    better: Better
    synthetic: Interval
    baseline: Interval
    difference: Interval

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "synthetic": self.synthetic.document(),
            "baseline": self.baseline.document(),
            "difference": self.difference.document(),
        }


def likeness(
    a: Sample, b: Sample, width: float, mm_per_pixel: float, rng: np.random.Generator
) -> dict[str, float]:
    """Every statistic of real patches ``a`` and other patches ``b`` that can be estimated.

    Args:
        a: real patches.
        b: synthetic ones, or other real ones; as many.
        width: of the window, in the unit of the intensities.
        mm_per_pixel: 0 where there is no spacing; lesion sizes are then in pixels.
        rng: of the extrapolation.
    """
    near = neighbourhood(a.points, b.points)
    values = {"kernel distance": kernel_distance(a.points, b.points)}
    if frechet_estimable(*a.points.shape):
        values["Fréchet distance"] = frechet_distance(a.points, b.points)
        values["Fréchet distance, extrapolated"] = frechet_at_infinity(a.points, b.points, rng)
    values |= {
        "precision": near.precision,
        "recall": near.recall,
        "density": near.density,
        "coverage": near.coverage,
        "intensity distance": agreement.distance(a.intensity, b.intensity, width),
    }
    if a.inside is not None and b.inside is not None:
        held = [each[np.isfinite(each[:, 0])] for each in (a.inside, b.inside)]
        if min(map(len, held)):
            values["intensity distance in the mask"] = agreement.distance(held[0], held[1], width)
    if a.diameter is not None and b.diameter is not None:
        apart = stats.wasserstein_distance(a.diameter, b.diameter)
        values["lesion size distance"] = float(apart) * (mm_per_pixel or 1.0)
        gap = stats.ks_2samp(a.diameter, b.diameter, method="asymp").statistic
        values["lesion size, largest gap of shares"] = float(gap)
    return values
