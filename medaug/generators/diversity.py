"""Collapse, the first enemy: does the generator draw many patches, a few, or one?

Two figures of signed patches of one class, each held against that of the real ones:

* **diversity**: the standard deviation over patches, pixel by pixel, averaged over pixels. It is
  near 0 where one picture is drawn again and again.
* **apart**: the mean distance from a patch to the nearest other one of the same set. Three
  pictures, drawn in turn, have the diversity of many, but every patch has its twin; so have a few
  pictures with noise, brightness or contrast on top.

The nearest is sought among block means, each patch's own mean taken away and its contrast set to
one: outlines and shading count. Both sets are of one size, since the nearest of many lies nearer.

>>> rng = np.random.default_rng(0)
>>> real = rng.normal(size=(60, 1, 32, 32)).astype(np.float32)
>>> of_real = Diversity.of(real, real)
>>> lost(Diversity.of(real[rng.permutation(60)], real), of_real, 0.25)
False
>>> three = real[rng.integers(3, size=60)]
>>> lost(Diversity.of(three, real), of_real, 0.25), diversity(three) > 0.7 * diversity(real)
(True, True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from medaug.errors import Fault, SettingsError
from medaug.generators.adversaries import latents
from medaug.generators.masks import image_of
from medaug.generators.networks import Generator
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import draw

SAMPLES = 64
COLLAPSED = 0.25  # of the real patches' diversity
_BLOCKS = 16
_FLAT = 1e-6

Signed = NDArray[np.float32]


def diversity(images: Signed) -> float:
    """Of signed patches (n, channel, [slice,] row, column), n ≥ 2; unbiased in the variance.

    >>> diversity(np.zeros((8, 1, 4, 4), np.float32))
    0.0
    """
    return float(images.std(axis=0, ddof=1, dtype=np.float64).mean())


def apart(images: Signed, among: int) -> float:
    """Mean distance to the nearest other of ``among`` patches, over as many groups as there are.

    Args:
        images: signed patches (n, channel, [slice,] row, column).
        among: the size of a group, 2 to n.
    """
    looks = _looks(images)[np.random.default_rng(0).permutation(len(images))]
    groups = looks[: len(looks) // among * among].reshape(-1, among, looks.shape[1])
    return float(np.mean([_nearest(group) for group in groups]))


def _nearest(group: NDArray[np.float64]) -> float:
    distances = cdist(group, group)
    np.fill_diagonal(distances, np.inf)
    return float(distances.min(axis=1).mean())


def _looks(images: Signed) -> NDArray[np.float64]:
    """(n, feature): block means along every side, mean 0, standard deviation 1."""
    means = images.astype(np.float64)
    for axis in range(2, images.ndim):
        side = images.shape[axis]
        blocks = _BLOCKS if side % _BLOCKS == 0 else _BLOCKS // 2
        split = (*means.shape[:axis], blocks, side // blocks, *means.shape[axis + 1 :])
        means = means.reshape(split).mean(axis=axis + 1)
    flat = means.reshape(len(images), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(flat.std(axis=1, keepdims=True), _FLAT) * np.sqrt(flat.shape[1])
    return np.asarray(flat)


@dataclass(frozen=True)
class Diversity:
    """`diversity` and `apart` of one class."""

    spread: float
    apart: float

    @classmethod
    def of(cls, images: Signed, real: Signed) -> Diversity:
        """Of ``images``, in groups of the size that ``real`` allows; both at least 2 patches."""
        among = min(SAMPLES, len(real), len(images))
        return cls(diversity(images), apart(images, among))


def lost(generated: Diversity, real: Diversity, least: float) -> bool:
    """Whether either figure lies below ``least`` of the real patches'."""
    return generated.spread < least * real.spread or generated.apart < least * real.apart


def refuse_lost(
    classes: Mapping[str, tuple[Diversity, Diversity]], settings: GeneratorSettings
) -> None:
    """Raise for every class, given as (generated, real), whose diversity is lost.

    Raises:
        SettingsError: naming the figures and what to do.
    """
    least = settings.least_diversity
    faults = [
        Fault(
            f"class {label}",
            "the generator collapsed: " + _told(*pair),
            f"at least {least:.0%} of the real patches' figures",
            "train in another folder with preset: small-data, more generator.images or a lower "
            "generator.learning_rate, or add patients; the last checkpoint is kept",
        )
        for label, pair in classes.items()
        if lost(*pair, least)
    ]
    if faults:
        raise SettingsError(*faults)


def lost_notes(classes: Mapping[str, tuple[Diversity, Diversity]]) -> list[str]:
    """A sentence for the report on each class that has collapsed, given as (generated, real)."""
    return [
        f"The generator collapsed on class {label}: {_told(*pair)}."
        for label, pair in classes.items()
        if lost(*pair, COLLAPSED)
    ]


def _told(generated: Diversity, real: Diversity) -> str:
    return (
        f"its patches vary by {generated.spread:.3f} where real ones vary by {real.spread:.3f} "
        f"(mean standard deviation per pixel in [-1, 1]), and lie {generated.apart:.3f} from the "
        f"nearest other one where real ones lie {real.apart:.3f}"
    )


def measured(
    network: Generator, condition: int, settings: GeneratorSettings, real: Signed
) -> tuple[Diversity, Diversity]:
    """Of 64 generated patches of a class, always from the same latents, and of the real ones.

    Args:
        network: in evaluation mode.
        condition: the class as the network knows it.
        settings: of the generator.
        real: signed patches of the class, with masks as `masks` lays them.
    """
    images = image_of(real, settings)
    drawn = image_of(draw(network, _noise(settings), condition), settings)
    return Diversity.of(drawn, images), Diversity.of(images, images)


def generated_diversity(network: Generator, condition: int, settings: GeneratorSettings) -> float:
    """`diversity` of the images of 64 patches of one class; always from the same latents."""
    return diversity(image_of(draw(network, _noise(settings), condition), settings))


def _noise(settings: GeneratorSettings) -> NDArray[np.float32]:
    return latents(SAMPLES, settings, np.random.default_rng(0))


def collapse_note(label: str, generated: float, real: float) -> str | None:
    """A sentence for the report where a refiner's `diversity` of a class is lost, else None."""
    if generated >= COLLAPSED * real:
        return None
    return (
        f"The generator collapsed on class {label}: its patches vary by {generated:.3f} where "
        f"real ones vary by {real:.3f} (mean standard deviation per pixel in [-1, 1])."
    )
