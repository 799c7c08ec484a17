"""What a library says about an odd file stays out of the logs.

pydicom, nibabel and Pillow quote values of the file in their warnings, log lines and errors: a
malformed UID, a name in an unknown character set. Such a text could carry an identifier. Here it
is counted and withheld; the reader that called decides from the data whether the file is usable.
"""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

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

_LOGGERS = ("pydicom", "nibabel.global", "PIL")


class _Counting(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.levelno >= logging.WARNING


@contextmanager
def withheld(noted: Counter[str] | None = None, what: str = "") -> Iterator[None]:
    """Run a library on one file of a user; count what it says under ``noted[what]``.

    Only `UserWarning`, `RuntimeWarning` and log lines are withheld. A warning about the code
    (`DeprecationWarning`, `ResourceWarning`) is none of the file's and is passed on.
    """
    counter = _Counting()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    caught: list[warnings.WarningMessage] = []
    try:
        for logger in loggers:
            logger.handlers, logger.propagate = [counter], False
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        for one in caught:
            if not issubclass(one.category, UserWarning | RuntimeWarning):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        about_file = [w for w in caught if issubclass(w.category, UserWarning | RuntimeWarning)]
        if noted is not None and (about_file or counter.count):
            noted[what] += 1
