"""A mass on a cloudy ground, from eight numbers: a public simulator for pictures of any modality.

Where the phantom has no lesion of its own (mammograms, or any picture in no unit), this knows only
what many lesions share: a lobed body in the middle, brighter or darker than its surroundings, with
a sharp or a soft border, on a ground whose power falls with the frequency, which for mammograms
was measured as about f^-3 [1]_; and white noise. It knows no strands, no calcifications and no
anatomy. Classes differ in nothing but the numbers that are found for them.

>>> render = mass_renderer(Window(0, 255), (1, 64, 64))
>>> images, masks = render("benign", np.full((2, len(PARAMETERS)), 0.5), [7, 8])
>>> images.shape, masks.shape, bool(masks[0, 32, 32])
((2, 1, 64, 64), (2, 64, 64), True)

.. [1] Burgess, Jacobson, Judy 2001, Human observer detection experiments with mammograms and
   power-law noise, doi:10.1118/1.1355308
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from medaug.domain import Window
from medaug.phantom.parametric import ParametricRenderer
from medaug.phantom.rendering import Images, Masks

PARAMETERS: dict[str, tuple[float, float]] = {
    "log diameter, share of the side": (float(np.log(0.1)), float(np.log(0.95))),
    "level of the ground, half windows": (-1.0, 0.8),
    "mass against the ground, half windows": (-0.8, 1.2),
    "log softness of the border, share of the side": (float(np.log(0.01)), float(np.log(0.3))),
    "log deviation of the ground, half windows": (float(np.log(0.02)), float(np.log(0.5))),
    "slope of the ground's power": (1.0, 4.0),
    "log deviation of the noise, half windows": (float(np.log(0.003)), float(np.log(0.2))),
    "deviation of the outline, share of the radius": (0.0, 0.35),
}
"""What 0 and 1 stand for, in the order of the columns; a half window is 1 on the scale -1 to 1."""
_STREAM = 0x3A55
_LOBES = np.arange(2, 8)


def mass_renderer(window: Window, shape: tuple[int, int, int]) -> ParametricRenderer:
    """A function (class, parameters (patch, 8) in [0, 1], seeds) → images and masks.

    Args:
        window: intensities that are drawn.
        shape: (1, row, column).
    """
    rows, columns = shape[1:]
    side = min(rows, columns)
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    away = np.hypot(row - (rows - 1) / 2, column - (columns - 1) / 2) / side
    angle = np.arctan2(row - (rows - 1) / 2, column - (columns - 1) / 2)
    # Twice the size: the ground of a patch is a piece of a larger one and does not close on itself.
    frequency = np.hypot(fft.fftfreq(2 * rows)[:, None], fft.rfftfreq(2 * columns)[None, :])
    frequency[0, 0] = np.inf

    def ground(slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
        white = fft.rfft2(rng.standard_normal((2 * rows, 2 * columns)))
        cloud = fft.irfft2(white * frequency ** (-slope / 2), s=(2 * rows, 2 * columns))
        return np.asarray(cloud[:rows, :columns] / cloud.std())

    def picture(
        figures: list[float], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        size, level, contrast, softness, cloud, slope, noise, lobes = figures
        heights = np.sqrt(2 * rng.dirichlet(np.full(len(_LOBES), 2.0))) * lobes
        turns = rng.uniform(0, 2 * np.pi, len(_LOBES))
        waves = np.sin(_LOBES * angle[..., None] + turns) @ heights
        depth = np.exp(size) / 2 * np.maximum(1 + waves, 0.2) - away
        share = 1 / (1 + np.exp(-np.clip(depth / np.exp(softness), -30, 30)))
        plain = level + contrast * share + np.exp(cloud) * ground(slope, rng)
        return plain + np.exp(noise) * rng.standard_normal(plain.shape), depth > 0

    low, high = np.array(list(PARAMETERS.values())).T

    def render(
        label: str,  # noqa: ARG001 its numbers make a class
        parameters: NDArray[np.float64],
        seeds: Sequence[int],
    ) -> tuple[Images, Masks]:
        images = np.empty((len(seeds), 1, rows, columns), np.float32)
        masks = np.empty((len(seeds), rows, columns), bool)
        figures = low + np.clip(parameters, 0, 1) * (high - low)
        for at, seed in enumerate(seeds):
            rng = np.random.default_rng([int(seed), _STREAM])
            plain, masks[at] = picture(figures[at].tolist(), rng)
            images[at, 0] = window.from_signed(np.clip(plain, -1, 1).astype(np.float32))
        return images, masks

    return render
