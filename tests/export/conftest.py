"""Releases made by hand, as the gate would make them."""

from collections.abc import Callable

import numpy as np
import pytest

from medaug.domain import (
    Candidates,
    CheckResult,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Unit,
    Window,
)

WINDOWS = {
    Unit.HOUNSFIELD: Window(-100, 200),
    Unit.SUV: Window(0, 12.5),
    Unit.ARBITRARY: Window(0, 1),
}
MODALITIES = {Unit.HOUNSFIELD: "CT", Unit.SUV: "PT", Unit.ARBITRARY: "MG"}


def hand_made_release(
    unit: Unit = Unit.HOUNSFIELD,
    per_class: int = 3,
    channels: int = 1,
    classes: tuple[str, ...] = ("cyst", "haemangioma", "metastasis"),
    mm_per_pixel: float = 0.75,
    size: tuple[int, int] = (20, 16),
    patch_level_only: bool = False,
    extremes: bool = True,
    seed: int = 0,
    masks: bool = False,
    slices: int = 0,
    modality: str = "",
) -> Release:
    """Blobs with noise; sides differ in number, so that a transposition shows.

    With ``slices`` it is a release of 3-D patches.
    """
    rng = np.random.default_rng(seed)
    window = WINDOWS[unit]
    labels = np.repeat(np.arange(len(classes)), per_class).astype(np.int64)
    rows, columns = np.mgrid[: size[0], : size[1]]
    shape = (len(labels), slices or channels, *size)
    at = rng.uniform(0.3, 0.7, (*shape[:2], 1, 1))
    blob = np.exp(-((rows - at * size[0]) ** 2 + (columns - 0.4 * size[1]) ** 2) / 20)
    signed = 1.6 * blob - 0.9 + rng.normal(0, 0.05, shape)
    rescale = Rescale.of(unit, window)
    pixels = rescale.store(window.from_signed(np.clip(signed, -1, 1)))
    if extremes:  # the ends of the int16 range must come through every format as well
        pixels[0, 0, 0, :2] = (-32768, 32767)
    outlines = blob > 0.5 if slices else blob[:, channels // 2] > 0.5
    candidates = Candidates(
        pixels=pixels[:, None] if slices else pixels,
        labels=labels,
        classes=classes,
        rescale=rescale,
        unit=unit,
        modality=modality or MODALITIES[unit],
        mm_per_pixel=mm_per_pixel,
        seeds=np.arange(len(labels)),
        masks=outlines if masks else None,
    )
    # As a mapping, which has to come back from the manifest too.
    quotas = dict.fromkeys(classes, per_class)
    policy = ReleasePolicy(
        per_class=quotas if slices else per_class, patch_level_only=patch_level_only
    )
    decision = ReleaseDecision(
        policy=policy,
        pixels_digest=candidates.digest,
        results=(
            CheckResult("format", True, 0, 0, 0, "Every sample has the right shape."),
            CheckResult("copy", True, 3.1234567, 4.5678901, 2, "No sample reaches the limit."),
            CheckResult("duplicate", True, 0.5, 0.98, 1, "No two samples are the same picture."),
        ),
        drawn=dict.fromkeys(classes, per_class + 2),
        accepted=dict.fromkeys(classes, per_class),
        statements=("9 samples; none exceeded the copy threshold.",),
    )
    return Release(
        **{
            name: getattr(candidates, name)
            for name in Candidates.__dataclass_fields__
            if name != "seeds"
        },
        decision=decision,
        generator_digest="ab" * 32,
    )


@pytest.fixture(scope="session")
def make_release() -> Callable[..., Release]:
    return hand_made_release


@pytest.fixture(scope="session")
def windows() -> dict[Unit, Window]:
    return WINDOWS
