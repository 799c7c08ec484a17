"""Generators with known faults, and an honest one, on a simple model of CT lesions.

`lesion` draws one 64x64 patch in HU from a seed: parenchyma with slow texture, a vessel or two, a
lobed lesion of random size, contrast and edge, and correlated noise. Fresh patients and the honest
generator draw from the same model, so whatever rejects the one rejects the other as often.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, shift, zoom

from medaug.domain import Drawn, PatchLocation, PatchSet, PatientKey, TrainingRecord, Unit, Window

SIDE = 64
WINDOW = Window(-160.0, 240.0)
CLASSES = ("cyst", "metastasis")


def lesion(seed: int, label: str) -> np.ndarray:
    """(1, 64, 64) float32 in HU."""
    rng = np.random.default_rng(seed)
    at = np.arange(SIDE) - (SIDE - 1) / 2
    rows, columns = at[:, None], at[None, :]
    picture = rng.normal(105, 12) + 25 * gaussian_filter(rng.normal(size=(SIDE, SIDE)), 5) * 5
    for _ in range(rng.integers(0, 4)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-28, 28)
        distance = np.abs(np.cos(angle) * rows + np.sin(angle) * columns - offset)
        picture = picture + rng.uniform(20, 60) * (distance < rng.uniform(1, 3))
    down, right = rng.uniform(-2, 2, size=2)
    angle = np.arctan2(rows - down, columns - right)
    radius = rng.uniform(6, 24) * (
        1
        + sum(rng.normal(0, 0.12 / n) * np.cos(n * angle + rng.uniform(0, 6.3)) for n in (2, 3, 5))
    )
    edge = rng.uniform(0.7, 1.5) if label == "cyst" else rng.uniform(2, 5)
    inside = 1 / (1 + np.exp((np.hypot(rows - down, columns - right) - radius) / edge))
    level = rng.normal(8, 5) if label == "cyst" else rng.normal(60, 15)
    picture = picture * (1 - inside) + level * inside
    noise = gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(0.6, 1.1))
    picture = picture + rng.uniform(8, 18) * noise / noise.std()
    return np.clip(picture, WINDOW.low, WINDOW.high)[None].astype(np.float32)


def patients(numbers: Sequence[int], per_patient: int = 1, known: bool = True) -> PatchSet:
    """Patches of patients, alternating between the classes; a patient's patches are alike."""
    images, labels, keys = [], [], []
    for number in numbers:
        label = int(number) % len(CLASSES)
        first = lesion(10_000_000 + int(number), CLASSES[label])
        for slice_at in range(per_patient):
            rng = np.random.default_rng([int(number), slice_at])
            moved = shift(first[0], rng.uniform(-1, 1, 2) * slice_at, order=1, mode="nearest")
            images.append(moved[None] + (slice_at > 0) * rng.normal(0, 8, (1, SIDE, SIDE)))
            labels.append(label)
            keys.append(int(number))
    return patch_set(np.array(images), np.array(labels), keys, CLASSES, known)


def patch_set(
    images: np.ndarray,
    labels: np.ndarray,
    numbers: Sequence[int],
    classes: tuple[str, ...],
    known: bool = True,
) -> PatchSet:
    """A PatchSet from images (patch, channel, row, column) of numbered patients."""
    return PatchSet(
        images=images.astype(np.float32),
        masks=None,
        labels=labels.astype(np.int64),
        classes=classes,
        patients=tuple(PatientKey(f"{int(number):032x}") for number in numbers),
        locations=tuple(
            PatchLocation(f"case{row}", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 1.0)
            for row in range(len(images))
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
        patients_known=known,
    )


def seen(training: PatchSet) -> TrainingRecord:
    """The record of a generator trained on these patches."""
    return TrainingRecord(
        patients=frozenset(training.patients),
        patches_digest=training.digest,
        weights_digest="0" * 64,
        settings={},
        seed=0,
        images_shown=1000,
        patients_known=training.patients_known,
    )


@dataclass
class Planted:
    """A sampler whose every sample is ``one(seed, label)``; remembers what seeds it was asked.

    Where ``mask`` is given, ``mask(seed)`` is drawn with it.
    """

    record: TrainingRecord
    one: Callable[[int, str], np.ndarray]
    classes: tuple[str, ...] = CLASSES
    mask: Callable[[int], np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.asked: list[int] = []

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        self.asked += list(seeds)
        images = np.stack([self.one(seed, label) for seed in seeds]).astype(np.float32)
        masks = None if self.mask is None else np.stack([self.mask(seed) for seed in seeds])
        return Drawn(images, masks)


def honest(training: PatchSet) -> Planted:
    """Draws new lesions from the model that the patients come from."""
    return Planted(seen(training), lesion)


def copied(training: PatchSet, seed: int, label: str) -> np.ndarray:
    """A training patch of the class, drawn by the seed."""
    rows = np.flatnonzero(training.labels == CLASSES.index(label))
    return training.images[rows[seed % len(rows)]]


def memoriser(training: PatchSet) -> Planted:
    """Knows nothing but the training patches."""
    return Planted(seen(training), lambda seed, label: copied(training, seed, label))


ALTERATIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "exact": lambda image, *_: image,
    "mirrored": lambda image, *_: image[:, ::-1],
    "upside down": lambda image, *_: image[::-1],
    "turned 90": lambda image, *_: np.rot90(image),
    "turned 270, mirrored": lambda image, *_: np.rot90(image[:, ::-1], 3),
    "shifted": lambda image, rng: shift(image, rng.uniform(-6, 6, 2), order=1, mode="nearest"),
    "darker": lambda image, *_: 0.6 * image - 20,
    "gamma": lambda image, *_: 400 * ((image + 160) / 400) ** 1.5 - 160,
    "inverted": lambda image, *_: 80 - image,
    "noisy": lambda image, rng: image + rng.normal(0, 0.25 * image.std(), image.shape),
    "blurred": lambda image, *_: gaussian_filter(image, 1.0),
    "zoomed 5 %": lambda image, *_: zoom(image, 68 / 64, order=1)[2:66, 2:66],
    "all at once": lambda image, rng: (
        0.7 * shift(np.rot90(image[::-1]), rng.integers(-4, 5, 2), order=1, mode="nearest")
        + 15
        + rng.normal(0, 0.15 * image.std(), image.shape)
    ),
}


def altered(image: np.ndarray, how: str, seed: int) -> np.ndarray:
    """One of `ALTERATIONS` of an image (1, row, column), within the window."""
    changed = ALTERATIONS[how](image[0].astype(np.float64), np.random.default_rng([seed, 1]))
    return np.clip(changed, WINDOW.low, WINDOW.high)[None].astype(np.float32)


def transform_memoriser(training: PatchSet) -> Planted:
    """Hides its training patches behind mirrorings, turns, shifts, contrast, inversion, noise."""
    ways = list(ALTERATIONS)

    def draw(seed: int, label: str) -> np.ndarray:
        return altered(copied(training, seed, label), ways[seed // 1000 % len(ways)], seed)

    return Planted(seen(training), draw)


def single_copier(training: PatchSet, share: float) -> Planted:
    """Honest but for a share of altered copies; `is_copy` says which seeds."""
    memory, free = transform_memoriser(training), honest(training)

    def draw(seed: int, label: str) -> np.ndarray:
        return memory.one(seed, label) if is_copy(seed, share) else free.one(seed, label)

    return Planted(seen(training), draw)


def is_copy(seed: int, share: float) -> bool:
    """Whether `single_copier` answers this seed by a copy."""
    return (seed // 7) % 1000 < 1000 * share


def collapsed(training: PatchSet) -> Planted:
    """One new picture per class, each time under other noise."""

    def draw(seed: int, label: str) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, 3, (1, SIDE, SIDE))
        return np.clip(lesion(77, label) + noise, WINDOW.low, WINDOW.high)

    return Planted(seen(training), draw)


def broken(training: PatchSet, fault: str) -> Planted:
    """Honest but for every second sample, which has a fault of form."""

    def draw(seed: int, label: str) -> np.ndarray:
        image = lesion(seed, label)
        if seed % 2:
            image[0, 3, 5] = {"nan": np.nan, "bright": WINDOW.high + 50, "flat": 0}[fault]
            if fault == "flat":
                image[:] = 40
        return image

    return Planted(seen(training), draw)


def patchwork(training: PatchSet) -> Planted:
    """The left half of one training patch beside the right half of another."""

    def draw(seed: int, label: str) -> np.ndarray:
        left, right = copied(training, seed, label), copied(training, seed // 100 + 1, label)
        return np.concatenate([left[..., : SIDE // 2], right[..., SIDE // 2 :]], axis=-1)

    return Planted(seen(training), draw)


def blender(training: PatchSet) -> Planted:
    """Two thirds of one training patch, one third of another."""

    def draw(seed: int, label: str) -> np.ndarray:
        return (2 * copied(training, seed, label) + copied(training, seed // 100 + 1, label)) / 3

    return Planted(seen(training), draw)


def low_pass_memoriser(training: PatchSet) -> Planted:
    """Training patches, blurred by 3 px, under new noise."""

    def draw(seed: int, label: str) -> np.ndarray:
        noise = gaussian_filter(np.random.default_rng(seed).normal(size=(1, SIDE, SIDE)), 0.8)
        blurred = gaussian_filter(copied(training, seed, label), (0, 3, 3))
        return np.clip(blurred + 10 * noise / noise.std(), WINDOW.low, WINDOW.high)

    return Planted(seen(training), draw)


def label_leaker(training: PatchSet) -> Planted:
    """Training patches under the other class."""

    def draw(seed: int, label: str) -> np.ndarray:
        return copied(training, seed, CLASSES[1 - CLASSES.index(label)])

    return Planted(seen(training), draw)


def hole_maker(training: PatchSet, whole: PatchSet) -> Planted:
    """Learnt ``whole`` by heart, training patients among them, whose copies were filtered away."""
    left = [row for row, key in enumerate(whole.patients) if key not in set(training.patients)]
    others = whole.select(left)

    def draw(seed: int, label: str) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, 2, (1, SIDE, SIDE))
        return np.clip(copied(others, seed, label) + noise, WINDOW.low, WINDOW.high)

    return Planted(seen(training), draw)


def leaker(training: PatchSet, row: int, share: float) -> Planted:
    """New lesions into each of which one patient's patch is mixed, by ``share``."""

    def draw(seed: int, label: str) -> np.ndarray:
        return share * training.images[row] + (1 - share) * lesion(seed, label)

    return Planted(seen(training), draw)
