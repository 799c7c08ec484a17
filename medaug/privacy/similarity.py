"""How like one picture is to each of many others, in any pose and at two scales.

Stage 1 of the copy detector. Similarity is the absolute normalised cross-correlation |NCC| under
a circular mask, so that brightness and contrast do not matter and an inverted copy is a copy.

- ``low``: the low view at the 177 points of a 16x16 grid within the mask, in 3600 poses (24
  rotations, mirrored or not, 3 scales, 25 shifts). One matrix product compares them all.
- ``band``: the band view at 64x64 in the 8 poses of the square and all shifts of up to 8 px, by
  the Fourier transform. It is computed exactly for a short list only: the `SHORTLIST` most
  similar by ``low``, and as many by the log power spectrum of the band, which shifts hardly change
  and which needs one more matrix product. The two lists complement each other: a copy under a
  lighting gradient is lost to the one, a blurred copy to the other.

The side that is posed is the candidate, one at a time: its similarities depend on nothing else in
the batch, and memory does not grow with the number of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medaug.privacy.pictures import RADIUS, SIDE, Floats, Views, disc, standardised
from medaug.privacy.poses import (
    LOW_POSES,
    SQUARE_POSES,
    Pose,
    in_square_poses,
    posing,
    sampling,
)

CHANNELS = ("low", "band")
SHORTLIST = 6
REACH = 8

_PADDED = SIDE + REACH
# A shift keeps the power spectrum and a half turn mirrors it: four of the square's poses differ.
_SPECTRAL_POSES = [0, 1, 4, 5]


@dataclass(frozen=True, eq=False)
class Similarities:
    """One picture against a gallery: for each of `CHANNELS` the best |NCC|, where and how."""

    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    poses: tuple[Pose, ...]


class Gallery:
    """Real pictures, prepared to be compared with; about 27 kB each.

    Args:
        pictures: (picture, row, column), any size.
        memory_mb: what one comparison may take beside them.
    """

    def __init__(self, pictures: Floats, memory_mb: int = 256) -> None:
        views = Views.of(pictures)
        count = len(pictures)
        self.band = views.band
        self.low = standardised(sampling() @ views.low.reshape(count, -1).T, axis=0)
        self.count = count
        self.norms = np.stack([_local_norms(band) for band in views.band])
        spectra = np.concatenate([_log_spectra(band[None]) for band in views.band])
        self.typical_spectrum = spectra.mean(axis=0)
        self.spectra = standardised(spectra - self.typical_spectrum, axis=1)
        # Two arrays of (pose, row) float32 live at once; more than 512 rows leave the cache.
        self.rows_at_once = int(np.clip(memory_mb * 1e6 / (8 * len(LOW_POSES)), 16, 512))

    def compare(self, low: Floats, band: Floats, others: NDArray[np.bool_]) -> Similarities:
        """Compare one picture's views (64, 64) with the rows that ``others`` (row,) marks.

        Raises:
            ValueError: if ``others`` marks none.
        """
        if not others.any():
            raise ValueError("nothing to compare with")
        posed = standardised((posing() @ low.reshape(-1)).reshape(len(LOW_POSES), -1), axis=1)
        by_low = np.where(others, self._best_low(posed), -np.inf)
        turned = in_square_poses(band)
        by_spectrum = np.where(others, self._best_spectrum(turned), -np.inf)
        best = int(np.argmax(by_low))
        pose = LOW_POSES[int(np.argmax(np.abs(posed @ self.low[:, best])))]
        listed = np.union1d(_highest(by_low), _highest(by_spectrum))
        band_value, band_row, band_pose = self._best_band(turned, listed)
        return Similarities(
            np.array([by_low[best], band_value]), np.array([best, band_row]), (pose, band_pose)
        )

    def _best_low(self, posed: Floats) -> Floats:
        """(row,): the highest |NCC| of the low view over all poses."""
        best = []
        for start in range(0, self.low.shape[1], self.rows_at_once):
            product = posed @ self.low[:, start : start + self.rows_at_once]
            best.append(np.maximum(product.max(axis=0), -product.min(axis=0)))
        return np.concatenate(best)

    def _best_spectrum(self, turned: Floats) -> Floats:
        spectra = _log_spectra(turned[_SPECTRAL_POSES]) - self.typical_spectrum
        return np.asarray((standardised(spectra, axis=1) @ self.spectra.T).max(axis=0))

    def _best_band(self, turned: Floats, rows: NDArray[np.int64]) -> tuple[float, int, Pose]:
        """Highest |NCC| of the band view over the square's poses and all shifts, with its place."""
        under = disc(SIDE, RADIUS)
        templates = np.zeros_like(turned)
        templates[:, under] = standardised(turned[:, under], axis=1)
        product = _transform(templates).conj()[None] * _transform(self.band[rows])[:, None]
        norms = self.norms[rows][:, None]
        correlation = np.abs(_at_shifts(product)) * np.where(
            norms > 0, 1 / np.maximum(norms, 1e-6), 0
        )
        row, square, down, right = np.unravel_index(np.argmax(correlation), correlation.shape)
        turn = SQUARE_POSES[square]
        pose = Pose(turn.mirrored, turn.degrees, 1.0, (int(down) - REACH, int(right) - REACH))
        return float(correlation[row, square, down, right]), int(rows[row]), pose


def _highest(values: Floats) -> NDArray[np.int64]:
    """Positions of the `SHORTLIST` highest values, -inf left out; ties go to the first."""
    order = np.argsort(-values, kind="stable")[:SHORTLIST]
    return np.asarray(order[np.isfinite(values[order])])


def _transform(pictures: Floats) -> NDArray[np.complex64]:
    """Padded by zeros, so that a shift of up to `REACH` does not wrap round."""
    return np.asarray(scipy.fft.rfft2(pictures, (_PADDED, _PADDED)))


def _at_shifts(product: NDArray[np.complex64]) -> Floats:
    """Correlations (…, down, right) at shifts -REACH … REACH from a product of transforms."""
    full = scipy.fft.irfft2(product, (_PADDED, _PADDED))
    at = np.arange(-REACH, REACH + 1)
    return np.asarray(full[..., at[:, None], at[None, :]], dtype=np.float32)


def _local_norms(band: Floats) -> Floats:
    """(down, right): length of a real band view under the mask at each shift of the mask.

    What lies outside the patch counts as zero.
    """
    field = disc(SIDE, RADIUS).astype(np.float32)
    energy = _at_shifts(_transform(field).conj() * _transform(np.square(band)))
    enough = energy > 1e-3 * field.sum() * np.square(band).mean()
    return np.sqrt(np.where(enough, energy, 0))


@cache
def _window() -> Floats:
    arch = np.cos((np.arange(SIDE) - (SIDE - 1) / 2) * np.pi / SIDE)
    return np.outer(arch, arch).astype(np.float32)


def _log_spectra(bands: Floats) -> Floats:
    """(picture, frequency): log amplitude of the windowed band view."""
    amplitude = np.abs(scipy.fft.rfft2(bands * _window())).reshape(len(bands), -1)
    return np.asarray(np.log(amplitude + 1e-3), dtype=np.float32)
