"""The same lesion gives the same patch, however the volume is stored."""

import itertools

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medaug.domain import Case, Geometry, Lesion, Volume, lps_to_ras
from medaug.patching.extract import extract_patches
from medaug.patching.settings import PatchingSettings

VARIANTS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3))
)
MILLIMETRE = PatchingSettings(size=32, mm_per_pixel=1.0, margin_mm=2)


def restored(case: Case, order: tuple[int, ...], flips: tuple[bool, ...]) -> Case:
    """The same places and values in an array with other axes."""
    old = case.volume.geometry
    affine = old.affine[:, [*order, 3]].copy()
    shape = tuple(old.shape[axis] for axis in order)
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
            affine[:3, axis] *= -1
    geometry = Geometry(shape, affine)
    voxels = case.volume.read().transpose(order)[turn]
    lesion = case.lesions[0]
    box = []
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        part = lesion.box[source]
        box.append(slice(shape[axis] - part.stop, shape[axis] - part.start) if flip else part)
    mask = lesion.mask.transpose(order)[turn]
    volume = Volume.from_array(voxels, geometry, case.volume.modality, case.volume.unit)
    moved = Lesion(lesion.tracking_uid, lesion.label, lesion.patient, tuple(box), mask)
    return Case(case.key, case.patient, volume, (moved,))


class TestTheSamePatchWhateverTheAxes:
    """Rows run to the patient's back and columns to the patient's left, always."""

    def lopsided(self, make_case, cube) -> Case:
        """A lesion without symmetry in a volume without symmetry, on an anisotropic grid."""

        def inside(at):
            x, y, z = np.moveaxis(at, -1, 0)
            ellipsoid = (x / 9) ** 2 + (y / 6) ** 2 + ((z - 1) / 8) ** 2 <= 1
            return ellipsoid & (x + 2 * y + z < 9)

        def value(at):
            x, y, z = np.moveaxis(at, -1, 0)
            return 40 * np.sin(x / 5) + 3 * y - z + 0.02 * x * y

        return make_case(cube(64, (0.8, 1.3, 2.5)), value, inside)

    @pytest.mark.parametrize("slices", ["largest", "all", {"every": 2}])
    def test_all_48_storage_orders(self, make_case, cube, slices):
        case = self.lopsided(make_case, cube)
        wanted = MILLIMETRE.model_validate({**MILLIMETRE.model_dump(), "slices": slices})
        reference = list(extract_patches(case, wanted))
        assert len(VARIANTS) == 48
        for order, flips in VARIANTS:
            patches = list(extract_patches(restored(case, order, flips), wanted))
            assert len(patches) == len(reference)
            for patch, expected in zip(patches, reference, strict=True):
                np.testing.assert_allclose(patch.image, expected.image, atol=1e-3)
                np.testing.assert_array_equal(patch.mask, expected.mask)
                np.testing.assert_allclose(
                    patch.location.centre_mm, expected.location.centre_mm, atol=1e-9
                )
                assert patch.location.diameter_mm == pytest.approx(expected.location.diameter_mm)

    @settings(
        max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        spacing=st.tuples(*[st.floats(0.7, 2.5)] * 2, st.floats(1.0, 6.0)),
        mm_per_pixel=st.floats(0.5, 2.0),
        variant=st.sampled_from(VARIANTS),
        centre=st.tuples(*[st.floats(-4, 4)] * 3),
        angle=st.floats(-40, 40),
        tilt=st.floats(-15, 15),
    )
    def test_a_gradient_in_millimetres_comes_back_pixel_by_pixel(
        self, make_case, cube, ball, spacing, mm_per_pixel, variant, centre, angle, tilt
    ):
        """Interpolation and smoothing leave a linear field as it is, so its value tells the
        place of every patch pixel, on straight, oblique and sheared grids alike."""
        slope = np.array([2.0, 3.0, 0.5])
        straight = cube((110, 110, 40), spacing)
        turn, shear = np.eye(4), np.eye(4)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn[:2, :2] = [[cos, -sin], [sin, cos]]
        shear[1, 2] = np.tan(np.radians(tilt))  # a gantry tilt
        shear[1, 0] = 0.1
        geometry = Geometry(straight.shape, turn @ shear @ straight.affine)
        case = make_case(geometry, lambda at: at @ slope - 30, ball(16, centre))
        wanted = PatchingSettings(size=32, mm_per_pixel=mm_per_pixel, margin_mm=0)
        (patch,) = extract_patches(restored(case, *variant), wanted)

        left = -geometry.directions[:, 0]
        back = geometry.directions[:, 1] - (geometry.directions[:, 1] @ left) * left
        back *= -1 / np.linalg.norm(back)
        steps = (np.arange(32) - 15.5) * patch.location.mm_per_pixel
        at = (
            np.asarray(patch.location.centre_mm)
            + steps[:, None, None] * back
            + steps[None, :, None] * left
        )
        np.testing.assert_allclose(patch.image[0], at @ slope - 30, atol=0.02)

    def test_it_is_the_radiological_view(self, make_case, cube, ball):
        """Bright on the patient's left is bright on the right of the picture; the back is below."""
        to_left = make_case(cube(), lambda at: -at[..., 0], ball(10))
        to_back = make_case(cube(), lambda at: -at[..., 1], ball(10))
        (left,) = extract_patches(to_left, MILLIMETRE)
        (back,) = extract_patches(to_back, MILLIMETRE)
        assert (np.diff(left.image[0], axis=1) > 0.99).all()
        assert (np.diff(back.image[0], axis=0) > 0.99).all()


CUBE = PatchingSettings(size=32, mm_per_pixel=1.0, margin_mm=2, spatial_dims=3)


class TestTheSameCubeWhateverTheAxes:
    """Slices from feet to head, rows to the back, columns to the left, along the patient's axes."""

    def test_all_48_storage_orders(self, make_case, cube):
        case = TestTheSamePatchWhateverTheAxes().lopsided(make_case, cube)
        (reference,) = extract_patches(case, CUBE)
        assert reference.image.shape == (1, 32, 32, 32)
        assert reference.mask.shape == (32, 32, 32)
        for order, flips in VARIANTS:
            (patch,) = extract_patches(restored(case, order, flips), CUBE)
            np.testing.assert_allclose(patch.image, reference.image, atol=1e-3)
            # Half covered is a matter of rounding.
            assert (patch.mask != reference.mask).sum() <= 2
            np.testing.assert_allclose(
                patch.location.centre_mm, reference.location.centre_mm, atol=1e-9
            )

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        spacing=st.tuples(*[st.floats(0.7, 2.5)] * 2, st.floats(1.0, 4.0)),
        mm_per_pixel=st.floats(0.5, 1.5),
        variant=st.sampled_from(VARIANTS),
        angles=st.tuples(*[st.floats(-25, 25)] * 3),
        tilt=st.floats(-15, 15),
    )
    def test_a_gradient_in_millimetres_comes_back_voxel_by_voxel(
        self, make_case, cube, ball, spacing, mm_per_pixel, variant, angles, tilt
    ):
        slope = np.array([2.0, 3.0, 1.5])
        straight = cube((110, 110, 110), spacing)
        geometry = Geometry(straight.shape, turned(*angles, tilt) @ straight.affine)
        case = make_case(geometry, lambda at: at @ slope - 30, ball(14, (3, -2, 1)))
        wanted = PatchingSettings(size=32, mm_per_pixel=mm_per_pixel, margin_mm=0, spatial_dims=3)
        (patch,) = extract_patches(restored(case, *variant), wanted)
        np.testing.assert_allclose(patch.image[0], voxels(patch) @ slope - 30, atol=0.03)

    @pytest.mark.parametrize("variant", VARIANTS[::7])
    def test_a_marker_lies_where_it_was_planted(self, make_case, cube, ball, variant):
        """7 mm towards the head, 3 mm to the back and 5 mm to the right of the centre."""
        turn = turned(10, -20, 15, 5)
        geometry = Geometry((90, 80, 70), turn @ cube((90, 90, 90), (1.0, 1.1, 1.3)).affine)
        planted = np.array([5.0, -3.0, 7.0])  # RAS

        def value(at):
            return 1000 * np.exp(-(((at - planted) / 1.5) ** 2).sum(axis=-1) / 2)

        case = make_case(geometry, value, ball(14))
        (patch,) = extract_patches(restored(case, *variant), CUBE)
        planted_at = (planted - patch.location.centre_mm) @ TO_HEAD_BACK_LEFT.T + 15.5
        assert planted_at[0] > 20
        assert planted_at[2] < 12
        weight = patch.image[0] / patch.image[0].sum()
        found = [(weight * axis).sum() for axis in np.indices(weight.shape)]
        np.testing.assert_allclose(found, planted_at, atol=0.1)

    def test_as_simpleitk_resamples(self, make_case, cube, ball):
        """An oblique, anisotropic grid, cut by an independent implementation."""
        geometry = Geometry((60, 66, 40), turned(12, 8, -20, 0) @ cube(64, (1.3, 1.2, 2.0)).affine)

        def value(at):
            x, y, z = np.moveaxis(at, -1, 0)
            return 100 * np.sin(x / 4) * np.cos(y / 5) + 30 * np.sin(z / 3)

        case = make_case(geometry, value, ball(14))
        (patch,) = extract_patches(case, CUBE)
        source = SimpleITK.GetImageFromArray(case.volume.read().transpose(2, 1, 0))
        lps = lps_to_ras(geometry.affine)
        source.SetSpacing(geometry.spacing)
        source.SetOrigin(lps[:3, 3].tolist())
        source.SetDirection((lps[:3, :3] / geometry.spacing).ravel().tolist())
        corner = voxels(patch)[0, 0, 0] * [-1, -1, 1]
        expected = SimpleITK.Resample(
            source,
            [32, 32, 32],
            SimpleITK.Transform(),
            SimpleITK.sitkBSpline,
            corner.tolist(),
            [1.0, 1.0, 1.0],
            [1.0, 0, 0, 0, 1, 0, 0, 0, 1],  # to the left, the back and the head
        )
        np.testing.assert_allclose(patch.image[0], SimpleITK.GetArrayFromImage(expected), atol=0.1)


TO_HEAD_BACK_LEFT = np.array([[0.0, 0, 1], [0, -1, 0], [-1, 0, 0]])


def turned(yaw: float, pitch: float, roll: float, tilt: float) -> np.ndarray:
    """(4, 4): a rotation by three angles in degrees after a shear, as by a gantry tilt."""
    turn = np.eye(4)
    for (first, second), angle in zip(((0, 1), (1, 2), (0, 2)), (yaw, pitch, roll), strict=True):
        one = np.eye(4)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        one[np.ix_([first, second], [first, second])] = [[cos, -sin], [sin, cos]]
        turn = turn @ one
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.radians(tilt))
    return turn @ shear


def voxels(patch) -> np.ndarray:
    """(slice, row, column, 3) RAS mm of every voxel of a cube."""
    steps = (np.moveaxis(np.indices(patch.mask.shape), 0, -1) - (len(patch.mask) - 1) / 2) * (
        patch.location.mm_per_pixel
    )
    return np.asarray(patch.location.centre_mm) + steps @ TO_HEAD_BACK_LEFT
