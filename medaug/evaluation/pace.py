"""How long a cross-validation still takes, from what it took so far.

Two kinds of work alternate: generators are trained, and classifiers. The time left is the mean
time of each, times what is left of it. What a stopped run had done took no time and is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medaug.progress import Progress


class Pace:
    """Tells a `Progress` the fold, and how much time is left over all folds.

    Args:
        progress: who is told.
        generators: to be trained in all.
        steps: of optimisers of classifiers, in all.
        clock: seconds.
    """

    def __init__(
        self,
        progress: Progress,
        generators: int,
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress = progress
        self._left = [generators, steps]
        self._done = [0, 0]
        self._spent = [0.0, 0.0]
        self._clock = clock
        self._since = clock()

    @contextmanager
    def generator(self) -> Iterator[None]:
        """Around the training of one generator."""
        began = self._clock()
        yield
        self._spent[0] += self._clock() - began
        self._done[0] += 1
        self._left[0] -= 1

    def start(self, what: str, steps: int) -> None:
        """Begin a piece of ``steps`` optimiser steps."""
        self.progress.start(what, steps)
        self._since = self._clock()

    def advance(self, steps: int, note: str, worked: bool = True) -> None:
        """``steps`` are done, or were not needed."""
        now = self._clock()
        self._left[1] -= steps
        if worked:
            self._spent[1] += now - self._since
            self._done[1] += steps
        self._since = now
        self.progress.advance(steps, f"{note}, {self.remaining()}")

    def remaining(self) -> str:
        """In words."""
        known = [done or not left for done, left in zip(self._done, self._left, strict=True)]
        if not all(known):
            return "time left not known yet"
        each = zip(self._spent, self._done, self._left, strict=True)
        seconds = sum(spent / done * left for spent, done, left in each if done)
        return f"about {max(1, round(seconds / 60))} min left" if seconds > 0 else "nearly done"
