"""Settings for volume files that nobody has described: see `guess`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath

from medaug.errors import ReaderError
from medaug.readers.files import SourceFile
from medaug.readers.oddities import UNREADABLE
from medaug.readers.rules import PointsRule
from medaug.readers.settings import MsdSource, SourceSettings, VolumesSource
from medaug.readers.tables import read_lines
from medaug.readers.volumes.arrays import sidecar_of
from medaug.readers.volumes.msd import DATASET

_ENDING = r"\.(?:nii(?:\.gz)?|hdr|nrrd|nhdr|mha|mhd|npy|npz)$"
_MASK_WORDS = r"(?i:label|mask|seg|lesion|gold)"
_MASK_NAME = re.compile(rf"{_MASK_WORDS}[^/]*{_ENDING}")
_LUNA = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
_LARGEST = 1 << 24

Folders = Mapping[str, Sequence[SourceFile]]


def guess_volumes(folders: Folders) -> list[SourceSettings]:
    """Tasks with a dataset.json, images with a table of points, and images with label maps."""
    tasks = [
        task
        for name, files in sorted(folders.items())
        for file in files
        if PurePosixPath(file.inside).name == DATASET and (task := _task(name, file)) is not None
    ]
    homes = [PurePosixPath(task.path) for task in tasks]
    left = {
        name: [file for file in files if _is_volume(file)]
        for name, files in folders.items()
        if not any(PurePosixPath(name).is_relative_to(home) for home in homes)
    }
    guessed: list[SourceSettings] = list(tasks)
    if any(left.values()):
        guessed.append(_with_points(folders, left) or _with_label_maps(left))
    return guessed


def _is_volume(file: SourceFile) -> bool:
    if not re.search(_ENDING, file.inside):
        return False
    # An array without a sidecar may be anything.
    array = file.inside.endswith((".npy", ".npz"))
    return not array or sidecar_of(file).path.is_file()


def _task(folder: str, file: SourceFile) -> MsdSource | None:
    try:
        with file.path.open("rb") as stream:
            document = json.loads(stream.read(_LARGEST))
        listed = document["labels"] and (document.get("training") or document["file_ending"])
        channels = len(document.get("channel_names", document.get("modality", ())))
    except (*UNREADABLE, RecursionError):
        return None
    if not listed:
        return None
    return MsdSource(kind="msd", path=folder, channel=0 if channels > 1 else None)


def _with_points(folders: Folders, volumes: Folders) -> VolumesSource | None:
    """LUNA16: images named by their series, and a table of nodules."""
    tables = tuple(
        file.inside
        for file in chain.from_iterable(folders.values())
        if file.inside.lower().endswith(".csv") and _is_luna(file)
    )
    masks = any(_MASK_NAME.search(f.inside) for f in chain.from_iterable(volumes.values()))
    if not tables or masks:
        return None
    points = PointsRule(
        files=tables,
        space="lps",
        centre=("coordX", "coordY", "coordZ"),
        diameter="diameter_mm",
        label="nodule",
    )
    image = re.compile(rf"(?:^|/)(?P<patient>[^/]+?){_ENDING}")
    return VolumesSource(kind="volumes", image=image, points=points)


def _is_luna(file: SourceFile) -> bool:
    try:
        head = next(read_lines(file.path, file.name, "auto"), None)
    except ReaderError:
        return False
    return head is not None and all(head.cells.count(column) == 1 for column in _LUNA)


def _with_label_maps(volumes: Folders) -> VolumesSource:
    masks = [sum(bool(_MASK_NAME.search(f.inside)) for f in files) for files in volumes.values()]
    if any(masks):
        # One mask per folder: the folder is the patient. Several: what the names begin with.
        crowded = max(masks) > 1
        patient = r"^(?P<patient>(?:.+/)?[^/]+)[-_.]" if crowded else r"^(?:(?P<patient>.+)/)?"
        word = "[^-_./]*" if crowded else "[^/]*"
        image, labels = f"{patient}{word}", f"{patient}{word}{_MASK_WORDS}{word}"
    else:
        # Label maps in a folder of their own, under the names of the images (as in the Medical
        # Segmentation Decathlon; nnU-Net adds the number of the channel to the image).
        image = r"(?:^|/)(?P<patient>[^/]+?)(?:_[0-9]{4})?"
        labels = rf"(?:^|/)[^/]*{_MASK_WORDS}[^/]*/(?P<patient>[^/]+?)"
    return VolumesSource(
        kind="volumes",
        image=re.compile(f"{image}{_ENDING}"),
        labels=re.compile(f"{labels}{_ENDING}"),
        per="component",
    )
