"""From what was measured to the lines of ``audit.csv``: what came, and what must hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.bench.audit_rows import SHIFTS
from medaug.privacy.one_run import epsilon_bound
from medaug.privacy.tested import FOUND_BELOW

LEAKED = (3, 5, 8, 12)


@dataclass(frozen=True)
class Figure:
    """One line of ``audit.csv``; ``holds`` is None where nothing was promised."""

    name: str
    what: str
    came: str
    wanted: str
    holds: bool | None


def figures_of(found: Mapping[str, Sequence[Any]]) -> tuple[Figure, ...]:
    """All figures of which a round was measured.

    Args:
        found: measurement → result of each round; see `medaug.bench.audit_rows`.
    """
    return tuple(
        figure
        for tell in (_null, _power, _memoriser, _canaries, _twins, _one_run, _overfit, _phantom)
        for figure in tell(found)
    )


def _null(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    p = np.array(found["P3"])
    holds = 0.02 <= float(np.mean(p <= 0.05)) <= 0.085
    yield Figure("P3", "null audit, p ≤ 0.05", _share(p <= 0.05), "2-8.5 %", holds)
    yield Figure("P3", "null audit, refused (p < 0.01)", _share(p < 0.01), "about 1 %", None)


def _power(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    for leaked in LEAKED:
        p = np.array(found[f"P4 {leaked}"])
        what, promised = f"n = 50, {leaked} leaked copies", leaked == 8
        holds = float(np.mean(p <= 0.05)) >= 0.9 if promised else None
        wanted = "≥ 90 %" if promised else "printed"
        yield Figure("P4", f"{what}, p ≤ 0.05", _share(p <= 0.05), wanted, holds)
        yield Figure("P4", f"{what}, refused (p < 0.01)", _share(p < 0.01), "printed", None)


def _memoriser(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    for one in found["P5"]:
        auc, bits, removed = one["auc"], one["bits"], one["removed"]
        yield Figure("P5", "memoriser: highest AUC", f"{auc:.3f}", "≥ 0.99", auc >= 0.99)
        yield Figure("P5", "memoriser: p", f"{one['p']:.4f}", "refused", one["refused"])
        yield Figure(
            "P5",
            "repeated canaries: exposure in bits, lowest of 12",
            f"{bits:.2f}",
            "10 (ceiling 9.95)",
            bits >= 9.9,
        )
        yield Figure(
            "P5", "repeated canaries: withheld", f"{removed:.0%}", "all, refused", one["found"]
        )


def _canaries(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    silent, lost, four = (
        np.array([one[key] for one in found["canaries"]]) for key in ("silent", "lost", "four")
    )
    name = "canaries"
    yield Figure(name, "none remembered, p < 0.05", _share(silent < 0.05), "about 5 %", None)
    told = _share(silent < FOUND_BELOW)
    yield Figure(name, "none remembered, refused (p < 0.01)", told, "about 1 %", None)
    yield Figure(name, "none remembered, samples withheld", f"{lost.mean():.1%}", "printed", None)
    told = _share(four < FOUND_BELOW)
    yield Figure(name, "4 of 12 repeated once, refused", told, "printed", None)


def _twins(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    p = np.array(found["twins"])
    for at, shift in enumerate(SHIFTS):
        what = f"12 twins, n = 50, members {shift:g} spreads higher: p ≤ 0.05"
        wanted = "printed" if shift else "about 5 %"
        yield Figure("twins", what, _share(p[:, at] <= 0.05), wanted, None)


def _one_run(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    for examples, wanted in ((50, 2.78), (100, 3.49), (200, 4.19)):
        top = epsilon_bound(examples, examples, examples).epsilon
        what, holds = f"ceiling at m = {examples}", round(top, 2) == wanted
        yield Figure("one run", what, f"{top:.2f}", f"{wanted}", holds)
    above = np.array(found["one run"]) > 1
    what, holds = "bound above the true ε = 1 (m = 100)", float(np.mean(above)) <= 0.065
    yield Figure("one run", what, _share(above), "≤ 5 %", holds)


def _overfit(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    for one in found["P6"]:
        low, pixels, copies = one["low"], one["pixels"], one["copies"]
        what = "DCGAN on 25 patients: low-pass AUC"
        yield Figure("P6", what, f"{low:.2f}", "≥ 0.75", low >= 0.75)
        yield Figure("P6", "pixel L2 AUC", f"{pixels:.2f}", "0.1 below", low - pixels >= 0.1)
        yield Figure("P6", "p", f"{one['p']:.4f}", "refused", one["refused"])
        yield Figure("P6", "copies found", f"{copies} of {one['samples']}", "0", copies == 0)


def _phantom(found: Mapping[str, Sequence[Any]]) -> Iterator[Figure]:
    if not (rounds := found["P7"]):
        return
    released = np.array([not reasons for reasons in rounds])
    holds = float(released.mean()) >= 0.95
    yield Figure("P7", "phantom released by gate and audit", _share(released), "≥ 95 %", holds)
    refused = Counter(" ".join(reasons) for reasons in rounds if reasons)
    for reason, times in refused.items():
        yield Figure("P7", "refused", f"{times} x: {reason}", "", None)


def _share(hits: NDArray[np.bool_]) -> str:
    return f"{hits.mean():.1%} of {len(hits)}"
