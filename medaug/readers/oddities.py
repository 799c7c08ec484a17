"""What a library says about an odd file stays out of the logs.

pydicom, nibabel and Pillow quote values of the file in their warnings, log lines and errors: a
malformed UID, a name in an unknown character set. Such a text could carry an identifier. Here it
is counted and withheld; the reader that called decides from the data whether the file is usable.

Several threads may read at once. What a thread withholds is known by a context variable; the
filter of the warnings, which the interpreter keeps for all threads together, is changed when the
first thread enters and put back when the last one leaves.
"""

from __future__ import annotations

import logging
import struct
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from pydicom.errors import BytesLengthException, InvalidDicomError

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,  # with UnicodeError
    TypeError,
    LookupError,  # an attribute missing, an unknown character set
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    RuntimeError,  # no decoder, or a decoder's own complaint
    MemoryError,  # a damaged header that claims an enormous image
    SyntaxError,  # Pillow's word for a broken PNG
    struct.error,
    zlib.error,
    BytesLengthException,
    InvalidDicomError,
)
"""What the libraries raise on a damaged file. Their texts are never passed on."""

_LOGGERS = ("pydicom", "nibabel.global", "PIL", "dicomweb_client", "pynetdicom", "urllib3")
_ABOUT_FILES = (UserWarning, RuntimeWarning)


class _Said:
    """How often a library has spoken about the file in hand."""

    def __init__(self) -> None:
        self.times = 0


_listening: ContextVar[_Said | None] = ContextVar("listening", default=None)


class _Gate(logging.Handler):
    """The one handler of a library's logger: counts what is withheld, hands on the rest."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger
        self._others: list[logging.Handler] = []
        self._propagate = True

    def stand_in(self) -> None:
        """Take the place of the logger's handlers, also of those added since the last time."""
        logger = self._logger
        if logger.handlers == [self] and not logger.propagate:
            return
        self._others += [one for one in logger.handlers if one is not self]
        self._propagate = logger.propagate or (self in logger.handlers and self._propagate)
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        said = _listening.get()
        if said is not None:
            said.times += record.levelno >= logging.WARNING
            return
        for handler in self._others:
            if record.levelno >= handler.level:
                handler.handle(record)
        if self._propagate and self._logger.parent is not None:
            self._logger.parent.callHandlers(record)


class _WarningsOfAllThreads:
    """Sends warnings about files to the thread that withholds them, while any thread does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates = [_Gate(logging.getLogger(name)) for name in _LOGGERS]
        self._threads = 0
        self._before = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            for gate in self._gates:
                gate.stand_in()
            self._threads += 1
            if self._threads > 1:
                return
            self._before = warnings.catch_warnings()
            self._before.__enter__()
            show = warnings.showwarning

            def withhold(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                said = _listening.get()
                if said is None or not issubclass(category, _ABOUT_FILES):
                    show(message, category, filename, lineno, file, line)
                else:
                    said.times += 1

            warnings.showwarning = withhold
            for category in _ABOUT_FILES:
                warnings.simplefilter("always", category)

    def leave(self) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                self._before.__exit__(None, None, None)


_all_threads = _WarningsOfAllThreads()


@contextmanager
def withheld(noted: Counter[str] | None = None, what: str = "") -> Iterator[None]:
    """Run a library on one file of a user; count what it says under ``noted[what]``.

    Only `UserWarning`, `RuntimeWarning` and log lines are withheld. A warning about the code
    (`DeprecationWarning`, `ResourceWarning`) is none of the file's and is passed on. May be
    nested, and used by several threads at once; what another thread says outside of it is
    passed on, though the interpreter's own filters are not asked about it meanwhile.
    """
    said = _Said()
    _all_threads.enter()
    token = _listening.set(said)
    try:
        yield
    finally:
        _listening.reset(token)
        _all_threads.leave()
        if noted is not None and said.times:
            noted[what] += 1
