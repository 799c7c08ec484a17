"""Spectral normalisation: no layer of the discriminator stretches a direction by more than one.

PyTorch's own parametrisation of Miyato et al. 2018 [1]_: a weight is divided by its largest
singular value, which one power iteration follows each time the layer is used. A pass of real
and generated patches together is therefore one iteration. Where the iteration stands is in the
state of the network, and so in a checkpoint.

.. [1] Spectral normalization for generative adversarial networks, arXiv:1802.05957
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def bind(network: nn.Module, seed: int) -> None:
    """Normalise every layer of a network that has its weights; the iterations start from ``seed``.

    The vectors of classes, which otherwise start at zero, have no direction there to be
    normalised; they are drawn.
    """
    device = next(network.parameters()).device
    # PyTorch starts the iterations from its own stream, which is nobody else's business.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for module in list(network.modules()):
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                spectral_norm(module)
