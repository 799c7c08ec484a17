"""Stage 2 of the copy detector: how alike two pictures are once one is laid on the other well.

Stage 1 knows poses in steps of 15 degrees and 3 pixels. From each start that it names, the
candidate is turned by up to 7.5 degrees in steps of 2.5 and scaled by 0.93, 1 or 1.07, and for each
of these 21 poses every shift is tried by the Fourier transform. Four similarities come out, each
an absolute normalised cross-correlation (|NCC|):

- ``low``: of the low views under the circular mask;
- ``band``: of the band views under the circular mask;
- ``wide``: of the wide views under the circular mask;
- ``local``: the mean of the three best windows of 24x24 pixels of the band views, in the best
  poses of low and band. A lesion pasted into other surroundings shows here.
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

CHANNELS = ("low", "band", "wide", "local")
_VIEWS = 3
# A window whose gradients run in one direction only holds an edge; edges are alike by nature.
ONE_DIRECTION = 0.5

_PADDED = SIDE + REACH


@dataclass(frozen=True)
class Start:
    """A row of the gallery and a pose in which the candidate seems to lie on it."""

    row: int
    pose: Pose


class Real:
    """A real picture's views (3, 64, 64), prepared for the refinement."""

    def __init__(self, views: Floats) -> None:
        self.band = views[1]
        self.spectra = [transform(view) for view in views]
        norms = [norms_at_shifts(view) for view in views]
        self.inverse = [np.where(norm > 0, 1 / np.maximum(norm, 1e-6), 0) for norm in norms]


def poses_around(pose: Pose) -> list[Pose]:
    """The 21 poses that are tried from a start; their shift is left to the Fourier transform."""
    return [
        Pose(pose.mirrored, (pose.degrees + turn) % 360, round(pose.scale * scale, 4), (0, 0))
        for turn in TURNS
        for scale in SCALES
    ]


def posed(views: NDArray[np.complex64], poses: list[Pose]) -> NDArray[np.complex64]:
    """(pose, point): a picture (64, 64) under the circular mask in poses without shift.

    Low and band travel as real and imaginary part, so that both are sampled at once (bilinear;
    beyond the border the border is repeated).
    """
    turns = np.deg2rad([pose.degrees for pose in poses])
    scales = np.array([pose.scale for pose in poses])
    sides = np.array([[-1.0 if pose.mirrored else 1.0] for pose in poses], np.float32)
    cos, sin = (f(turns)[:, None].astype(np.float32) for f in (np.cos, np.sin))
    down, right = (_points() / scales[None, :, None]).astype(np.float32)
    # Rows count downwards: this undoes a counter-clockwise turn as seen on a screen.
    places = (
        cos * down + sin * right,
        (cos * right - sin * down) * sides,
    )
    rows, columns = (np.clip(at + np.float32((SIDE - 1) / 2), 0, SIDE - 1.001) for at in places)
    corner_row, corner_column = rows.astype(np.int32), columns.astype(np.int32)
    rows -= corner_row
    columns -= corner_column
    corner = corner_row * SIDE + corner_column
    flat = views.reshape(-1)
    upper = flat[corner] * (1 - columns) + flat[corner + 1] * columns
    lower = flat[corner + SIDE] * (1 - columns) + flat[corner + SIDE + 1] * columns
    return np.asarray(upper * (1 - rows) + lower * rows, np.complex64)


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
        views: the candidate's low, band and wide view, (3, 64, 64).
        starts: where stage 1 points to.
        real: what is known of each row that a start names.
    """
    around = [poses_around(start.pose) for start in starts]
    wanted = list(dict.fromkeys(pose for poses in around for pose in poses))
    at = {pose: number for number, pose in enumerate(wanted)}
    both = posed(np.asarray(views[0] + 1j * views[1], np.complex64), wanted)
    wide = posed(np.asarray(views[2], np.complex64), wanted).real
    looks = (both.real, both.imag, wide)
    templates = [_laid_out(standardised(look, axis=1)) for look in looks]
    spectra = [transform(stack).conj() for stack in templates]
    values = np.zeros((len(starts), len(CHANNELS)))
    found: list[tuple[Pose, ...]] = []
    for number, start in enumerate(starts):
        which = [at[pose] for pose in around[number]]
        one = real[start.row]
        places = []
        for kind in range(_VIEWS):
            alike = np.abs(at_shifts(spectra[kind][which] * one.spectra[kind])) * one.inverse[kind]
            pose, down, right = np.unravel_index(int(np.argmax(alike)), alike.shape)
            values[number, kind] = alike[pose, down, right]
            places.append((int(pose), int(down) - REACH, int(right) - REACH))
        local = [
            local_likeness(templates[1][which[pose]], _shifted(one.band, down, right))
            for pose, down, right in places[:2]
        ]
        values[number, _VIEWS] = max(local)
        poses = [replace(around[number][pose], shift=(down, right)) for pose, down, right in places]
        found.append((*poses, poses[int(np.argmax(local))]))
    return values, found


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
    """(picture, window): sums over the windows, from blocks of one stride."""
    blocks = SIDE // STRIDE
    sums = stack.reshape(-1, blocks, STRIDE, blocks, STRIDE).sum(axis=(2, 4), dtype=np.float64)
    wide = WINDOW // STRIDE
    windows = np.lib.stride_tricks.sliding_window_view(sums, (wide, wide), axis=(1, 2))
    return np.asarray(windows.sum(axis=(3, 4)).reshape(len(stack), -1))


def _shifted(real: Floats, down: int, right: int) -> Floats:
    """The part of a real view (64, 64) that lies under a candidate shifted by (down, right)."""
    wide = np.pad(real, REACH)
    return (
        disc(SIDE, RADIUS)
        * wide[REACH + down : REACH + down + SIDE, REACH + right : REACH + right + SIDE]
    )


def _laid_out(points: Floats) -> Floats:
    """(pose, 64, 64) from the points under the mask; 0 elsewhere."""
    stack = np.zeros((len(points), SIDE * SIDE), np.float32)
    stack[:, np.flatnonzero(disc(SIDE, RADIUS))] = points
    return stack.reshape(-1, SIDE, SIDE)


def transform(pictures: Floats) -> NDArray[np.complex64]:
    """Padded by zeros, so that a shift of up to `REACH` does not wrap round."""
    return np.asarray(scipy.fft.rfft2(pictures, (_PADDED, _PADDED)))


def at_shifts(product: NDArray[np.complex64]) -> Floats:
    """Correlations (…, down, right) at shifts -REACH … REACH from a product of transforms."""
    full = scipy.fft.irfft2(product, (_PADDED, _PADDED))
    at = np.arange(-REACH, REACH + 1)
    return np.asarray(full[..., at[:, None], at[None, :]], dtype=np.float32)


def norms_at_shifts(view: Floats) -> Floats:
    """(down, right): length of a real view under the mask at each shift, its mean there removed.

    What lies outside the patch counts as zero.
    """
    field = disc(SIDE, RADIUS).astype(np.float32)
    mask = transform(field).conj()
    energy = at_shifts(mask * transform(np.square(view)))
    energy -= np.square(at_shifts(mask * transform(view))) / field.sum()
    enough = energy > 1e-3 * field.sum() * np.square(view).mean()
    return np.sqrt(np.where(enough, energy, 0))
