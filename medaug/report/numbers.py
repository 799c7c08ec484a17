"""How numbers are printed: rounded for the eye, with the signs of typesetting.

>>> fixed(0.8749, 3), fixed(-0.0123, 3, signed=True), fixed(None, 3)
('0.875', '−0.012', 'not estimable')
>>> count(12345), share(0.174), probability(0.0004), duration(95.2)
('12\u202f345', '17 %', '< 0.001', '1 min 35 s')
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MINUS, THIN = "−", "\u202f"


def fixed(value: float | None, digits: int, signed: bool = False) -> str:
    """A number with ``digits`` decimals; ``None`` is what a station could not estimate."""
    if value is None:
        return "not estimable"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def digits_for(*intervals: Mapping[str, float]) -> int:
    """Decimals that give the narrowest of these intervals two significant digits; at most 4.

    >>> digits_for({"low": 3.3, "high": 12.6}), digits_for({"low": 0.89, "high": 1.0})
    (1, 2)
    """
    widths = [each["high"] - each["low"] for each in intervals]
    known = [width for width in widths if width > 0]
    if not known:
        return 3
    return min(max(1 - math.floor(math.log10(min(known))), 0), 4)


def measure(value: float | None) -> str:
    """A number of unknown size, with up to four significant digits."""
    if value is None:
        return "not estimable"
    if float(value).is_integer() and abs(value) < 1e15:
        return count(int(value))
    return f"{value:.4g}".replace("-", MINUS)


def count(value: float) -> str:
    """A whole number, thousands apart."""
    return f"{value:,.0f}".replace(",", THIN).replace("-", MINUS)


def share(value: float) -> str:
    """A part of the whole in per cent."""
    return f"{value:.0%}".replace("%", " %")


def probability(value: float | None) -> str:
    """A p value."""
    if value is not None and value < 0.001:
        return "< 0.001"
    return fixed(value, 3)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds; the two largest that count.

    >>> duration(4.25), duration(7322), duration(60)
    ('4.2 s', '2 h 2 min', '1 min 0 s')
    """
    if seconds < 59.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
