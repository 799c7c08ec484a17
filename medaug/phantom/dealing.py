"""Which kinds of lesion each patient shows: balanced by design, not by luck.

Patients are dealt in blocks of twenty: 30 % show one kind, 45 % two, 25 % all three. Within a
block, runs that treat the three kinds alike follow one another (three single patients with one
kind each, three patients with two kinds each, or one patient with all), so that every prefix is
nearly balanced. After 12 patients each kind has been shown by at least 55 % of them, whatever the
seed. Runs have odd lengths and start on even and odd numbers alike, so that the two file formats,
which alternate by number, get all combinations.

>>> [sum("cyst" in kinds_of(seed=0, number=n) for n in range(first, first + 20))
...  for first in (0, 20, 40)]
[13, 13, 13]
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Kind = Literal["cyst", "metastasis", "haemangioma"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Kinds per patient in each run; the lengths of the runs sum to a block.
_RUNS = ((2, 2, 2), (3,), (3,), (1, 1, 1), (2, 2, 2), (3,), (1, 1, 1), (3,), (3,), (2, 2, 2))
BLOCK = sum(len(run) for run in _RUNS)
MOST_LESIONS = 4


def kinds_of(seed: int, number: int) -> tuple[Kind, ...]:
    """The distinct kinds that patient ``number`` shows; depends on nothing but its arguments."""
    block, at = divmod(number, BLOCK)
    rng = np.random.default_rng([seed, block, 0xDEA1])
    dealt: list[tuple[Kind, ...]] = []
    for run in _RUNS:
        order = rng.permutation(len(KINDS))
        for turn, count in enumerate(run):
            dealt.append(tuple(KINDS[order[(turn + step) % 3]] for step in range(count)))
    return dealt[at]


def lesions_of(seed: int, number: int) -> tuple[Kind, ...]:
    """The kind of each lesion of a patient: every kind of `kinds_of` at least once, 4 at most."""
    kinds = kinds_of(seed, number)
    rng = np.random.default_rng([seed, number, 0x1E5])
    extra = int(rng.integers(0, MOST_LESIONS - len(kinds) + 1))
    return kinds + tuple(kinds[at] for at in rng.integers(0, len(kinds), extra))
