"""Analytic volumes: a value and a lesion for every place in mm, sampled on any grid."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from medaug.domain import Case, Geometry, Lesion, PatientKey, Unit, Volume

PATIENT = PatientKey("0" * 32)
Field = Callable[[NDArray[np.float64]], NDArray]


def places(geometry: Geometry) -> NDArray[np.float64]:
    """(i, j, k, 3) RAS mm of every voxel."""
    return geometry.world(np.moveaxis(np.indices(geometry.shape), 0, -1))


def lesion_of(outline: NDArray[np.bool_], label: str = "cyst", uid: str = "2.25.1") -> Lesion:
    corners = np.argwhere(outline)
    low, high = corners.min(axis=0).tolist(), (corners.max(axis=0) + 1).tolist()
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    return Lesion(uid, label, PATIENT, box, outline[box])


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """``make_case(geometry, value, inside)``: functions of (..., 3) mm give voxels and outline."""

    def case(geometry: Geometry, value: Field, inside: Field) -> Case:
        at = places(geometry)
        volume = Volume.from_array(
            np.asarray(value(at), np.float32), geometry, "CT", Unit.HOUNSFIELD
        )
        return Case("case", PATIENT, volume, (lesion_of(inside(at)),))

    return case


@pytest.fixture
def ball() -> Callable[..., Field]:
    """``ball(diameter, centre)``: whether a place lies in it; ``depth`` stretches it along z."""

    def make(diameter: float, centre=(0.0, 0.0, 0.0), depth: float = 1.0) -> Field:
        stretch = np.array([1.0, 1.0, depth])
        return lambda at: (
            np.linalg.norm((at - np.asarray(centre)) / stretch, axis=-1) <= diameter / 2
        )

    return make


@pytest.fixture
def cube() -> Callable[..., Geometry]:
    """``cube(side, spacing)``: about ``side`` mm along each axis; a voxel lies on the origin."""

    def make(side=80.0, spacing=(1.0, 1.0, 2.0)) -> Geometry:
        lengths = np.broadcast_to(side, 3)
        shape = [
            max(3, round(length / step) | 1) for length, step in zip(lengths, spacing, strict=True)
        ]
        origin = [-(n - 1) / 2 * step for n, step in zip(shape, spacing, strict=True)]
        return Geometry.from_spacing(shape, spacing, origin)

    return make
