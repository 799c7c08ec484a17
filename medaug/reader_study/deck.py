"""Which patches are read, in which order; nothing but the picture may tell what they are.

Each patch is real or synthetic by the toss of a coin, independently of all others: whoever guesses
is right with a probability of one half whatever his strategy and whatever he remembers of what he
has seen, so that his score is exactly binomial. With a fixed number of each he could count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet, Release, Rescale, Window, digest_of
from medaug.errors import Fault, SettingsError

LEAST = 20  # with fewer, the interval of a guess reaches from 0.2 to 0.8


@dataclass(frozen=True, eq=False)
class Deck:
    """Patches as they are read, and what they are.

    Attributes:
        study: what page, key and answers are known by.
        shown: (patch, slice, row, column) uint8, in the order of reading.
        labels: class of each patch; shown to the reader.
        synthetic: (patch,) bool; never shown.
        seed: of the deal; goes into the key.
        release: digest of the release.
        unseen: sentence on whether the generator saw the real patients.
    """

    study: str
    shown: NDArray[np.uint8]
    labels: tuple[str, ...]
    synthetic: NDArray[np.bool_]
    seed: int
    release: str
    unseen: str

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the patches: their places in the order of reading."""
        return tuple(f"{at:04d}" for at in range(1, len(self.labels) + 1))


def deal(
    release: Release, real: PatchSet, window: Window, per_class: int, seed: int, unseen: str
) -> Deck:
    """Deal a deck.

    Args:
        release: synthetic patches.
        real: of patients whom the generator did not see; one patch of each patient is taken.
        window: what black and white stand for.
        per_class: patches of each class, as far as there are enough of both kinds.
        seed: whoever knows it knows the answers.
        unseen: what the key says of the real patients.

    Raises:
        SettingsError: the two do not fit together, or too few patches are there; all faults.
    """
    if faults := _misfits(release, real):
        raise SettingsError(*faults)
    rng = np.random.default_rng(seed)
    taken: set[object] = set()
    pictures, labels, synthetic = [], [], []
    rescale = Rescale.of(release.unit, window)
    both = [label for label in release.classes if label in real.classes]
    for label in both:
        ours = rng.permutation(np.flatnonzero(release.labels == release.classes.index(label)))
        theirs = _one_each(real, real.classes.index(label), taken, rng)
        count = min(per_class, len(ours), len(theirs))
        coins = rng.integers(0, 2, count).astype(bool)
        for row, coin in enumerate(coins):
            image = release.images[ours[row]] if coin else real.images[theirs[row]]
            if not coin:
                taken.add(real.patients[theirs[row]])
            # A release is stored in 16 bits: what is real goes the same way to the screen.
            pictures.append(_grey(rescale.restore(rescale.store(image)), window))
            labels.append(label)
            synthetic.append(coin)
    if len(labels) < LEAST:
        raise SettingsError(
            Fault(
                "reader study",
                f"{len(labels)} patches of {len(both)} classes that are both released and real",
                f"{LEAST} or more",
                "bring more real patients that the generator did not see, or a larger release",
            )
        )
    order = rng.permutation(len(labels))
    return Deck(
        study=digest_of("reader study", release.digest, seed)[:16],
        shown=np.stack(pictures)[order],
        labels=tuple(labels[at] for at in order),
        synthetic=np.array(synthetic)[order],
        seed=seed,
        release=release.digest,
        unseen=unseen,
    )


def _misfits(release: Release, real: PatchSet) -> list[Fault]:
    # Lesions larger than a patch were shrunk: what most have is the nominal size of a pixel.
    sizes = Counter(place.mm_per_pixel for place in real.locations).most_common(1)
    pairs: Sequence[tuple[str, object, object]] = (
        ("shape", real.images.shape[1:], release.pixels.shape[1:]),
        ("unit", real.unit.value, release.unit.value),
        ("modality", real.modality, release.modality),
        ("mm per pixel", sizes[0][0] if sizes else None, release.mm_per_pixel),
    )
    return [
        Fault(
            f"real patches: {name}",
            str(came),
            f"that of the release: {wanted}",
            "cut the real patches with the settings that the generator was trained with",
        )
        for name, came, wanted in pairs
        if came != wanted
    ]


def _one_each(
    real: PatchSet, label: int, taken: set[object], rng: np.random.Generator
) -> list[int]:
    """Rows of a class, in random order, of patients who are not in the deck yet: one of each."""
    rows: dict[object, int] = {}
    for row in rng.permutation(np.flatnonzero(real.labels == label)):
        patient = real.patients[row]
        if patient not in taken:
            rows.setdefault(patient, int(row))
    return list(rows.values())


def _grey(image: NDArray[np.float32], window: Window) -> NDArray[np.uint8]:
    """(channel, [slice,] row, column) → (slice, row, column), black to white over the window."""
    grey = np.rint((window.to_signed(image) + 1) * 127.5).astype(np.uint8)
    return np.asarray(grey.reshape(-1, *grey.shape[-2:]), np.uint8)
