"""Classifiers of the user's own, trained and judged as medaug's are.

`medaug.evaluation.protocol.evaluate` takes them in ``entrants``, by name. There are two kinds.

*A network*: a function ``factory(channels, classes, spatial_dims)`` that gives a fresh
`torch.nn.Module`, images in and one logit per class out. It is trained as the built-in networks
are: the same steps, batches, rate and choice of a checkpoint.

*Anything else*: an object with two methods, named as scikit-learn's are::

    fit(patches)          learns from `Patches` with labels; what it returns is not looked at
    predict(patches)      probabilities (patch, class) of `Patches` without labels

It is copied before every training, so that none begins where another ended. It has no optimiser
steps; every arm shows it equally many patches, as many as hold each real patch `ROUNDS` times on
average, drawn as the batches of a network are. Note that ``predict`` gives probabilities, not
labels. An estimator of scikit-learn's own, which takes features and not pictures, is one once it is
wrapped: `medaug.evaluation.sklearn_classifier.OnRadiomics`.

>>> class Brightness:
...     def fit(self, patches):
...         means = patches.images.mean(axis=(1, 2, 3))
...         self.levels = np.array([means[patches.labels == at].mean() for at in range(2)])
...     def predict(self, patches):
...         apart = np.abs(patches.images.mean(axis=(1, 2, 3))[:, None] - self.levels)
...         return 1 - apart / apart.sum(axis=1, keepdims=True)
>>> isinstance(Brightness(), FitPredict)
True
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medaug.errors import Fault, SettingsError
from medaug.evaluation.settings import ClassifierName

ROUNDS = 4
"""How often a fit/predict classifier meets each real patch of the arm "real", on average."""


@dataclass(frozen=True, eq=False)
class Patches:
    """What a classifier is shown.

    Attributes:
        images: (patch, channel, row, column) or (patch, 1, slice, row, column) float32 on [-1, 1].
        labels: (patch,) int64, 0 to ``classes`` - 1; None where it is to predict.
        classes: how many there are.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    classes: int

    def __len__(self) -> int:
        return len(self.images)


@runtime_checkable
class FitPredict(Protocol):
    """A classifier of any kind."""

    def fit(self, patches: Patches) -> object:
        """Learn from labelled patches."""

    def predict(self, patches: Patches) -> NDArray[np.floating]:
        """Probabilities (patch, class)."""


Factory = Callable[[int, int, int], nn.Module]
"""``factory(channels, classes, spatial_dims)``: a fresh network."""
Entrant = FitPredict | Factory
Entrants = Mapping[str, Entrant]


def refuse_entrants(entrants: Mapping[str, object]) -> None:
    """Raise `SettingsError` for what can be neither trained nor told apart; names every one."""
    faults, taken = [], get_args(ClassifierName)
    for name, entrant in entrants.items():
        if name in taken or not name or not set(name) <= _NAME:
            faults.append(
                Fault("entrants", f"the name {name!r}", "letters, digits, - and _, each name once")
            )
        if isinstance(entrant, nn.Module):
            faults.append(
                Fault(
                    f"entrants: {name}",
                    "a network, whose weights every training would go on from",
                    "a function (channels, classes, spatial_dims) that makes a fresh one",
                )
            )
        elif not isinstance(entrant, FitPredict) and not callable(entrant):
            faults.append(
                Fault(
                    f"entrants: {name}",
                    f"a {type(entrant).__name__}",
                    "fit(patches) and predict(patches), or a function that makes a network",
                )
            )
    if faults:
        raise SettingsError(*faults)


_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def rounds(real: int, batch: int, most: int) -> int:
    """How many batches a fit/predict classifier is shown, at most ``most``."""
    return min(most, math.ceil(ROUNDS * real / batch))


def fitted(
    entrant: FitPredict, images: torch.Tensor, labels: torch.Tensor, classes: int, seed: int
) -> FitPredict:
    """A copy of ``entrant`` that has learnt from these; global random states are put back."""
    own = copy.deepcopy(entrant)
    with _seeded(seed):
        own.fit(Patches(images.numpy(), labels.numpy(), classes))
    return own


def probabilities(
    entrant: FitPredict, images: torch.Tensor, classes: int, seed: int
) -> NDArray[np.float64]:
    """What ``entrant`` predicts, (patch, class).

    Raises:
        SettingsError: if it is not one probability for each patch and class.
    """
    with _seeded(seed):
        raw = entrant.predict(Patches(images.numpy(), None, classes))
    scores = np.asarray(raw, dtype=np.float64)
    wanted = (len(images), classes)
    tolerance = 1e-3
    if scores.shape != wanted:
        came = f"predict gave an array of shape {scores.shape}"
    elif not (np.isfinite(scores).all() and scores.min() >= -tolerance):
        came = "predict gave numbers that are negative or not finite"
    elif np.abs(scores.sum(axis=1) - 1).max() > tolerance:
        came = "the classes' probabilities do not sum to 1"
    else:
        return scores
    name = type(entrant).__name__
    raise SettingsError(Fault(name, came, f"probabilities (patch, class), here {wanted}"))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Global random states that follow from ``seed``; torch's is the caller's to fork."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
