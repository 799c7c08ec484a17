"""What the classifiers of an evaluation are fed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medaug.domain import Candidates, PatchSet, Release, Window
from medaug.evaluation.classical import Limits, augment
from medaug.evaluation.policies import Plan, Pool
from medaug.evaluation.released import labels_among


@dataclass(frozen=True, eq=False)
class Diet:
    """Everything a training reads: images on [-1, 1] and labels.

    Images are (patch, channel, row, column) or (patch, 1, slice, row, column). ``synthetic`` and
    ``synthetic_labels`` hold the released patches, which may lack classes; ``test`` has no labels
    here. ``refined`` and ``refined_labels`` are those of a second release, made by
    simulate-and-refine, where there is one. ``limits`` hold for images on [-1, 1]; ``names`` are
    those of the classes.
    """

    real: Tensor
    labels: Tensor
    synthetic: Tensor
    synthetic_labels: Tensor
    tuning: Tensor
    tuning_labels: NDArray[np.int64]
    test: Tensor
    limits: Limits
    names: tuple[str, ...]
    refined: Tensor | None = None
    refined_labels: Tensor | None = None

    @classmethod
    def laid(
        cls,
        training: PatchSet,
        tuning: PatchSet,
        test: PatchSet,
        synthetic: Release | Candidates,
        window: Window,
        refined: Release | None = None,
    ) -> Diet:
        """Every patch as a tensor on [-1, 1]; images stay on the CPU."""

        def signed(patches: PatchSet | Release | Candidates) -> Tensor:
            return torch.from_numpy(window.to_signed(patches.images))

        def labels_of(patches: Release | Candidates) -> Tensor:
            return torch.from_numpy(labels_among(patches, training.classes))

        return cls(
            real=signed(training),
            labels=torch.from_numpy(training.labels),
            synthetic=signed(synthetic),
            synthetic_labels=labels_of(synthetic),
            tuning=signed(tuning),
            tuning_labels=tuning.labels,
            test=signed(test),
            limits=Limits.of_patches(training, window),
            names=training.classes,
            refined=None if refined is None else signed(refined),
            refined_labels=None if refined is None else labels_of(refined),
        )

    @property
    def classes(self) -> int:
        """How many; every one occurs among the real patches."""
        return int(self.labels.max()) + 1

    @property
    def pool(self) -> Pool:
        """The rows that a policy draws from."""
        refined = () if self.refined_labels is None else (self.refined_labels,)
        labels = (self.labels, self.synthetic_labels, *refined)
        return Pool(labels, self.classes, tuple(self.real.shape[1:]), self.limits)

    def batch(self, plan: Plan) -> Tensor:
        """(patch, channel, [slice,] row, column) the pictures that ``plan`` says."""
        images = plan.gather(self.real, self.synthetic, self.refined)
        return images if plan.operations is None else augment(images, plan.operations)
