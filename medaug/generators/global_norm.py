"""Batch normalisation by the statistics of the whole batch, of which each process has a part.

torch's own (``nn.SyncBatchNorm``) does not run on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


def normalise_globally(network: nn.Module, processes: int) -> None:
    """Let every batch normalisation in ``network`` see the whole batch; weights stay the same."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(network, name, _GlobalNorm(child, processes))
        else:
            normalise_globally(child, processes)


class _Sum(torch.autograd.Function):
    """Over all processes; what each does with the sum comes back to every part of it."""

    @staticmethod
    def forward(_: FunctionCtx, part: Tensor) -> Tensor:
        whole = part.clone()
        torch.distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> Tensor:
        return _Sum.forward(_, gradient)


class _GlobalNorm(nn.modules.batchnorm._BatchNorm):
    """Takes over the weights of ``local`` and, in training, averages over ``processes``."""

    def __init__(self, local: nn.modules.batchnorm._BatchNorm, processes: int) -> None:
        super().__init__(local.num_features, local.eps, local.momentum)
        self.weight, self.bias = local.weight, local.bias
        self._buffers.update(local._buffers)
        self.processes = processes

    def _check_input_dim(self, _: Tensor) -> None:
        """Any number of spatial axes will do."""

    def forward(self, images: Tensor) -> Tensor:
        """(n, channel, …) → the same."""
        if not self.training:
            return super().forward(images)
        axes = [0, *range(2, images.ndim)]
        mean = self._over_all(images.mean(axes))
        along = [1, -1, *[1] * (images.ndim - 2)]
        centred = images - mean.view(along)
        variance = self._over_all(centred.square().mean(axes))
        self._remember(mean, variance, self.processes * images.numel() // images.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale.view(along) + self.bias.view(along)

    def _over_all(self, local: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(local)  # type: ignore[no-untyped-call]
        return summed / self.processes

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """The running statistics, as `nn.BatchNorm2d` keeps them."""
        running_mean, running_var = self.running_mean, self.running_var
        batches, momentum = self.num_batches_tracked, self.momentum
        assert running_mean is not None
        assert running_var is not None
        assert batches is not None
        assert momentum is not None
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
        batches.add_(1)
