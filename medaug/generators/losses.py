"""What the two networks play for. Logits are large where the discriminator says "real".

.. [1] Goodfellow et al. 2014, Generative adversarial nets, arXiv:1406.2661
.. [2] Jolicoeur-Martineau 2018, The relativistic discriminator, arXiv:1807.00734
.. [3] Huang et al. 2024, The GAN is dead; long live the GAN!, arXiv:2501.05441
.. [4] Mescheder, Geiger, Nowozin 2018, Which training methods for GANs do actually converge?,
   arXiv:1801.04406
.. [5] Lim, Ye 2017, Geometric GAN, arXiv:1705.02894
.. [6] Miyato, Koyama 2018, cGANs with projection discriminator, arXiv:1802.05637
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

Loss = Literal["cross-entropy", "hinge", "relativistic"]


def discriminator_loss(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """Mean loss of the discriminator over logits (n,) of real and fake patches.

    cross-entropy: −log σ(D(x)) − log(1 − σ(D(G(z)))) ([1]_, equation 1).
    hinge: max(0, 1 − D(x)) + max(0, 1 + D(G(z))) ([5]_, as used in [6]_).
    relativistic: −log σ(D(x) − D(G(z))) over pairs ([2]_; [3]_, equation 2).
    """
    if loss == "relativistic":
        return softplus(fake - real).mean()
    if loss == "hinge":
        return relu(1 - real).mean() + relu(1 + fake).mean()
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """Mean loss of the generator over logits (n,).

    cross-entropy: −log σ(D(G(z))), the form that does not saturate ([1]_, section 3).
    hinge: −D(G(z)). In both, ``real`` plays no part.
    relativistic: −log σ(D(G(z)) − D(x)).
    """
    if loss == "relativistic":
        return softplus(real - fake).mean()
    if loss == "hinge":
        return -fake.mean()
    return softplus(-fake).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """½ E ‖∇D‖² at ``images`` (n, …): R1 at real ones, R2 at fake ones ([4]_, equations 9, 10).

    ``logits`` (n,) must come from ``images`` by a function that mixes no two of them.

    Returns:
        the penalty, and ∇D (n, …).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean(), gradient
