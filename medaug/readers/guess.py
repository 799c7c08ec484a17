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
from medaug.readers.dicom_header import Slice, read_header
from medaug.readers.dicom_pixels import is_mask
from medaug.readers.files import SourceFile, list_files, source_folder
from medaug.readers.images import NAMES as PICTURES
from medaug.readers.settings import (
    DicomSource,
    ImagesSource,
    LabelTable,
    LesionRule,
    MaskSeriesRule,
    NiftiSource,
    PatientRule,
    SegRule,
    SourceSettings,
)
from medaug.readers.tables import read_labels

_NIFTI = r"\.nii(?:\.gz)?$"
_MASK_WORDS = r"(?i:label|mask|seg|lesion|gold)"
_MASK_NAME = re.compile(rf"{_MASK_WORDS}[^/]*{_NIFTI}")

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
    volumes = [guess for guess in (_dicom(folders), _nifti(folders)) if guess is not None]
    if volumes:
        return list(volumes)  # pictures beside volumes are screenshots
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
    lesions: list[LesionRule] = [SegRule(kind="seg")]
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


def _nifti(folders: Folders) -> NiftiSource | None:
    niftis = {
        name: [file for file in files if re.search(_NIFTI, file.inside)]
        for name, files in folders.items()
    }
    if not any(niftis.values()):
        return None
    masks = [sum(bool(_MASK_NAME.search(f.inside)) for f in files) for files in niftis.values()]
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
    return NiftiSource(
        kind="nifti",
        image=re.compile(f"{image}{_NIFTI}"),
        labels=re.compile(f"{labels}{_NIFTI}"),
        per="component",
    )


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
