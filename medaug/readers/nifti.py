"""NIfTI images and their label maps → cases.

The place of the voxels is what nibabel makes of the header: the sform where its code is not 0,
else the qform, else voxel sizes alone [1]_. Stored values take part as ``scl_slope * value +
scl_inter``. Free text of the header (descrip, aux_file, extensions) is never looked at.

.. [1] https://nipy.org/nibabel/nifti_images.html
"""

from __future__ import annotations

import gzip
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medaug.domain import Case, Geometry, Lesion, Region, Unit, Volume
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress
from medaug.readers.files import Refusal, SourceFile, search, stray
from medaug.readers.found import GRID_MM, OFF_GRID, UNMARKED, Found, Kind, Opened
from medaug.readers.identity import case_token, patient_key
from medaug.readers.lesions import Marking, lesions_of, tight
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.settings import NiftiSource

_NAMES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
_DAMAGED = "a damaged NIfTI file: its voxels cannot be read"
_CUT_OFF = "a damaged NIfTI file: it ends before its last voxel"
UNPLACED = "state no orientation (sform and qform code are 0); voxel sizes alone were used"
UNLISTED = "hold values that are not among `values`; these were not read"

Unscaled = Callable[[SourceFile], NDArray[Any]]


class NiftiCase:
    """An image and the label maps that belong to it."""

    kind: Kind = "nifti"
    patient_known = True

    def __init__(
        self,
        image: SourceFile,
        masks: Sequence[SourceFile],
        patient: str,
        settings: NiftiSource,
        site_key: bytes,
        unscaled: Unscaled,
    ) -> None:
        self._image = image
        self._masks = masks
        self._patient = patient_key(site_key, patient)
        self._settings = settings
        self._site_key = site_key
        self._unscaled = unscaled
        self.name = image.name
        self.files = (image.name, *(mask.name for mask in masks))

    def open(self) -> Opened:
        """Read the label maps, and of the image its header."""
        oddities: Counter[str] = Counter()
        try:
            header = load(self._image)
            geometry = geometry_of(self._image, header)
            check_length(self._image, header)
        except ReaderError as error:
            reasons = [_refusal(error), *self._image_cannot_be_used()]
            return Opened(None, tuple(reasons))
        if not header.header["sform_code"] and not header.header["qform_code"]:
            oddities[UNPLACED] += 1
        lesions: list[Lesion] = []
        refused: list[Refusal] = []
        for mask in self._masks:
            try:
                for marking in self._read_mask(mask, geometry, oddities):
                    lesions += lesions_of(
                        marking, self._settings.per, self._patient, self._site_key
                    )
            except ReaderError as error:
                refused.append(_refusal(error))
        if not lesions:
            refused.append(Refusal(self._image.name, UNMARKED))
            return Opened(None, tuple(refused), oddities)
        case = Case(
            key=case_token(self._site_key, self._image.name),
            patient=self._patient,
            volume=volume_of(
                self._image,
                header,
                geometry,
                self._settings.modality,
                self._settings.unit,
                self._unscaled,
            ),
            lesions=tuple(lesions),
        )
        return Opened(case, tuple(refused), oddities)

    def _image_cannot_be_used(self) -> list[Refusal]:
        reason = "the image it belongs to cannot be used"
        return [Refusal(mask.name, reason, stray=True) for mask in self._masks]

    def _read_mask(self, mask: SourceFile, grid: Geometry, oddities: Counter[str]) -> list[Marking]:
        header = load(mask)
        geometry = geometry_of(mask, header)
        if not geometry.same_grid(grid, GRID_MM):
            raise ReaderError(Fault(mask.name, f"{OFF_GRID}: {_difference(geometry, grid)}"))
        check_length(mask, header)
        voxels = _voxels(mask, header)
        values = _label_values(mask, voxels)
        named = self._settings.values or {value: f"value-{value}" for value in values}
        if set(values) - set(named):
            oddities[UNLISTED] += 1
        markings = []
        for value in sorted(set(values) & set(named)):
            marked = tight(voxels == value)
            if marked is not None:
                identity = f"label map\0{mask.name}\0{value}"
                markings.append(Marking(named[value], identity, *marked))
        if not markings:
            asked = f"; its values {values} are not among those asked for" if values else ""
            raise ReaderError(Fault(mask.name, f"a mask with no lesion{asked}"))
        return markings


def find_nifti(
    settings: NiftiSource,
    folder: Path,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    """Pair images with label maps whose named groups agree; nothing is opened."""
    found = Found()
    images: list[tuple[SourceFile, dict[str, str]]] = []
    masks: list[tuple[SourceFile, dict[str, str]]] = []
    for file in files:
        progress.advance()
        as_mask = search(settings.labels, file)
        as_image = search(settings.image, file)
        if not file.name.lower().endswith(_NAMES):
            found.refused.append(stray(file, "not a NIfTI file"))
        elif as_mask is not None:
            masks.append((file, as_mask))
        elif as_image is not None:
            images.append((file, as_image))
        else:
            reason = "its path matches neither the pattern `image` nor `labels`"
            found.refused.append(Refusal(file.name, reason, stray=True))

    shared = sorted(set(settings.image.groupindex) & set(settings.labels.groupindex))
    masks_of: dict[tuple[str | None, ...], list[SourceFile]] = defaultdict(list)
    for file, groups in masks:
        masks_of[tuple(map(groups.get, shared))].append(file)
    paired = set()
    unscaled = lru_cache(1)(_read_unscaled)
    for file, groups in images:
        key = tuple(map(groups.get, shared))
        if not masks_of[key]:
            found.refused.append(Refusal(file.name, "it has no label map: no lesion is marked"))
            continue
        paired.add(key)
        patient = groups.get("patient") or folder.resolve().name
        found.cases.append(NiftiCase(file, masks_of[key], patient, settings, site_key, unscaled))
    for key in masks_of.keys() - paired:
        found.refused += [Refusal(file.name, "it has no image") for file in masks_of[key]]
    return found


def load(file: SourceFile) -> Any:
    """The nibabel image, voxels not read.

    Raises:
        ReaderError: if this is no NIfTI file.
    """
    try:
        with withheld():
            loaded = nib.load(file.path)
            image: Any = loaded if isinstance(loaded, nib.nifti1.Nifti1Pair) else None
            if image is not None:
                image.header.get_xyzt_units()  # a code that is none raises
    except PermissionError:
        raise ReaderError(Fault(file.name, "it cannot be opened: permission denied")) from None
    except (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError):
        raise ReaderError(
            Fault(file.name, "a damaged NIfTI file: its header cannot be read")
        ) from None
    if image is None:
        raise ReaderError(Fault(file.name, "not a NIfTI file"))
    return image


def geometry_of(file: SourceFile, image: Any) -> Geometry:
    """The grid of a NIfTI image.

    Raises:
        ReaderError: if it is not one volume of numbers with a place in millimetres.
    """
    shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
    reason = ""
    if len(shape) != 3 or min(shape) < 1:
        reason = (
            f"it has {len(shape)} dimensions ({'x'.join(map(str, shape))}): one volume is needed"
        )
    elif image.get_data_dtype().kind not in "iuf":
        reason = "its voxels are not plain numbers (colour or complex)"
    elif image.header.get_xyzt_units()[0] not in ("mm", "unknown"):
        reason = f"its coordinates are in {image.header.get_xyzt_units()[0]}, not in mm"
    if reason:
        raise ReaderError(Fault(file.name, reason))
    try:
        with withheld():
            return Geometry((shape[0], shape[1], shape[2]), image.affine)
    except ValueError:
        raise ReaderError(
            Fault(file.name, "its header gives no usable affine (singular or not finite)")
        ) from None


def check_length(file: SourceFile, image: Any) -> None:
    """Make sure that every voxel is there, without reading them where possible.

    A gzip file ends with the length of its content modulo 2**32 [2]_. Where that is not the
    expected one (cut off, or several members), the file is read to its end.

    .. [2] RFC 1952 section 2.3.1

    Raises:
        ReaderError: if the file ends early.
    """
    path = Path(image.file_map["image"].filename)
    needed = image.dataobj.offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    try:
        if path.suffix != ".gz":
            complete = path.stat().st_size >= needed
        else:
            complete = _stated_length(path) == needed % 2**32 or _unpacked_length(path) >= needed
    except UNREADABLE:
        complete = False
    if not complete:
        raise ReaderError(Fault(file.name, _CUT_OFF))


def _stated_length(path: Path) -> int:
    with path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little")


def _unpacked_length(path: Path) -> int:
    with gzip.open(path) as stream:
        return sum(len(block) for block in iter(lambda: stream.read(1 << 20), b""))


def volume_of(
    file: SourceFile,
    image: Any,
    geometry: Geometry,
    modality: str,
    unit: Unit,
    unscaled: Unscaled,
) -> Volume:
    """The volume of an image; a packed one is unpacked once and kept until the next is read."""
    proxy = image.dataobj
    slope, inter = float(proxy.slope), float(proxy.inter)
    packed = _is_packed(image)
    more = (0,) * (len(proxy.shape) - 3)

    def decode(region: Region) -> NDArray[np.float32]:
        try:
            with withheld():
                if packed:
                    values = unscaled(file)[region] * slope + inter
                else:
                    values = np.asarray(proxy[(*region, *more)])
        except UNREADABLE:
            raise ReaderError(Fault(file.name, _DAMAGED)) from None
        if not np.isfinite(values).all():
            raise ReaderError(
                Fault(
                    file.name,
                    "the region asked for holds voxels that are no numbers (NaN or infinity)",
                    action="fill them in the source, where it is known what belongs there",
                )
            )
        return np.asarray(values, dtype=np.float32)

    return Volume(geometry, modality, unit, decode)


def _read_unscaled(file: SourceFile) -> NDArray[Any]:
    """Every stored value (i, j, k); a packed file is read to its end, where its checksum stands."""
    image = load(file)
    if not _is_packed(image) or not hasattr(image, "from_stream"):
        proxy = image.dataobj
        return np.asarray(proxy.get_unscaled()).reshape(proxy.shape[:3])
    with gzip.open(image.file_map["image"].filename) as stream:
        proxy = type(image).from_stream(stream).dataobj
        stored = np.asarray(proxy.get_unscaled()).reshape(proxy.shape[:3])
        while stream.read(1 << 20):
            pass
    return stored


def _is_packed(image: Any) -> bool:
    return str(image.file_map["image"].filename).endswith(".gz")


def _voxels(file: SourceFile, image: Any) -> NDArray[Any]:
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    try:
        with withheld():
            stored = _read_unscaled(file)
    except UNREADABLE:
        raise ReaderError(Fault(file.name, _DAMAGED)) from None
    return stored if (slope, inter) == (1.0, 0.0) else stored * slope + inter


def _label_values(file: SourceFile, voxels: NDArray[Any]) -> list[int]:
    values = np.unique(voxels[voxels != 0])
    if not np.isfinite(values).all() or not np.array_equal(values, np.rint(values)):
        raise ReaderError(
            Fault(file.name, "not a label map: it holds values that are no whole numbers")
        )
    return [int(value) for value in values]


def _difference(mask: Geometry, image: Geometry) -> str:
    if mask.shape != image.shape:
        sizes = ("x".join(map(str, grid.shape)) for grid in (mask, image))
        return "{} voxels, the image has {}".format(*sizes)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape])).reshape(3, -1).T
    away = np.linalg.norm(mask.world(corners) - image.world(corners), axis=1).max()
    return f"its voxels lie up to {away:.3g} mm from the image's"


def _refusal(error: ReaderError) -> Refusal:
    return Refusal(error.faults[0].where, error.faults[0].came)
