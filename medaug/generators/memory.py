"""Freed memory, kept for the next step of training.

Every step asks for the same arrays of some megabytes and frees them. glibc gives such blocks back
to the system, which hands them out again page by page, cleared: up to a fifth of a step on a CPU.
Other allocators are left as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h of glibc: names of mallopt.
_TRIM, _TOP_PAD, _MMAP = -1, -2, -3
_KEPT = {_TRIM: 1 << 30, _TOP_PAD: 64 << 20, _MMAP: 32 << 20}  # the last is the most it takes
# A process begins with 128 KiB for the first and the last and raises them as it frees larger
# blocks, up to these; once they are set it no longer does, so it is left where it would end.
_AFTERWARDS = {_TRIM: 256 << 20, _TOP_PAD: 0, _MMAP: 32 << 20}


@contextmanager
def kept() -> Iterator[None]:
    """Inside, keep what is freed; afterwards give it all back."""
    libc = _glibc()
    if libc is None:
        yield
        return
    for name, value in _KEPT.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _AFTERWARDS.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
