"""Images in volume files and what marks them → cases.

Which format a file has is told by its name; what lies where is told by its header alone. Whether
two files belong together is told by the settings: named groups that are equal in both patterns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Case, Geometry, Lesion, Region, Unit, Volume
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress
from medaug.readers.files import Refusal, SourceFile, search, stray
from medaug.readers.found import UNMARKED, Found, Kind, Opened
from medaug.readers.identity import case_token, patient_key
from medaug.readers.lesions import lesions_of
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.points import NOT_HERE, Place, PointsOn, in_one_sentence, points_of, read_points
from medaug.readers.rules import OtherGrid, Per
from medaug.readers.settings import VolumesSource
from medaug.readers.tables import read_values
from medaug.readers.volumes import arrays, metaimage, nifti, nrrd, tiff
from medaug.readers.volumes.file import VolumeFile, Wanted
from medaug.readers.volumes.label_map import Naming, read_label_map

UNPLACED = "state no orientation; voxel sizes alone were used"

_READERS: dict[tuple[str, ...], Callable[[SourceFile, Wanted], VolumeFile]] = {
    nifti.NAMES: nifti.read_nifti,
    nrrd.NAMES: nrrd.read_nrrd,
    metaimage.NAMES: metaimage.read_metaimage,
    arrays.NAMES: arrays.read_numpy,
    tiff.NAMES: tiff.read_tiff,
}
NAMES = tuple(name for names in _READERS for name in names)
"""How the names of volume files end."""

_ENDINGS = tuple(sorted(NAMES, key=len, reverse=True))


def read_header(file: SourceFile, wanted: Wanted) -> VolumeFile:
    """The header of a volume file; its voxels are not read.

    Raises:
        ReaderError: if it is not one volume of numbers with a place in millimetres.
    """
    name = file.name.lower()
    for endings, read in _READERS.items():
        if name.endswith(endings):
            return read(file, wanted)
    raise ReaderError(Fault(file.name, "not a volume file", f"one of {' '.join(NAMES)}"))


def stem(name: str) -> str:
    """The name of a file without its folder and its ending (``.nii.gz`` is one ending)."""
    plain = PurePosixPath(name).name
    ending = next((one for one in _ENDINGS if plain.lower().endswith(one)), "")
    return plain[: len(plain) - len(ending)] if ending else PurePosixPath(plain).stem


@dataclass(frozen=True)
class MaskFile:
    """A file that marks lesions, and what its values mean."""

    file: SourceFile
    naming: Naming


@dataclass(frozen=True)
class Reading:
    """What the settings say about the cases of a source."""

    wanted: Wanted
    per: Per
    other_grid: OtherGrid
    modality: str
    unit: Unit


class VolumeCase:
    """An image and what marks it: masks, lines of a table, or both."""

    kind: Kind = "volumes"
    patient_known = True

    def __init__(
        self,
        image: SourceFile,
        masks: Sequence[MaskFile],
        points: PointsOn | None,
        beside: Sequence[str],
        patient: str,
        reading: Reading,
        site_key: bytes,
    ) -> None:
        self._image = image
        self._masks = masks
        self._points = points
        self._patient = patient_key(site_key, patient)
        self._reading = reading
        self._site_key = site_key
        self.name = image.name
        self.files = tuple(
            dict.fromkeys((image.name, *(mask.file.name for mask in masks), *beside))
        )

    def open(self) -> Opened:
        """Read the masks, and of the image its header."""
        oddities: Counter[str] = Counter()
        try:
            image = read_header(self._image, self._reading.wanted)
            for voxels in image.voxels:
                voxels.check()
            if len(image.voxels) > 1:
                raise ReaderError(Fault(self._image.name, "a segmentation, not an image"))
        except ReaderError as error:
            reason = "the image it belongs to cannot be used"
            left = [Refusal(mask.file.name, reason, stray=True) for mask in self._masks]
            return Opened(None, (_refusal(error), *left))
        if not image.oriented:
            oddities[UNPLACED] += 1
        try:
            lesions = self._from_points(image.geometry)
        except ReaderError as error:
            return Opened(None, (Refusal(self._image.name, in_one_sentence(error)),), oddities)
        refused: list[Refusal] = []
        for mask in self._masks:
            try:
                lesions += self._from_mask(mask, image.geometry, oddities)
            except ReaderError as error:
                refused.append(_refusal(error))
        if not lesions:
            refused.append(Refusal(self._image.name, UNMARKED))
            return Opened(None, tuple(refused), oddities)
        case = Case(
            key=case_token(self._site_key, self._image.name),
            patient=self._patient,
            volume=volume_of(image, self._reading.modality, self._reading.unit),
            lesions=tuple(lesions),
        )
        return Opened(case, tuple(refused), oddities)

    def _from_points(self, grid: Geometry) -> list[Lesion]:
        if self._points is None:
            return []
        return [
            lesion
            for marking in self._points.read(grid)
            for lesion in lesions_of(marking, "segment", self._patient, self._site_key)
        ]

    def _from_mask(self, mask: MaskFile, grid: Geometry, oddities: Counter[str]) -> list[Lesion]:
        reading = self._reading
        # A mask is one volume: `volume` chooses among those of the image.
        header = read_header(mask.file, Wanted(spacing_mm=reading.wanted.spacing_mm))
        found = read_label_map(header, grid, mask.naming, reading.other_grid, oddities)
        return [
            lesion
            for marking in found
            for lesion in lesions_of(marking, reading.per, self._patient, self._site_key)
        ]


def find_volumes(
    settings: VolumesSource,
    folder: Path,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    """Bring images together with masks and with lines of tables; no voxel is read.

    Raises:
        ReaderError: if a table is wrong; it lists every fault.
    """
    found = Found()
    tables = {name for name in (settings.values_table,) if name}
    places: dict[str, tuple[Place, ...]] = {}
    values: Mapping[int, str] = settings.values
    if settings.values_table:
        values = read_values(folder / settings.values_table, settings.values_table)
    if settings.points is not None:
        places = read_points(settings.points, folder)
        tables |= set(settings.points.files)
    images, masks = _sorted_out(settings, files, tables, found, progress)
    naming = Naming(values, _lower(settings.segments), settings.label)

    shared: list[str] = []
    if settings.labels is not None:
        shared = sorted(set(settings.image.groupindex) & set(settings.labels.groupindex))
    masks_of: dict[tuple[str | None, ...], list[MaskFile]] = defaultdict(list)
    for file, groups in masks:
        named = Naming(label=groups["label"]) if "label" in groups else naming
        masks_of[tuple(map(groups.get, shared))].append(MaskFile(file, named))
    reading = Reading(
        Wanted(settings.volume, settings.spacing_mm),
        settings.per,
        settings.other_grid,
        settings.modality,
        settings.unit,
    )
    there = {file.inside: file for file in files}
    paired = set()
    named_images: set[str] = set()
    for file, groups in images:
        key = tuple(map(groups.get, shared))
        points = None
        if settings.points is not None:
            keys = _keys(settings.points.match, file, groups)
            named_images |= set(keys)
            points = points_of(settings.points, places, keys)
        if not masks_of[key] and points is None:
            found.refused.append(Refusal(file.name, _unmarked(settings)))
            continue
        paired.add(key)
        patient = groups.get("patient") or folder.resolve().name
        beside = companions([file, *(mask.file for mask in masks_of[key])], there)
        found.cases.append(
            VolumeCase(file, masks_of[key], points, beside, patient, reading, site_key)
        )
    for key in masks_of.keys() - paired:
        found.refused += [Refusal(mask.file.name, "it has no image") for mask in masks_of[key]]
    found.used += sorted(there[name].name for name in tables if name in there)
    if absent := sum(len(lines) for key, lines in places.items() if key not in named_images):
        found.oddities[NOT_HERE] += absent
    return found


def _unmarked(settings: VolumesSource) -> str:
    if settings.labels is None:
        return "the tables name no lesion in it"
    return "it has no label map: no lesion is marked"


def _lower(names: Mapping[str, str]) -> dict[str, str]:
    return {name.strip().lower(): label for name, label in names.items()}


def _keys(match: str, file: SourceFile, groups: Mapping[str, str]) -> list[str]:
    """What a table may call an image."""
    if match == "stem":
        return [stem(file.name)]
    if match == "path":
        return [file.inside]
    return [groups[match]] if match in groups else []


Matched = list[tuple[SourceFile, dict[str, str]]]


def _sorted_out(
    settings: VolumesSource,
    files: Sequence[SourceFile],
    tables: set[str],
    found: Found,
    progress: Progress,
) -> tuple[Matched, Matched]:
    """Images and masks; every other file is refused, or goes with one of them."""
    images: Matched = []
    masks: Matched = []
    rest: list[Refusal] = []
    names = {file.inside for file in files}
    for file in files:
        progress.advance(file.size)
        if file.inside in tables:
            continue
        half = nifti.other_half(file)
        as_mask = None if settings.labels is None else search(settings.labels, file)
        as_image = search(settings.image, file)
        if not file.name.lower().endswith(NAMES):
            rest.append(stray(file, "not a volume file (NIfTI, NRRD, MetaImage, NumPy, TIFF)"))
        elif half in names and ".img" in PurePosixPath(file.inside).suffixes:
            pass  # its header stands for both
        elif as_mask is not None:
            masks.append((file, as_mask))
        elif as_image is not None:
            images.append((file, as_image))
        else:
            reason = "its path matches neither the pattern `image` nor `labels`"
            rest.append(Refusal(file.name, reason, stray=True))
    found.refused += rest
    return images, masks


def companions(files: Sequence[SourceFile], there: Mapping[str, SourceFile]) -> list[str]:
    """Names of the files that go with others: data of a header, sidecars."""
    beside: list[str] = []
    for file in files:
        lower = file.name.lower()
        if lower.endswith(arrays.NAMES):
            beside.append(arrays.sidecar_of(file).inside)
        elif lower.endswith(nifti.NAMES):
            beside.append(nifti.other_half(file))
        elif lower.endswith((".nhdr", ".mhd")):
            module = nrrd if lower.endswith(".nhdr") else metaimage
            data = module.data_of(file)
            beside += [data.inside] if data is not None else []
    return [there[name].name for name in beside if name in there]


def volume_of(image: VolumeFile, modality: str, unit: Unit) -> Volume:
    """The volume of a header; a packed file is unpacked once, and kept while the volume lives."""
    (voxels,) = image.voxels
    unpack = lru_cache(1)(voxels.unpack)
    name = image.file.name

    def decode(region: Region) -> NDArray[np.float32]:
        try:
            with withheld():
                stored = unpack()[region] if voxels.packed else voxels.read(region)
                if (voxels.slope, voxels.intercept) != (1.0, 0.0):
                    stored = stored * voxels.slope + voxels.intercept
                values = np.ascontiguousarray(stored, dtype=np.float32)
        except UNREADABLE:
            came = "a damaged file: its voxels cannot be read"
            raise ReaderError(Fault(name, came)) from None
        if not np.isfinite(values).all():
            raise ReaderError(
                Fault(
                    name,
                    "the region asked for holds voxels that are no numbers (NaN or infinity)",
                    action="fill them in the source, where it is known what belongs there",
                )
            )
        return values

    return Volume(image.geometry, image.modality or modality, image.unit or unit, decode)


def _refusal(error: ReaderError) -> Refusal:
    fault = error.faults[0]
    return Refusal(fault.where, f"{fault.came}; {fault.action}" if fault.action else fault.came)
