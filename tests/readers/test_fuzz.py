"""Damaged files: each ends in voxels or in a `ReaderError` — nothing else, not slowly, not hugely.

Every real file is damaged in the study it belongs to: cut off, bits flipped (half of them in its
first kilobyte, where the headers are), bytes overwritten, a stretch removed or doubled. The study
is then read as a user would: scanned, and each lesion's box decoded. Files of a study without
lesions are decoded one by one.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from medaug.domain import Unit
from medaug.errors import ReaderError
from medaug.readers.dicom.header import read_header
from medaug.readers.dicom.pixels import slice_decoder
from medaug.readers.files import SourceFile
from medaug.readers.source import guess_sources, scan
from medaug.readers.volumes.cases import read_header as read_volume_header
from medaug.readers.volumes.cases import volume_of
from medaug.readers.volumes.file import Wanted

SITE_KEY = bytes(range(32))
MUTATIONS = 20_000
SECONDS = 10
VOLUMES = (".nii", ".nii.gz", ".nrrd")
TIMES = 10
ROOM = 24 << 20
"""Bytes that any reading may take, however small the file: buffers, libraries, a slice or two."""


@dataclass(frozen=True)
class Study:
    """Files that are read together and take turns at being damaged.

    ``unpacked`` is about the number of bytes that all of it holds when decompressed.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    unpacked: int


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One kind of damage at a random place."""
    octets = np.frombuffer(content, np.uint8).copy()
    kind = rng.integers(5)
    start = int(rng.integers(min(len(octets), 1024) if rng.random() < 0.5 else len(octets)))
    length = int(rng.integers(1, 65))
    if kind == 0:
        return content[:start]
    if kind == 1:
        for at in rng.integers(0, 1024 if rng.random() < 0.5 else len(octets), rng.integers(1, 9)):
            octets[at % len(octets)] ^= 1 << int(rng.integers(8))
        return octets.tobytes()
    if kind == 2:
        octets[start : start + length] = rng.choice([0, 255, int(rng.integers(256))])
        return octets.tobytes()
    if kind == 3:
        return content[:start] + content[start + length :]
    return content[: start + length] + content[start:]


class TooSlow(BaseException):
    """Not an Exception, so that no reader can swallow it."""


@contextmanager
def watched(allowed: int | None) -> Iterator[None]:
    """Fail on more than `SECONDS`, or on a peak of more than ``allowed`` bytes if that is given."""

    def too_slow(*_: object) -> None:
        raise TooSlow(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS)
    if allowed is not None:
        tracemalloc.start()
    try:
        yield
        if allowed is not None:
            peak = tracemalloc.get_traced_memory()[1]
            assert peak <= allowed, f"{peak >> 20} MiB for {allowed >> 20} MiB allowed"
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_study(folder: Path, damaged: str) -> None:
    """All that a user's pipeline would read of it, and the damaged file whatever marks it."""
    read_alone(SourceFile(folder / damaged, damaged, damaged))
    for case in scan(guess_sources(folder), folder, SITE_KEY).cases():
        for lesion in case.lesions[:5]:
            assert np.isfinite(case.volume.read(lesion.box)).all()


def read_alone(file: SourceFile) -> None:
    """The first images of a file."""
    images = read_header(file, "PatientID")
    for one in images[:3] if isinstance(images, tuple) else ():
        with suppress(ReaderError):
            values = slice_decoder()(one)
            assert values.shape == (one.plane.columns, one.plane.rows)
            assert np.isfinite(values).all()
    if file.name.endswith(VOLUMES):
        with suppress(ReaderError):
            header = read_volume_header(file, Wanted())
            for voxels in header.voxels:
                voxels.check()  # as a case does before anything is read
            volume = volume_of(header, "OT", Unit.ARBITRARY)
            middle = volume.geometry.shape[2] // 2
            volume.read((slice(None), slice(None), slice(middle, middle + 1)))


def attempt(study: Study, seed: int) -> str:
    """Damage one file, read the study; "" where it ended as it must, else what happened."""
    rng = np.random.default_rng((zlib.crc32(study.files[0].encode()), seed))
    name = study.files[seed % len(study.files)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        for other in study.files:
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            if other == name:
                (folder / other).write_bytes(damage((study.folder / other).read_bytes(), rng))
            else:
                (folder / other).symlink_to(study.folder / other)
        began = time.monotonic()
        try:
            # Tracing takes three times as long; what the process grows by is always looked at.
            with watched(None if seed % 4 else TIMES * study.unpacked + ROOM):
                read_study(folder, name)
        except ReaderError as error:
            named = all(fault.came for fault in error.faults)
            text = str(error)
            return "" if named and text else f"{name} seed {seed}: no reason given"
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            took = time.monotonic() - began
            return (
                f"{study.name}/{name} seed {seed}: {type(error).__name__}: {error} ({took:.1f} s)"
            )
    return ""


def attempts(work: tuple[Study, range]) -> tuple[list[str], int]:
    """Findings, and how many bytes the process grew by: native code is not traced otherwise."""
    study, seeds = work
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = [finding for seed in seeds if (finding := attempt(study, seed))]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return found, grown


def marked(folder: Path, images: Sequence[Path], others: Sequence[Path], most: int) -> list[Study]:
    """Studies of at most ``most`` images, each with one of the others that mark them."""
    groups = [images[first : first + most] for first in range(0, len(images), most)]
    return [
        study(folder, [*groups[at % len(groups)], *others[at : at + 1]])
        for at in range(max(len(groups), len(others)))
    ]


def study(folder: Path, files: Sequence[Path]) -> Study:
    names = tuple(str(path.relative_to(folder)) for path in files)
    return Study(folder.name, folder, names, sum(map(_unpacked_size, files)))


def studies(real_data: Callable[[str], Path]) -> tuple[list[Study], list[Study]]:
    """Every real file in a study of few files: (volumes and what marks them, pictures)."""

    def files(folder: Path, pattern: str = "**/*") -> list[Path]:
        return sorted(path for path in folder.glob(pattern) if path.is_file())

    ct = real_data("ircadb17_liver_ct")
    masks = files(ct, "MASKS_DICOM/*/*")
    found = []
    for one in masks:
        number = int(one.name.removeprefix("image_"))
        beside = one.with_name(f"image_{number ^ 1}")
        if number % 2 == 0 and beside.is_file():
            slices = [ct / "PATIENT_DICOM" / path.name for path in (one, beside)]
            found.append(study(ct, [*slices, one, beside]))
    seg = real_data("dcmqi_seg") / "segmentations"
    slices = files(seg, "ct-3slice/*")
    found += marked(seg, slices, [one for one in files(seg) if one not in slices], 3)
    for name in ("rtstruct_phantom", "dicom2nifti_cases"):
        for folder in sorted({path.parent for path in files(real_data(name))}):
            here = files(folder, "*")
            packed = [path for path in here if path.name.endswith(".nii.gz")]
            plain = [path for path in here if path not in packed]
            found += [study(folder, [one]) for one in packed]
            found += [study(folder, plain)] if plain else []
    nrrd = real_data("pyradiomics_nrrd")
    found += [study(nrrd, files(nrrd, f"{name}_*.nrrd")) for name in ("brain1", "breast1")]
    found += [
        study(patient, [*patient.glob("FLAIR*"), *patient.glob("GOLD*")])
        for patient in sorted(real_data("ms_lesions_mni").glob("patient*"))
    ]
    pictures = []
    for name in ("cbis_ddsm_mass_patches", "luna_nodule_patches"):
        folder = real_data(name)
        here = [path for path in files(folder) if path.suffix in (".png", ".jpg")]
        pictures += marked(folder, here, [], 8)
    return found, pictures


def _unpacked_size(path: Path) -> int:
    size = path.stat().st_size
    if path.suffix == ".gz":
        with path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return int.from_bytes(stream.read(4), "little")
    if path.suffix in (".nrrd", ".png", ".jpg"):
        return 40 * size  # label maps shrink as much
    return 4 * size


def faults_of(found: Sequence[Study], mutations: int) -> list[str]:
    """Damage every study as often, and every file at least once: what ended as it must not."""
    share = -(-mutations // len(found))
    work = [(study, range(max(share, len(study.files)))) for study in found]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        outcomes = list(pool.map(attempts, work))
    faults = [finding for findings, _ in outcomes for finding in findings]
    return faults + [
        f"{study.name}: the process grew by {grown >> 20} MiB"
        for study, (_, grown) in zip(found, outcomes, strict=True)
        if grown > TIMES * study.unpacked + 8 * ROOM
    ]


def test_damaged_files_end_in_voxels_or_in_a_reason(real_data) -> None:
    volumes, pictures = studies(real_data)
    small = [study for study in [*volumes, *pictures[::80]] if study.unpacked < 4 << 20]
    assert faults_of(small[::5], 1) == []


@pytest.mark.slow
def test_three_thousand_mutations(real_data) -> None:
    """Every study, and a tenth of the pictures."""
    volumes, pictures = studies(real_data)
    assert faults_of(pictures[::10], 1) == []
    assert faults_of(volumes, 2000) == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_thousand_mutations(real_data) -> None:
    volumes, pictures = studies(real_data)
    once = sum(len(study.files) for study in pictures)
    assert faults_of(pictures, once) == []
    assert faults_of(volumes, MUTATIONS - once) == []


def test_the_watch_sees_slowness_and_size() -> None:
    with pytest.raises(AssertionError, match="MiB"), watched(1 << 20):
        held = bytes(2 << 20)
    assert held
    signal.alarm(0)
    with pytest.raises(TooSlow), watched(ROOM):
        signal.raise_signal(signal.SIGALRM)
