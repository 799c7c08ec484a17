"""Settings for a folder that nobody has described: what ``medaug inspect FOLDER`` starts from.

Cheap on large folders: names are listed, and of each folder three files are looked into. What is
guessed is a start for a pipeline file; above all the patients and the names of the classes are
to be checked by somebody who knows the data.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from medaug.errors import ReaderError
from medaug.readers.dicom.header import Slice, read_header
from medaug.readers.dicom.pixels import is_mask
from medaug.readers.files import SourceFile, list_files, source_folder
from medaug.readers.pictures.cases import NAMES as PICTURES
from medaug.readers.rules import (
    LabelTable,
    LesionRule,
    MaskSeriesRule,
    PatientRule,
    RtstructRule,
    SegRule,
    SrRule,
)
from medaug.readers.settings import DicomSource, ImagesSource, SourceSettings
from medaug.readers.tables import read_labels
from medaug.readers.volumes.guess import guess_volumes

_ROI_NAMES = ".*(?:gtv|lesion|tumou?r|nodule|metasta|mass).*"

_NO_DICOM = (
    *PICTURES,
    *(".nii", ".gz", ".zip", ".nrrd", ".mha", ".mhd", ".txt", ".csv", ".json", ".xml", ".pdf"),
)

Folders = dict[str, list[SourceFile]]


def guess_sources(root: Path) -> list[SourceSettings]:
    """Settings under which `scan` finds as much as can be told without being told.

    Returns:
        up to one source per kind of file; empty if no file is of a known kind.

    Raises:
        ReaderError: if there is no such folder.
    """
    folders: Folders = defaultdict(list)
    folder = source_folder(root, ".")
    for file in list_files(folder, root)[0]:
        folders[str(PurePosixPath(file.inside).parent)].append(file)
    dicom = _dicom(folders)
    volumes = [*([] if dicom is None else [dicom]), *guess_volumes(folders)]
    if volumes:
        return volumes  # pictures beside volumes are screenshots
    pictures = _images(folders, folder)
    return [] if pictures is None else [pictures]


def _sample(files: Sequence[SourceFile]) -> list[SourceFile]:
    """First, middle and last."""
    if not files:
        return []
    return [files[at] for at in sorted({0, len(files) // 2, len(files) - 1})]


def _dicom(folders: Folders) -> DicomSource | None:
    images: dict[str, Slice] = {}
    masks: dict[str, Slice] = {}
    any_dicom = False
    nameless = False
    for name, everything in folders.items():
        files = [file for file in everything if not file.name.lower().endswith(_NO_DICOM)]
        with_dicom = [file for file in _sample(files) if _is_dicom(file)]
        any_dicom |= bool(with_dicom)
        headers = [read_header(file, "PatientID") for file in with_dicom]
        slices = [one for images_in in headers if isinstance(images_in, tuple) for one in images_in]
        if not slices:
            continue
        if is_mask(slices):
            masks[name] = slices[0]
        else:
            images[name] = slices[0]
            nameless |= any(not one.patient for one in slices)
    if not any_dicom:
        return None
    marked = {
        PurePosixPath(name).name
        for name, mask in masks.items()
        if any(mask.plane.parallel_to(image.plane) for image in images.values())
    }
    lesions: list[LesionRule] = [
        SegRule(kind="seg"),
        RtstructRule(kind="rtstruct", labels={_ROI_NAMES: "lesion"}),
        SrRule(kind="sr"),
    ]
    if marked:
        names = "|".join(re.escape(name) for name in sorted(marked) if name)
        pattern = re.compile(rf"(?:^|/)(?P<label>{names})/[^/]+$")
        lesions.append(MaskSeriesRule(kind="mask-series", path=pattern))
    patient = _patient_folders(images) if nameless else PatientRule(attribute="PatientID")
    return DicomSource(kind="dicom", patient=patient, lesions=tuple(lesions))


def _is_dicom(file: SourceFile) -> bool:
    try:
        with file.path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _patient_folders(images: dict[str, Slice]) -> PatientRule:
    """Without Patient IDs: the folders right below the root, if several of them hold images."""
    tops = {PurePosixPath(name).parts[0] for name in images if name != "."}
    deep = all(len(PurePosixPath(name).parts) > 1 for name in images)
    if len(tops) > 1 or (deep and tops):
        return PatientRule(path=re.compile("^(?P<patient>[^/]+)/"))
    return PatientRule(folder="source")


def _images(folders: Folders, root: Path) -> ImagesSource | None:
    inside = {
        file.inside
        for files in folders.values()
        for file in files
        if file.name.lower().endswith(PICTURES)
    }
    if not inside:
        return None
    tables = [
        file.inside
        for files in folders.values()
        for file in files
        if file.name.lower().endswith((".txt", ".csv")) and _is_table(file, root, inside)
    ]
    if tables:
        table = LabelTable(files=tuple(tables))
        return ImagesSource(kind="images", table=table, patient_identity="none")
    in_folders = any("/" in name for name in inside)
    pattern = re.compile(r"(?P<label>[^/]+)/[^/]+$" if in_folders else "")
    return ImagesSource(
        kind="images",
        pattern=pattern,
        label=None if in_folders else "unlabelled",
        patient_identity="none",
    )


def _is_table(file: SourceFile, root: Path, pictures: set[str]) -> bool:
    try:
        return bool(read_labels(LabelTable(files=(file.inside,)), root, pictures))
    except ReaderError:
        return False
