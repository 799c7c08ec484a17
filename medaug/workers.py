"""Where the work on a cohort is done: one study after another here, or many on Dask workers [1]_.

Both ways take the studies in the same order and give the results back in it, a few at a time, so
that what is written does not depend on the way and memory not on the cohort::

    with workers("local:4", root) as spread:
        for result in spread(work, studies, lost):
            write(result)

What travels to a worker is what the files' headers say and the site's key; what travels back are
patches. Dask keeps both in memory, yet moves them over the network: ``local`` encrypts with a key
of its own; a cluster at an address must be the site's own, and encrypt with TLS [2]_.

.. [1] https://distributed.dask.org
.. [2] https://distributed.dask.org/en/stable/tls.html
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from medaug.errors import Fault, SettingsError
from medaug.spread import Item, Result, Spread, in_turn

if TYPE_CHECKING:
    from distributed import Client

AHEAD = 3
"""Studies that are under way or wait to be written, per thread of the workers."""

_LOST = "the worker died each time it was tried, as it does when memory runs out"


@contextmanager
def workers(address: str | None, root: Path) -> Iterator[Spread]:
    """A way to spread work that lasts as long as the ``with`` block.

    Args:
        address: of a Dask scheduler (``tls://host:8786``); or ``local`` for worker processes on
            this machine, one per processor, ``local:4`` for four; None to work here.
        root: the data root; every worker must see the same files there.

    Raises:
        SettingsError: if there is no such scheduler, or no longer; or if a worker does not see
            the files.
    """
    if address is None:
        yield in_turn
        return
    if find_spec("distributed") is None:
        raise _fault(address, "Dask is not installed", 'pip install "medaug[dask]"')
    with ExitStack() as stack:
        client = _local(address, stack) if _is_local(address) else _remote(address, stack)
        _require_files(client, address, root.resolve())
        try:
            yield partial(_on_dask, client)
        except CancelledError:
            raise _fault(
                address, "the scheduler went away", "see to it, then run the same command again"
            ) from None


def _on_dask(
    client: Client,
    work: Callable[[Item], Result],
    items: Sequence[Item],
    lost: Callable[[Item, str], Result],
) -> Iterator[Result]:
    """Submit a few items ahead of the result that is waited for.

    Dask does again what was under way on a worker that dies, and what had been done and lay there.
    """
    from distributed import KilledWorker, wait

    submit = partial(client.submit, work, pure=False)
    ahead = AHEAD * max(1, sum(client.nthreads().values()))
    waiting = deque(submit(item) for item in items[:ahead])
    for at, item in enumerate(items):
        if at + ahead < len(items):
            waiting.append(submit(items[at + ahead]))
        future = waiting.popleft()
        try:
            yield future.result()
        except KilledWorker:
            # Dask blames all that a dying worker had in hand: alone it shows which one it was.
            wait(list(waiting))
            try:
                yield submit(item).result()
            except KilledWorker:
                yield lost(item, _LOST)


def _is_local(address: str) -> bool:
    return address.partition(":")[0] == "local"


_QUIETLY = {
    # By default Dask keeps the last thousand messages, with the headers in them.
    "distributed.admin.low-level-log-length": 10,
    # It serves its state over HTTP, to everybody.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.nanny.http.routes": [],
}


def _local(address: str, stack: ExitStack) -> Client:
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster, Security

    _, colon, count = address.partition(":")
    if colon and not (count.isascii() and count.isdecimal() and int(count)):
        raise _fault(address, "no number of workers", "give one from 1, as in local:4")
    # What does not fit in memory goes here: a folder that nobody else may look into.
    scratch = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    stack.enter_context(dask.config.set(_QUIETLY))
    cluster = LocalCluster(
        n_workers=int(count) if colon else CPU_COUNT,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        local_directory=scratch,
        # Without this, everybody who has an account on the machine may talk to the workers.
        security=Security.temporary(),
        silence_logs="CRITICAL",
    )
    stack.enter_context(cluster)
    client: Client = stack.enter_context(Client(cluster))
    return client


def _remote(address: str, stack: ExitStack) -> Client:
    from distributed import Client

    try:
        client: Client = stack.enter_context(Client(address))
        client.wait_for_workers(1, timeout=60)
    except (OSError, ValueError, TypeError) as error:
        raise _fault(
            address,
            f"no Dask scheduler with workers answers there ({type(error).__name__})",
            "check the address, the scheduler and its workers, and Dask's TLS settings",
        ) from None
    return client


def _require_files(client: Client, address: str, root: Path) -> None:
    """Let every worker, also one that comes later, prove that it can do the same as this process.

    A worker without the data would refuse every file that it is given, and the result would be
    another one for it.
    """
    from distributed import WorkerPlugin

    class SameFiles(WorkerPlugin):  # type: ignore[misc] # distributed has no types
        name = "medaug: the same files"

        def __init__(self) -> None:
            self._expected = _seen(root)

        def setup(self, worker: object) -> None:  # noqa: ARG002
            if not self._expected <= _seen(root):
                raise ValueError("other files, or another medaug")

    try:
        client.register_plugin(SameFiles())
    except Exception as error:  # noqa: BLE001 whatever a worker raised, the cause is there
        raise _fault(
            address,
            f"a worker cannot take part ({type(error).__name__})",
            f"install medaug {version('medaug')} on every worker, mount the data there as {root}",
        ) from None


def _seen(root: Path) -> set[str]:
    """The version of medaug here, and what stands in the data root; more may be added to it."""
    entries = root.iterdir() if root.is_dir() else ()
    return {f"medaug {version('medaug')}", *(entry.name for entry in entries)}


def _fault(address: str, came: str, action: str) -> SettingsError:
    allowed = "local, local:N (N workers), or the address of a Dask scheduler"
    return SettingsError(Fault(f"--dask {address}", came, allowed, action))
