"""A classifier without a network: scikit-learn on radiomic features.

A sanity line. A network that does not beat logistic regression on sixty-nine features has learnt
little from the pictures, and what augmentation does to it says little either.

>>> images = np.random.default_rng(0).uniform(-1, 0, size=(40, 1, 16, 16)).astype(np.float32)
>>> labels = np.arange(40) % 2
>>> images[labels == 1] += 0.8
>>> line = radiomic_logistic()
>>> line.fit(Patches(images[:20], labels[:20], 2))
>>> line.predict(Patches(images[20:24], None, 2)).argmax(axis=1).tolist()
[0, 1, 0, 1]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from medaug.evaluation.entrants import Patches
from medaug.evaluation.features import FeatureSpace, Radiomic


class OnRadiomics:
    """Any classifier of scikit-learn's with ``predict_proba``, on features of `radiomics`.

    Features are put on the scale of the patches it learns from (median and interquartile range,
    held within ±5). Equal patches are measured once.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, patches: Patches) -> None:
        """Learn from labelled patches."""
        if patches.labels is None:
            raise ValueError("fit needs labels")
        features = _features(patches.images)
        self.space = FeatureSpace.around(Radiomic(), features)
        self.fitted = clone(self.estimator).fit(self.space.points(features), patches.labels)

    def predict(self, patches: Patches) -> NDArray[np.float64]:
        """Probabilities (patch, class)."""
        scores = np.zeros((len(patches), patches.classes))
        points = self.space.points(_features(patches.images))
        scores[:, self.fitted.classes_] = self.fitted.predict_proba(points)
        return scores


def radiomic_logistic() -> OnRadiomics:
    """Logistic regression with a ridge penalty: convex, so nothing is left to chance or tuning."""
    return OnRadiomics(LogisticRegression(C=0.1, max_iter=1000))


def _features(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """(patch, feature); arms without augmentation show the same patch several times."""
    flat = images.reshape(len(images), -1)
    keys = [row.tobytes() for row in flat]
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    rows = sorted(first.values())
    place = {keys[row]: at for at, row in enumerate(rows)}
    measured = Radiomic()(images[rows])
    return np.asarray(measured[[place[key] for key in keys]])
