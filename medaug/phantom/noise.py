r"""CT noise is not white: filtered back-projection gives it a band of spatial frequencies.

The ramp filter removes the low frequencies and the kernel's roll-off the high ones, so the
in-plane noise power spectrum rises in proportion to the frequency and falls again [1]_:

.. math:: NPS(f) \propto f \, \exp(-(f / f_c)^2), \quad f_{peak} = f_c / \sqrt 2

.. [1] Riederer, Pelc, Chesler 1978, doi:10.1088/0031-9155/23/3/008
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from medaug.phantom.grid import Field


def band_noise(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    pixel_mm: float,
    peak_per_mm: float,
    between_slices: float,
) -> Field:
    """Noise (i, j, k) of mean 0 and standard deviation 1.

    Args:
        rng: source of randomness.
        shape: of the volume.
        pixel_mm: in-plane pixel size.
        peak_per_mm: the spatial frequency (1/mm) where the spectrum peaks.
        between_slices: correlation of neighbouring slices, 0 to below 1 (overlapping slices).
    """
    columns, rows, slices = shape
    frequency = np.hypot(
        fft.fftfreq(columns, pixel_mm)[:, None], fft.rfftfreq(rows, pixel_mm)[None, :]
    )
    power = frequency * np.exp(-0.5 * (frequency / peak_per_mm) ** 2)
    # The half-spectrum of a real transform counts all columns but the first and last twice.
    twice = np.full(power.shape[1], 2.0)
    twice[0] = 1.0
    if rows % 2 == 0:
        twice[-1] = 1.0
    power /= (power * twice).sum() / (columns * rows)
    white = rng.standard_normal((slices, columns, rows), dtype=np.float32)
    for k in range(1, slices):
        white[k] = between_slices * white[k - 1] + np.sqrt(1 - between_slices**2) * white[k]
    spectrum = fft.rfft2(white) * np.sqrt(power).astype(np.float32)
    noise = fft.irfft2(spectrum, s=(columns, rows))
    return np.moveaxis(noise.astype(np.float32, copy=False), 0, 2)
