"""Classical augmentation: flip, rotate, zoom, shift, filter, intensity, noise.

Every patch of a batch gets its own parameters. They are drawn first and applied afterwards, so
that a draw can be inspected and repeated. Nothing here looks at a label. All geometric steps are
one resampling; outside the patch the picture is mirrored.

The operations are those of Frid-Adar et al. 2018 (flip, rotate, scale, shift) and the usual
filters; a lesion patch has no preferred direction, so any angle is allowed. Intensity moves
little, because in CT the value itself tells a cyst from a metastasis.

A 3-D patch is flipped and turned in its axial planes, where a body has a head and a foot end; zoom,
shift and filter act along all three axes.

>>> generator = torch.Generator().manual_seed(0)
>>> images = torch.zeros(4, 1, 16, 16)
>>> augment(images, draw(images.shape, generator)).shape
torch.Size([4, 1, 16, 16])
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

ZOOM = 1.25
"""Largest enlargement; the smallest is its inverse."""
SHIFT = 0.1
"""Largest shift, as a share of the patch's side."""
CONTRAST = 0.1
"""Contrast lies in 1 ± this, about the mean of the patch."""
BRIGHTNESS = 0.05
"""Largest change of brightness on [-1, 1]: 1/40 of the window."""
NOISE = 0.05
"""Largest standard deviation of added noise on [-1, 1]."""
OFTEN = 0.5
"""How often filter and noise are applied."""

_BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


@dataclass(frozen=True, eq=False)
class ClassicalDraw:
    """The parameters of one batch, one entry per patch.

    Attributes:
        angle: radians, (patch,).
        zoom: > 1 enlarges, (patch,).
        flip: -1 mirrors left and right, else 1, (patch,).
        shift: (patch, 2 or 3) along columns, rows and slices, as a share of the side.
        filtering: 1 is the blurred picture, 0 leaves it, negative sharpens (unsharp masking).
        contrast: factor about the patch's mean, (patch,).
        brightness: summand on [-1, 1], (patch,).
        noise: summand on [-1, 1], of the images' shape.
    """

    angle: Tensor
    zoom: Tensor
    flip: Tensor
    shift: Tensor
    filtering: Tensor
    contrast: Tensor
    brightness: Tensor
    noise: Tensor


def draw(shape: torch.Size, generator: torch.Generator) -> ClassicalDraw:
    """Draw parameters for a batch of ``shape`` (patch, channel, [slice,] row, column)."""
    count = shape[0]  # parameters stay on the CPU

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *size, generator=generator)

    def sometimes() -> Tensor:
        return (uniform(0, 1) < OFTEN).float()

    sigma = uniform(0, NOISE) * sometimes()
    return ClassicalDraw(
        angle=uniform(-math.pi, math.pi),
        zoom=torch.exp(uniform(-math.log(ZOOM), math.log(ZOOM))),
        flip=torch.sign(uniform(-1, 1)),
        shift=uniform(-SHIFT, SHIFT, len(shape) - 2),
        filtering=uniform(-1, 1) * sometimes(),
        contrast=uniform(1 - CONTRAST, 1 + CONTRAST),
        brightness=uniform(-BRIGHTNESS, BRIGHTNESS),
        noise=_per_patch(sigma, len(shape)) * torch.randn(shape, generator=generator),
    )


def augment(images: Tensor, drawn: ClassicalDraw) -> Tensor:
    """Apply ``drawn`` to images (patch, channel, [slice,] row, column), which stay in [-1, 1]."""
    axes = images.ndim
    moved = _move(images, drawn)
    filtered = torch.lerp(moved, _blur(moved), _per_patch(drawn.filtering, axes))
    mean = filtered.mean(dim=tuple(range(1, axes)), keepdim=True)
    contrasted = torch.lerp(mean, filtered, _per_patch(drawn.contrast, axes))
    return (contrasted + _per_patch(drawn.brightness, axes) + drawn.noise).clamp(-1, 1)


def _move(images: Tensor, drawn: ClassicalDraw) -> Tensor:
    """Flip, rotate, zoom and shift in one resampling.

    ``affine_grid`` takes an output place to an input place on [-1, 1], as (column, row, slice);
    hence the inverse zoom and the factor 2 of the shift. On a patch that is not square, rows and
    columns have different units; the aspect keeps the rotation rigid.
    """
    aspect = images.shape[-2] / images.shape[-1]
    cos, sin = torch.cos(drawn.angle) / drawn.zoom, torch.sin(drawn.angle) / drawn.zoom
    across = [cos * drawn.flip, -sin * aspect, 2 * drawn.shift[:, 0]]
    down = [sin * drawn.flip / aspect, cos, 2 * drawn.shift[:, 1]]
    rows = [across, down]
    if images.ndim == 5:
        still = torch.zeros_like(cos)
        rows = [[*row[:2], still, row[2]] for row in rows]
        rows.append([still, still, 1 / drawn.zoom, 2 * drawn.shift[:, 2]])
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _blur(images: Tensor) -> Tensor:
    """Convolve with the binomial kernel, about a Gaussian of one pixel; borders mirrored."""
    channels, spatial = images.shape[1], images.ndim - 2
    kernel = torch.outer(_BINOMIAL, _BINOMIAL)
    if spatial == 3:
        kernel = _BINOMIAL[:, None, None] * kernel
    kernel = kernel.to(images).expand(channels, 1, *kernel.shape)
    padded = functional.pad(images, (2, 2) * spatial, mode="reflect")
    convolve = functional.conv2d if spatial == 2 else functional.conv3d
    return convolve(padded, kernel, groups=channels)


def _per_patch(values: Tensor, axes: int) -> Tensor:
    return values.view(-1, *[1] * (axes - 1))
