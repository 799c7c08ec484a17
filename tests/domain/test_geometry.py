"""The laws of the grid."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medaug.domain import Geometry, lps_to_ras

coordinates = st.floats(-300, 300)


@st.composite
def geometries(draw) -> Geometry:
    shape = draw(st.tuples(*[st.integers(1, 60)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    turn = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-2, 2)] * 3))).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 1] += 0.2 * affine[:3, 2] * draw(st.floats(-1, 1))  # shear
    affine[:3, 3] = draw(st.tuples(*[coordinates] * 3))
    return Geometry(shape, affine)


class TestPlaces:
    """An index has one place, and a place one index."""

    @given(geometries(), st.lists(st.tuples(*[coordinates] * 3), min_size=1, max_size=5))
    def test_world_and_index_undo_one_another(self, geometry, places):
        at = np.array(places)
        np.testing.assert_allclose(geometry.world(geometry.index(at)), at, atol=1e-6)
        np.testing.assert_allclose(geometry.index(geometry.world(at)), at, atol=1e-6)

    @given(geometries())
    def test_spacing_is_the_distance_of_neighbours(self, geometry):
        here = geometry.world((3, 4, 5))
        steps = [geometry.world(np.add((3, 4, 5), np.eye(3)[axis])) - here for axis in range(3)]
        np.testing.assert_allclose(geometry.spacing, np.linalg.norm(steps, axis=1), atol=1e-6)
        volume = abs(np.dot(steps[0], np.cross(steps[1], steps[2])))
        assert geometry.voxel_mm3 == pytest.approx(volume, rel=1e-4)

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_axial_axis_runs_to_the_head(self, order, sign):
        linear = np.zeros((3, 3))
        for axis, world in enumerate(order):
            linear[world, axis] = sign * (axis + 0.5)
        affine = np.eye(4)
        affine[:3, :3] = linear
        assert Geometry((2, 2, 2), affine).axial_axis == order.index(2)


class TestConvention:
    @given(geometries())
    def test_lps_to_ras_is_its_own_inverse(self, geometry):
        np.testing.assert_array_equal(lps_to_ras(lps_to_ras(geometry.affine)), geometry.affine)

    def test_left_and_back_change_sign_and_head_does_not(self):
        place = lps_to_ras(np.diag([1.0, 1.0, 1.0, 1.0])) @ [10, 20, 30, 1]
        assert place.tolist() == [-10, -20, 30, 1]

    def test_a_picture_lies_as_it_is_looked_at(self):
        picture = Geometry.of_pixels(width=7, height=5)
        assert picture.shape == (7, 5, 1)
        assert not picture.in_millimetres
        assert picture.directions[:, 0].tolist() == [-1, 0, 0]  # columns to the left
        assert picture.directions[:, 1].tolist() == [0, -1, 0]  # rows to the back

    def test_a_picture_in_millimetres_has_no_thickness(self):
        picture = Geometry.of_picture(width=7, height=5, spacing=(0.1, 0.3))
        assert (picture.shape, picture.in_millimetres, picture.flat) == ((7, 5, 1), True, True)
        assert picture.world((2, 3, 0)) == pytest.approx((-0.2, -0.9, 0))
        assert Geometry.of_pixels(7, 5).flat
        assert not Geometry((7, 5, 1), picture.affine).same_grid(picture)
        with pytest.raises(ValueError, match="a flat grid has one slice"):
            Geometry((7, 5, 2), np.eye(4), flat=True)


class TestSameGrid:
    @given(geometries(), st.sampled_from([0.004, 0.02]), st.integers(0, 2))
    def test_a_shift_within_the_tolerance(self, geometry, shift, axis):
        moved = geometry.affine.copy()
        moved[axis, 3] += shift
        assert geometry.same_grid(Geometry(geometry.shape, moved)) == (shift < 0.01)

    def test_an_angle_counts_at_the_far_corner(self):
        geometry = Geometry.from_spacing((512, 512, 100), (1, 1, 1))
        turned = geometry.affine.copy()
        turned[1, 0] += 1e-4  # 0.05 mm at the end of a row
        assert not geometry.same_grid(Geometry(geometry.shape, turned))
        turned[1, 0] = 1e-6
        assert geometry.same_grid(Geometry(geometry.shape, turned))

    def test_shape_and_unit_count(self):
        geometry = Geometry.from_spacing((4, 4, 4), (1, 1, 1))
        assert not geometry.same_grid(Geometry.from_spacing((4, 4, 5), (1, 1, 1)))
        assert not geometry.same_grid(Geometry((4, 4, 4), np.eye(4), in_millimetres=False))


class TestRefusals:
    @pytest.mark.parametrize(
        ("shape", "affine", "words"),
        [
            ((2, 2, 2), np.eye(3), "4x4"),
            ((2, 2, 2), np.diag([1, 1, np.nan, 1]), "finite"),
            ((2, 2, 2), np.diag([1, 1, 1, 2.0]), "last row"),
            ((2, 0, 2), np.eye(4), "positive sizes"),
            ((2, 2), np.eye(4), "positive sizes"),
            ((2, 2, 2), np.diag([1, 1, 0, 1.0]), "singular"),
        ],
    )
    def test_no_such_grid(self, shape, affine, words):
        with pytest.raises(ValueError, match=words):
            Geometry(shape, affine)

    def test_the_affine_cannot_be_changed(self):
        geometry = Geometry.from_spacing((2, 2, 2), (1, 1, 1))
        with pytest.raises(ValueError, match="read-only"):
            geometry.affine[0, 0] = 5
