"""How like one picture is to each of many others, in any pose and at two scales.

Both stages of the copy detector. Similarity is the absolute normalised cross-correlation |NCC|
under a circular mask, so that brightness and contrast do not matter and an inverted copy is a copy.

Stage 1 looks everywhere and names the `SHORTLIST` rows that are most alike, and in what pose:

- ``low`` and ``wide``: these views at the 177 points of a 16x16 grid within the mask, in 3600 poses
  (24 rotations, mirrored or not, 3 scales, 25 shifts). One matrix product each compares them all.
- ``band``: the band view at 64x64 in the 8 poses of the square and all shifts of up to 8 px, by
  the Fourier transform. It is computed exactly for a short list only: the most similar by ``low``,
  and as many by the log power spectrum of the band, which shifts hardly change and which needs
  one more matrix product. The two lists complement each other: a copy under a lighting gradient is
  lost to the one, a blurred copy to the other.

Stage 2 (`refinement`) starts from what all name, fits the pose and gives the similarities.

Where the similarity itself tells little, the `lead` over other patients tells more, and most of all
where two scales see the same patient ahead (``together``): by nature, each scale has its own
nearest patient.

The side that is posed is the candidate, one at a time: its similarities depend on nothing else in
the batch, and memory does not grow with the number of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from medaug.privacy.refinement import (
    CHANNELS,
    REACH,
    SEARCHED,
    Real,
    Start,
    at_shifts,
    inverse_norms,
    refined,
    transform,
)

SHORTLIST = 6
# Patients that the nearest one is held against.
RIVALS = 4
# Fisher's z of what is alike by chance only.
_NOT_ALIKE = 0.05
# The highest similarity that float32 tells from 1.
_NEARLY_ONE = 1 - 1e-6
_FREQUENCIES = SIDE * (SIDE // 2 + 1)
# Spectra that are standardised together: a whole gallery's would be in memory four times.
_AT_ONCE = 256
# Four half-precision views, the lengths of three at each shift, two of them sampled, the spectrum.
BYTES_EACH = 4 * 2 * SIDE * SIDE + 3 * 4 * (2 * REACH + 1) ** 2 + 2 * 4 * 177 + 4 * _FREQUENCIES

# The scales at which a patient must be ahead together.
_TOGETHER = [CHANNELS.index(name) for name in ("fine", "band")]

# A shift keeps the power spectrum and a half turn mirrors it: four of the square's poses differ.
_SPECTRAL_POSES = [0, 1, 4, 5]


@dataclass(frozen=True, eq=False)
class Similarities:
    """One picture against a gallery: per channel the best |NCC|, where and how, and its `lead`.

    ``together`` is the highest mean lead that one patient has at the fine and the band scale, and
    ``together_at`` the row and pose of that patient's finest likeness.
    """

    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    poses: tuple[Pose, ...]
    leads: NDArray[np.float64]
    together: float
    together_at: tuple[int, Pose]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Real pictures, prepared to be compared with; `BYTES_EACH` each.

    Attributes:
        views: (picture, 4, 64, 64) in half precision: an error of a thousandth, where alike and not
            alike differ by tenths.
        inverse: (picture, 3, down, right), `inverse_norms` of the views that are searched.
        low, wide: (point, picture) these views on the coarse grid, standardised.
        spectra: (picture, frequency) of the band view, less the typical one, standardised.
        typical_spectrum: (frequency,) their mean.
        owners: (picture,) number of the patient.
        rows_at_once: pictures that all poses are multiplied with together.
    """

    views: NDArray[np.float16]
    inverse: Floats
    low: Floats
    wide: Floats
    spectra: Floats
    typical_spectrum: Floats
    owners: NDArray[np.int64]
    rows_at_once: int

    @classmethod
    def of(
        cls, pictures: Floats, memory_mb: int = 48, owners: NDArray[np.int64] | None = None
    ) -> Gallery:
        """Prepare ``pictures`` (picture, row, column), of any size.

        Args:
            pictures: to be compared with.
            memory_mb: what one comparison may take beside them.
            owners: (picture,) number of the patient; each picture another's where left out.
        """
        count = len(pictures)
        views = np.empty((count, len(CHANNELS) - 1, SIDE, SIDE), np.float16)
        inverse = np.empty((count, SEARCHED, 2 * REACH + 1, 2 * REACH + 1), np.float32)
        spectra = np.empty((count, _FREQUENCIES), np.float32)
        for row, picture in enumerate(pictures):
            found = Views.of(picture[None])
            views[row] = found.of_one()
            inverse[row] = inverse_norms(views[row, :SEARCHED].astype(np.float32))
            spectra[row] = _log_spectra(found.band)[0]
        typical = spectra.mean(axis=0)
        for at in range(0, count, _AT_ONCE):
            rows = slice(at, at + _AT_ONCE)
            spectra[rows] = standardised(spectra[rows] - typical, axis=1)
        return cls(
            views,
            inverse,
            _sampled(views[:, 0]),
            _sampled(views[:, 2]),
            spectra,
            typical,
            np.arange(count) if owners is None else owners,
            # Two arrays of (pose, row) float32 live at once; more than 512 rows leave the cache.
            int(np.clip(memory_mb * 1e6 / (8 * len(LOW_POSES)), 16, 512)),
        )

    def compare(self, views: Floats, others: NDArray[np.bool_]) -> Similarities:
        """Compare one picture's views (4, 64, 64) with the rows that ``others`` (row,) marks.

        Raises:
            ValueError: if ``others`` marks none.
        """
        _, starts = self.first_stage(views, others)
        real = {row: self._real(row) for row in {start.row for start in starts}}
        values, poses = refined(views, starts, real)
        best = values.argmax(axis=0)
        owners = self.owners[[start.row for start in starts]]
        leads, patients = lead(values, owners)
        both = leads[:, _TOGETHER].mean(axis=1)
        own = np.flatnonzero(owners == patients[both.argmax()])
        at_once = own[values[own, _TOGETHER[0]].argmax()]
        return Similarities(
            np.array([values[at, kind] for kind, at in enumerate(best)]),
            np.array([starts[at].row for at in best], np.int64),
            tuple(poses[at][kind] for kind, at in enumerate(best)),
            leads.max(axis=0),
            float(both.max()),
            (starts[at_once].row, poses[at_once][_TOGETHER[0]]),
        )

    def first_stage(
        self, views: Floats, others: NDArray[np.bool_]
    ) -> tuple[Similarities, list[Start]]:
        """The best of stage 1, for low and band, and where stage 2 shall start."""
        if not others.any():
            raise ValueError("nothing to compare with")
        low, band, wide = views[:SEARCHED]
        by_low, starts = self._starts(low, self.low, others)
        _, more = self._starts(wide, self.wide, others)
        turned = in_square_poses(band)
        by_spectrum = np.where(others, self._best_spectrum(turned), -np.inf)
        nearest = [start.row for start in starts]
        listed = np.union1d(nearest, _highest(by_spectrum))
        values, squares = self._best_band(turned, listed)
        order = _highest(values)
        poses = [starts[0].pose, squares[order[0]]]
        starts += more
        starts += [Start(int(listed[at]), squares[at]) for at in order]
        best = Similarities(
            np.array([by_low[nearest[0]], values[order[0]]], np.float64),
            np.array([nearest[0], listed[order[0]]], np.int64),
            tuple(poses),
            np.zeros(2),
            0.0,
            (nearest[0], starts[0].pose),
        )
        unmoved = [Start(one.row, replace(one.pose, shift=(0, 0))) for one in starts]
        return best, list(dict.fromkeys(unmoved))

    def _real(self, row: int) -> Real:
        return Real(self.views[row].astype(np.float32), self.inverse[row])

    def _starts(
        self, view: Floats, real: Floats, others: NDArray[np.bool_]
    ) -> tuple[Floats, list[Start]]:
        """(row,) highest |NCC| over `LOW_POSES`, and the most alike rows with their poses."""
        posed = standardised((posing() @ view.reshape(-1)).reshape(len(LOW_POSES), -1), axis=1)
        alike = np.where(others, self._best_posed(posed, real), -np.inf)
        rows = _highest(alike)
        poses = np.abs(posed @ real[:, rows]).argmax(axis=0)
        return alike, [Start(int(at), LOW_POSES[to]) for at, to in zip(rows, poses, strict=True)]

    def _best_posed(self, posed: Floats, real: Floats) -> Floats:
        """(row,): the highest |NCC| over all poses."""
        best = []
        for start in range(0, real.shape[1], self.rows_at_once):
            product = posed @ real[:, start : start + self.rows_at_once]
            best.append(np.maximum(product.max(axis=0), -product.min(axis=0)))
        return np.concatenate(best)

    def _best_spectrum(self, turned: Floats) -> Floats:
        spectra = _log_spectra(turned[_SPECTRAL_POSES]) - self.typical_spectrum
        return np.asarray((standardised(spectra, axis=1) @ self.spectra.T).max(axis=0))

    def _best_band(self, turned: Floats, rows: NDArray[np.int64]) -> tuple[Floats, list[Pose]]:
        """Per row the highest |NCC| of the band view over square poses and shifts, and its pose."""
        under = disc(SIDE, RADIUS)
        templates = np.zeros_like(turned)
        templates[:, under] = standardised(turned[:, under], axis=1)
        spectra = transform(templates).conj()
        values, poses = [], []
        for row in rows:
            view = self.views[row, 1].astype(np.float32)
            alike = np.abs(at_shifts(spectra * transform(view))) * self.inverse[row, 1]
            square, down, right = np.unravel_index(np.argmax(alike), alike.shape)
            values.append(alike[square, down, right])
            shift = (int(down) - REACH, int(right) - REACH)
            poses.append(replace(SQUARE_POSES[square], shift=shift))
        return np.array(values, np.float32), poses


def _sampled(views: NDArray[np.float16]) -> Floats:
    """(point, picture): a view of each picture on the coarse grid, standardised."""
    points = [sampling() @ view.astype(np.float32).reshape(-1) for view in views]
    return standardised(np.stack(points, axis=1), axis=0)


def fisher(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fisher's z of similarities: atanh, which spreads out those near 1."""
    return np.asarray(np.arctanh(np.minimum(values, _NEARLY_ONE)))


def lead(
    values: NDArray[np.float64], owners: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(patient, channel): how far each patient is ahead of the `RIVALS` best others; and who.

    The logarithm of the ratio of Fisher's z. Noise, a mixture and bending make a copy less like
    its original, often no more than people are alike by nature; yet they make it less like
    everybody else as well, and the original stays ahead. New people have no one ahead.

    Args:
        values: (start, channel) similarities.
        owners: (start,) whose patch it is.
    """
    alike = fisher(values)
    patients = np.unique(owners)
    if len(patients) < 2:
        return np.zeros((1, values.shape[1])), patients
    best = np.stack([alike[owners == patient].max(axis=0) for patient in patients])
    best = np.maximum(best, _NOT_ALIKE)
    ranked = -np.sort(-best, axis=0)[: RIVALS + 1]
    # Who is among the highest himself is held against the rest of them.
    among = best >= ranked[-1]
    rivals = np.where(among, ranked.sum(axis=0) - best, ranked[:-1].sum(axis=0))
    return np.asarray(np.log(best / (rivals / (len(ranked) - 1)))), patients


def _highest(values: Floats) -> NDArray[np.int64]:
    """Positions of the `SHORTLIST` highest values, -inf left out; ties go to the first."""
    order = np.argsort(-values, kind="stable")[:SHORTLIST]
    return np.asarray(order[np.isfinite(values[order])])


@cache
def _window() -> Floats:
    arch = np.cos((np.arange(SIDE) - (SIDE - 1) / 2) * np.pi / SIDE)
    return np.outer(arch, arch).astype(np.float32)


def _log_spectra(bands: Floats) -> Floats:
    """(picture, frequency): log amplitude of the windowed band view."""
    amplitude = np.abs(scipy.fft.rfft2(bands * _window())).reshape(len(bands), -1)
    return np.asarray(np.log(amplitude + 1e-3), dtype=np.float32)
