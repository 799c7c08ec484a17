"""Stage 2 of the copy detector: how alike two pictures are once one is laid on the other well.

Stage 1 knows poses in steps of 15 degrees and 3 pixels. From each start that it names, the
candidate is turned by up to 7.5 degrees in steps of 2.5 and scaled by 0.93, 1 or 1.07, and for each
of these 21 poses every shift is tried by the Fourier transform. Five similarities come out, each
an absolute normalised cross-correlation (|NCC|):

- ``low``: of the low views under the circular mask;
- ``band``: of the band views under the circular mask;
- ``wide``: of the wide views under the circular mask;
- ``local``: the mean of the three best windows of 24x24 pixels of the band views, in the best
  poses of low and band. A lesion pasted into other surroundings shows here;
- ``fine``: of the fine views under the circular mask, in the best of those poses. A pose that is
  a pixel off shows nothing there, so that it is never searched by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medaug.privacy.pictures import QUIET, RADIUS, SIDE, Floats, disc, standardised
from medaug.privacy.poses import Pose

REACH = 8
TURNS = tuple(np.arange(-7.5, 7.6, 2.5).tolist())
SCALES = (0.93, 1.0, 1.07)
WINDOW = 24
STRIDE = 8
BEST_WINDOWS = 3

CHANNELS = ("low", "band", "wide", "local", "fine")
# The first three views are searched for their best pose, the fourth, fine, is not.
SEARCHED = 3
# A window whose gradients run in one direction only holds an edge; edges are alike by nature.
ONE_DIRECTION = 0.5

_PADDED = SIDE + REACH


@dataclass(frozen=True)
class Start:
    """A row of the gallery and a pose in which the candidate seems to lie on it."""

    row: int
    pose: Pose


class Real:
    """A real picture's views (4, 64, 64), prepared for the refinement.

    ``inverse`` is `inverse_norms` of the searched ones, (3, down, right).
    """

    def __init__(self, views: Floats, inverse: Floats) -> None:
        self.band = views[1]
        self.fine = views[SEARCHED]
        self.spectra = transform(views[:SEARCHED])
        self.inverse = inverse


def poses_around(pose: Pose) -> list[Pose]:
    """The 21 poses that are tried from a start; their shift is left to the Fourier transform."""
    return [
        Pose(pose.mirrored, (pose.degrees + turn) % 360, round(pose.scale * scale, 4), (0, 0))
        for turn in TURNS
        for scale in SCALES
    ]


def posed(views: Floats, poses: list[Pose]) -> Floats:
    """(view, pose, point): views (view, 64, 64) under the circular mask in poses without shift.

    Bilinear; beyond the border the border is repeated.
    """
    corner, lower, right = _bilinear(poses)
    flat = views.reshape(len(views), -1)
    stack = np.empty((len(views), *corner.shape), np.float32)
    for view, out in zip(flat, stack, strict=True):
        above, below = (_between(view, corner + down, right) for down in (0, SIDE))
        below -= above
        below *= lower
        np.add(above, below, out=out)
    return stack


def _between(view: Floats, corner: NDArray[np.int64], part: Floats) -> Floats:
    """Values of a flat view between each corner and its right neighbour."""
    # "clip" spares a search for indices out of bounds: there are none.
    first = np.take(view, corner, mode="clip")
    step = np.take(view, corner + 1, mode="clip")
    step -= first
    step *= part
    first += step
    return first


def _bilinear(poses: list[Pose]) -> tuple[NDArray[np.int64], Floats, Floats]:
    """(pose, point) each: the upper left pixel to read, and the parts below and right of it."""
    turns = np.deg2rad([pose.degrees for pose in poses])
    scales = np.array([pose.scale for pose in poses])
    sides = np.array([[-1.0 if pose.mirrored else 1.0] for pose in poses], np.float32)
    # Rows count downwards: this undoes a counter-clockwise turn as seen on a screen.
    cos, sin = ((f(turns) / scales)[:, None].astype(np.float32) for f in (np.cos, np.sin))
    down, right = _points()
    places = (cos * down + sin * right, (cos * right - sin * down) * sides)
    rows, columns = (np.clip(at + np.float32((SIDE - 1) / 2), 0, SIDE - 1.001) for at in places)
    corner_row, corner_column = rows.astype(np.int64), columns.astype(np.int64)
    rows -= corner_row
    columns -= corner_column
    corner_row *= SIDE
    corner_row += corner_column
    return corner_row, rows, columns


@cache
def _points() -> NDArray[np.float32]:
    """(2, 1, point): rows and columns of the pixels under the mask, from the centre."""
    places = np.argwhere(disc(SIDE, RADIUS)).T - (SIDE - 1) / 2
    return places[:, None].astype(np.float32)


def refined(
    views: Floats, starts: list[Start], real: dict[int, Real]
) -> tuple[NDArray[np.float64], list[tuple[Pose, ...]]]:
    """The similarities (start, channel) from each start, and the poses they were found in.

    Args:
        views: the candidate's low, band, wide and fine view, (4, 64, 64).
        starts: where stage 1 points to.
        real: what is known of each row that a start names.
    """
    values = np.zeros((len(starts), len(CHANNELS)))
    found: dict[int, tuple[Pose, ...]] = {}
    from_one_pose: dict[Pose, list[int]] = {}
    for number, start in enumerate(starts):
        from_one_pose.setdefault(start.pose, []).append(number)
    for pose, numbers in from_one_pose.items():
        around = poses_around(pose)
        templates = _laid_out(standardised(posed(views, around), axis=2))
        spectra = transform(templates[:SEARCHED]).conj()
        for number in numbers:
            values[number], found[number] = _fitted(
                around, templates, spectra, real[starts[number].row]
            )
    return values, [found[number] for number in range(len(starts))]


def _fitted(
    around: list[Pose], templates: Floats, spectra: NDArray[np.complex64], real: Real
) -> tuple[list[float], tuple[Pose, ...]]:
    """Per channel the best similarity over poses and shifts, and its pose.

    Args:
        around: the poses.
        templates: (view, pose, 64, 64), the candidate's views in them, of length 1.
        spectra: (view, pose, …), conjugate transforms of the searched ones.
        real: what it is laid on.
    """
    values, places = [], []
    for kind in range(SEARCHED):
        alike = at_shifts(spectra[kind] * real.spectra[kind])
        np.abs(alike, out=alike)
        alike *= real.inverse[kind]
        pose, down, right = np.unravel_index(int(np.argmax(alike)), alike.shape)
        values.append(float(alike[pose, down, right]))
        places.append((int(pose), int(down) - REACH, int(right) - REACH))
    local = [
        local_likeness(templates[1, pose], _shifted(real.band, down, right))
        for pose, down, right in dict.fromkeys(places[:2])
    ]
    poses = [replace(around[pose], shift=(down, right)) for pose, down, right in places]
    best = int(np.argmax(local))
    there = list(dict.fromkeys(places))
    fine = [_likeness(templates[SEARCHED, at], real.fine, move) for at, *move in there]
    finest = poses[places.index(there[int(np.argmax(fine))])]
    return [*values, local[best], max(fine)], (*poses, poses[best], finest)


def _likeness(template: Floats, real: Floats, move: list[int]) -> float:
    """|NCC| of a template of mean 0 and length 1 with a real view (64, 64) under it."""
    under = _shifted(real, *move)
    energy = np.square(under).sum() - np.square(under.sum()) / _field().sum()
    least = 1e-3 * np.square(real).mean() * _field().sum()
    return float(np.abs((template * under).sum()) / np.sqrt(energy)) if energy > least else 0.0


def local_likeness(one: Floats, other: Floats) -> float:
    """Mean of the three best NCCs, all of one sign, over windows of two band views (64, 64).

    A window in which ``other`` has one straight edge and nothing else counts as 0: it can be slid
    along itself, so any two of them agree (film borders, pleura). Told by the coherence of the
    structure tensor.
    """
    down, right = np.gradient(other)
    sums = _window_sums(
        np.stack(
            [
                *(one, other, one * one, other * other, one * other),
                *(down * down, right * right, down * right),
            ]
        )
    )
    n = WINDOW * WINDOW
    variances = sums[2:4] - np.square(sums[:2]) / n
    floors = QUIET * np.array([np.square(one).mean(), np.square(other).mean()])[:, None] * n
    scale = np.sqrt(np.maximum(variances[0], floors[0]) * np.maximum(variances[1], floors[1]))
    ncc = (sums[4] - sums[0] * sums[1] / n) / np.maximum(scale, 1e-12)
    total, difference = sums[5] + sums[6], sums[5] - sums[6]
    coherence = np.sqrt(np.square(difference) + 4 * np.square(sums[7])) / np.maximum(total, 1e-12)
    ranked = np.sort(np.where(coherence > ONE_DIRECTION, 0, ncc))
    return float(max(ranked[-BEST_WINDOWS:].mean(), -ranked[:BEST_WINDOWS].mean()))


def _window_sums(stack: Floats) -> NDArray[np.float64]:
    """(picture, window): sums over the windows."""
    strips = _strips()
    return (strips @ stack @ strips.T).reshape(len(stack), -1).astype(np.float64)


@cache
def _strips() -> Floats:
    """(strip, 64): which rows, or columns, belong to each strip of windows."""
    first = np.arange(0, SIDE - WINDOW + 1, STRIDE)[:, None]
    at = np.arange(SIDE)
    return ((at >= first) & (at < first + WINDOW)).astype(np.float32)


def _shifted(real: Floats, down: int, right: int) -> Floats:
    """The part of a real view (64, 64) that lies under a candidate shifted by (down, right)."""
    wide = np.zeros((SIDE + 2 * REACH, SIDE + 2 * REACH), np.float32)
    wide[REACH:-REACH, REACH:-REACH] = real
    first, left = REACH + down, REACH + right
    return _field() * wide[first : first + SIDE, left : left + SIDE]


@cache
def _field() -> Floats:
    return disc(SIDE, RADIUS).astype(np.float32)


def _laid_out(points: Floats) -> Floats:
    """(…, 64, 64) from the points under the mask; 0 elsewhere."""
    field = _field()
    # A point for every pixel, then the mask: faster than writing to the masked pixels.
    which = np.maximum(field.cumsum().astype(np.int64) - 1, 0)
    stack = np.take(points, which, axis=-1, mode="clip").reshape(*points.shape[:-1], SIDE, SIDE)
    stack *= field
    return stack


def transform(pictures: Floats) -> NDArray[np.complex64]:
    """Padded by zeros, so that a shift of up to `REACH` does not wrap round."""
    return np.asarray(scipy.fft.rfft2(pictures, (_PADDED, _PADDED)))


def at_shifts(product: NDArray[np.complex64]) -> Floats:
    """Correlations (…, down, right) at shifts -REACH … REACH from a product of transforms."""
    # Only the rows that are looked at go through the second half of the transform.
    columns = scipy.fft.ifft(product, axis=-2)
    kept = np.concatenate([columns[..., -REACH:, :], columns[..., : REACH + 1, :]], axis=-2)
    full = scipy.fft.irfft(kept, _PADDED, axis=-1, overwrite_x=True)
    return np.concatenate([full[..., -REACH:], full[..., : REACH + 1]], axis=-1)


def inverse_norms(views: Floats) -> Floats:
    """(view, down, right): 1 / length of a real view under the mask at each shift, mean removed.

    What lies outside the patch counts as zero; where hardly any contrast is left, 0.
    """
    field = _field()
    mask = transform(field).conj()
    energy = at_shifts(mask * transform(np.square(views)))
    energy -= np.square(at_shifts(mask * transform(views))) / field.sum()
    least = 1e-3 * field.sum() * np.square(views).mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt(np.where(energy > least, energy, 0))
    return np.where(norms > 0, 1 / np.maximum(norms, 1e-6), 0).astype(np.float32)
