"""Memory and time of writing and verifying a release that need not fit into memory.

    python benchmarks/export/streaming.py --patches 100000 --formats hdf5 shards

Draws noise patches (16 bit, one slice, with a mask) into files, maps them as a `Release`, and, each
in a process of its own, writes the release, verifies it, and reads a thousand samples in random
order. For each the peak of memory that is the process's own is printed (RssAnon), and of all that
it had mapped (RSS): mapped pages are counted by the system but given back when others need them.
Run it with two numbers of patches: what is constant stays.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np

from medaug.domain import (
    CheckResult,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Unit,
    Window,
    digest_of,
)
from medaug.export.release import load_release
from medaug.export.settings import ExportSettings
from medaug.export.verify import verify_release
from medaug.export.write import write_release

WINDOW = Window(-100, 200)
CLASSES = ("cyst", "metastasis")
READ = 1000


def draw(folder: Path, patches: int, side: int, seed: int = 0) -> None:
    """``pixels.npy`` and ``masks.npy``, a thousand patches at a time."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] - side / 2
    disc = rows**2 + columns**2 < (side / 4) ** 2
    create = np.lib.format.open_memmap
    pixels = create(folder / "pixels.npy", "w+", np.int16, (patches, 1, side, side))
    masks = create(folder / "masks.npy", "w+", np.bool_, (patches, side, side))
    for at in range(0, patches, 1000):
        few = pixels[at : at + 1000]
        few[...] = (rng.normal(60, 20, few.shape) - 40 * disc).astype(np.int16)
        masks[at : at + 1000] = disc


def mapped_release(folder: Path) -> Release:
    """A release whose pixels stay in their file."""
    pixels, masks = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pixels", "masks"))
    labels = np.arange(len(pixels)) * len(CLASSES) // len(pixels)
    counts = {name: int((labels == at).sum()) for at, name in enumerate(CLASSES)}
    rescale = Rescale.of(Unit.HOUNSFIELD, WINDOW)
    meaning = [list(CLASSES), "HU", "CT", rescale.slope, rescale.intercept, 0.75]
    decision = ReleaseDecision(
        policy=ReleasePolicy(counts, checks=("format",)),
        pixels_digest=digest_of(pixels, labels, meaning, masks),
        results=(CheckResult("format", True, 0, 0, 0, "Every sample has the right shape."),),
        drawn=counts,
        accepted=counts,
        statements=("Noise for a measurement.",),
    )
    return Release(
        pixels=pixels,
        labels=labels,
        classes=CLASSES,
        rescale=rescale,
        unit=Unit.HOUNSFIELD,
        modality="CT",
        mm_per_pixel=0.75,
        masks=masks,
        decision=decision,
        generator_digest="ab" * 32,
    )


def write(folder: Path, formats: tuple[str, ...]) -> None:
    """The release of ``folder`` into ``release/`` beside its arrays."""
    settings = ExportSettings(formats=formats)
    release = mapped_release(folder)
    write_release(release, folder / "release", settings, name="noise", seed=1, window=WINDOW)


def verify(folder: Path, _formats: tuple[str, ...]) -> None:
    """As a receiver does."""
    if problems := verify_release(folder / "release").problems:
        raise SystemExit("\n".join(problems))


def read(folder: Path, _formats: tuple[str, ...]) -> None:
    """Samples in random order, as a training loop takes them."""
    release = load_release(folder / "release")
    for at in np.random.default_rng(0).integers(0, len(release), READ):
        release.rescale.restore(release.pixels[at])


def measured(
    work: Callable[[Path, tuple[str, ...]], None], folder: Path, formats: tuple[str, ...]
) -> tuple[float, float, float, float]:
    """Seconds; megabytes before the work, own at most, with what is mapped at most."""
    before, done, peaks = memory(), threading.Event(), [0.0, 0.0]

    def watch() -> None:
        while not done.wait(0.01):
            peaks[:] = map(max, peaks, memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    work(folder, formats)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return seconds, before[0], *peaks


def memory() -> tuple[float, float]:
    """RssAnon and RSS in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {key: value for key, _, value in (line.partition(":") for line in lines)}
    return tuple(int(found[key].split()[0]) / 1024 for key in ("RssAnon", "VmRSS"))


def main() -> None:
    """Draw, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--formats", nargs="+", default=["hdf5", "shards"])
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, h5py {version('h5py')}")
    print(f"{given.patches} patches of {given.side} x {given.side} with masks: {given.formats}")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, given.patches, given.side)
        source = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        print(f"pixels and masks: {source:.0f} MB")
        for name, work in {"write": write, "verify": verify, "read": read}.items():
            with ProcessPoolExecutor(1, mp_context=context) as one:
                figures = one.submit(measured, work, folder, tuple(given.formats)).result()
            print(
                "{}: {:.1f} s; own memory {:.0f} MB, at most {:.0f}; with mapped {:.0f}".format(
                    name, *figures
                )
            )
        for kind in sorted((folder / "release").iterdir()):
            files = [path for path in [kind, *kind.rglob("*")] if path.is_file()]
            size = sum(path.stat().st_size for path in files) / 2**20
            print(f"{kind.name}: {len(files)} files, {size:.1f} MB")


if __name__ == "__main__":
    main()
