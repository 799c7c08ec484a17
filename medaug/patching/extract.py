"""One case → patches of one size, one lesion after another.

Only the slices that a patch shows are decoded, and of each slice only the region that the patch
depends on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Case, Lesion, LesionPatch, PatchLocation, Region
from medaug.domain.section import Section, largest, sections
from medaug.errors import Fault, ReaderError, SettingsError
from medaug.patching.resample import PatchGrid
from medaug.patching.settings import EveryNth, PatchingSettings

_TILE_STEP = 0.75
"""Neighbouring tiles lie at most this share of a patch apart: they overlap by a quarter."""
_ROUNDING_MM = 1e-6


@dataclass(frozen=True)
class SkippedLesion:
    """A lesion, or one slice of it, that became no patch. ``reason`` is a sentence."""

    lesion: str
    label: str
    case: str
    reason: str


@dataclass(frozen=True, eq=False)
class _Cut:
    """A patch to be cut; ``scale`` as in `PatchLocation`."""

    section: Section
    centre: NDArray[np.float64]
    mm_per_pixel: float
    scale: float = 1.0


def extract_patches(
    case: Case, settings: PatchingSettings
) -> Iterator[LesionPatch | SkippedLesion]:
    """Cut the patches of every lesion of ``case``; what cannot be cut is yielded with its reason.

    A lesion's diameter, held against the limits, is the longest in any of its axial slices (as in
    RECIST 1.1); `PatchLocation.diameter_mm` is that of the patch's own slice. Lesions known only
    by a box have no mask, and the diameter that the source states, or none (0).

    Pictures without spacing are resized so that the longer side of the lesion's box, as a rule
    the whole picture, fills the patch. Nothing is cut off: a shorter side is filled with what
    the picture holds there, and beyond the picture with its repeated edge.

    Raises:
        SettingsError: if the settings give millimetres to a picture without spacing, or none to
            a volume that has them.
    """
    _require_settings_for(case, settings)
    return (found for lesion in case.lesions for found in _of_lesion(case, lesion, settings))


def _require_settings_for(case: Case, settings: PatchingSettings) -> None:
    if case.volume.geometry.in_millimetres:
        if settings.mm_per_pixel is None:
            raise SettingsError(
                Fault(
                    "patching.mm_per_pixel",
                    f"not set, but case {case.key} is in millimetres",
                    "a size in mm",
                    "set it, for instance to 1.0",
                )
            )
        return
    names = ("mm_per_pixel", "min_diameter_mm", "max_diameter_mm")
    faults = [
        Fault(
            f"patching.{name}",
            f"{getattr(settings, name):g}, but case {case.key} is a picture without spacing",
            "not set for such pictures",
            "remove it, or read images that carry their spacing",
        )
        for name in names
        if getattr(settings, name) is not None
    ]
    if faults:
        raise SettingsError(*faults)


def _of_lesion(
    case: Case, lesion: Lesion, settings: PatchingSettings
) -> Iterator[LesionPatch | SkippedLesion]:
    found = sections(lesion, case.volume.geometry)
    plan = _outside_limits(found, lesion, settings) or _plan(found, settings)
    if isinstance(plan, str):
        yield SkippedLesion(lesion.tracking_uid, lesion.label, case.key, plan)
        return
    for cut in plan:
        yield _cut_out(case, lesion, cut, settings.size)


def _outside_limits(found: list[Section], lesion: Lesion, settings: PatchingSettings) -> str:
    """Why the lesion's diameter keeps it out, or nothing."""
    low, high = settings.min_diameter_mm, settings.max_diameter_mm
    if low is None and high is None:
        return ""
    if lesion.mask is not None:
        longest = max(section.diameter for section in found)
    elif lesion.diameter_mm is not None:
        longest = lesion.diameter_mm
    else:
        return "only a box is known of it, so its diameter cannot be held against the limits"
    if low is not None and longest < low:
        return f"its longest diameter is {longest:.1f} mm, below the limit of {low:g} mm"
    if high is not None and longest > high:
        return f"its longest diameter is {longest:.1f} mm, above the limit of {high:g} mm"
    return ""


def _choose(found: list[Section], slices: str | EveryNth) -> list[Section]:
    if slices == "all":
        return found
    first = largest(found)
    if isinstance(slices, EveryNth):
        return found[first % slices.every :: slices.every]
    return [found[first]]


def _plan(found: list[Section], settings: PatchingSettings) -> list[_Cut] | str:
    """The patches to cut, or why there are none."""
    chosen, wanted = _choose(found, settings.slices), settings.mm_per_pixel
    if wanted is None:
        # A picture without spacing: its longer side fills the patch.
        return [_Cut(at, at.centre, float(at.span.max()) / settings.size) for at in chosen]
    if settings.larger_than_patch == "skip":
        longest = max(float(section.span.max()) for section in chosen)
        room = settings.size * wanted - 2 * settings.margin_mm
        if longest > room + _ROUNDING_MM:
            return f"it spans {longest:.1f} mm, and the patch has {room:.1f} mm inside its margin"
    return [cut for section in chosen for cut in _cuts(section, settings, wanted)]


def _cuts(section: Section, settings: PatchingSettings, wanted: float) -> list[_Cut]:
    """One patch around the lesion; several where it is larger and tiles are asked for."""
    patch = settings.size * wanted
    need = section.span + 2 * settings.margin_mm
    if need.max() <= patch + _ROUNDING_MM:
        return [_Cut(section, section.centre, wanted)]
    if settings.larger_than_patch == "scale":
        fitting = float(need.max()) / settings.size
        return [_Cut(section, section.centre, fitting, wanted / fitting)]
    rows, columns = (_tile_offsets(float(length), patch) for length in need)
    centres = [section.centre + np.array([row, column]) for row in rows for column in columns]
    return [
        _Cut(section, centre, wanted)
        for centre in centres
        if (np.abs(section.points - centre) <= patch / 2).all(axis=1).any()
    ]


def _tile_offsets(length: float, patch: float) -> NDArray[np.float64]:
    """Centres of the tiles that cover ``length`` mm, counted from its middle."""
    over = max(length - patch, 0.0)
    return np.linspace(-over / 2, over / 2, 1 + int(np.ceil(over / (_TILE_STEP * patch))))


def _cut_out(case: Case, lesion: Lesion, cut: _Cut, size: int) -> LesionPatch | SkippedLesion:
    volume, section = case.volume, cut.section
    geometry, axes = volume.geometry, section.view.axes
    grid = PatchGrid(section.view, cut.centre, cut.mm_per_pixel, size)
    across = grid.reach((geometry.shape[axes[1]], geometry.shape[axes[2]]))
    region = dict(zip(axes, (slice(section.at, section.at + 1), *across), strict=True))
    block: Region = (region[0], region[1], region[2])
    try:
        pixels = volume.read(block).transpose(axes)[0]
    except ReaderError as damage:
        # Headers were sound and the pixels are not: this patch is lost, the others are not.
        reason = f"slice {section.at} cannot be read: {damage.faults[0].came}"
        return SkippedLesion(lesion.tracking_uid, lesion.label, case.key, reason)
    if not np.isfinite(pixels).all():
        reason = f"slice {section.at} holds values around it that are not finite numbers"
        return SkippedLesion(lesion.tracking_uid, lesion.label, case.key, reason)
    outlined = lesion.mask is not None
    in_mm = geometry.in_millimetres
    x, y, z = geometry.world(section.view.array_index(section.at, cut.centre)).tolist()
    return LesionPatch(
        image=grid.image(pixels, across)[None],
        mask=grid.mask(section.start, section.outline, across) if outlined else None,
        label=lesion.label,
        patient=lesion.patient,
        location=PatchLocation(
            case=case.key,
            lesion=lesion.tracking_uid,
            slice_index=section.at if in_mm else -1,
            centre_mm=(x, y, z),
            mm_per_pixel=cut.mm_per_pixel if in_mm else 0.0,
            scale=cut.scale,
            diameter_mm=_diameter(lesion, section) if in_mm else 0.0,
        ),
        unit=volume.unit,
        modality=volume.modality,
    )


def _diameter(lesion: Lesion, section: Section) -> float:
    return section.diameter if lesion.mask is not None else lesion.diameter_mm or 0.0
