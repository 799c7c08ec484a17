"""Nothing in the generators knows about CT: the example learns spectrograms of sounds."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from medaug.domain import Unit
from medaug.generators.trained import load_generator

EXAMPLE = Path(__file__).parents[1] / "pipelines" / "spectrograms.py"
_spec = spec_from_file_location("spectrograms", EXAMPLE)
spectrograms = module_from_spec(_spec)
_spec.loader.exec_module(spectrograms)


@pytest.mark.slow
def test_generated_spectrograms_are_like_their_own_class(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLE, tmp_path, "6000"], check=True, capture_output=True)
    assert (tmp_path / "real.png").is_file()
    assert (tmp_path / "generated.png").is_file()
    generator = load_generator(tmp_path / "generator")
    assert (generator.unit, generator.modality) == (Unit.ARBITRARY, "OT")
    # How loud each frequency, and how uneven in time, on average: chirps rise, clicks come and go.
    generated, real = {}, {}
    for label in spectrograms.CLASSES:
        files = sorted((tmp_path / "audio").glob(f"{label}_*.wav"))
        real[label] = np.mean([spectrograms.spectrogram(file) for file in files], axis=0)
        generated[label] = generator.sample(label, range(32))[:, 0].mean(axis=0)
    for label, mean in generated.items():
        apart = {other: np.abs(mean - image).mean() for other, image in real.items()}
        assert min(apart, key=apart.__getitem__) == label, apart


def test_a_tone_stands_at_its_frequency(tmp_path: Path) -> None:
    time = np.arange(spectrograms.RATE * 17 // 16) / spectrograms.RATE
    spectrograms.write_wav(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1000 * time))
    picture = spectrograms.spectrogram(tmp_path / "tone.wav")
    assert picture.shape == (64, 64)
    # 62.5 Hz a row, the first of them (row 63) 62.5 Hz: 1000 Hz stands 15 rows above it.
    assert set(picture.argmax(axis=0)) == {63 - 15}
