"""Rendered patches look like the cohort's, by a seed each, and nothing else is rendered."""

import numpy as np
import pytest
from scipy import ndimage

from medaug.domain import Unit
from medaug.errors import SettingsError
from medaug.phantom.dealing import KINDS, Kind
from medaug.phantom.rendering import MARGIN_MM, lesion_renderer, render_lesion


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "mm"), [(64, 1.0), (32, 2.5), (48, 0.8)])
class TestPatch:
    """Any size, any pixel size; the lesion is in the middle, whole and with a margin."""

    def test_the_lesion_fits(self, kind: Kind, size: int, mm: float) -> None:
        for seed in range(6):
            image, mask = render_lesion(kind, seed, size, mm)
            assert image.shape == mask.shape == (size, size)
            assert (image.dtype, mask.dtype) == (np.float32, bool)
            rows, columns = np.nonzero(mask)
            for at in (rows, columns):
                assert abs((at.min() + at.max()) / 2 - (size - 1) / 2) <= 1
            # A pixel may be larger than asked for; then the lesion spans what the margin leaves.
            span = max(np.ptp(rows), np.ptp(columns)) + 1
            assert span <= size - 2 * MARGIN_MM / mm * 0.3
            # Haemangiomas may be as bright as blood.
            assert kind == "haemangioma" or image[mask].mean() < np.median(
                image[~mask & (image > 40)]
            )


def test_a_seed_is_a_patch_whatever_the_others() -> None:
    render = lesion_renderer({"mass": "cyst"}, "CT", Unit.HOUNSFIELD, (1, 32, 32), 2.0)
    images, masks = render("mass", [5, 2**40, 7])
    np.testing.assert_array_equal(render("mass", [7])[0][0], images[2])
    np.testing.assert_array_equal(render_lesion("cyst", 7, 32, 2.0)[1], masks[2])
    assert len({image.tobytes() for image in images}) == 3
    assert not np.array_equal(render_lesion("metastasis", 7, 32, 2.0)[0], images[2, 0])
    assert render("mass", [])[0].shape == (0, 1, 32, 32)


def test_a_finer_grid_shows_the_same_lesion() -> None:
    """The millimetres are true: half the pixel size, twice the diameter in pixels."""
    for seed in range(40):
        coarse, fine = (render_lesion("cyst", seed, 64 * n, 1.0 / n)[1] for n in (1, 2))
        assert fine.sum() / 4 == pytest.approx(coarse.sum(), rel=0.2)


def test_hounsfield_units_and_noise_are_the_cohort_s() -> None:
    inside, outside, noise = [], [], []
    for seed in range(60):
        image, mask = render_lesion("cyst", seed, 64, 0.8)
        core = ndimage.binary_erosion(mask, iterations=4)
        if core.sum() > 50:
            inside.append(image[core].mean())
            noise.append(image[core].std())
        liver = image[~ndimage.binary_dilation(mask, iterations=4)]
        outside.append(np.median(liver[(liver > 40) & (liver < 150)]))
    # Water and 0-15 HU; liver 90-130, a sixth of it fatty with 60-85; scanners of 6-18 HU noise,
    # of which resampling takes a little.
    assert 3 < np.mean(inside) < 12
    assert 55 < min(outside) < 90 < np.median(outside) < 125
    assert 3 < min(noise) < max(noise) < 20


class TestRefusals:
    """Other classes and modalities are refused, all faults at once, naming what there is."""

    def test_volumes(self) -> None:
        with pytest.raises(SettingsError, match="3-D; lesions are rendered on single slices"):
            lesion_renderer({"cyst": "cyst"}, "CT", Unit.HOUNSFIELD, (1, 32, 32, 32), 1.0)

    def test_everything_that_cannot_be_rendered(self) -> None:
        kinds = {"tumour": "tumour", "cyst": "cyst", "nodule": "nodule"}
        with pytest.raises(SettingsError) as refused:
            lesion_renderer(kinds, "MR", Unit.ARBITRARY, (3, 64, 64), 0.0)
        text = str(refused.value)
        assert len(refused.value.faults) == 5
        assert text.count("cyst, metastasis, haemangioma") >= 2
        for said in ("class tumour", "class nodule", "generator.render: {tumour: metastasis}"):
            assert said in text
        for said in ("modality MR in arbitrary", "3 adjacent slices", "pixel size is not known"):
            assert said in text
        assert "class cyst" not in text

    def test_a_class_may_be_rendered_as_another_kind(self) -> None:
        render = lesion_renderer({"tumour": "metastasis"}, "CT", Unit.HOUNSFIELD, (1, 32, 32), 2.0)
        np.testing.assert_array_equal(
            render("tumour", [3])[0][0, 0], render_lesion("metastasis", 3, 32, 2.0)[0]
        )
