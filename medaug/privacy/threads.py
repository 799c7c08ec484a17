"""One BLAS thread for many small products.

On a busy machine the threads of BLAS wait for one another at every small product: a comparison took
five times as long with two threads as with one. One thread also gives the same scores
whatever the number of cores.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped] # ships no types


@cache
def _controller() -> Any:
    return ThreadpoolController()  # it searches every loaded library: once is enough


def one_thread() -> AbstractContextManager[Any]:
    """Within this context numpy's matrix products run on the calling thread alone."""
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit
