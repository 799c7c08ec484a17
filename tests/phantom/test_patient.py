import numpy as np
import pytest
from scipy import ndimage

from medaug.phantom import make_patient
from medaug.phantom.dealing import lesions_of


@pytest.fixture(scope="module", params=[0, 3, 8, 13])
def patient(request: pytest.FixtureRequest):
    return make_patient(seed=4, number=request.param)


class TestPatient:
    def test_same_arguments_same_voxels(self) -> None:
        one, other = make_patient(2, 5), make_patient(2, 5)
        assert np.array_equal(one.voxels, other.voxels)
        assert np.array_equal(one.labels, other.labels)
        assert one.lesions == other.lesions
        assert not np.array_equal(one.voxels, make_patient(3, 5).voxels)

    def test_scan_is_like_abdominal_ct(self, patient) -> None:
        dx, dy, dz = patient.geometry.spacing
        assert 0.65 <= dx == dy <= 0.95
        assert 2.5 <= dz <= 5
        assert 6 <= patient.noise <= 18
        assert patient.voxels.shape[:2] == (256, 256)
        assert 30 <= patient.voxels.shape[2] <= 45
        assert (np.diag(patient.geometry.affine)[:3] * (-1, -1, 1) > 0).all()
        assert 60 <= patient.habitus.parenchyma <= 130

    def test_every_lesion_is_one_piece_where_it_should_be(self, patient) -> None:
        assert sorted(lesion.kind for lesion in patient.lesions) == sorted(
            lesions_of(patient.seed, patient.number)
        )
        assert patient.labels.max() == len(patient.lesions)
        for order, lesion in enumerate(patient.lesions, start=1):
            mask = patient.labels == order
            assert ndimage.label(mask)[1] == 1
            centroid = patient.geometry.world(np.argwhere(mask)).mean(axis=0)
            assert np.linalg.norm(centroid - lesion.centre_mm) < 1.5
            volume = mask.sum() * patient.geometry.voxel_mm3
            assert volume == pytest.approx(np.pi / 6 * lesion.diameter_mm**3, rel=0.3)

    def test_lesions_do_not_touch(self, patient) -> None:
        # Even corner to corner, so that a reader that splits by connection finds them all.
        everything = ndimage.label(patient.labels > 0, structure=np.ones((3, 3, 3)))[1]
        assert everything == len(patient.lesions)

    def test_lesions_lie_in_liver(self, patient) -> None:
        for order, _ in enumerate(patient.lesions, start=1):
            mask = patient.labels == order
            near = ndimage.binary_dilation(mask, iterations=4) & (patient.labels == 0)
            # Fat is -100 and lung -860: neither surrounds a lesion.
            assert abs(np.median(patient.voxels[near]) - patient.habitus.parenchyma) < 20, (
                "the median around a lesion is liver"
            )

    def test_liver_has_brighter_veins(self, patient) -> None:
        smooth = ndimage.gaussian_filter(patient.voxels.astype(np.float32), (1, 1, 0))
        veins = np.abs(smooth - patient.habitus.blood) < 12
        assert veins.mean() > 0.002
        assert patient.habitus.blood - patient.habitus.parenchyma >= 25
