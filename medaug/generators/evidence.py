"""What the tuning patients say of a generator while it is being trained.

Two figures for each class, always from the same latents:

* **distance**: how far generated patches lie from those of the tuning patients, by a measure that
  is handed in. The weights with the smallest mean over classes are kept.
* **memorised**: the median distance from a generated patch to the nearest training patch over that
  to the nearest of as many tuning patches. 1 where the generator is no nearer to the patients it
  learnt from than to patients it has never seen; it falls as training patches are learnt by heart.

The nearest patch is sought among block means, each patch's own mean taken away: outlines and
shading count, noise and overall brightness do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medaug.domain import PatchSet, Window
from medaug.generators.checkpoint import below

SAMPLES = 128
"""Patches drawn of each class for a judgement."""
FEWEST = 5
"""Tuning patches of a class below which nothing is said of it."""
PATIENCE = 3
"""Judgements in a row that must find training patients learnt by heart to end training."""
_DRAWS = 20
_BLOCKS = 16

Signed = NDArray[np.float32]
Distance = Callable[[Signed], float]


@dataclass(frozen=True, eq=False)
class Tuning:
    """The tuning patients.

    Attributes:
        patches: theirs; classes as in the training part.
        distance: of each class, the distance of signed patches (n, channel, [slice,] row, column)
            to theirs.
    """

    patches: PatchSet
    distance: Mapping[str, Distance]


@dataclass(frozen=True)
class Evidence:
    """Both figures of each class of which something can be said."""

    distance: dict[str, float]
    memorised: dict[str, float]

    @property
    def far(self) -> float:
        """Mean distance over classes."""
        return float(np.mean(list(self.distance.values())))

    @property
    def fresh(self) -> float:
        """The lowest `memorised`: of the class that was learnt by heart most."""
        return min(self.memorised.values())


@dataclass(frozen=True, eq=False)
class Best:
    """The nearest weights so far.

    Attributes:
        far: their distance.
        step: when they were met; 0 before the first judgement.
        by_heart: judgements in a row, up to now, that found training patches learnt by heart.
        weights: by name.
    """

    far: float = math.inf
    step: int = 0
    by_heart: int = 0
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def after(
        self, evidence: Evidence, limit: float, step: int, weights: Mapping[str, Tensor]
    ) -> Best:
        """The best once ``weights`` were judged; what was learnt by heart is never the best."""
        if evidence.fresh < limit:
            return replace(self, by_heart=self.by_heart + 1)
        if evidence.far < self.far:
            return Best(evidence.far, step, 0, weights)
        return replace(self, by_heart=0)

    def state(self) -> dict[str, Tensor]:
        """As tensors by name."""
        figures = torch.tensor([self.far, self.step, self.by_heart], dtype=torch.float64)
        return {"figures": figures, **{f"weights.{name}": w for name, w in self.weights.items()}}

    @classmethod
    def restored(cls, state: Mapping[str, Tensor]) -> Best:
        """What `state` gave."""
        far, step, by_heart = state["figures"].tolist()
        return cls(far, int(step), int(by_heart), below("weights.", state))


def by_heart_notes(
    classes: str, lines: Sequence[Mapping[str, Any]], kept: int, end: int, limit: float
) -> list[str]:
    """Sentences for the report where training patches were learnt by heart.

    Args:
        classes: names of what one network draws.
        lines: its lines of ``training.jsonl``.
        kept: the step whose weights were kept.
        end: the step that it was to be trained to.
        limit: of `Evidence.fresh`.
    """
    fresh = {line["step"]: min(line["memorised"].values()) for line in lines if "memorised" in line}
    if not fresh:
        return []
    notes = []
    last = max(fresh)
    if last < end:
        notes.append(
            f"Class {classes}: training ended {end - last} steps early, because generated patches "
            f"lay nearer to training than to tuning patients in {PATIENCE} judgements in a row "
            f"(at the last {fresh[last]:.2f} of the distance; the limit is {limit:g}). "
            f"The weights of step {kept} are kept."
        )
    if fresh[kept] < limit:
        notes.append(
            f"Class {classes}: training patches were learnt by heart from the first judgement on, "
            f"so that there are no better weights than the last, of step {kept} "
            f"({fresh[kept]:.2f} of the distance; the limit is {limit:g})."
        )
    return notes


class Witness:
    """Judges samples of the classes against training and tuning patches."""

    def __init__(self, training: PatchSet, tuning: Tuning, window: Window) -> None:
        self._distance = tuning.distance
        self._looks = {
            label: (_looks(window, training, label), _looks(window, tuning.patches, label))
            for label in tuning.distance
        }

    def judge(self, drawn: Mapping[str, Signed]) -> Evidence | None:
        """The figures for `SAMPLES` signed patches of each class; None if there is no class."""
        here = {
            label: images
            for label, images in drawn.items()
            if label in self._looks and len(self._looks[label][1]) >= FEWEST
        }
        if not here:
            return None
        return Evidence(
            {label: float(self._distance[label](images)) for label, images in here.items()},
            {
                label: memorised(_block_means(images), *self._looks[label])
                for label, images in here.items()
            },
        )


def memorised(
    drawn: NDArray[np.float32], training: NDArray[np.float32], tuning: NDArray[np.float32]
) -> float:
    """Median nearest distance to ``training`` over that to ``tuning``; each (n, feature).

    The larger of the two is thinned out to the size of the smaller, `_DRAWS` times, because the
    nearest of many lies nearer than the nearest of few.

    >>> drawn = np.eye(4, dtype=np.float32)
    >>> memorised(drawn, drawn + 0.1, drawn + 0.2) < 0.6
    True
    """
    rng = np.random.default_rng(0)
    few = min(len(training), len(tuning))
    medians = []
    for reference in (training, tuning):
        apart = _apart(drawn, reference)
        deals = (rng.permutation(len(reference))[:few] for _ in range(_DRAWS))
        medians.append(np.median([apart[:, deal].min(1) for deal in deals]))
    return float(medians[0] / max(medians[1], 1e-12))


def _apart(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances (n, m)."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def _looks(window: Window, patches: PatchSet, label: str) -> NDArray[np.float32]:
    if label not in patches.classes:
        return np.zeros((0, 1), np.float32)
    return _block_means(window.to_signed(patches.of_class(label).images))


def _block_means(images: Signed) -> NDArray[np.float32]:
    """(n, feature): means over blocks of a patch, less the patch's mean; of a cube 8³ blocks."""
    count, channels, *sides = images.shape
    fine = len(sides) == 2 and sides[-1] % _BLOCKS == 0
    blocks = _BLOCKS if fine else _BLOCKS // 2
    split = [size for side in sides for size in (blocks, side // blocks)]
    within = tuple(range(3, 2 + len(split), 2))
    flat = images.reshape(count, channels, *split).mean(within).reshape(count, -1)
    return np.asarray(flat - flat.mean(1, keepdims=True), dtype=np.float32)
