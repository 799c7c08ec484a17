"""Lesion patches from numbers that can be chosen: the phantom as a simulator to be fitted.

Six numbers in [0, 1] say how large a lesion is, how dense it and the liver are, and how it was
scanned; everything else (place, shape, inner look, twigs, noise) follows from a seed. The ranges
are wider than those of the phantom's own cohorts and than what a clinic sees: whoever fits them
starts from not knowing.

>>> render = parametric_renderer({"mass": "metastasis"}, "CT", Unit.HOUNSFIELD, (1, 32, 32), 2.0)
>>> images, masks = render("mass", np.full((2, len(PARAMETERS)), 0.5), [7, 8])
>>> images.shape, masks.shape
((2, 1, 32, 32), (2, 32, 32))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Unit
from medaug.phantom.anatomy import Habitus
from medaug.phantom.dealing import KINDS, Kind
from medaug.phantom.patient import Scan
from medaug.phantom.placing import LARGEST_MM, SMALLEST_MM
from medaug.phantom.rendering import Images, Masks, lesion_renderer, picture_of

Parameters = NDArray[np.float64]
ParametricRenderer = Callable[[str, Parameters, Sequence[int]], tuple[Images, Masks]]

PARAMETERS: dict[str, tuple[float, float]] = {
    "log diameter, mm": (float(np.log(SMALLEST_MM)), float(np.log(LARGEST_MM))),
    "liver, HU": (61.0, 150.0),  # solid tissue is drawn from 40 HU up to 20 below the liver
    "lesion against its kind, HU": (-40.0, 40.0),
    "noise, HU": (3.0, 30.0),
    "frequency of the noise, 1/mm": (0.15, 0.40),
    "blur, mm": (0.3, 1.5),
}
"""What 0 and 1 stand for, in the order of the columns."""
_STREAM = 0xD1A1  # sets these draws apart from those of `rendering`


def parametric_renderer(
    kinds: Mapping[str, str],
    modality: str,
    unit: Unit,
    shape: tuple[int, int, int],
    mm_per_pixel: float,
) -> ParametricRenderer:
    """A function (class, parameters (patch, 6) in [0, 1], seeds) → images and masks.

    Arguments, images, masks and errors are those of `rendering.lesion_renderer`.
    """
    lesion_renderer(kinds, modality, unit, shape, mm_per_pixel)  # refuses what cannot be rendered

    def render(label: str, parameters: Parameters, seeds: Sequence[int]) -> tuple[Images, Masks]:
        size = shape[1]
        images = np.empty((len(seeds), 1, size, size), np.float32)
        masks = np.empty((len(seeds), size, size), bool)
        kind = cast(Kind, kinds[label])
        for row, seed in enumerate(seeds):
            images[row, 0], masks[row] = _lesion(kind, parameters[row], seed, size, mm_per_pixel)
        return images, masks

    return render


def _lesion(
    kind: Kind, parameters: Parameters, seed: int, size: int, mm_per_pixel: float
) -> tuple[Images, Masks]:
    low, high = np.array(list(PARAMETERS.values())).T
    figures = low + np.clip(parameters, 0, 1) * (high - low)
    size_mm, liver, shift, noise, grain, blur = figures.tolist()
    rng = np.random.default_rng([int(seed), KINDS.index(kind), _STREAM])
    scan = replace(Scan.draw(rng), noise=noise, noise_peak=grain, blur=blur)
    habitus = replace(Habitus.draw(rng), parenchyma=liver)
    diameter = float(np.exp(size_mm))
    return picture_of(rng, kind, scan, habitus, diameter, size, mm_per_pixel, shift)
