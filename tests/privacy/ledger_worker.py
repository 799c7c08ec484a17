"""A run of its own process: reserves, then is killed, waits, or commits.

python ledger_worker.py LEDGER RUN kill|commit|hold
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from medaug.privacy.ledger import Booking, Ledger

KEY = bytes(range(32))
PATIENTS = frozenset(f"{number:032x}" for number in range(20))


def booking(run: str, **changes: object) -> Booking:
    what = {
        "run": run,
        "dataset": "d1",
        "patients": PATIENTS,
        "attempt": "a1",
        "mode": "dp-vote",
        "wanted": {"cyst": 10},
        "event": 1.0,
    }
    return Booking(**{**what, **changes})  # type: ignore[arg-type]


def main(path: Path, run: str, end: str) -> None:
    ledger = Ledger(path, KEY)
    if end == "hold":
        with ledger._chain.appending() as chain:
            chain.append("train", {"dataset": "d1", "weights": "w"})
            print("in the middle", flush=True)  # noqa: T201 - the test waits for it
            time.sleep(60)
    earlier = ledger.reserve(booking(run))
    print(earlier.counts.get("cyst", 0), flush=True)  # noqa: T201
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    ledger.commit(run, f"release of {run}", {"cyst": 10}, np.zeros((10, 64, 64), np.int8))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
