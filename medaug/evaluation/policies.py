"""Which image does the classifier see next?

A `Policy` says, for a step and a seed, which rows of which source make a batch and what is done to
them: first the source (real, synthetic, refined), then the operations and their magnitudes.
Classes come in equal shares, patches of a class with equal chance. How many synthetic patches of a
class stand beside each real one is the policy's dose; a source that has nothing of a class leaves
its places to real patches.

An `Arm` is a policy with a name that the evaluation trains classifiers on.

>>> labels = torch.tensor([0, 0, 0, 1])
>>> pool = Pool((labels, labels[:2]), classes=2)  # nothing of class 1 is synthetic
>>> plan = Policy(dose=1.0).plan(pool, count=8, step=0, seed=7)
>>> torch.bincount(plan.labels).tolist(), int((plan.source == SYNTHETIC).sum())
([4, 4], 2)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from medaug.domain import digest_of
from medaug.evaluation.classical import ON_UNKNOWN, Limits, Operations
from medaug.evaluation.recipes import (
    Classical,
    RandAugment,
    Recipe,
    TrivialAugment,
    draw_operations,
)
from medaug.evaluation.settings import ArmName as ArmName  # noqa: PLC0414 - for others too
from medaug.evaluation.settings import EvaluationSettings

REAL, SYNTHETIC, REFINED = range(3)
"""The sources, as `Plan.source` counts them."""

Dose = float | tuple[float, ...]
"""Patches of a source shown for each real one shown; of all classes, or of each class."""


@dataclass(frozen=True, eq=False)
class Pool:
    """What a policy draws from.

    Attributes:
        labels: of the real patches, the synthetic ones and the refined ones, (patch,) int64 each;
            later ones may be left out.
        classes: how many.
        shape: of a patch, (channel, [slice,] row, column).
        limits: of the operations, in the unit of the images.
    """

    labels: tuple[Tensor, ...]
    classes: int
    shape: tuple[int, ...] = (1, 1, 1)
    limits: Limits = ON_UNKNOWN

    @cached_property
    def sorted(self) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """Of each source its rows by class, where each class begins, and how many it has."""
        found = []
        for labels in self.labels:
            sizes = torch.bincount(labels, minlength=self.classes)
            starts = torch.cumsum(sizes, 0) - sizes
            found.append((torch.argsort(labels, stable=True), starts, sizes))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Plan:
    """A batch before it is made.

    Attributes:
        source: (patch,) `REAL`, `SYNTHETIC` or `REFINED`.
        row: (patch,) within its source.
        labels: (patch,) the class.
        operations: what is done to each patch; None for nothing.
    """

    source: Tensor
    row: Tensor
    labels: Tensor
    operations: Operations | None

    def gather(self, *columns: Tensor | None) -> Tensor:
        """(patch, ...) what the places show, from a column of each source; nothing done to it."""
        kept = [column for column in columns if column is not None]
        shown = kept[0].new_empty((len(self.row), *kept[0].shape[1:]))
        for at, column in enumerate(columns):
            if column is not None:
                here = self.source == at
                shown[here] = column[self.row[here]]
        return shown


@dataclass(frozen=True)
class Policy:
    """How batches are made. The same step and seed give the same batch, in any order of calls.

    Attributes:
        real: whether anything real is shown; without, ``dose`` and ``refined`` are relative to
            each other.
        dose: synthetic patches for each real one.
        refined: patches of the simulate-and-refine source for each real one.
        recipe: of the operations; None leaves patches as they are.
        bounded: whether a dose also bounds how many different patches of a class are drawn: the
            first ones, as many as the dose times those that are real. Otherwise all are drawn.
    """

    real: bool = True
    dose: Dose = 0.0
    refined: Dose = 0.0
    recipe: Recipe | None = None
    bounded: bool = False

    def __post_init__(self) -> None:
        if any(dose < 0 for each in (self.dose, self.refined) for dose in _each(each)):
            raise ValueError("a dose is 0 or more")

    def shares(self, pool: Pool) -> Tensor:
        """(source, class) share of the class's places, float64; each class sums to 1.

        Raises:
            ValueError: if there is a class of which nothing could be shown.
        """
        shares = torch.zeros(3, pool.classes, dtype=torch.float64)
        doses = (float(self.real), self.dose, self.refined)
        for at, (dose, (_, _, sizes)) in enumerate(zip(doses, pool.sorted, strict=False)):
            wanted = torch.tensor(_each(dose), dtype=torch.float64).expand(pool.classes)
            shares[at] = wanted * (sizes > 0)
        if not bool((shares.sum(dim=0) > 0).all()):
            raise ValueError("a class that this policy never shows cannot be learnt")
        return shares / shares.sum(dim=0)

    def uses(self, source: int) -> bool:
        """Whether it may show patches of `SYNTHETIC`, or `REFINED`."""
        return max(_each((float(self.real), self.dose, self.refined)[source])) > 0

    def plan(self, pool: Pool, count: int, step: int, seed: int) -> Plan:
        """The batch of ``count`` patches for ``step``.

        What does not divide by the classes goes to classes in turn from a random one on. Of a
        class, each source has its share of the places, rounded up or down at random.
        """
        generator = torch.Generator().manual_seed(int(digest_of("batch", seed, step)[:15], 16))
        first = torch.randint(pool.classes, (), generator=generator)
        labels = (first + torch.arange(count)) % pool.classes
        source = self._sources(pool, labels, generator)
        position = torch.rand(count, generator=generator, dtype=torch.float64)
        row = torch.zeros(count, dtype=torch.int64)
        for at, (by_class, starts, sizes) in enumerate(pool.sorted):
            here = source == at
            within = (position * self._different(pool, at, sizes)[labels]).long()
            row[here] = by_class[(starts[labels] + within)[here]]
        operations = None
        if self.recipe is not None:
            shape = (count, *pool.shape)
            operations = draw_operations(self.recipe, shape, pool.limits, generator)
        return Plan(source, row, labels, operations)

    def _different(self, pool: Pool, source: int, sizes: Tensor) -> Tensor:
        """(class,) how many patches of a source are drawn from, of the ``sizes`` there are."""
        if not self.bounded or source == REAL:
            return sizes
        dose = torch.tensor(_each((self.dose, self.refined)[source - 1]), dtype=torch.float64)
        return torch.minimum(sizes, torch.ceil(dose * pool.sorted[REAL][2] - 1e-9).long())

    def _sources(self, pool: Pool, labels: Tensor, generator: torch.Generator) -> Tensor:
        """(patch,) the source of each place: systematic sampling within each class."""
        shares = self.shares(pool)
        ends = torch.cumsum(shares, dim=0)
        places = torch.bincount(labels, minlength=pool.classes)
        rank = torch.arange(len(labels)) // pool.classes
        start = torch.rand(pool.classes, generator=generator, dtype=torch.float64)
        at = (rank + start[labels]) / places[labels]
        # Rounding may leave the last end a little below 1: nothing lies beyond the last source.
        last = ((shares > 0) * torch.arange(3)[:, None]).amax(dim=0)
        return torch.minimum((at >= ends[:, labels]).sum(dim=0), last[labels])

    def document(self) -> dict[str, Any]:
        """As JSON, with all that decides what is drawn."""
        recipe = None
        if self.recipe is not None:
            recipe = {"name": type(self.recipe).__name__, **asdict(self.recipe)}
        return {
            "real": self.real,
            "dose": self.dose,
            "refined": self.refined,
            "operations": recipe,
            "bounded": self.bounded,
        }


@dataclass(frozen=True)
class Arm:
    """What a classifier is fed, by name.

    Attributes:
        name: in documents and the report.
        real: whether real patches are.
        synthetic: whether synthetic ones are.
        refined: whether those of a second source are, made by simulate-and-refine.
        recipe: of the operations on all of them.
        dose: synthetic per real, and as many different ones; None takes that of the settings.
        found: the policy of a search, which then stands for all of the above.
    """

    name: ArmName
    real: bool = True
    synthetic: bool = False
    refined: bool = False
    recipe: Recipe | None = None
    dose: float | None = None
    found: Policy | None = None

    def policy(self, dose: Dose) -> Policy:
        """What it draws by; ``dose`` is that of the settings."""
        if self.found is not None:
            return self.found
        if not self.real:
            alone = 1.0 if self.dose is None else self.dose
            return Policy(real=False, dose=alone, bounded=self.dose is not None)
        own = dose if self.dose is None else self.dose
        return Policy(
            dose=own if self.synthetic else 0.0,
            refined=own if self.refined else 0.0,
            recipe=self.recipe,
            bounded=self.dose is not None,
        )

    @property
    def label(self) -> str:
        """The name, with the dose where it is the arm's own."""
        return self.name if self.dose is None else f"{self.name}@{self.dose:g}"

    def at(self, dose: float) -> Arm:
        """The same arm at another dose."""
        return replace(self, dose=dose)


ARMS: tuple[Arm, ...] = (
    Arm("real"),
    Arm("real+classical", recipe=Classical()),
    Arm("real+randaugment", recipe=RandAugment()),
    Arm("real+trivialaugment", recipe=TrivialAugment()),
    Arm("real+gan", synthetic=True),
    Arm("real+classical+gan", synthetic=True, recipe=Classical()),
    Arm("real+classical+refined", refined=True, recipe=Classical()),
    Arm("gan", real=False, synthetic=True),
)
"""All but the arm of a search, whose policy is not known before, in the order of the report."""


def arms_of(settings: EvaluationSettings) -> tuple[Arm, ...]:
    """The arms that are asked for, in the order of `ARMS`; without that of a search."""
    recipe = RandAugment(settings.randaugment.n, settings.randaugment.m)
    chosen = (arm for arm in ARMS if arm.name in settings.arms)
    return tuple(
        replace(arm, recipe=recipe) if isinstance(arm.recipe, RandAugment) else arm
        for arm in chosen
    )


def _each(dose: Dose) -> tuple[float, ...]:
    return dose if isinstance(dose, tuple) else (dose,)
