"""The classifiers that the arms train: small networks from scratch.

Input is (patch, channel, row, column), adjacent slices being channels; or (patch, 1, slice, row,
column), for which every convolution and pooling is 3-D and nothing else changes. It is windowed to
[-1, 1]; output is one logit per class. On flat patches the first two train in minutes on two CPU
cores, so that every arm can be trained with several seeds. The others are the networks that most
papers use, whole: a step of 32 patches of 64 x 64 takes a core 0.25 to 0.45 s, not 0.02 to 0.04 s.

.. [1] Frid-Adar et al. 2018, doi:10.1016/j.neucom.2018.09.013
.. [2] He et al. 2016, doi:10.1109/CVPR.2016.90; the network is MONAI's
.. [3] Huang et al. 2017, doi:10.1109/CVPR.2017.243; the network is MONAI's
.. [4] Tan and Le 2019, arXiv:1905.11946; the network is MONAI's
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai.networks.layers.factories import Conv, Pool
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNetBN
from monai.networks.nets.resnet import ResNet, resnet18
from torch import nn

from medaug.errors import CohortError, Fault
from medaug.evaluation.settings import EvaluationSettings

LEAST_SIDES: dict[str, int] = {"densenet-121": 32, "efficientnet-b0": 32}
"""Pixels along each side; these halve a patch five times."""


def refuse_small(settings: EvaluationSettings, size: Sequence[int]) -> None:
    """Raise `CohortError` naming every classifier for which patches of ``size`` are too small."""
    faults = [
        Fault(
            f"evaluation.classifiers: {name}",
            f"patches of {' x '.join(map(str, size))}",
            f"at least {least} along each side",
            "larger patches (patching.size), or another classifier",
        )
        for name, least in LEAST_SIDES.items()
        if name in settings.classifiers and min(size) < least
    ]
    if faults:
        raise CohortError(*faults)


def build_classifier(name: str, channels: int, size: Sequence[int], classes: int) -> nn.Module:
    """A network with fresh weights, drawn from torch's current random state.

    Args:
        name: which.
        channels: of the patch.
        size: (rows, columns) of the patch, or (slices, rows, columns); at least 8 each.
        classes: logits at the output.
    """
    if name == "frid-adar-2018":
        return frid_adar_2018(channels, size, classes)
    if name == "resnet-10-narrow":
        return resnet_10_narrow(channels, len(size), classes)
    return whole_network(name, channels, len(size), classes)


def frid_adar_2018(channels: int, size: Sequence[int], classes: int) -> nn.Sequential:
    """Three pairs of convolution and max-pooling, two dense layers, dropout of 0.5 [1]_.

    Kernels of 3x3 and 16, 32, 64 filters are our choice. Pooling stands before the ReLU: the two
    commute, and the ReLU then has a quarter of the work.
    """
    convolution, pooling = Conv["conv", len(size)], Pool["max", len(size)]
    layers: list[nn.Module] = []
    for filters in (16, 32, 64):
        layers += [convolution(channels, filters, 3, padding=1), pooling(2), nn.ReLU()]
        channels = filters
    features = channels * math.prod(side // 8 for side in size)
    dense = [nn.Flatten(), nn.Linear(features, 256), nn.ReLU()]
    return nn.Sequential(*layers, *dense, nn.Dropout(0.5), nn.Linear(256, classes))


def whole_network(name: str, channels: int, spatial_dims: int, classes: int) -> nn.Module:
    """ResNet-18 [2]_, DenseNet-121 [3]_ or EfficientNet-B0 [4]_, as published."""
    network: nn.Module
    if name == "resnet-18":
        network = resnet18(
            spatial_dims=spatial_dims,
            n_input_channels=channels,
            num_classes=classes,
            conv1_t_stride=2,
        )
    elif name == "densenet-121":
        network = DenseNet121(spatial_dims=spatial_dims, in_channels=channels, out_channels=classes)
    elif name == "efficientnet-b0":
        network = EfficientNetBN(
            "efficientnet-b0",
            pretrained=False,
            spatial_dims=spatial_dims,
            in_channels=channels,
            num_classes=classes,
        )
    else:
        raise ValueError(f"{name} is no network from random weights")
    return network


def resnet_10_narrow(channels: int, spatial_dims: int, classes: int) -> nn.Module:
    """MONAI's ResNet [2]_ with one basic block per stage and a quarter of the usual width."""
    network: nn.Module = ResNet(
        block="basic",
        layers=[1, 1, 1, 1],
        block_inplanes=[16, 32, 64, 128],
        spatial_dims=spatial_dims,
        n_input_channels=channels,
        conv1_t_size=3,
        conv1_t_stride=2,
        num_classes=classes,
    )
    return network
