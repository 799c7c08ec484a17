"""What a lesion shows in a slice, against the obvious and slow way to measure it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import pdist

from medaug.domain import Geometry, Lesion, PatientKey
from medaug.domain.section import longest_diameter, sections

PATIENT = PatientKey("0" * 32)


def lesion_of(mask, **known):
    box = tuple(slice(2, 2 + size) for size in mask.shape)
    return Lesion("1.2", "cyst", PATIENT, box, mask, **known)


@given(
    arrays.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7), st.just(1))),
    st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
)
def test_the_diameter_is_the_longest_between_all_edge_middles(mask, spacing):
    mask = np.array(mask)
    mask[0, 0] = True
    geometry = Geometry.from_spacing((20, 20, 20), (*spacing, 5.0))
    middles = (np.argwhere(mask)[:, None, :2] + [[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]]).reshape(
        -1, 2
    )
    (section,) = sections(lesion_of(mask), geometry)
    assert section.diameter == pytest.approx(pdist(middles * spacing).max())


def test_the_longest_of_any_slice_counts():
    mask = np.zeros((9, 5, 2), bool)
    mask[0, 0, 0] = mask[:7, 2, 1] = True
    geometry = Geometry.from_spacing((20, 20, 20), (2.0, 1.0, 30.0))
    assert longest_diameter(lesion_of(mask), geometry) == pytest.approx(14.0)


def test_a_point_has_the_diameter_that_the_source_states():
    geometry = Geometry.from_spacing((20, 20, 20), (1.0, 1.0, 1.0))
    box = (slice(4, 9), slice(4, 9), slice(4, 9))
    assert longest_diameter(Lesion("1.2", "a", PATIENT, box, diameter_mm=4.6), geometry) == 4.6
    assert longest_diameter(Lesion("1.2", "a", PATIENT, box), geometry) == 0.0


@pytest.mark.parametrize("diameter", [0.0, -1.0, np.inf, np.nan])
def test_a_diameter_is_a_positive_number(diameter):
    with pytest.raises(ValueError, match="positive number of mm"):
        lesion_of(np.ones((1, 1, 1), bool), diameter_mm=diameter)
