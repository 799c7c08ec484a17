"""Networks that learn against each other: an optimiser each, and the average of the one that draws.

What the next step depends on is here by name, so that a checkpoint can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from medaug.generators.checkpoint import below
from medaug.generators.global_norm import normalise_globally
from medaug.generators.networks import initialise, place
from medaug.generators.processes import ALONE, Processes

Drawing = TypeVar("Drawing", bound=nn.Module)


class Pace(Protocol):
    """What is read of the settings."""

    @property
    def learning_rate(self) -> float:
        """Of Adam."""

    @property
    def beta1(self) -> float:
        """Of Adam."""

    @property
    def beta2(self) -> float:
        """Of Adam."""

    @property
    def ema(self) -> float:
        """Decay per step of the average; 0 is no average."""


def make_ready(networks: Sequence[nn.Module], seed: int, device: torch.device) -> None:
    """Give networks on the meta device weights drawn from ``seed``, on ``device``."""
    stream = torch.Generator().manual_seed(seed)
    for network in networks:
        network.to_empty(device="cpu")
        initialise(network, stream)
        place(network, device)


class Learning(Generic[Drawing]):
    """A network that draws, its discriminator, and the average of the former."""

    def __init__(
        self,
        name: str,
        drawing: Drawing,
        judge: nn.Module,
        pace: Pace,
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        if processes.size > 1:
            for network in (drawing, judge):
                normalise_globally(network, processes.size)
        self._drawing = drawing
        self._networks: dict[str, nn.Module] = {name: drawing, "discriminator": judge}
        self._ema = pace.ema
        self.average = deepcopy(drawing).requires_grad_(False).eval()
        self._optimisers = {
            name: torch.optim.Adam(
                network.parameters(),
                lr=pace.learning_rate,
                betas=(pace.beta1, pace.beta2),
                fused=True,
            )
            for name, network in self._networks.items()
        }

    def apply(self, name: str, gradients: Sequence[Tensor]) -> None:
        """Move one network by the gradients of its weights, averaged over all processes."""
        optimiser = self._optimisers[name]
        gradients = self._processes.mean(gradients)
        for weight, gradient in zip(self._networks[name].parameters(), gradients, strict=True):
            # A fused step goes through memory and asks for no strides: one order for both.
            alike = gradient.stride() == weight.stride()
            weight.grad = gradient if alike else torch.empty_like(weight).copy_(gradient)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average; its memory grows with the run, so that the first weights fade."""
        decay = min(self._ema, (1 + step) / (10 + step)) if self._ema else 0.0
        now = self._drawing.state_dict()
        pairs = [(mean, now[name]) for name, mean in self.average.state_dict().items()]
        means, latest = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(means, latest, 1 - decay)
        for count, counted in pairs:
            if not count.is_floating_point():
                count.copy_(counted)

    def state(self) -> dict[str, Tensor]:
        """Weights, average and moments by name."""
        tensors = {
            f"{name}.{key}": value
            for name, network in self._everyone().items()
            for key, value in network.state_dict().items()
        }
        for name, optimiser in self._optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"adam.{name}.{index}.{key}": value for key, value in moments.items()}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for name, network in self._everyone().items():
            network.load_state_dict(below(f"{name}.", tensors))
        for name, optimiser in self._optimisers.items():
            weights = optimiser.param_groups[0]["params"]
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in below(f"adam.{name}.", tensors).items():
                index, moment = key.split(".")
                # A moment lies in memory as its weight does; the step count is a scalar.
                like = torch.empty_like(weights[int(index)]) if value.ndim else value.clone()
                moments.setdefault(int(index), {})[moment] = like.copy_(value)
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})

    def _everyone(self) -> dict[str, nn.Module]:
        return {**self._networks, "average": self.average}
