"""One BLAS thread for many small products, and several comparisons beside one another.

On a busy machine the threads of BLAS wait for one another at every small product: a comparison took
five times as long with two threads as with one. One thread also gives the same scores
whatever the number of cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped] # ships no types

_Found = TypeVar("_Found")


@cache
def _controller() -> Any:
    return ThreadpoolController()  # it searches every loaded library: once is enough


def one_thread() -> AbstractContextManager[Any]:
    """Within this context numpy's matrix products run on the calling thread alone."""
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit


def beside(one: Callable[[int], _Found], count: int, most: int) -> Iterator[_Found]:
    """``one(0)``, ``one(1)``, … in order; up to ``most`` of them run at once, one to a core.

    They must not depend on one another: then the number of cores does not matter.
    """
    at_once = max(1, min(most, os.cpu_count() or 1, count))
    with one_thread(), ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(one, range(count))
