"""A transfer-learned baseline: a ResNet with the user's weights, and a new last layer.

medaug brings no weights. The file is the user's (RadImageNet, torchvision, their own), safetensors,
recognised and checked as in `features`; its SHA-256 is recorded. All weights are trained on, those
of the file at a tenth of the rate of the new layer.

The network was trained on pictures with three colours: a flat patch is given three times, of
adjacent slices and of volumes the three middle slices are the colours. Patches smaller than
`LEAST_SIDE` are enlarged to it, which is as far as a CPU goes in minutes; 224, which most weights
were made on, would take ten times as long.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from medaug.errors import Fault, SettingsError
from medaug.evaluation.features import resnet_of
from medaug.evaluation.settings import EvaluationSettings

LEAST_SIDE = 64
BODY = 0.1
"""Rate of the weights that were there, as a share of that of the new layer."""


class Transferred(nn.Module):
    """The network of a weight file and a new classifying layer."""

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        self.body = body
        with torch.no_grad():
            width = _pooled(body.eval()(torch.zeros(1, 3, LEAST_SIDE, LEAST_SIDE))).shape[1]
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (patch, class) of images (patch, channel, [slice,] row, column)."""
        pictures = colours(images)
        scale = LEAST_SIDE / min(pictures.shape[2:])
        if scale > 1:
            pictures = functional.interpolate(
                pictures, scale_factor=scale, mode="bilinear", align_corners=False
            )
        logits: Tensor = self.head(_pooled(self.body(pictures)))
        return logits

    def groups(self, rate: float) -> list[dict[str, object]]:
        """Parameters with their learning rates, as an optimiser takes them."""
        return [
            {"params": list(self.body.parameters()), "lr": BODY * rate},
            {"params": list(self.head.parameters()), "lr": rate},
        ]


def colours(images: Tensor) -> Tensor:
    """(patch, 3, row, column): a single slice thrice, or the three middle ones of several."""
    slices = images[:, 0] if images.ndim == 5 else images
    if slices.shape[1] < 3:
        middle = slices.shape[1] // 2
        return slices[:, middle : middle + 1].expand(-1, 3, -1, -1)
    first = slices.shape[1] // 2 - 1
    return slices[:, first : first + 3]


def read_weights(path: str, sha256: str = "") -> tuple[bytes, str]:
    """The file's bytes and their SHA-256.

    Raises:
        SettingsError: if it cannot be read, is no safetensors file or has another hash.
    """
    where = "evaluation.weights"
    file = Path(path)
    if file.suffix != ".safetensors":
        raise SettingsError(Fault(where, f"a file *{file.suffix}", "*.safetensors of a ResNet"))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SettingsError(
            Fault(where, f"cannot be read ({error.strerror})", "a weight file")
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and sha256.lower() != found:
        raise SettingsError(Fault(where, f"the file has the SHA-256 {found}, not {sha256}"))
    return content, found


def begins_from(classifier: str, settings: EvaluationSettings) -> list[str]:
    """For digests: the SHA-256 of the weights that ``classifier`` begins from, unless random."""
    if classifier != "transfer":
        return []
    return [read_weights(settings.weights, settings.weights_sha256)[1]]


def transferred(path: str, classes: int, sha256: str = "") -> Transferred:
    """The network with the weights of the file and a last layer of torch's random state.

    Raises:
        SettingsError: for a file that `read_weights` or `features.resnet_of` refuses.
    """
    content, _ = read_weights(path, sha256)
    try:
        return Transferred(resnet_of(content), classes)
    except SettingsError as error:
        raise SettingsError(
            *(replace(fault, where="evaluation.weights") for fault in error.faults)
        ) from None


def _pooled(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features.flatten(1)
