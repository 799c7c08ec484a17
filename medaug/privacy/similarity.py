"""How like a picture is to each of many others, in any pose and at two scales.

Stage 1 of the copy detector. ``low``: the picture's low-pass view, sampled at the 177 points of a
16x16 grid within the mask, in 24 rotations x 2 mirrorings x 3 scales x 25 shifts = 3600 poses; one
matrix product compares them all with every real patch. ``band``: the band-pass view at 64x64 in
the 8 poses of the square and all shifts of up to 8 px, through the Fourier transform; it is exact
for a short list of real patches (`SHORTLIST` by ``low`` and as many by the power spectrum of the
band, which shifts leave alone) and -inf for the others.

Similarity is the absolute normalised cross-correlation |NCC|, so that changes of brightness and
contrast do not matter and an inverted copy is a copy.

The posed side is the candidate, one at a time: a similarity depends on nothing but the two
pictures, memory does not grow with the number of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.sparse import csr_array

from medaug.privacy.pictures import RADIUS, SIDE, Floats, Views, disc, standardised

ROTATIONS = np.arange(24) * 15.0
SCALES = (0.87, 1.0, 1.15)
SHIFTS = (-6, -3, 0, 3, 6)
GRID = 16
REACH = 8
SHORTLIST = 6

_PADDED = SIDE + REACH
_REAL_ROWS_AT_ONCE = 512
CHANNELS = ("low", "band")


@dataclass(frozen=True)
class Pose:
    """How a candidate lies on a real patch: first mirrored, then turned, scaled and shifted."""

    mirrored: bool
    degrees: float
    scale: float
    shift: tuple[int, int]


@cache
def low_poses() -> tuple[Pose, ...]:
    """The 3600 poses of the low-pass comparison."""
    return tuple(
        Pose(mirrored, float(degrees), scale, (row, column))
        for mirrored in (False, True)
        for degrees in ROTATIONS
        for scale in SCALES
        for row in SHIFTS
        for column in SHIFTS
    )


@cache
def grid_points() -> NDArray[np.float64]:
    """(point, 2): row and column of the 16x16 grid points under the mask, from the centre, px."""
    at = (np.arange(GRID) - (GRID - 1) / 2) * (SIDE / GRID)
    points = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(points[np.hypot(*points.T) < RADIUS])


@cache
def _posing() -> csr_array:
    """(pose * point, 64 * 64): bilinear sampling of a picture in every low pose."""
    points = grid_points()
    places = []
    for pose in low_poses():
        turn = np.deg2rad(pose.degrees)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = matrix @ np.diag([1.0, -1.0 if pose.mirrored else 1.0])
        places.append(points @ matrix / pose.scale + pose.shift)
    return _bilinear(np.concatenate(places) + (SIDE - 1) / 2)


def _bilinear(places: NDArray[np.float64]) -> csr_array:
    """Sampling at ``places`` (point, 2) in pixels; beyond the border the border is repeated."""
    inside = np.clip(places, 0, SIDE - 1)
    corner = np.minimum(inside.astype(np.int64), SIDE - 2)
    part = inside - corner
    rows, columns, weights = [], [], []
    for down in (0, 1):
        for right in (0, 1):
            rows.append(np.arange(len(places)))
            columns.append((corner[:, 0] + down) * SIDE + corner[:, 1] + right)
            weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            weights.append(weight)
    entries = (
        np.concatenate(weights).astype(np.float32),
        (np.concatenate(rows), np.concatenate(columns)),
    )
    return csr_array(entries, shape=(len(places), SIDE * SIDE))


def square_poses(picture: Floats) -> Floats:
    """(8, 64, 64): the picture in the 8 poses of the square; 0-3 turned, 4-7 mirrored and turned."""
    mirrored = picture[:, ::-1]
    return np.stack([np.rot90(side, turns) for side in (picture, mirrored) for turns in range(4)])


class Gallery:
    """Real pictures, prepared to be compared with.

    Args:
        pictures: (picture, row, column), any size.
    """

    def __init__(self, pictures: Floats) -> None:
        views = Views.of(pictures)
        # The identity pose of the same sampling.
        sampling = _bilinear(grid_points() + (SIDE - 1) / 2)
        self.low = standardised(
            np.ascontiguousarray(sampling @ views.low.reshape(len(pictures), -1).T), axis=0
        )
        self.band = views.band
        # Energy of the real band under the mask at each shift: the denominator of the NCC.
        field = scipy.fft.rfft2(disc(SIDE, RADIUS).astype(np.float32), (_PADDED, _PADDED))
        self.norms = np.empty((len(pictures), 2 * REACH + 1, 2 * REACH + 1), np.float32)
        self.spectra = np.empty((len(pictures), _spectrum_size()), np.float32)
        for row, band in enumerate(views.band):
            energy = _windowed(scipy.fft.rfft2(np.square(band), (_PADDED, _PADDED)) * field.conj())
            self.norms[row] = np.sqrt(np.maximum(energy, 0))
            self.spectra[row] = _log_spectrum(band[None])[0]
        self.typical_spectrum = self.spectra.mean(axis=0)
        self.spectra = standardised(self.spectra - self.typical_spectrum, axis=1)

    def __len__(self) -> int:
        return len(self.band)


def _windowed(product: NDArray[np.complex64]) -> Floats:
    """Correlations (…, 2 REACH + 1, 2 REACH + 1) at shifts -REACH … REACH from their spectrum."""
    full = scipy.fft.irfft2(product, (_PADDED, _PADDED))
    at = np.arange(-REACH, REACH + 1)
    return np.asarray(full[..., at[:, None], at[None, :]], dtype=np.float32)


@cache
def _window() -> Floats:
    at = np.cos((np.arange(SIDE) - (SIDE - 1) / 2) * np.pi / SIDE)
    return np.outer(at, at).astype(np.float32)


def _spectrum_size() -> int:
    return int(SIDE * (SIDE // 2 + 1))


def _log_spectrum(bands: Floats) -> Floats:
    spectrum = np.abs(scipy.fft.rfft2(bands * _window()))
    return np.log(spectrum + 1e-3).reshape(len(bands), -1).astype(np.float32)
