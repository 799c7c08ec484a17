"""The copy check: which copies it blocks, what it costs, and what pixel distance would do.

    python benchmarks/privacy/copies.py                         the phantom of tests/privacy
    python benchmarks/privacy/copies.py masses FOLDER           cbis_ddsm_mass_patches, by patient
    python benchmarks/privacy/copies.py nodules FOLDER          luna_nodule_patches, by patch

Patients are dealt out by a fixed seed: training, calibration, fresh. Training patches are altered
and shown to the detector; fresh patients show how many honest pictures it turns away. The baseline
is the Euclidean distance of standardised pixels to the nearest training patch, its limit set on the
same calibration patients by the same order statistic. ``--quick`` takes fewer of everything.
"""

import argparse
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "privacy")]

import planted  # noqa: E402 - found through the line above

from medaug.domain import PatchSet  # noqa: E402
from medaug.privacy.copies import CopyDetector  # noqa: E402
from medaug.privacy.limits import limit_of  # noqa: E402
from medaug.privacy.pictures import resized, unit_contrast  # noqa: E402


def turned(image: np.ndarray, degrees: float, scale: float = 1.0) -> np.ndarray:
    """An image (row, column) turned and scaled about its centre."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array(image.shape) - 1) / 2
    return affine_transform(image, matrix, centre - matrix @ centre, order=3, mode="nearest")


def half(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The left half of one image, the right half of another."""
    pasted = other.copy()
    pasted[:, : image.shape[1] // 2] = image[:, : image.shape[1] // 2]
    return pasted


# Of standardised images (row, column); ``other`` is a fresh patient's, ``rng`` random.
Alteration = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
ALTERATIONS: dict[str, Alteration] = {
    "as it is": lambda image, *_: image,
    "mirrored": lambda image, *_: image[:, ::-1],
    "turned 90°": lambda image, *_: np.rot90(image),
    "turned 7°": lambda image, *_: turned(image, 7),
    "turned 22°": lambda image, *_: turned(image, 22),
    "turned 37°, mirrored": lambda image, *_: turned(image[:, ::-1], 37),
    "shifted (5, -3)": lambda image, *_: np.pad(image, 6, "edge")[1:65, 9:73],
    "shifted (6, 6)": lambda image, *_: np.pad(image, 6, "edge")[:64, :64],
    "scaled 0.93": lambda image, *_: turned(image, 0, 0.93),
    "scaled 1.1": lambda image, *_: turned(image, 0, 1.1),
    "contrast, brightness": lambda image, *_: 0.7 * image + 1,
    "gamma 1.6": lambda image, *_: ((image - image.min()) / np.ptp(image)) ** 1.6,
    "inverted": lambda image, *_: -image,
    "noise 0.1 sd": lambda image, _, rng: image + rng.normal(0, 0.1, image.shape),
    "noise 0.25 sd": lambda image, _, rng: image + rng.normal(0, 0.25, image.shape),
    "noise 0.5 sd": lambda image, _, rng: image + rng.normal(0, 0.5, image.shape),
    "noise 1 sd": lambda image, _, rng: image + rng.normal(0, 1, image.shape),
    "noise 2 sd": lambda image, _, rng: image + rng.normal(0, 2, image.shape),
    "blurred 1 px": lambda image, *_: gaussian_filter(image, 1),
    "blurred 2 px": lambda image, *_: gaussian_filter(image, 2),
    "8 grey levels": lambda image, *_: np.round((image - image.min()) / np.ptp(image) * 7),
    "70 % + 30 % other": lambda image, other, _: 0.7 * image + 0.3 * other,
    "50 % + 50 % other": lambda image, other, _: 0.5 * image + 0.5 * other,
    "half pasted": lambda image, other, _: half(image, other),
    "denoised, new noise": lambda image, _, rng: (
        gaussian_filter(image, 1.2) + rng.normal(0, 0.15, image.shape)
    ),
    "lighting gradient": lambda image, *_: (
        image + 2 * np.add.outer(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64) ** 2)
    ),
    "square, shift, contrast, noise 0.1": lambda image, _, rng: (
        1.2 * np.rot90(np.pad(image[::-1], 6, "edge")[3:67, 8:72], 3)
        + rng.normal(0, 0.12, image.shape)
    ),
}


def folder_patches(kind: str, folder: Path) -> PatchSet:
    """Patches 64x64 of a folder; patients from the file names where they stand there."""
    paths = sorted(folder.rglob("*.png" if kind == "masses" else "*.jpg"))
    names = [re.search(r"P_(\d+)", path.name) if kind == "masses" else None for path in paths]
    numbers = [int(name[1]) if name else row for row, name in enumerate(names)]
    # A few nodules are not 50x50.
    images = [resized(np.asarray(Image.open(path).convert("F"))[None], 64) for path in paths]
    labels, known = np.zeros(len(paths)), kind == "masses"
    return planted.patch_set(np.stack(images), labels, numbers, ("lesion",), known)


def dealt(patches: PatchSet, rng: np.random.Generator) -> list[PatchSet]:
    """Half of the patients train, a quarter calibrates, a quarter is fresh."""
    order = [patches.patient_order[at] for at in rng.permutation(len(patches.patient_order))]
    half_way, last = len(order) // 2, 3 * len(order) // 4
    parts = (order[:half_way], order[half_way:last], order[last:])
    return [patches.of_patients(part) for part in parts]


def pixel_scores(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Correlation with the nearest training patch: a falling function of the distance."""
    flat, known = (unit_contrast(part[:, 0]).reshape(len(part), -1) for part in (images, training))
    return (flat @ known.T).max(axis=1) / known.shape[1]


def per_patient(patches: PatchSet, scores: np.ndarray) -> np.ndarray:
    """(patient,): the highest score over each patient's patches."""
    highest = np.full(len(patches.patient_order), -np.inf)
    np.maximum.at(highest, patches.patient_index, scores)
    return highest


def main() -> None:
    """Fit, time, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kind", nargs="?", choices=["phantom", "masses", "nodules"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    if options.kind in (None, "phantom"):
        parts = [
            planted.patients(range(at, at + n)) for at, n in ((0, 60), (1000, 60), (5000, 200))
        ]
    else:
        parts = dealt(folder_patches(options.kind, options.folder), rng)
    training, calibration, fresh = parts
    if options.quick:
        fresh = fresh.select(np.arange(min(100, len(fresh))))
    print(
        "patches",
        *(len(part) for part in parts),
        "patients",
        *(len(p.patient_order) for p in parts),
    )

    start = time.perf_counter()
    detector = CopyDetector.fit(training, calibration)
    print(f"fit {time.perf_counter() - start:.1f} s; {detector.calibration}")
    limit = detector.calibration.limit
    baseline = limit_of(
        per_patient(calibration, pixel_scores(calibration.images, training.images)), 0.05
    )
    start = time.perf_counter()
    scores = detector.scores(fresh.images).scores
    each = (time.perf_counter() - start) / len(fresh)
    print(f"{1000 * each:.1f} ms per candidate against {len(training)} patches")
    pixels = pixel_scores(fresh.images, training.images)
    for name, values, at in (("copy check", scores, limit), ("pixel L2", pixels, baseline)):
        share = np.mean(per_patient(fresh, values) > at)
        print(f"fresh patients rejected by {name}: {share:.1%}, patches {np.mean(values > at):.1%}")
    soft = np.stack([gaussian_filter(image, (0, 1, 1)) for image in fresh.images])
    print(f"the same, blurred 1 px: {np.mean(detector.scores(soft).scores > limit):.1%} of patches")

    copies = 20 if options.quick else 60
    others = unit_contrast(fresh.images[:, 0])
    print(f"\n{'altered copies blocked, of ' + str(copies):36s} copy check  pixel L2")
    for name, alter in ALTERATIONS.items():
        rows = rng.choice(len(training), copies, replace=False)
        images = [
            alter(image, others[rng.integers(len(others))], rng)
            for image in unit_contrast(training.images[rows, 0])
        ]
        shown = np.stack(images)[:, None].astype(np.float32)
        blocked = np.mean(detector.scores(shown).scores > limit)
        by_pixels = np.mean(pixel_scores(shown, training.images) > baseline)
        print(f"{name:36s} {blocked:9.0%} {by_pixels:10.0%}", flush=True)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
