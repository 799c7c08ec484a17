"""Work on many things, in their order, without saying where it is done.

A station that can work on each study alone is handed a `Spread` and never knows whether there
are processes behind it. The default does one thing after another; `medaug.workers` has another.

>>> list(in_turn(str.upper, ["a", "b"], lost=lambda item, reason: reason))
['A', 'B']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spread(Protocol):
    """``map`` that keeps the order and a bounded number of results."""

    def __call__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        lost: Callable[[Item, str], Result],
    ) -> Iterator[Result]:
        """The results of ``work``, one per item.

        Args:
            work: like the items and results, it can be pickled. What it raises is raised here.
            items: what to work on.
            lost: gives the result of an item whose process died over it, and the reason.
        """


def in_turn(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    lost: Callable[[Item, str], Result],  # noqa: ARG001 here nothing is lost but with everything
) -> Iterator[Result]:
    """The `Spread` that does one thing after another."""
    return map(work, items)
