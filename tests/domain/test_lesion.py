"""A lesion fills its box, and a case holds one patient."""

import numpy as np
import pytest

from medaug.domain import Case, Geometry, Lesion, PatientKey, Unit, Volume

ONE, OTHER = PatientKey("1" * 32), PatientKey("2" * 32)
BOX = (slice(1, 3), slice(0, 2), slice(2, 4))


def case_with(*lesions: Lesion) -> Case:
    geometry = Geometry.from_spacing((4, 4, 4), (0.5, 0.5, 3.0))
    voxels = np.zeros(geometry.shape, np.float32)
    return Case("case", ONE, Volume.from_array(voxels, geometry, "CT", Unit.HOUNSFIELD), lesions)


def test_volume_counts_the_mask_or_else_the_box():
    geometry = Geometry.from_spacing((4, 4, 4), (0.5, 0.5, 3.0))
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0] = True
    assert Lesion("2.25.1", "cyst", ONE, BOX, mask).volume_mm3(geometry) == pytest.approx(2 * 0.75)
    assert Lesion("2.25.1", "cyst", ONE, BOX).volume_mm3(geometry) == pytest.approx(8 * 0.75)


@pytest.mark.parametrize("mask", [np.zeros((2, 2, 2), bool), np.ones((2, 2, 3), bool)])
def test_a_mask_fills_its_box(mask):
    with pytest.raises(ValueError, match="fills its box"):
        Lesion("2.25.1", "cyst", ONE, BOX, mask)


def test_a_case_holds_one_patient():
    with pytest.raises(ValueError, match="another patient"):
        case_with(Lesion("2.25.1", "cyst", OTHER, BOX))


@pytest.mark.parametrize("part", [slice(3, 5), slice(-1, 1)])
def test_a_lesion_lies_in_its_volume(part):
    with pytest.raises(ValueError, match="outside the volume"):
        case_with(Lesion("2.25.1", "cyst", ONE, (part, *BOX[1:])))
