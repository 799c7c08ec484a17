"""Classical augmentation: flip, rotate, zoom, shift, filter, intensity, noise.

Every patch of a batch gets its own parameters. They are drawn first (`draw`, or `recipes`) and
applied afterwards, so that a draw can be inspected, repeated and put on a mask. Nothing here looks
at a label. All geometric steps are one resampling; outside the patch the picture is mirrored.

What a change means depends on what a value measures. `Limits` are therefore in mm and in the unit
of the picture: in HU the value itself tells a cyst from a metastasis, so a CT is never scaled, only
shifted by what a well-kept scanner may be off, and given noise; SUV are scaled about 0, as a
wrong dose or weight would; in MR, where values have no meaning of their own, contrast moves too.

Pictures are float32, in their unit or on [-1, 1]. A 3-D patch is flipped and turned in its axial
planes, where a body has a head and a foot end; zoom, shift and filter act along all three axes. The
channels of a "2.5-D" patch move together.

>>> window = Window(-100, 250)
>>> limits = Limits.of(Unit.HOUNSFIELD, window, mm_per_pixel=1.0, size=(16, 16)).signed(window)
>>> images = torch.zeros(4, 1, 16, 16)
>>> augment(images, draw(images.shape, torch.Generator().manual_seed(0), limits)).shape
torch.Size([4, 1, 16, 16])

One batched pass does what MONAI's transforms do patch by patch
(``docs/decisions/0008-classical-operations-in-batches.md``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from monai.networks.layers.convutils import gaussian_1d
from torch import Tensor
from torch.nn import functional

from medaug.domain import PatchSet, Unit, Window

SHIFT_MM = 5.0
"""Largest shift along an axis: about how far off its centre a lesion is marked."""
SHIFT_SHARE = 0.1
"""The shift is at most this share of the side, so that the lesion stays in the patch."""
BLUR_MM = 1.0
"""Standard deviation of the Gaussian that blurs and sharpens."""
BLUR_PIXELS = (0.5, 2.0)
"""Its bounds: less changes nothing, more is not a filter any scanner has."""
OFFSET_HU = 5.0
"""Largest offset of a CT: a choice, meant as what a well-kept scanner may be off."""
NOISE_HU = 10.0
"""Largest standard deviation of noise added to a CT: a choice, not a measurement."""
SHARE = 0.025
"""Largest brightness and noise of other units, as a share of the window."""
CONTRAST = 0.1
"""Contrast lies in 1 ± this."""
ZOOM = 1.25
"""Largest enlargement; the smallest is its inverse."""
OFTEN = 0.5
"""How often filter and noise are applied."""


@dataclass(frozen=True)
class Limits:
    """The largest change that each operation may make to a picture.

    Attributes:
        shift: along columns, rows and slices, as a share of the side.
        blur: standard deviation of the Gaussian, in pixels.
        contrast: the factor lies in 1 ± this; 0 where values may not be scaled.
        pivot: the value that contrast leaves alone; None for the patch's mean.
        brightness: largest summand, in the picture's unit; 0 where the zero has a meaning.
        noise: largest standard deviation of noise, in the picture's unit.
    """

    shift: tuple[float, ...] = (SHIFT_SHARE, SHIFT_SHARE, SHIFT_SHARE)
    blur: float = 1.0
    contrast: float = CONTRAST
    pivot: float | None = None
    brightness: float = 2 * SHARE
    noise: float = 2 * SHARE

    @classmethod
    def of(cls, unit: Unit, window: Window, mm_per_pixel: float, size: Sequence[int]) -> Self:
        """For pictures in ``unit``.

        Args:
            unit: of the values.
            window: the intensities of interest, in ``unit``.
            mm_per_pixel: 0 where the source has no spacing; shift and blur are then in pixels.
            size: ([slices,] rows, columns) of a patch.

        >>> Limits.of(Unit.HOUNSFIELD, Window(-100, 250), 0.5, (64, 64)).contrast
        0.0
        """
        known = mm_per_pixel > 0
        shares = (SHIFT_MM / mm_per_pixel / side if known else SHIFT_SHARE for side in size[::-1])
        shift = tuple(min(share, SHIFT_SHARE) for share in shares)
        least, most = BLUR_PIXELS
        blur = min(max(BLUR_MM / mm_per_pixel, least), most) if known else 1.0
        width = SHARE * (window.high - window.low)
        if unit is Unit.HOUNSFIELD:
            return cls(shift, blur, 0.0, None, OFFSET_HU, NOISE_HU)
        if unit is Unit.SUV:
            return cls(shift, blur, CONTRAST, 0.0, 0.0, width)
        return cls(shift, blur, CONTRAST, None, width, width)

    @classmethod
    def of_patches(cls, patches: PatchSet, window: Window) -> Self:
        """For ``patches`` on [-1, 1], by their commonest spacing."""
        spacings = Counter(place.mm_per_pixel for place in patches.locations)
        (mm_per_pixel, _), *_ = spacings.most_common(1)
        limits = cls.of(patches.unit, window, mm_per_pixel, patches.images.shape[2:])
        return limits.signed(window)

    def signed(self, window: Window) -> Self:
        """The same for pictures on [-1, 1] (`Window.to_signed`)."""
        factor = 2 / (window.high - window.low)
        return replace(
            self,
            pivot=None if self.pivot is None else (self.pivot - window.low) * factor - 1,
            brightness=self.brightness * factor,
            noise=self.noise * factor,
        )


ON_UNKNOWN = Limits()


@dataclass(frozen=True, eq=False)
class Operations:
    """What is done to each patch of a batch, one entry per patch.

    Attributes:
        angle: radians, (patch,).
        zoom: > 1 enlarges and crops, (patch,).
        flip: -1 mirrors left and right, else 1, (patch,).
        shift: (patch, 2 or 3) along columns, rows and slices, as a share of the side.
        filtering: 1 is the blurred picture, 0 leaves it, negative sharpens (unsharp masking).
        contrast: factor about the pivot, (patch,).
        brightness: summand, (patch,).
        noise: standard deviation, (patch,).
        noise_seed: (patch,) int64; a patch has the same noise whatever it is batched with.
        blur: standard deviation of the Gaussian behind ``filtering``, in pixels.
        pivot: as in `Limits`.
    """

    angle: Tensor
    zoom: Tensor
    flip: Tensor
    shift: Tensor
    filtering: Tensor
    contrast: Tensor
    brightness: Tensor
    noise: Tensor
    noise_seed: Tensor
    blur: float
    pivot: float | None


def draw(
    shape: Sequence[int],
    generator: torch.Generator,
    limits: Limits = ON_UNKNOWN,
    strength: float = 1.0,
) -> Operations:
    """Draw every operation for a batch of ``shape`` (patch, channel, [slice,] row, column).

    A lesion has no preferred direction, so it is turned by any angle [1]_.

    Args:
        shape: of the images.
        generator: of the draw.
        limits: for pictures on [-1, 1] of no known unit, if not given.
        strength: multiplies the limits of all but flip and turn.

    .. [1] Frid-Adar et al. 2018, doi:10.1016/j.neucom.2018.09.013
    """
    count, spatial_dims = shape[0], len(shape) - 2

    def uniform(most: float) -> Tensor:
        return most * (2 * torch.rand(count, generator=generator) - 1)

    def sometimes() -> Tensor:
        return (torch.rand(count, generator=generator) < OFTEN).float()

    shift = [uniform(strength * limits.shift[axis]) for axis in range(spatial_dims)]
    return Operations(
        angle=uniform(math.pi),
        zoom=torch.exp(uniform(strength * math.log(ZOOM))),
        flip=flips(count, generator),
        shift=torch.stack(shift, dim=1),
        filtering=uniform(min(strength, 1.0)) * sometimes(),
        contrast=1 + uniform(strength * limits.contrast),
        brightness=uniform(strength * limits.brightness),
        noise=uniform(strength * limits.noise).abs() * sometimes(),
        noise_seed=noise_seeds(count, generator),
        blur=limits.blur,
        pivot=limits.pivot,
    )


def flips(count: int, generator: torch.Generator) -> Tensor:
    """(patch,) -1 or 1 with equal chance."""
    return 2.0 * torch.randint(2, (count,), generator=generator) - 1


def noise_seeds(count: int, generator: torch.Generator) -> Tensor:
    """(patch,) a seed for the noise of each patch."""
    return torch.randint(2**31, (count,), generator=generator)


def augment(
    images: Tensor, drawn: Operations, bounds: tuple[float, float] | None = (-1.0, 1.0)
) -> Tensor:
    """Apply ``drawn`` to images (patch, channel, [slice,] row, column), float32.

    Args:
        images: in the unit of the `Limits` that ``drawn`` was drawn with.
        drawn: one entry per patch.
        bounds: what the result is clipped to; None for pictures that are not windowed.
    """
    axes = images.ndim
    result = _move(images, drawn, "bilinear")
    if len(rows := drawn.filtering.nonzero().flatten()):
        some, amount = result[rows], _per_patch(drawn.filtering[rows], axes)
        result[rows] = torch.lerp(some, _blur(some, drawn.blur), amount)
    if (drawn.contrast != 1).any():
        pivot = _pivots(result, drawn.pivot)
        result = torch.lerp(pivot, result, _per_patch(drawn.contrast, axes))
    result = result + _per_patch(drawn.brightness, axes)
    for patch in drawn.noise.nonzero().flatten().tolist():
        generator = torch.Generator().manual_seed(int(drawn.noise_seed[patch]))
        result[patch] += drawn.noise[patch] * torch.randn(images.shape[1:], generator=generator)
    return result if bounds is None else result.clamp_(*bounds)


def augment_masks(masks: Tensor, drawn: Operations) -> Tensor:
    """Move masks (patch, [slice,] row, column) bool as `augment` moves their images."""
    return _move(masks[:, None].float(), drawn, "nearest")[:, 0] > 0.5


def _move(images: Tensor, drawn: Operations, mode: str) -> Tensor:
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
    return functional.grid_sample(images, grid, mode, "reflection", align_corners=False)


def _blur(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian along every axis, borders mirrored.

    A sum of shifted copies: on pictures of one channel ten times as fast as a convolution layer.
    """
    kernel = gaussian_1d(torch.tensor(sigma), truncated=2.0, normalize=True).tolist()
    reach = len(kernel) // 2
    for axis in range(2, images.ndim):
        side = images.shape[axis]
        at = torch.arange(-reach, side + reach).abs()
        padded = images.index_select(axis, torch.minimum(at, 2 * (side - 1) - at))
        shifted = (padded.narrow(axis, start, side) for start in range(len(kernel)))
        images = sum(
            (weight * copy for weight, copy in zip(kernel, shifted, strict=True)),
            start=torch.zeros(()),
        )
    return images


def _pivots(images: Tensor, pivot: float | None) -> Tensor:
    """What contrast leaves alone, of a shape that broadcasts to ``images``."""
    if pivot is None:
        return images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    return images.new_full((1,) * images.ndim, pivot)


def _per_patch(values: Tensor, axes: int) -> Tensor:
    return values.view(-1, *[1] * (axes - 1))
