"""Train a network to outline lesions, on the arms that have masks, and map the test patches.

The network is MONAI's U-Net, one channel out: how likely a pixel belongs to the lesion. Loss is
soft Dice plus cross-entropy. Everything else is as for the classifiers (`training`): the same
batches, optimiser steps and rate in every arm, and the best of five checkpoints, here by mean Dice
on the tuning patches.

.. [1] Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28; with residual units, as in
   Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medaug.domain import PatchSet, Release, Window
from medaug.evaluation.classical import Limits, augment, augment_masks
from medaug.evaluation.fitting import fit_best
from medaug.evaluation.policies import Arm, Policy, Pool
from medaug.evaluation.released import labels_among
from medaug.evaluation.settings import EvaluationSettings

WIDTHS = (8, 16, 32, 64)
_HALVINGS = 2 ** (len(WIDTHS) - 1)
_AT_ONCE = {4: 256, 5: 16}


@dataclass(frozen=True, eq=False)
class Outlined:
    """Patches and masks of a training: images on [-1, 1], masks (patch, 1, [slice,] row, column).

    Where nothing synthetic has a mask, ``synthetic`` is empty. ``test`` has no masks here.
    ``limits`` and ``names`` are as in `training.Diet`.
    """

    real: Tensor
    masks: Tensor
    labels: Tensor
    synthetic: Tensor
    synthetic_masks: Tensor
    synthetic_labels: Tensor
    tuning: Tensor
    tuning_masks: NDArray[np.bool_]
    test: Tensor
    limits: Limits
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        training: PatchSet,
        tuning: PatchSet,
        test: PatchSet,
        release: Release,
        window: Window,
    ) -> Outlined:
        """From patches that all have masks; the release may have none.

        Raises:
            ValueError: if training or tuning patches have no masks.
        """
        if training.masks is None or tuning.masks is None:
            raise ValueError("outlines cannot be learnt without masks")
        made = slice(None) if release.masks is not None else slice(0)
        none = np.zeros((0, *training.masks.shape[1:]), np.bool_)
        masks = none if release.masks is None else release.masks
        real, synthetic, tuned, tested = (
            torch.from_numpy(window.to_signed(images))
            for images in (training.images, release.images[made], tuning.images, test.images)
        )
        return cls(
            real=real,
            masks=torch.from_numpy(training.masks)[:, None],
            labels=torch.from_numpy(training.labels),
            synthetic=synthetic,
            synthetic_masks=torch.from_numpy(masks)[:, None],
            synthetic_labels=torch.from_numpy(labels_among(release, training.classes)[made]),
            tuning=tuned,
            tuning_masks=tuning.masks,
            test=tested,
            limits=Limits.of_patches(training, window),
            names=training.classes,
        )

    @property
    def pool(self) -> Pool:
        """The rows that a policy draws from."""
        labels = (self.labels, self.synthetic_labels)
        return Pool(labels, len(self.names), tuple(self.real.shape[1:]), self.limits)


def lesion_network(channels: int, spatial_dims: int) -> nn.Module:
    """A U-Net [1]_ with fresh weights, drawn from torch's current random state."""
    network: nn.Module = UNet(
        spatial_dims=spatial_dims,
        in_channels=channels,
        out_channels=1,
        channels=WIDTHS,
        strides=(2,) * (len(WIDTHS) - 1),
        num_res_units=1,
        norm="batch",
    )
    return network


def train_and_map(
    arm: Arm,
    diet: Outlined,
    settings: EvaluationSettings,
    seed: int,
    device: torch.device,
    advanced: Callable[[int], None],
) -> NDArray[np.float16]:
    """Train on ``arm`` for ``settings.steps`` steps; say where the lesions of the test part are.

    Args:
        arm: what is fed; it has real patches.
        diet: the patches.
        settings: steps, batch, rate and share.
        seed: of this training alone.
        device: where.
        advanced: told how many steps are done, at every checkpoint.

    Returns:
        (patch, [slice,] row, column) log odds of each pixel of the test patches.
    """
    policy = arm.policy(settings.dose_of(diet.names))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = lesion_network(diet.real.shape[1], diet.real.ndim - 2).to(device)
        _train(network, policy, diet, settings, seed, device, advanced)
    return map_lesions(network, diet.test, device)


def _train(
    network: nn.Module,
    policy: Policy,
    diet: Outlined,
    settings: EvaluationSettings,
    seed: int,
    device: torch.device,
    advanced: Callable[[int], None],
) -> None:
    """Leave ``network`` with the weights that outlined the tuning part best."""
    pool, loss_of = diet.pool, DiceCELoss(sigmoid=True, batch=True)

    def loss_at(step: int) -> Tensor:
        plan = policy.plan(pool, settings.batch, step, seed)
        images = plan.gather(diet.real, diet.synthetic)
        masks = plan.gather(diet.masks, diet.synthetic_masks)
        if plan.operations is not None:
            images = augment(images, plan.operations)
            masks = augment_masks(masks[:, 0], plan.operations)[:, None]
        loss: Tensor = loss_of(_mapped(network, images.to(device)), masks.float().to(device))
        return loss

    def reached() -> float:
        outlines = map_lesions(network, diet.tuning, device) > 0
        return float(dice(*overlaps(outlines, diet.tuning_masks)).mean())

    fit_best(network, network.parameters(), settings, loss_at, reached, advanced)


def _mapped(network: nn.Module, images: Tensor) -> Tensor:
    """Log odds of images of any size: mirrored at the end until every halving is even."""
    sides = images.shape[2:]
    missing = [-side % _HALVINGS for side in sides]
    if any(missing):
        wider = [width for extra in reversed(missing) for width in (0, extra)]
        images = functional.pad(images, wider, mode="reflect")
    mapped: Tensor = network(images)
    for axis, side in enumerate(sides, start=2):
        mapped = mapped.narrow(axis, 0, side)
    return mapped


@torch.no_grad()
def map_lesions(network: nn.Module, images: Tensor, device: torch.device) -> NDArray[np.float16]:
    """(patch, [slice,] row, column) log odds; above 0 a pixel counts as lesion."""
    network.eval()
    parts = [
        _mapped(network, part.to(device))[:, 0].clamp(-60, 60).half().cpu()
        for part in torch.split(images, _AT_ONCE[images.ndim])
    ]
    maps: NDArray[np.float16] = torch.cat(parts).numpy()
    return maps


def overlaps(
    outlines: NDArray[np.bool_], masks: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each patch, the pixels that both mark, and those of the two together: (patch,) twice."""
    axes = tuple(range(1, masks.ndim))
    return (outlines & masks).sum(axis=axes), outlines.sum(axis=axes) + masks.sum(axis=axes)


def dice(both: NDArray[np.int64], together: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice's coefficient, 2 |A and B| / (|A| + |B|); 1 where both are empty.

    >>> dice(np.array([3, 0]), np.array([8, 0])).tolist()
    [0.75, 1.0]
    """
    return np.asarray(np.where(together > 0, 2 * both / np.maximum(together, 1), 1.0))
