"""How a fault of medaug itself is told: where it happened, never with what.

The message of an unforeseen error may quote what it met: a path, an attribute, a value of a file.
A traceback is what people paste into a public tracker, so it holds places in the code alone.

>>> try:
...     int("Doe^Jane")
... except ValueError as error:
...     print(told(error))  # doctest: +ELLIPSIS
An internal fault: ValueError
  ...
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

FULL = "MEDAUG_TRACEBACK"
"""Set to ``full``, this variable shows messages and paths too."""


def told(error: BaseException) -> str:
    """The fault for people, in lines.

    Args:
        error: as it was caught.

    Returns:
        the kinds of errors, the last one first, and for each the places it came through, from the
        outermost to where it was raised.
    """
    if os.environ.get(FULL) == "full":
        return "".join(traceback.format_exception(error))
    lines = []
    for number, each in enumerate(_chain(error)):
        lines.append(f"{'  while handling' if number else 'An internal fault'}: {_kind(each)}")
        lines += [
            f"  {_place(frame.filename)}, line {frame.lineno}, in {frame.name}"
            for frame in traceback.extract_tb(each.__traceback__)
        ]
    lines.append(
        "What the error says is left out, for it may hold names or values of files: "
        f"{FULL}=full shows it. Read it before you pass it on."
    )
    return "\n".join(lines)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _kind(error: BaseException) -> str:
    return type(error).__qualname__


def _place(filename: str) -> str:
    """A file of code without the folders above its package, which name the user's account."""
    parts = Path(filename).parts
    for root in ("site-packages", "dist-packages"):
        if root in parts:
            return "/".join(parts[len(parts) - parts[::-1].index(root) :])
    if "medaug" in parts:
        return "/".join(parts[len(parts) - 1 - parts[::-1].index("medaug") :])
    return parts[-1]
