"""One case → patches of one size, one lesion after another.

Only the slices that a patch depends on are decoded, and of each slice only the region that it
depends on: of a picture its own slice and those that its channels lie between, of a cube the slices
that it shows and those beyond that its splines and its smoothing reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Case, Geometry, Lesion, LesionPatch, PatchLocation, Region, Volume
from medaug.domain.section import Section, View, largest, longest_diameter, sections
from medaug.errors import Fault, ReaderError, SettingsError
from medaug.patching.adjacent import channels
from medaug.patching.body import Body
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
    """A patch to be cut; ``centre`` and ``scale`` as in its `PatchGrid` and `PatchLocation`."""

    shows: Section | Body
    centre: NDArray[np.float64]
    mm_per_pixel: float
    scale: float = 1.0


def extract_patches(
    case: Case, settings: PatchingSettings
) -> Iterator[LesionPatch | SkippedLesion]:
    """Cut the patches of every lesion of ``case``; what cannot be cut is yielded with its reason.

    A lesion's diameter, held against the limits, is the longest in any of its axial slices (as in
    RECIST 1.1); `PatchLocation.diameter_mm` is that of the patch's own slice, or of a cube the
    longest. Lesions known only by a box have no mask, and the diameter that the source states, or
    none (0).

    A cube is centred on the middle of the lesion's bounding box, along the patient's axes (see
    `medaug.patching.body`). A lesion of which one slice only is marked, though it is long, has no
    extent in 3-D that anybody knows, and is skipped there.

    Pictures without spacing are resized so that the longer side of the lesion's box, as a rule
    the whole picture, fills the patch. Nothing is cut off: a shorter side is filled with what
    the picture holds there, and beyond the picture with its repeated edge.

    Raises:
        SettingsError: if the settings give millimetres to a picture without spacing, or none to
            a volume that has them; or ask for slices of a single picture.
    """
    _require_settings_for(case, settings)
    _require_slices(case, settings)
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


def _require_slices(case: Case, settings: PatchingSettings) -> None:
    if not case.volume.geometry.flat:
        return
    faults = [
        Fault(
            f"patching.{name}",
            f"{getattr(settings, name)}, but case {case.key} is a single picture",
            str(allowed),
            "remove it, or read volumes",
        )
        for name, allowed in (("spatial_dims", 2), ("adjacent", 0))
        if getattr(settings, name) != allowed
    ]
    if faults:
        raise SettingsError(*faults)


def _of_lesion(
    case: Case, lesion: Lesion, settings: PatchingSettings
) -> Iterator[LesionPatch | SkippedLesion]:
    geometry = case.volume.geometry
    found = sections(lesion, geometry)
    plan: list[_Cut] | str = _outside_limits(found, lesion, settings)
    if not plan and settings.spatial_dims == 3:
        plan = _unknown_depth(found, geometry)
    plan = plan or _plan(_shown(found, lesion, geometry, settings), settings)
    if isinstance(plan, str):
        yield SkippedLesion(lesion.tracking_uid, lesion.label, case.key, plan)
        return
    for cut in plan:
        yield _cut_out(case, lesion, cut, settings)


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


def _unknown_depth(found: list[Section], geometry: Geometry) -> str:
    """Why the lesion has no extent between slices, or nothing.

    A ball longer than two slice distances has a pixel in two slices at least.
    """
    apart = geometry.spacing[geometry.axial_axis]
    if geometry.shape[geometry.axial_axis] == 1:
        return "its volume has one slice, which shows nothing in 3-D"
    longest = max(section.diameter for section in found)
    if len(found) == 1 and longest > 2 * apart:
        return (
            f"one slice of it is marked, though it is {longest:.1f} mm long and slices lie "
            f"{apart:.1f} mm apart: its extent in 3-D is unknown"
        )
    return ""


def _shown(
    found: list[Section], lesion: Lesion, geometry: Geometry, settings: PatchingSettings
) -> list[Section | Body]:
    """What there is to be a patch of: slices, or the whole lesion."""
    if settings.spatial_dims == 3:
        return [Body.of(lesion, geometry)]
    return [*_choose(found, settings.slices)]


def _choose(found: list[Section], slices: str | EveryNth) -> list[Section]:
    if slices == "all":
        return found
    first = largest(found)
    if isinstance(slices, EveryNth):
        return found[first % slices.every :: slices.every]
    return [found[first]]


def _plan(chosen: list[Section | Body], settings: PatchingSettings) -> list[_Cut] | str:
    """The patches to cut, or why there are none."""
    wanted = settings.mm_per_pixel
    if wanted is None:
        # A picture without spacing: its longer side fills the patch.
        return [_Cut(at, at.centre, float(at.span.max()) / settings.size) for at in chosen]
    if settings.larger_than_patch == "skip":
        longest = max(float(shown.span.max()) for shown in chosen)
        room = settings.size * wanted - 2 * settings.margin_mm
        if longest > room + _ROUNDING_MM:
            return f"it spans {longest:.1f} mm, and the patch has {room:.1f} mm inside its margin"
    return [cut for shown in chosen for cut in _cuts(shown, settings, wanted)]


def _cuts(shown: Section | Body, settings: PatchingSettings, wanted: float) -> list[_Cut]:
    """One patch around the lesion; several where it is larger and tiles are asked for."""
    patch = settings.size * wanted
    need = shown.span + 2 * settings.margin_mm
    if need.max() <= patch + _ROUNDING_MM:
        return [_Cut(shown, shown.centre, wanted)]
    if settings.larger_than_patch == "scale":
        fitting = float(need.max()) / settings.size
        return [_Cut(shown, shown.centre, fitting, wanted / fitting)]
    along = (_tile_offsets(float(length), patch) for length in need)
    centres = [shown.centre + np.array(offsets) for offsets in product(*along)]
    return [
        _Cut(shown, centre, wanted)
        for centre in centres
        if (np.abs(shown.points - centre) <= patch / 2).all(axis=1).any()
    ]


def _tile_offsets(length: float, patch: float) -> NDArray[np.float64]:
    """Centres of the tiles that cover ``length`` mm, counted from its middle."""
    over = max(length - patch, 0.0)
    return np.linspace(-over / 2, over / 2, 1 + int(np.ceil(over / (_TILE_STEP * patch))))


def _cut_out(
    case: Case, lesion: Lesion, cut: _Cut, settings: PatchingSettings
) -> LesionPatch | SkippedLesion:
    volume, shows = case.volume, cut.shows
    try:
        if isinstance(shows, Body):
            image, mask, place, at = _cube(volume, shows, cut, settings)
            diameter = longest_diameter(lesion, volume.geometry)
        else:
            image, mask, place, at = _picture(volume, shows, cut, settings)
            diameter = shows.diameter if lesion.mask is not None else lesion.diameter_mm or 0.0
    except _UnusableError as unusable:
        return SkippedLesion(lesion.tracking_uid, lesion.label, case.key, str(unusable))
    in_mm = volume.geometry.in_millimetres
    x, y, z = place.tolist()
    return LesionPatch(
        image=image,
        mask=mask if lesion.mask is not None else None,
        label=lesion.label,
        patient=lesion.patient,
        location=PatchLocation(
            case=case.key,
            lesion=lesion.tracking_uid,
            slice_index=at if in_mm else -1,
            centre_mm=(x, y, z),
            mm_per_pixel=cut.mm_per_pixel if in_mm else 0.0,
            scale=cut.scale,
            diameter_mm=diameter if in_mm else 0.0,
        ),
        unit=volume.unit,
        modality=volume.modality,
    )


_Patch = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64], int]
"""Image, mask, RAS mm of the centre, index of the slice."""


def _picture(volume: Volume, section: Section, cut: _Cut, settings: PatchingSettings) -> _Patch:
    geometry, view = volume.geometry, section.view
    sides = [geometry.shape[axis] for axis in view.axes[1:]]
    own = PatchGrid(view.to_index, cut.centre, cut.mm_per_pixel, settings.size)
    # A patch that is shrunk shows more in every direction, between slices too.
    apart = (settings.slice_mm or settings.mm_per_pixel or 0.0) / cut.scale
    beside = range(-settings.adjacent, settings.adjacent + 1)
    image = []
    for channel in channels(
        geometry, view, section.at, cut.centre, [number * apart for number in beside]
    ):
        grid = replace(own, centre=channel.position)
        region = grid.reach(sides)
        shown = [
            grid.image(_read(volume, _at(view, at, region)).transpose(view.axes)[0], region)
            for at in ([channel.below, channel.above] if channel.share else [channel.below])
        ]
        image.append(shown[0] + channel.share * (shown[-1] - shown[0]))
    mask = own.mask(section.start, section.outline, own.reach(sides))
    place = geometry.world(view.array_index(section.at, cut.centre))
    return np.stack(image).astype(np.float32), mask, place, section.at


def _cube(volume: Volume, body: Body, cut: _Cut, settings: PatchingSettings) -> _Patch:
    grid = PatchGrid(body.to_index, cut.centre, cut.mm_per_pixel, settings.size)
    region = grid.reach(volume.geometry.shape)
    i, j, k = region
    image = grid.image(_read(volume, (i, j, k)), region)
    mask = grid.mask(body.start, body.outline, region)
    index = body.to_index @ cut.centre
    axial = volume.geometry.axial_axis
    at = int(np.clip(round(index[axial]), 0, volume.geometry.shape[axial] - 1))
    return image[None], mask, volume.geometry.world(index), at


def _at(view: View, at: int, region: tuple[slice, ...]) -> Region:
    """The region of slice ``at``, along the axes of the array."""
    along = dict(zip(view.axes, (slice(at, at + 1), *region), strict=True))
    return along[0], along[1], along[2]


class _UnusableError(Exception):
    """Why the voxels of a patch cannot be used, as the reason of a `SkippedLesion`."""


def _read(volume: Volume, region: Region) -> NDArray[np.float32]:
    """Voxels (i, j, k) of a region.

    Raises:
        _UnusableError: headers were sound and these voxels are not: this patch is lost, the others
            are not.
    """
    part = region[volume.geometry.axial_axis]
    which = f"slice {part.start}"
    if part.stop - part.start > 1:
        which = f"a slice of {part.start} to {part.stop - 1}"
    try:
        voxels = volume.read(region)
    except ReaderError as damage:
        raise _UnusableError(f"{which} cannot be read: {damage.faults[0].came}") from damage
    if not np.isfinite(voxels).all():
        raise _UnusableError(f"{which} holds values around it that are not finite numbers")
    return voxels
