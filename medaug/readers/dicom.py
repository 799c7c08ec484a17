"""A folder of DICOM files → cases: volumes, the masks that lie on them, and what is refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from medaug.domain import Case, Lesion
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress
from medaug.readers.dicom_header import MarkFile, Slice, known_keyword, read_header
from medaug.readers.dicom_pixels import SliceDecoder, is_mask, slice_decoder
from medaug.readers.dicom_stack import Stack, build_stacks
from medaug.readers.dicom_volume import volume_of
from medaug.readers.files import Refusal, SourceFile, patient_text, search
from medaug.readers.found import OFF_GRID, UNMARKED, Found, Kind, Opened
from medaug.readers.identity import case_token, patient_key
from medaug.readers.lesions import lesions_of
from medaug.readers.mark import Mark
from medaug.readers.mask_series import MaskSeries
from medaug.readers.segmentation import read_segmentation
from medaug.readers.settings import DicomSource, MaskSeriesRule, SegRule


class DicomCase:
    """The files of one volume and of the marks on it."""

    kind: Kind = "dicom"
    patient_known = True

    def __init__(
        self, stack: Stack, marks: Sequence[Mark], site_key: bytes, decoder: SliceDecoder
    ) -> None:
        self._stack = stack
        self._marks = marks
        self._site_key = site_key
        self._decoder = decoder
        images = sorted({one.file.name for one in stack.slices})
        self.name = images[0]
        self.files = (*images, *(name for mark in marks for name in mark.names))

    def open(self) -> Opened:
        """Read the marks; the slices stay closed."""
        first = self._stack.slices[0]
        patient = patient_key(self._site_key, first.patient)
        lesions: list[Lesion] = []
        refused: list[Refusal] = []
        identities: set[str] = set()
        for mark in self._marks:
            try:
                markings = [self._stack.on_grid(marking) for marking in mark.read(self._stack)]
                reason = "" if markings else "a mask with no lesion: no voxel is marked in it"
            except ReaderError as error:
                markings, reason = [], error.faults[0].came
            if reason:
                refused += [Refusal(name, reason) for name in mark.names]
            for marking in markings:
                if marking.identity in identities:
                    # Two files track one lesion in one image; each keeps its own outline.
                    other = f"{marking.identity}\0{mark.names[0]}"
                    marking = replace(marking, identity=other)  # noqa: PLW2901
                identities.add(marking.identity)
                lesions += lesions_of(marking, mark.per, patient, self._site_key)
        if not lesions:
            refused += _unmarked(self._stack)
            return Opened(None, tuple(refused))
        identity = f"{first.series}\0{first.instance}" if first.instance else self.name
        if first.frame is not None:
            identity += f"\0{first.frame}"
        case = Case(
            key=case_token(self._site_key, identity),
            patient=patient,
            volume=volume_of(self._stack, self._decoder),
            lesions=tuple(lesions),
        )
        return Opened(case, tuple(refused))


def find_dicom(
    settings: DicomSource,
    folder: Path,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    """Read every header and bring slices and marks together.

    Raises:
        ReaderError: if the settings name an attribute that DICOM does not have.
    """
    attribute = settings.patient.attribute
    if attribute is not None and not known_keyword(attribute):
        raise ReaderError(
            Fault("patient.attribute", attribute, "a DICOM keyword, such as PatientID or StudyID")
        )
    found = Found()
    images: list[Slice] = []
    masks: dict[tuple[str, ...], list[Slice]] = defaultdict(list)
    mark_files: list[MarkFile] = []
    rules: dict[tuple[str, ...], MaskSeriesRule] = {}
    for file in files:
        progress.advance()
        header = read_header(file, attribute or "PatientID", found.oddities)
        if isinstance(header, Refusal):
            found.refused.append(header)
            continue
        raw = header.patient if isinstance(header, MarkFile) else header[0].patient
        patient, unknown = patient_text(settings.patient, file, raw, folder)
        if isinstance(header, MarkFile):
            mark_files.append(replace(header, patient=patient))
            continue
        slices = [replace(one, patient=patient) for one in header]
        if claim := _claim(settings, slices[0]):
            key, rule = claim
            rules[key] = rule
            masks[key] += slices
        elif reason := unknown or _unwanted(settings, slices[0]):
            found.refused.append(Refusal(file.name, reason))
        else:
            images += slices
    marks: list[Mark] = []
    for key, planes in masks.items():
        mark = MaskSeries(tuple(planes), key[0], rules[key].per, planes[0].patient)
        marks += _undamaged(mark, found)
    marks += _segmentations(settings, mark_files, found)
    _bring_together(images, marks, site_key, found)
    return found


def _unmarked(stack: Stack) -> list[Refusal]:
    columns, rows, count = stack.geometry.shape
    what = f"{stack.slices[0].modality} series of {count} slices, {columns}x{rows}: {UNMARKED}"
    return [Refusal(one.file.name, what) for one in stack.slices]


def _claim(settings: DicomSource, header: Slice) -> tuple[tuple[str, ...], MaskSeriesRule] | None:
    """The mask series that a file belongs to: its label and what tells the series apart."""
    for rule in settings.lesions:
        if not isinstance(rule, MaskSeriesRule):
            continue
        groups = search(rule.path, header.file)
        label = None if groups is None else rule.label or groups.get("label")
        if label:
            parent = header.file.name.rpartition("/")[0]
            return (label, header.series, header.patient, parent), rule
    return None


def _unwanted(settings: DicomSource, header: Slice) -> str:
    if settings.series is not None and not settings.series.search(header.file.inside):
        return "the pattern for the image series does not match its path"
    if settings.modality and header.modality not in settings.modality:
        return f"modality {header.modality} is not asked for"
    return ""


def _undamaged(mark: MaskSeries, found: Found) -> list[Mark]:
    damaged = [one for one in mark.slices if one.damage]
    if not damaged:
        return [mark]
    reason = f"its mask series is damaged ({damaged[0].file.name}: {damaged[0].damage})"
    found.refused += [Refusal(name, reason) for name in mark.names]
    return []


def _segmentations(settings: DicomSource, files: Sequence[MarkFile], found: Found) -> list[Mark]:
    rule = next((rule for rule in settings.lesions if isinstance(rule, SegRule)), None)
    marks: list[Mark] = []
    for one in files:
        if rule is None:
            reason = "a segmentation, and the settings name no rule of kind `seg`"
            found.refused.append(Refusal(one.file.name, reason))
            continue
        read = read_segmentation(one, rule, one.patient, found.oddities)
        if isinstance(read, Refusal):
            found.refused.append(read)
        else:
            marks.append(read)
    return marks


def _bring_together(
    images: Sequence[Slice], marks: Sequence[Mark], site_key: bytes, found: Found
) -> None:
    stacks, refused = build_stacks(images)
    found.refused += refused
    if any(isinstance(mark, MaskSeries) for mark in marks):
        stacks = _without_masks(stacks, found)
    marks_of: dict[Stack, list[Mark]] = defaultdict(list)
    for mark in sorted(marks, key=lambda mark: mark.names):
        stack = _stack_of(mark, stacks)
        if isinstance(stack, str):
            found.refused += [Refusal(name, stack) for name in mark.names]
        else:
            marks_of[stack].append(mark)
    decoder = slice_decoder()
    for stack in stacks:
        if marks_of[stack]:
            found.cases.append(DicomCase(stack, marks_of[stack], site_key, decoder))
        else:
            found.refused += _unmarked(stack)


def _without_masks(stacks: list[Stack], found: Found) -> list[Stack]:
    """Masks that no rule claims must not be taken for the image that a mask marks."""
    masks = [stack for stack in stacks if is_mask(stack.slices)]
    for stack in masks:
        reason = "a mask (it holds two values) that no rule of the settings names"
        found.refused += [Refusal(one.file.name, reason) for one in stack.slices]
    return [stack for stack in stacks if stack not in masks]


def _stack_of(mark: Mark, stacks: list[Stack]) -> Stack | str:
    """The volume that a mark lies on, or why there is none."""
    if not mark.drawn_on(stacks):
        return "the series it refers to is not among the files that can be used"
    fitting = mark.stacks_among(stacks)
    if not fitting:
        return OFF_GRID
    own = [stack for stack in fitting if mark.patient in ("", stack.slices[0].patient)]
    if not own:
        return "it names another patient than the images on whose grid it lies"
    # Where several volumes share a grid, the mask belongs to the one it is kept beside.
    shared = [_shared_folders(mark, stack) for stack in own]
    nearest = [stack for stack, depth in zip(own, shared, strict=True) if depth == max(shared)]
    if len(nearest) > 1:
        return (
            f"it lies on the grid of {len(nearest)} series: name the one it marks with the "
            "pattern `series`"
        )
    return nearest[0]


def _shared_folders(mark: Mark, stack: Stack) -> int:
    folders = (PurePosixPath(name).parts for name in (mark.names[0], stack.slices[0].file.name))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*folders, strict=False)))
