"""What is refused before training starts, all faults at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from medaug.domain import PatchSet, central
from medaug.errors import CohortError, Fault, SettingsError
from medaug.generators.networks import SIZES
from medaug.generators.settings import GeneratorSettings, RefinerSettings
from medaug.generators.sizes import shown_diameters

Settings = GeneratorSettings | RefinerSettings

MIN_PATCHES = 2  # the diversity of fewer cannot be measured
CLIPPED_LESION = 0.05
EMPTY_MASKS = 0.05  # as from lesions smaller than a pixel; the gate turns such samples away
UNKNOWN_SIZES = 0.05  # they are not shown
MIN_SIZES = 5  # the mean of fewer would say too much about each
CLIPPED_PATCH = 0.5  # where no outline says which pixels are lesion


def refuse_unfit(training: PatchSet, settings: Settings, further: Sequence[Fault] = ()) -> None:
    """Raise if these patches cannot be learnt from with these settings; ``further`` faults too.

    Raises:
        CohortError: patches are missing, of an unsupported shape, or not finite.
        SettingsError: only settings are at fault.
    """
    cohort = _class_faults(training, settings) + _shape_faults(training)
    choices = _batch_faults(training, settings) + _device_faults(settings)
    choices += [*_mask_faults(training, settings), *_size_faults(training, settings), *further]
    if isinstance(settings, RefinerSettings) and training.images.ndim == 5:
        choices.append(
            Fault(
                "generator.preset",
                f"{settings.preset}, which renders and refines pictures, for patches in 3-D",
                "a preset that draws from scratch, or 2-D patches",
                "set another preset, or patching.spatial_dims: 2",
            )
        )
    if not cohort:
        choices += _window_faults(training, settings)
    if cohort:
        raise CohortError(*cohort, *choices)
    if choices:
        raise SettingsError(*choices)


def _class_faults(training: PatchSet, settings: Settings) -> list[Fault]:
    least = 1 if isinstance(settings, RefinerSettings) else settings.min_patients
    counts = np.bincount(training.labels, minlength=len(training.classes))
    faults = []
    for label, (name, patients) in enumerate(training.patients_per_class().items()):
        patches = int(counts[label])
        if patches < MIN_PATCHES:
            came, allowed = f"{patches} training patches", f"at least {MIN_PATCHES}"
        elif patients < least:
            came, allowed = (
                f"{patients} training patients",
                f"at least generator.min_patients, {least}",
            )
        else:
            continue
        action = "add patients that show it, or leave the class out"
        faults.append(Fault(f"class {name}", came, allowed, action))
    return faults or ([] if training.classes else [Fault("training part", "no class at all")])


def _shape_faults(training: PatchSet) -> list[Fault]:
    faults = []
    shape = training.images.shape[2:]
    sizes = SIZES.get(len(shape), ())
    if len(set(shape)) != 1 or shape[0] not in sizes:
        allowed = " or ".join(
            f"{what}, a multiple of 8 from {SIZES[dims][0]} to {SIZES[dims][-1]}"
            for dims, what in ((2, "square"), (3, "a cube"))
        )
        faults.append(
            Fault(
                "training patches",
                f"{' x '.join(map(str, shape))} pixels",
                allowed,
                "set patching.size",
            )
        )
    elif len(shape) == 3 and training.images.shape[1] != 1:
        faults.append(Fault("training patches", f"{training.images.shape[1]} channels in 3-D", "1"))
    if not np.isfinite(training.images).all():
        broken = int((~np.isfinite(training.images)).reshape(len(training), -1).any(1).sum())
        faults.append(
            Fault("training patches", f"{broken} hold NaN or infinity", "finite intensities")
        )
    return faults


def _batch_faults(training: PatchSet, settings: Settings) -> list[Fault]:
    available = len(training)
    of_what = "training patches"
    if settings.one_per_class and len(training.classes):
        counts = np.bincount(training.labels, minlength=len(training.classes))
        smallest = int(counts.argmin())
        available = int(counts[smallest])
        of_what += f" of class {training.classes[smallest]}"
    if settings.batch <= available:
        return []
    return [
        Fault(
            "generator.batch",
            str(settings.batch),
            f"at most {available}, the number of {of_what}",
            "lower it, or add patients",
        )
    ]


def _device_faults(settings: Settings) -> list[Fault]:
    if settings.device != "cuda" or torch.cuda.is_available():
        return []
    return [Fault("generator.device", "cuda, but torch finds none", "auto, cpu", "set it to auto")]


def _mask_faults(training: PatchSet, settings: Settings) -> list[Fault]:
    if isinstance(settings, RefinerSettings) or not settings.draws_masks:
        return []  # a refiner renders its masks
    came = "[image, mask], but "
    if training.masks is None:
        came += "the patches have no masks: points and boxes, or no marks at all, give none"
    else:
        empty = int((~training.masks.reshape(len(training), -1).any(axis=1)).sum())
        if empty <= EMPTY_MASKS * len(training):
            return []
        came += f"{empty} of {len(training)} training patches have an empty mask"
    return [
        Fault(
            "generator.outputs",
            came,
            f"[image], or patches with masks of which at most {EMPTY_MASKS:.0%} are empty",
            "set generator.outputs: [image], or read sources that outline the lesions",
        )
    ]


def _size_faults(training: PatchSet, settings: Settings) -> list[Fault]:
    if isinstance(settings, RefinerSettings) or not settings.condition_on_size:
        return []
    known = shown_diameters(training) > 0
    unknown = len(training) - int(known.sum())
    came = []
    if unknown > UNKNOWN_SIZES * len(training):
        came.append(
            f"{unknown} of {len(training)} training patches have no diameter in mm: boxes, points "
            "without a diameter and pictures without spacing give none"
        )
    counts = np.bincount(training.labels[known], minlength=len(training.classes))
    came += [
        f"class {name} has {count} diameters"
        for name, count in zip(training.classes, counts, strict=True)
        if count < MIN_SIZES
    ]
    return [
        Fault(
            "generator.condition_on_size",
            f"true, but {what}",
            f"at most {UNKNOWN_SIZES:.0%} without one, and {MIN_SIZES} in each class",
            "set it to false, or read sources that outline the lesions or state their diameters",
        )
        for what in came
    ]


def _window_faults(training: PatchSet, settings: Settings) -> list[Fault]:
    low, high = settings.window
    limit, what = CLIPPED_LESION, "lesion pixels"
    if training.masks is None:
        limit, what = CLIPPED_PATCH, "pixels"
    faults = []
    for label, name in enumerate(training.classes):
        values = _judged_pixels(training, label)
        share = float(((values < low) | (values > high)).mean()) if values.size else 0.0
        if share > limit:
            faults.append(
                Fault(
                    "generator.window",
                    f"[{low:g}, {high:g}] {training.unit} clips {share:.1%} of the {what} "
                    f"of class {name}, which lie in [{values.min():g}, {values.max():g}]",
                    f"at most {limit:.0%}",
                    "widen the window",
                )
            )
    return faults


def _judged_pixels(training: PatchSet, label: int) -> NDArray[np.float32]:
    of_class = training.labels == label
    images = training.images[of_class]
    if training.masks is None:
        return np.ravel(images)
    if images.ndim == 4 and images.shape[1] % 2:
        images = central(images)  # of adjacent slices, the mask is of the middle one
    masks = np.broadcast_to(training.masks[of_class][:, None], images.shape)
    pixels: NDArray[np.float32] = images[masks]
    return pixels
