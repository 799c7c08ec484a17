"""What the page plots, reduced to axes and lines.

Curves show the records of ``training.jsonl`` as they are: nothing is smoothed or left out.
Forest plots (one row per arm, a dot and its interval) share one axis over all classifiers, so
that rows can be compared down the page.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medaug.report.axes import Axis, polyline, round_axis

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A curve: its name, its CSS class, the points of its polyline and its last value."""

    name: str
    style: str
    points: str
    last: float


@dataclass(frozen=True)
class Chart:
    """Curves over training steps."""

    title: str
    across: Axis
    up: Axis
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Training:
    """The figures of a training run that its section shows.

    ``speed`` is the median over records of the real images shown per second.
    """

    steps: int
    images: int
    speed: float
    losses: Chart
    diversity: tuple[Chart, ...]


def training_of(records: Sequence[Record]) -> Training | None:
    """Curves and totals; None before the first record."""
    if not records:
        return None
    labels = sorted({label for record in records for label in record["diversity"]})
    most = max(
        value
        for record in records
        for name in ("diversity", "diversity_real")
        for value in record[name].values()
    )
    return Training(
        steps=records[-1]["step"],
        images=records[-1]["images"],
        speed=statistics.median(record["images_per_second"] for record in records),
        losses=_chart("Loss", records, _losses(records)),
        diversity=tuple(
            _chart(label, records, _diversities(records, label), least=0.0, most=most)
            for label in labels
        ),
    )


Curve = tuple[str, str, list[tuple[float, float]]]


def _losses(records: Sequence[Record]) -> Iterator[Curve]:
    for name, style, key in (
        ("generator", "first", "loss_g"),
        ("discriminator", "second", "loss_d"),
    ):
        yield name, style, [(record["step"], record[key]) for record in records]


def _diversities(records: Sequence[Record], label: str) -> Iterator[Curve]:
    here = [record for record in records if label in record["diversity"]]
    for name, style, key in (
        ("synthetic", "first", "diversity"),
        ("real", "second", "diversity_real"),
    ):
        yield name, style, [(record["step"], record[key][label]) for record in here]


def _chart(
    title: str,
    records: Sequence[Record],
    curves: Iterable[Curve],
    least: float | None = None,
    most: float | None = None,
) -> Chart:
    """A chart whose y axis holds the curves and, where given, ``least`` and ``most``."""
    curves = list(curves)
    last = float(records[-1]["step"])
    across = Axis(0.0, last, (0.0, last), digits=0)
    up = round_axis([least, most, *(y for _, _, places in curves for _, y in places)])
    lines = (
        Line(name, style, polyline(places, across, up), places[-1][1])
        for name, style, places in curves
    )
    return Chart(title, across, up, tuple(lines))


def arm_axis(arms: Iterable[Record], metric: str) -> Axis:
    """The axis on which every arm's ``metric`` and its interval lie."""
    return round_axis((end for arm in arms for end in arm[metric].values()), least=0.0, most=1.0)


def difference_axis(comparisons: Iterable[Record]) -> Axis:
    """The axis for every difference and its interval, with 0 on it."""
    ends = (end for each in comparisons for end in each["difference"].values())
    return round_axis([0.0, *ends], least=-1.0, most=1.0)
