"""The same lesion gives the same patch, however the volume is stored."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medaug.domain import Case, Geometry, Lesion, Volume
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
