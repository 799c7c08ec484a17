"""The dose curve: one chart for each classifier and arm, doses side by side at equal distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medaug.report.axes import Axis, polyline, round_axis


@dataclass(frozen=True)
class Place:
    """A dose: where it stands across, in per cent, and the rows of ``evaluation.json``'s figures.

    ``value``, ``low``, ``high`` and ``tuning`` are macro AUC; ``different`` is the number of
    different synthetic patches that were drawn from.
    """

    at: float
    dose: float
    value: float
    low: float
    high: float
    tuning: float
    different: int


@dataclass(frozen=True)
class DoseChart:
    """The curve of one arm with one classifier; ``test`` and ``tuning`` are polylines."""

    classifier: str
    arm: str
    up: Axis
    places: tuple[Place, ...]
    test: str
    tuning: str


def dose_charts(rows: Sequence[Mapping[str, Any]]) -> tuple[DoseChart, ...]:
    """The charts of ``dose_curve`` in ``evaluation.json``; all share one axis of AUC.

    >>> dose_charts([])
    ()
    """
    ends = [end for row in rows for end in (*row["auc"].values(), row["tuning_auc"])]
    up = round_axis(ends, least=0.0, most=1.0)
    keys = dict.fromkeys((row["classifier"], row["arm"]) for row in rows)
    return tuple(
        _chart([row for row in rows if (row["classifier"], row["arm"]) == key], up) for key in keys
    )


def _chart(rows: Sequence[Mapping[str, Any]], up: Axis) -> DoseChart:
    places = tuple(
        Place(
            at=round(100 * (number + 0.5) / len(rows), 3),
            dose=row["dose"],
            value=row["auc"]["value"],
            low=row["auc"]["low"],
            high=row["auc"]["high"],
            tuning=row["tuning_auc"],
            different=sum(row["different"].values()),
        )
        for number, row in enumerate(rows)
    )
    across = Axis(0.0, 100.0, (), digits=0)
    return DoseChart(
        rows[0]["classifier"],
        rows[0]["arm"],
        up,
        places,
        polyline(((place.at, place.value) for place in places), across, up),
        polyline(((place.at, place.tuning) for place in places), across, up),
    )
