"""The look of each kind, on a plain liver without noise, where every HU is known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage, stats

from medaug.phantom.anatomy import Habitus
from medaug.phantom.dealing import KINDS, Kind
from medaug.phantom.grid import axial_geometry
from medaug.phantom.lesions import PhantomLesion, draw_lesion
from medaug.phantom.lobed import FURTHEST, LobedShape
from medaug.phantom.placing import GAP_MM, LARGEST_MM, SMALLEST_MM, place_lesions

LIVER = 115.0
HABITUS = Habitus(parenchyma=LIVER, blood=165.0, trunk=(160.0, 110.0), fat=12.0, liver=1.0)


def painted(kind: Kind, seed: int, diameter: float = 28.0, slice_mm: float = 2.5):
    """HU, mask and distances (mm) inside and outside the mask, of one lesion in a plain liver."""
    geometry = axial_geometry(120, round(110 / slice_mm), 0.8, slice_mm, (40.0, 0.0, 10.0))
    voxels = np.full(geometry.shape, LIVER, dtype=np.float32)
    lesion = PhantomLesion(kind, (41.3, -2.2, 8.7), diameter)
    region, mask = draw_lesion(np.random.default_rng(seed), voxels, geometry, lesion, HABITUS)
    whole = np.zeros(geometry.shape, dtype=bool)
    whole[region] = mask
    depth = ndimage.distance_transform_edt(whole, sampling=geometry.spacing)
    away = ndimage.distance_transform_edt(~whole, sampling=geometry.spacing)
    return geometry, voxels, whole, depth, away


@pytest.mark.parametrize("seed", range(5))
class TestLook:
    def test_cyst_is_water_and_homogeneous(self, seed: int) -> None:
        _, voxels, _, depth, _ = painted("cyst", seed)
        inside = voxels[depth > 3]
        assert 0 <= inside.mean() <= 15
        assert inside.std() < 0.1

    def test_metastasis_is_hypodense(self, seed: int) -> None:
        _, voxels, _, depth, _ = painted("metastasis", seed)
        core, all_of_it = voxels[depth > 8].mean(), voxels[depth > 0].mean()
        # 40-80 HU; a necrotic centre (10-35 HU) pulls the mean down, a rim pulls it up.
        assert 10 <= core <= 85
        assert 35 <= all_of_it <= LIVER - 5

    def test_haemangioma_enhances_in_nodules_near_the_border(self, seed: int) -> None:
        _, voxels, mask, depth, _ = painted("haemangioma", seed)
        enhanced = mask & (voxels > LIVER + 15)
        assert 0.02 < enhanced.sum() / mask.sum() < 0.7
        assert HABITUS.blood - 20 <= np.percentile(voxels[enhanced], 99) <= HABITUS.blood
        shell, centre = mask & (depth < 6), mask & (depth > 8)
        assert enhanced[shell].mean() > enhanced[centre].mean()
        # Discontinuous: between the nodules there is unenhanced tissue.
        assert (voxels[shell] < LIVER - 10).mean() > 0.1
        assert 40 - 15 <= np.percentile(voxels[mask], 5) <= 80


def test_cyst_is_sharp_and_metastasis_is_ill_defined() -> None:
    def spread(kind: Kind) -> float:
        """By how many HU the liver is changed 1.7-3 mm outside the border."""
        changes = []
        for seed in range(8):
            _, voxels, _, _, away = painted(kind, seed)
            changes.append(np.abs(voxels[(away > 1.7) & (away < 3)] - LIVER).mean())
        return float(np.mean(changes))

    assert spread("cyst") < 2
    assert spread("metastasis") > 4 * spread("cyst")


class TestShape:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("diameter", [12.0, 30.0, 58.0])
    def test_volume_and_centroid_are_as_stated(self, kind: Kind, diameter: float) -> None:
        geometry, _, mask, _, _ = painted(kind, 3, diameter, slice_mm=1.5)
        volume = mask.sum() * geometry.voxel_mm3
        assert volume == pytest.approx(np.pi / 6 * diameter**3, rel=0.04)
        centroid = geometry.world(np.argwhere(mask)).mean(axis=0)
        assert np.linalg.norm(centroid - (41.3, -2.2, 8.7)) < 0.3

    @pytest.mark.parametrize("seed", range(20))
    def test_lesions_lie_within_the_furthest_reach(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = LobedShape.draw(rng, np.zeros(3), 20.0, lobes=0.2)
        directions = rng.standard_normal((500, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        distance = np.linalg.norm(shape.within(directions, 1.0), axis=1)
        assert distance.max() < 10 * FURTHEST * 1.02
        assert distance.max() - distance.min() > 1, "a lobed shape is no ball"

    def test_thick_slices_blur_along_z(self) -> None:
        # The slices above and below a lesion hold part of it and part of the liver.
        geometry, voxels, mask, _, _ = painted("cyst", 1, 20.0, slice_mm=5.0)
        i, j, _ = np.rint(geometry.index((41.3, -2.2, 8.7))).astype(int)
        column = voxels[i, j]
        mixed = (column > 20) & (column < LIVER - 5)
        assert 1 <= mixed.sum() <= 2
        assert mask[i, j].sum() in (3, 4, 5)


class TestPlaces:
    def placed(self, kinds: tuple[Kind, ...], seed: int):
        geometry = axial_geometry(180, 40, 0.9, 3.5, (0.0, 0.0, 0.0))
        x, y, z = (geometry.world(np.indices(geometry.shape).reshape(3, -1).T)).T
        depth = (65 - np.sqrt(x**2 + y**2 + z**2)).reshape(geometry.shape).astype(np.float32)
        return place_lesions(np.random.default_rng(seed), kinds, geometry, depth)

    @pytest.mark.parametrize("seed", range(10))
    def test_inside_and_apart(self, seed: int) -> None:
        lesions = self.placed(("cyst", "cyst", "metastasis", "haemangioma"), seed)
        for lesion in lesions:
            reach = FURTHEST * lesion.diameter_mm / 2
            # 4 mm for the coarse grid on which room is searched.
            assert np.linalg.norm(lesion.centre_mm) + reach <= 65 + 4
        ordered = sorted(lesions, key=lambda lesion: -lesion.diameter_mm)
        for at, one in enumerate(ordered):
            for other in ordered[at + 1 :]:
                apart = np.linalg.norm(np.subtract(one.centre_mm, other.centre_mm))
                reach = FURTHEST * (one.diameter_mm + other.diameter_mm) / 2
                assert apart >= reach + GAP_MM - 4

    def test_sizes_are_log_uniform_and_say_nothing_of_the_kind(self) -> None:
        sizes: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for seed in range(50):
            for lesion in self.placed(KINDS, seed):
                sizes[lesion.kind].append(lesion.diameter_mm)
        everything = np.concatenate(list(sizes.values()))
        assert everything.min() >= SMALLEST_MM * 0.8
        assert everything.max() <= LARGEST_MM
        assert np.quantile(everything, 0.5) == pytest.approx(np.sqrt(8 * 60), rel=0.2)
        for one, other in pairwise(KINDS):
            assert stats.ks_2samp(sizes[one], sizes[other]).pvalue > 0.01
