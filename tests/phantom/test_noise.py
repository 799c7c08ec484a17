import numpy as np
import pytest
from scipy import ndimage

from medaug.phantom import make_patient
from medaug.phantom.noise import band_noise

SHAPE = (128, 128, 12)


def correlation(noise: np.ndarray, lag: int) -> float:
    """In-plane autocorrelation at a lag in pixels, the mean of both axes."""
    rows = np.mean(noise[lag:] * noise[:-lag])
    columns = np.mean(noise[:, lag:] * noise[:, :-lag])
    return float((rows + columns) / 2 / noise.var())


class TestBandNoise:
    @pytest.mark.parametrize("pixel", [0.65, 0.95])
    @pytest.mark.parametrize("peak", [0.13, 0.3])
    def test_mean_zero_and_standard_deviation_one(self, pixel: float, peak: float) -> None:
        noise = band_noise(np.random.default_rng(0), SHAPE, pixel, peak, 0.2)
        assert abs(noise.mean()) < 1e-3
        assert noise.std() == pytest.approx(1, rel=0.02)

    def test_spectrum_peaks_where_it_should(self) -> None:
        noise = band_noise(np.random.default_rng(1), SHAPE, 0.8, 0.25, 0.0)
        power = (np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2).mean(axis=2)
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128, 0.8), np.fft.fftfreq(128, 0.8)))
        bands = np.digitize(frequency, edges := np.arange(0, 0.65, 0.05))
        profile = ndimage.mean(power, bands, np.arange(1, len(edges)))
        assert 0.2 <= edges[np.argmax(profile)] <= 0.25
        assert profile[0] < 0.3 * profile.max()
        assert profile[-1] < 0.3 * profile.max()

    def test_neighbouring_slices_correlate_as_asked(self) -> None:
        noise = band_noise(np.random.default_rng(2), (128, 128, 30), 0.8, 0.25, 0.4)
        assert np.mean(noise[..., 1:] * noise[..., :-1]) == pytest.approx(0.4, abs=0.03)
        assert np.mean(noise[..., 2:] * noise[..., :-2]) == pytest.approx(0.16, abs=0.03)


class TestNoiseOfAPatient:
    """Noise measured in the voxels as a physicist would: in even liver, the slow trend removed."""

    @pytest.mark.parametrize("number", [0, 1])
    def test_is_not_white_and_of_the_stated_level(self, number: int) -> None:
        patient = make_patient(seed=11, number=number)
        plane = patient.voxels[:, :, patient.geometry.shape[2] // 2].astype(np.float64)
        flat = plane - ndimage.gaussian_filter(plane, 6)
        windows = [
            flat[a : a + 32, b : b + 32] for a in range(32, 192, 16) for b in range(32, 192, 16)
        ]
        evenest = min(windows, key=lambda window: float(window.std()))
        assert evenest.std() == pytest.approx(patient.noise, rel=0.35)
        assert correlation(evenest, 1) > 0.25
        white = np.random.default_rng(0).standard_normal(evenest.shape)
        assert correlation(white, 1) < 0.15
