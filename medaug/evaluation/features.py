"""From patches to points: an extractor, and the scale on which its features are compared.

The default extractor is radiomic (`radiomics`): no network, no download. The other is a network of
the user's, from a weight file whose SHA-256 is recorded:

- ``*.safetensors``: numbers only, nothing in it can run. They are put into MONAI's ResNet-18, -34,
  -50 or -101 (torchvision's names: ``conv1.weight``, ``layer1.0.conv1.weight`` ...), recognised by
  their names and shapes. RadImageNet's ResNet-50 and torchvision's fit once saved in this format.
- ``*.pt2`` (`torch.export.save`, batch exported as dynamic): a program as well as numbers, for any
  other network (Inception, DINO). Loading may run code from the file, so it is loaded only if the
  settings name its SHA-256, that is if somebody vouches for this very file. TorchScript, which
  torch gives up, and pickles (``torch.save``) are not opened.

Networks get patches resized to 224 x 224, the plane repeated for three colour channels, on [-1, 1];
a network that was trained on other numbers has to bring its own normalisation.

Scale: each feature minus its median over the reference patches, over its interquartile range, held
within ±5. The reference is always real: synthetic patches never decide on which scale they are
judged.

>>> images = np.random.default_rng(0).uniform(-1, 1, size=(40, 1, 16, 16))
>>> space = FeatureSpace.of(Radiomic(), images)
>>> space(images[:3]).shape
(3, 69)
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from medaug.errors import Fault, SettingsError
from medaug.evaluation.radiomics import planes_of, radiomic_features

Floats = NDArray[np.float64]
Images = NDArray[np.floating]
Masks = NDArray[np.bool_]

REACH = 5.0
"""Standardised features end here, so that no single patch decides a distance."""
_NORMAL_IQR = 1.3489795003921634
_INPUT = 224
_AT_ONCE = 32
_BLOCKS = {(2, 2, 2, 2): (18, ResNetBlock), (3, 4, 6, 3): (34, ResNetBlock)}
_BOTTLENECKS = {(3, 4, 6, 3): (50, ResNetBottleneck), (3, 4, 23, 3): (101, ResNetBottleneck)}


class Extractor(Protocol):
    """What turns patches into features."""

    @property
    def name(self) -> str:
        """For the report."""

    @property
    def sha256(self) -> str | None:
        """Of the weight file; None where there is none."""

    def __call__(self, images: Images, masks: Masks | None = None) -> Floats:
        """(patch, feature) of images (patch, channel, ..., row, column) on [-1, 1]."""


@dataclass(frozen=True)
class Radiomic:
    """First-order, texture, place and shape; see `radiomics`."""

    name: str = "radiomic"
    sha256: str | None = None

    def __call__(self, images: Images, masks: Masks | None = None) -> Floats:
        """(patch, feature) of images on [-1, 1]."""
        return radiomic_features(images, masks)


@dataclass(frozen=True, eq=False)
class Network:
    """A network from a user's weight file; it does not look at masks."""

    name: str
    sha256: str
    module: nn.Module

    @torch.no_grad()
    def __call__(self, images: Images, masks: Masks | None = None) -> Floats:  # noqa: ARG002
        """(patch, feature) of images on [-1, 1], averaged over the planes of `planes_of`."""
        if not np.isfinite(images).all():
            raise ValueError("a patch holds NaN or infinity")
        return np.asarray(np.mean([self._of(view) for view in planes_of(images)], axis=0))

    def _of(self, view: Images) -> Floats:
        planes = torch.from_numpy(np.ascontiguousarray(view, np.float32))
        pictures = planes.flatten(0, 1)[:, None]
        parts = [self._run(part) for part in torch.split(pictures, _AT_ONCE)]
        features = torch.cat(parts).double().numpy()
        return np.asarray(features.reshape(len(view), planes.shape[1], -1).mean(axis=1))

    def _run(self, pictures: Tensor) -> Tensor:
        sized = functional.interpolate(
            pictures, (_INPUT, _INPUT), mode="bilinear", antialias=True, align_corners=False
        )
        features: Tensor = self.module(sized.expand(-1, 3, -1, -1))
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features.flatten(1)


def looked_at(shape: Sequence[int]) -> tuple[str, ...]:
    """What is looked at in patches of several slices, for images of ``shape``."""
    if len(shape) == 5:
        return (
            (
                "3-D patches: features are those of the axial, coronal and sagittal plane through "
                "the middle, averaged, and the correlation of neighbouring slices; intensities are "
                "those of all voxels, lesion sizes the longest diameter in an axial slice, and "
                "likeness of pairs that of the middle slices."
            ),
        )
    if shape[1] > 1:
        return (
            (
                "Adjacent slices: features and likeness of pairs are averaged over slices; "
                "intensities are those of all slices; masks, and what is measured in them, are of "
                "the middle one."
            ),
        )
    return ()


def extractor(features: str, sha256: str = "") -> Extractor:
    """The extractor that the settings name.

    Args:
        features: "radiomic" or the path of a weight file.
        sha256: what the file must have; "" where nobody says (not for ``*.pt2``).

    Raises:
        SettingsError: for a file that is not there, has another hash or another content.
    """
    if features == "radiomic":
        return Radiomic()
    path = Path(features)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refused(f"cannot be read ({error.strerror})", "radiomic, or a weight file") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and sha256.lower() != found:
        raise _refused(
            f"the file has the SHA-256 {found}, not {sha256}", "the file that was vouched for"
        )
    if path.suffix == ".safetensors":
        return Network(path.name, found, resnet_of(content))
    if path.suffix != ".pt2":
        raise _refused(f"a file *{path.suffix}", "*.safetensors, or *.pt2 of torch.export.save")
    if not sha256:
        raise _refused(
            "a *.pt2 file, which is a program and would be run",
            "*.safetensors, or *.pt2 with evaluation.fidelity.features_sha256",
            f"if you trust this file, set features_sha256: {found}",
        )
    return Network(path.name, found, _program(content))


def _refused(came: str, allowed: str, action: str = "") -> SettingsError:
    return SettingsError(Fault("evaluation.fidelity.features", came, allowed, action))


def _program(content: bytes) -> nn.Module:
    """What was exported; from the bytes that were hashed, so that no other file is run."""
    try:
        return torch.export.load(io.BytesIO(content)).module()
    except Exception:  # noqa: BLE001 - torch raises what it likes, and its text may quote the file
        allowed = "a file of torch.export.save, by a version of torch that this one can read"
        raise _refused("not an exported program", allowed) from None


def resnet_of(content: bytes) -> nn.Module:
    """A ResNet of MONAI's with these weights; the classifying layer is left out."""
    allowed = "weights of ResNet-18, -34, -50 or -101 under torchvision's names"
    try:
        weights = {key: value for key, value in load(content).items() if not key.startswith("fc.")}
    except SafetensorError:
        raise _refused("not a safetensors file", allowed) from None
    layers = tuple(
        len({key.split(".")[1] for key in weights if key.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    deep = "layer1.0.conv3.weight" in weights
    kind = (_BOTTLENECKS if deep else _BLOCKS).get(layers)  # type: ignore[arg-type]
    if kind is None:
        raise _refused("weights of a network that is not known here", allowed)
    network = ResNet(
        block=kind[1],
        layers=list(layers),
        block_inplanes=[64, 128, 256, 512],
        n_input_channels=3,
        spatial_dims=2,
        conv1_t_stride=2,
        bias_downsample=False,
        feed_forward=False,
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise _refused(f"weights that do not fit a ResNet-{kind[0]}", allowed) from None
    module: nn.Module = network.eval()
    return module


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """An extractor with the scale of real reference patches; call it to get points.

    Attributes:
        extractor: what measures.
        centre: (feature,) median over the reference.
        spread: (feature,) interquartile range over that of a standard normal; the standard
            deviation where most reference patches agree, 1 where all do.
    """

    extractor: Extractor
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, extractor: Extractor, images: Images, masks: Masks | None = None) -> FeatureSpace:
        """The space whose reference are these real patches; they must not be synthetic ones."""
        return cls.around(extractor, extractor(images, masks))

    @classmethod
    def around(cls, extractor: Extractor, reference: Floats) -> FeatureSpace:
        """As `of`, from features (patch, feature) that the extractor gave before."""
        low, centre, high = np.percentile(reference, [25, 50, 75], axis=0)
        spread, deviation = (high - low) / _NORMAL_IQR, reference.std(axis=0)
        # Rounding leaves a constant feature with a deviation of about 1e-16.
        tiny = 1e-9 * np.maximum(np.abs(centre), 1.0)
        spread = np.where(spread > tiny, spread, deviation)
        return cls(extractor, centre, np.where(spread > tiny, spread, 1.0))

    def points(self, features: Floats) -> Floats:
        """Features (patch, feature) on the scale, within ±`REACH`."""
        return np.asarray(np.clip((features - self.centre) / self.spread, -REACH, REACH))

    def __call__(self, images: Images, masks: Masks | None = None) -> Floats:
        """(patch, feature) of images (patch, channel, ..., row, column) on [-1, 1]."""
        return self.points(self.extractor(images, masks))
