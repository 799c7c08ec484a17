"""Anything that is a 2-D array: a generator of spectrograms, made from audio files.

    python pipelines/spectrograms.py OUT [IMAGES]

writes short sounds of three classes as WAV files into OUT/audio (rising tones, clicks, hums; as
one might record a rare fault of a machine), reads them back, turns each into a spectrogram in
decibels, trains a generator on them and leaves OUT/real.png and OUT/generated.png, a row for each
class. All that is said to medaug is: these arrays, these labels, this window.
"""

import sys
import wave
from pathlib import Path

import numpy as np
from scipy import signal

import medaug
from medaug.domain import PatchLocation, PatientKey, Unit
from medaug.generators.settings import GeneratorSettings
from medaug.report.sheets import write_sheet

CLASSES = ("chirp", "click", "hum")
RATE = 8000  # samples per second
SIDE = 64
WINDOW = medaug.Window(-90, -20)  # dB of full scale


def sound(label: str, rng: np.random.Generator) -> np.ndarray:
    """A bit more than a second, in -1..1."""
    time = np.arange(RATE * 17 // 16) / RATE
    if label == "chirp":
        start, stop = rng.uniform(200, 1200), rng.uniform(1800, 3600)
        wanted = 0.4 * signal.chirp(time, start, time[-1], stop)
    elif label == "click":
        beats = (time * rng.uniform(3, 9) + rng.uniform()) % 1
        wanted = np.exp(-beats * 60) * rng.standard_normal(len(time)) * 0.5
    else:
        pitch = rng.uniform(90, 400)
        swell = 1 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.5, 3) * time + rng.uniform()))
        wanted = sum(np.sin(2 * np.pi * pitch * n * time) / n for n in range(1, 7)) * 0.15 * swell
    return np.clip(wanted + rng.normal(0, 0.003, len(time)), -1, 1)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """16 bits, one channel."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())


def spectrogram(path: Path) -> np.ndarray:
    """(row, column) float32 dB of full scale: 64 frequencies, the highest on top, and 64 times."""
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    _, _, power = signal.spectrogram(
        samples, RATE, nperseg=2 * SIDE, noverlap=0, scaling="spectrum"
    )
    decibels = 10 * np.log10(np.maximum(power[1 : SIDE + 1, :SIDE], 1e-9))
    return decibels[::-1].astype(np.float32)


def main(out: Path, images: int = 60_000, each: int = 60) -> None:
    """Sounds → spectrograms → generator → sheets."""
    rng = np.random.default_rng(0)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    files = [out / "audio" / f"{label}_{at:03d}.wav" for label in CLASSES for at in range(each)]
    for file in files:
        write_wav(file, sound(file.stem.split("_")[0], rng))

    patches = medaug.PatchSet(
        images=np.stack([spectrogram(file) for file in files])[:, None],
        masks=None,
        labels=np.repeat(np.arange(len(CLASSES)), each),
        classes=CLASSES,
        # A recording is what a patient is elsewhere: what must not be split or copied.
        patients=tuple(PatientKey(f"{at:032x}") for at in range(len(files))),
        locations=tuple(
            PatchLocation(file.stem, file.stem, -1, (0.0, 0.0, 0.0), 0.0) for file in files
        ),
        unit=Unit.ARBITRARY,
        modality="OT",
    )
    settings = GeneratorSettings(
        window=(WINDOW.low, WINDOW.high), width=16, augment=0.3, images=images
    )
    generator = medaug.train_generator(patches, settings, 0, out / "generator")
    real = [patches.of_class(label).images[:12] for label in CLASSES]
    generated = [generator.sample(label, range(12)) for label in CLASSES]
    write_sheet(out / "real.png", np.concatenate(real), WINDOW, columns=12)
    write_sheet(out / "generated.png", np.concatenate(generated), WINDOW, columns=12)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
