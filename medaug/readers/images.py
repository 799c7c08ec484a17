"""Folders of ready-made pictures → cases of one picture with one lesion each.

A picture carries no spacing and no outline: its lesion is a box over the whole of it, and its
values are in arbitrary units, however the picture was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medaug.domain import Case, Geometry, Lesion, Region, Unit, Volume
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress
from medaug.readers.files import Refusal, SourceFile, search, stray
from medaug.readers.found import Found, Kind, Opened
from medaug.readers.identity import case_token, lesion_uid, patient_key, picture_key
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.settings import ImagesSource
from medaug.readers.tables import read_labels

NAMES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

_GREY = ("L", "I", "I;16", "I;16B", "I;16L", "I;16N")

Decoder = Callable[[SourceFile], NDArray[np.float32]]


class PictureCase:
    """One picture; ``patient`` is None where the source does not tell patients apart."""

    kind: Kind = "images"

    def __init__(
        self,
        file: SourceFile,
        label: str,
        patient: str | None,
        modality: str,
        site_key: bytes,
        decoder: Decoder,
    ) -> None:
        self._file = file
        self._label = label
        self._patient = patient
        self._modality = modality
        self._site_key = site_key
        self._decoder = decoder
        self.name = file.name
        self.files = (file.name,)
        self.patient_known = patient is not None

    def open(self) -> Opened:
        """Decode the picture once, to know that it is whole and grey."""
        file, decoder = self._file, self._decoder
        try:
            columns, rows, _ = decoder(file).shape
        except ReaderError as error:
            return Opened(None, (Refusal(file.name, error.faults[0].came),))
        if self._patient is None:
            patient = picture_key(self._site_key, file.name)
        else:
            patient = patient_key(self._site_key, self._patient)

        def decode(region: Region) -> NDArray[np.float32]:
            return decoder(file)[region]

        lesion = Lesion(
            tracking_uid=lesion_uid(self._site_key, f"picture\0{file.name}"),
            label=self._label,
            patient=patient,
            box=(slice(0, columns), slice(0, rows), slice(0, 1)),
        )
        geometry = Geometry.of_pixels(columns, rows)
        case = Case(
            key=case_token(self._site_key, file.name),
            patient=patient,
            volume=Volume(geometry, self._modality, Unit.ARBITRARY, decode),
            lesions=(lesion,),
        )
        return Opened(case)


def find_images(
    settings: ImagesSource,
    folder: Path,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    """Give every picture its label and patient; nothing is decoded.

    Raises:
        ReaderError: if a label table is wrong; see `read_labels`.
    """
    pictures = {file.inside for file in files if file.name.lower().endswith(NAMES)}
    raw_labels = None
    tables: set[str] = set()
    if settings.table is not None:
        raw_labels = read_labels(settings.table, folder, pictures)
        tables = set(settings.table.files)
    found = Found()
    decoder = lru_cache(1)(decode_picture)
    for file in files:
        progress.advance()
        if file.inside in tables:
            found.used.append(file.name)
            continue
        if file.inside not in pictures:
            found.refused.append(stray(file, "not a PNG, JPEG or TIFF picture"))
            continue
        groups = search(settings.pattern, file)
        label, patient, reason = _read_path(settings, folder, file, groups, raw_labels)
        if reason:
            found.refused.append(Refusal(file.name, reason))
        else:
            found.cases.append(
                PictureCase(file, label, patient, settings.modality, site_key, decoder)
            )
    return found


def _read_path(
    settings: ImagesSource,
    folder: Path,
    file: SourceFile,
    groups: dict[str, str] | None,
    raw_labels: dict[str, str] | None,
) -> tuple[str, str | None, str]:
    """(class, patient or None, why not): the last is empty where the first two hold."""
    if groups is None:
        return "", None, "the pattern for the pictures does not match its path"
    if settings.label is not None:
        label = settings.label
    else:
        raw = groups.get("label") if raw_labels is None else raw_labels.get(file.inside)
        if raw is None:
            missing = "the label tables do not name it"
            if raw_labels is None:
                missing = "the pattern's group `label` took no part in the match"
            return "", None, missing
        if settings.labels and raw not in settings.labels:
            return "", None, f"its label {raw!r} is not among those asked for"
        label = settings.labels.get(raw, raw)
    if settings.patient_identity == "none":
        return label, None, ""
    # As in every source: a group that took no part makes the folder one patient.
    return label, groups.get("patient") or folder.resolve().name, ""


def decode_picture(file: SourceFile) -> NDArray[np.float32]:
    """Grey values (column, row, 1) of a picture.

    Raises:
        ReaderError: if it is damaged, coloured, or not a still picture of 8 or 16 bits.
    """
    try:
        with withheld(), Image.open(file.path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ReaderError(Fault(file.name, "several pictures in one file"))
            values = _grey(picture)
    except PermissionError:
        raise ReaderError(Fault(file.name, "it cannot be opened: permission denied")) from None
    except (*UNREADABLE, Image.DecompressionBombError):
        raise ReaderError(Fault(file.name, "a damaged picture: it cannot be decoded")) from None
    if isinstance(values, str):
        raise ReaderError(Fault(file.name, values))
    return np.ascontiguousarray(values.T[:, :, np.newaxis], dtype=np.float32)


def _grey(picture: Image.Image) -> NDArray[np.generic] | str:
    """Values (row, column), or why the picture is no grey one."""
    if picture.mode in _GREY:
        values = np.asarray(picture)
        if values.dtype.itemsize > 2 and not 0 <= values.min() <= values.max() < 2**16:
            return "more than 16 bits per pixel"
        return values
    if picture.mode == "1":
        return "one bit per pixel: a mask, not a picture"
    if picture.mode not in ("RGB", "RGBA", "LA", "P", "PA"):
        return f"pixels of an unsupported kind ({picture.mode}): 8 or 16 bit grey is needed"
    if "RGB;16" in str(getattr(picture, "tile", "")):
        return "a colour picture of 16 bits per channel: one grey channel is needed"
    channels = np.asarray(picture.convert("RGBA"))
    if (channels[..., 3] != 255).any():
        return "partly transparent: what lies behind is not known"
    if (channels[..., :3] != channels[..., :1]).any():
        return "a colour picture: one grey channel is needed"
    return channels[..., 0]
