"""Windows and stored values lose nothing inside their range and never hide a NaN."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medaug.domain import Geometry, Rescale, Unit, Volume, Window

ends = st.floats(-3000, 3000, width=32, allow_subnormal=False)
values = arrays.arrays(np.float32, 20, elements=st.floats(-4000, 4000, width=32))


@st.composite
def windows(draw) -> Window:
    low, high = sorted(draw(st.tuples(ends, ends)))
    assume(high - low > 1)
    return Window(low, high)


class TestWindow:
    @given(windows(), values)
    def test_there_and_back(self, window, intensities):
        back = window.from_signed(window.to_signed(intensities))
        expected = np.clip(intensities, window.low, window.high)
        np.testing.assert_allclose(back, expected, atol=2e-3)
        assert back.dtype == np.float32

    @given(windows(), values)
    def test_signed_lies_in_minus_one_to_one_and_keeps_order(self, window, intensities):
        signed = window.to_signed(np.sort(intensities))
        assert -1 <= signed.min() <= signed.max() <= 1
        assert (np.diff(signed) >= 0).all()

    def test_nan_stays_nan(self):
        assert np.isnan(Window(0, 1).to_signed(np.array([np.nan]))).all()

    @pytest.mark.parametrize("ends", [(1, 1), (2, 1), (np.nan, 1), (0, np.inf)])
    def test_no_such_window(self, ends):
        with pytest.raises(ValueError, match="low < high"):
            Window(*ends)


class TestRescale:
    @given(windows(), st.sampled_from(list(Unit)), values)
    def test_there_and_back_within_half_a_step(self, window, unit, intensities):
        rescale = Rescale.of(unit, window)
        inside = np.clip(intensities, window.low, window.high)
        back = rescale.restore(rescale.store(inside))
        assert np.abs(back - inside).max() <= rescale.slope * 0.5 + 1e-3

    @given(arrays.arrays(np.int16, 20))
    def test_what_was_stored_is_stored_again_alike(self, stored):
        for rescale in (Rescale(1.0, 0.0), Rescale.of(Unit.SUV, Window(0, 20))):
            np.testing.assert_array_equal(rescale.store(rescale.restore(stored)), stored)

    @given(windows())
    def test_dicom_can_carry_both_numbers(self, window):
        """A decimal string has 16 characters (PS3.5 section 6.2)."""
        rescale = Rescale.of(Unit.ARBITRARY, window)
        for number in (rescale.slope, rescale.intercept):
            assert float(f"{number:.10g}") == number
            assert len(f"{number:.10g}") <= 16

    def test_beyond_16_bits_is_clipped(self):
        assert Rescale(1.0, 0.0).store(np.array([1e6, -1e6])).tolist() == [32767, -32768]

    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    def test_what_is_no_number_is_not_stored(self, wrong):
        with pytest.raises(ValueError, match="NaN or infinity"):
            Rescale(1.0, 0.0).store(np.array([0.0, wrong]))


class TestReading:
    geometry = Geometry.from_spacing((4, 5, 6), (1, 1, 1))
    voxels = np.arange(120).reshape(4, 5, 6)

    def test_a_region_is_the_region_of_the_whole(self):
        volume = Volume.from_array(self.voxels, self.geometry, "CT", Unit.HOUNSFIELD)
        region = (slice(1, 3), slice(None, 2), slice(5, None))
        np.testing.assert_array_equal(volume.read(region), self.voxels[region])
        assert volume.read().dtype == np.float32

    @pytest.mark.parametrize(
        "part", [slice(-1, 2), slice(0, 5), slice(2, 2), slice(3, 1), slice(0, 4, 2)]
    )
    def test_outside_and_empty_are_refused(self, part):
        volume = Volume.from_array(self.voxels, self.geometry, "CT", Unit.HOUNSFIELD)
        with pytest.raises(IndexError):
            volume.read((part, slice(None), slice(None)))
