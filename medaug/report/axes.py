"""Where things lie in a plot: the page draws, this file only computes places.

The plots are inline SVG in percentages of their own width, so that lines stretch with the
page while text keeps its size, on a phone as on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """An interval of values with the round numbers to mark on it."""

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    def at(self, value: float) -> float:
        """Place of ``value`` in per cent from the low end.

        >>> round_axis([0.52, 0.88], least=0, most=1).at(0.7)
        50.0
        """
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def round_axis(
    values: Iterable[float | None],
    intervals: int = 4,
    least: float = -math.inf,
    most: float = math.inf,
) -> Axis:
    """The tightest axis with about ``intervals`` round steps that holds all ``values``.

    ``least`` and ``most`` are ends that the quantity cannot pass (0 and 1 for an AUC).

    >>> round_axis([0.62, 0.91], least=0, most=1).ticks
    (0.6, 0.7, 0.8, 0.9, 1.0)
    """
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    step = _round_step((high - low) / intervals)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.floor(round(max(low, least) / step, 9))
    last = math.ceil(round(min(high, most) / step, 9))
    ticks = tuple(round(number * step, digits) for number in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, digits)


def _round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(figure * power for figure in (1, 2, 5, 10) if figure * power >= step * (1 - 1e-9))


def polyline(places: Iterable[tuple[float, float]], across: Axis, up: Axis) -> str:
    """The ``points`` of an SVG polyline through (x, y) places, in a box of 100 x 100."""
    return " ".join(f"{across.at(x):.2f},{100 - up.at(y):.2f}" for x, y in places)
