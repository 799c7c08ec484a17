"""One phantom patient in memory: a pure function of the seed and the patient's number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medaug.domain import Geometry
from medaug.phantom.anatomy import Habitus, draw_abdomen
from medaug.phantom.dealing import lesions_of
from medaug.phantom.grid import Field, axial_geometry
from medaug.phantom.lesions import PhantomLesion, draw_lesion
from medaug.phantom.noise import band_noise
from medaug.phantom.placing import place_lesions
from medaug.phantom.vessels import draw_vessels

SIZE = 256  # columns and rows
EXTENT_MM = 132.0  # from the lowest slice to the highest, as far as 30 to 45 slices allow


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """A patient who does not exist.

    Attributes:
        seed: of the cohort.
        number: of the patient in the cohort, from 0.
        voxels: (i, j, k) int16, HU; i to the patient's left, j to the back, k to the head.
        geometry: the grid, in RAS mm.
        labels: (i, j, k) uint8; n where lesion n (counted from 1) fills at least half a voxel.
        lesions: what is true of each lesion, in the order of ``labels``.
        habitus: of the body and its blood and liver.
        noise: standard deviation of the CT noise in HU.
    """

    seed: int
    number: int
    voxels: NDArray[np.int16]
    geometry: Geometry
    labels: NDArray[np.uint8]
    lesions: tuple[PhantomLesion, ...]
    habitus: Habitus
    noise: float


@dataclass(frozen=True)
class Scan:
    """How a patient was scanned: mm and HU."""

    pixel: float
    slice: float
    noise: float
    noise_peak: float  # 1/mm
    blur: float  # standard deviation in the plane
    table: tuple[float, float, float]  # where the scanner's origin lies, in the patient's frame

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scan:
        """A scanner protocol."""
        x, y, z = rng.uniform([-8, -25, -300], [8, 25, 300])
        return cls(
            pixel=round(rng.uniform(0.65, 0.95), 3),
            slice=float(rng.choice([2.5, 3.0, 3.75, 4.0, 5.0])),
            noise=rng.uniform(6, 18),
            noise_peak=rng.uniform(0.18, 0.32),
            blur=rng.uniform(0.5, 0.9),
            table=(round(x, 1), round(y, 1), round(z, 1)),
        )


def make_patient(seed: int, number: int) -> PhantomPatient:
    """Make patient ``number`` of the cohort ``seed``; the same arguments, the same voxels.

    Args:
        seed: of the cohort, 0 or more.
        number: of the patient, 0 or more; a cohort of n patients has 0..n-1.
    """
    rng = np.random.default_rng([seed, number])
    scan, habitus = Scan.draw(rng), Habitus.draw(rng)
    slices = int(np.clip(round(EXTENT_MM / scan.slice), 30, 45))
    middle = (rng.uniform(52, 60), rng.uniform(-2, 8), rng.uniform(-4, 6))
    geometry = axial_geometry(SIZE, slices, scan.pixel, scan.slice, middle)

    voxels, liver = draw_abdomen(rng, geometry, habitus)
    draw_vessels(rng, voxels, geometry, liver, habitus)
    lesions = place_lesions(rng, lesions_of(seed, number), geometry, liver)
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    for order, lesion in enumerate(lesions, start=1):
        region, mask = draw_lesion(rng, voxels, geometry, lesion, habitus)
        labels[region][mask] = order

    shift = np.asarray(scan.table)
    return PhantomPatient(
        seed=seed,
        number=number,
        voxels=scanned(rng, voxels, scan),
        geometry=_moved(geometry, shift),
        labels=labels,
        lesions=tuple(
            replace(lesion, centre_mm=tuple((lesion.centre_mm + shift).tolist()))
            for lesion in lesions
        ),
        habitus=habitus,
        noise=scan.noise,
    )


def scanned(rng: np.random.Generator, voxels: Field, scan: Scan) -> NDArray[np.int16]:
    """Blur in the plane and add noise; int16 HU, not below -1024."""
    sigma = scan.blur / scan.pixel
    blurred = ndimage.gaussian_filter(voxels, (sigma, sigma, 0), truncate=3)
    noise = band_noise(rng, voxels.shape, scan.pixel, scan.noise_peak, between_slices=0.2)
    noisy = blurred + np.float32(scan.noise) * noise
    return np.asarray(np.clip(np.rint(noisy), -1024, 3071), dtype=np.int16)


def _moved(geometry: Geometry, shift: NDArray[np.float64]) -> Geometry:
    affine = geometry.affine.copy()
    affine[:3, 3] += shift
    return Geometry(geometry.shape, affine)
