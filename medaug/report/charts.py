"""What the page plots, reduced to axes and lines.

Curves show the records of ``training.jsonl`` as they are: nothing is smoothed or left out.
Forest plots (one row per arm, a dot and its interval) share one axis over all classifiers, so
that rows can be compared down the page. Figures of likeness have nothing in common but their
baseline: each is placed beside that, on an axis of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """Curves over training steps.

    Attributes:
        title: what they show, or of which class.
        across: of steps.
        up: of values.
        lines: the curves.
        level: a value to compare with.
        marks: steps whose weights were kept.
    """

    title: str
    across: Axis
    up: Axis
    lines: tuple[Line, ...]
    level: float | None = None
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Training:
    """The figures of a training run that its section shows.

    ``speed`` is the median over records of the real images shown per second. ``augment``,
    ``distance`` and ``memorised`` are there where records hold them.
    """

    steps: int
    images: int
    speed: float
    losses: Chart
    augment: Chart | None
    diversity: tuple[Chart, ...]
    distance: tuple[Chart, ...]
    memorised: tuple[Chart, ...]


def training_of(records: Sequence[Record], kept: Sequence[int] = ()) -> Training | None:
    """Curves and totals; None before the first record.

    Args:
        records: of ``training.jsonl``.
        kept: steps whose weights the generator has; one, or one for each class trained alone.
    """
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
        augment=_augment(records),
        diversity=tuple(
            _chart(label, records, _diversities(records, label), least=0.0, most=most)
            for label in labels
        ),
        distance=tuple(_evidence(records, "distance", kept, least=0.0)),
        memorised=tuple(_evidence(records, "memorised", kept, level=1.0)),
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


def _augment(records: Sequence[Record]) -> Chart | None:
    places = [(record["step"], record["augment"]) for record in records if "augment" in record]
    if not places:
        return None
    curves = [("probability", "first", places)]
    return _chart("Augmentation", records, curves, least=0.0, most=1.0)


def _evidence(
    records: Sequence[Record],
    key: str,
    kept: Sequence[int],
    least: float | None = None,
    level: float | None = None,
) -> Iterator[Chart]:
    """A chart for each class of which some record holds ``key``."""
    judged = [record for record in records if key in record]
    most = max((value for record in judged for value in record[key].values()), default=None)
    low = min((value for record in judged for value in record[key].values()), default=None)
    for label in sorted({label for record in judged for label in record[key]}):
        places = [(record["step"], record[key][label]) for record in judged if label in record[key]]
        curves = [("synthetic", "first", places)]
        # One axis for all classes, with what the values are compared with on it.
        ends = [end for end in (least, level, low, most) if end is not None]
        chart = _chart(label, records, curves, least=min(ends), most=max(ends))
        marks = tuple(float(step) for step, _ in places if step in kept)
        yield replace(chart, level=level, marks=marks)


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


@dataclass(frozen=True)
class Placing:
    """A figure beside its baseline, in per cent of the width; what is more alike lies left.

    Attributes:
        band: ends of the baseline's interval.
        middle: the baseline's value.
        span: ends of the synthetic patches' interval.
        dot: their value.
    """

    band: tuple[float, float]
    middle: float
    span: tuple[float, float]
    dot: float


def placing(
    synthetic: Record, baseline: Record, better: str, least: Iterable[float] = ()
) -> Placing:
    """Place a figure; ``least`` are values that its axis holds in any case.

    >>> alike = {"value": 0.25, "low": 0.0, "high": 0.5}
    >>> placing({"value": 0.75, "low": 0.5, "high": 1.0}, alike, "lower").dot
    75.0
    """
    ends = [*synthetic.values(), *baseline.values(), *least]
    low, high = min(ends), max(ends)
    axis = Axis(low, high if high > low else low + 1, (), digits=0)

    def at(value: float) -> float:
        place = axis.at(value)
        return place if better == "lower" else round(100 - place, 3)

    def both(of: Record) -> tuple[float, float]:
        first, last = sorted((at(of["low"]), at(of["high"])))
        return first, last

    return Placing(both(baseline), at(baseline["value"]), both(synthetic), at(synthetic["value"]))
