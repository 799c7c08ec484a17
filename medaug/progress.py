"""How long work tells that it is alive.

A station is handed a `Progress` and never knows whether a terminal, a log or nobody
listens. The command line passes one drawn with rich; the default is silent.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Something that follows one piece of work at a time."""

    def start(self, what: str, total: int, unit: str = "") -> None:
        """Begin a piece of work of ``total`` steps; ends the one before.

        A step is one thing done, or one byte where ``unit`` is "B".
        """

    def advance(self, steps: int = 1, note: str = "") -> None:
        """``steps`` more are done; ``note`` is a short figure to show beside the bar."""


class Silent:
    """Nobody listens."""

    def start(self, what: str, total: int, unit: str = "") -> None:
        """Do nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Do nothing."""
