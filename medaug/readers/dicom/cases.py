"""A folder of DICOM files → cases: volumes, the masks that lie on them, and what is refused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from medaug.domain import Case, Lesion, Volume
from medaug.errors import Fault, ReaderError
from medaug.progress import Progress
from medaug.readers.dicom.header import Allowed, MarkFile, Slice, known_keyword, read_header
from medaug.readers.dicom.pixels import is_mask, slice_decoder
from medaug.readers.dicom.stack import Stack, build_stacks
from medaug.readers.dicom.volume import volume_of
from medaug.readers.files import Refusal, SourceFile, search
from medaug.readers.found import UNMARKED, Found, Kind, Opened
from medaug.readers.identity import case_token, patient_key
from medaug.readers.lesions import Marking, lesions_of
from medaug.readers.marks.kinds import read_marks
from medaug.readers.marks.mark import Mark
from medaug.readers.marks.mask_series import MaskSeries
from medaug.readers.marks.plausible import LARGEST_SHARE, other_side, share_of_body
from medaug.readers.marks.points import read_point_marks
from medaug.readers.patients import Patients
from medaug.readers.rules import MaskSeriesRule
from medaug.readers.settings import DicomSource

PARTLY = "mark more than is read: "


class DicomCase:
    """The files of one volume and of the marks on it."""

    kind: Kind = "dicom"
    patient_known = True

    def __init__(
        self,
        stack: Stack,
        marks: Sequence[Mark],
        site_key: bytes,
        shared: Set[str],
        check_side: bool,
    ) -> None:
        self._stack = stack
        self._marks = marks
        self._shared = shared
        self._check_side = check_side
        self._site_key = site_key
        images = sorted({one.file.name for one in stack.slices})
        self.name = images[0]
        self.files = (*images, *dict.fromkeys(name for mark in marks for name in mark.names))

    def open(self) -> Opened:
        """Read the marks; the slices stay closed."""
        first = self._stack.slices[0]
        patient = patient_key(self._site_key, first.patient)
        volume = volume_of(self._stack, slice_decoder())
        remarks: Counter[str] = Counter()
        read = {mark: self._read(mark, volume, remarks) for mark in self._marks}
        lesions: list[Lesion] = []
        identities: set[str] = set()
        for mark, markings in read.items():
            for one in () if isinstance(markings, str) else markings:
                # Two files track one lesion in one image; each keeps its own outline.
                twice = one.identity in identities
                identity = f"{one.identity}\0{mark.names[0]}" if twice else one.identity
                identities.add(identity)
                marking = replace(one, identity=identity)
                lesions += lesions_of(marking, mark.per, patient, self._site_key)
        refused = self._failed(read, remarks)
        if not lesions:
            refused += _unmarked(self._stack)
            return Opened(None, tuple(refused), remarks)
        identity = f"{first.series}\0{first.instance}" if first.instance else self.name
        if first.frame is not None:
            identity += f"\0{first.frame}"
        case = Case(
            key=case_token(self._site_key, identity),
            patient=patient,
            volume=volume,
            lesions=tuple(lesions),
        )
        return Opened(case, tuple(refused), remarks)

    def _read(self, mark: Mark, volume: Volume, remarks: Counter[str]) -> list[Marking] | str:
        """What a mark marks, or why it is not used."""
        try:
            drawn = mark.read(self._stack, remarks)
        except ReaderError as error:
            return error.faults[0].came
        for one in drawn if self._check_side else ():
            if reason := other_side(one.side, one.marking, volume):
                return reason
        for one in drawn:
            share = share_of_body(one.marking, volume)
            if share is not None and share > LARGEST_SHARE:
                remarks[f"mark {share:.0%} of the body's section as a lesion: is it an organ?"] += 1
        return [one.marking for one in drawn] or "a mask with no lesion: no voxel is marked in it"

    def _failed(
        self, read: Mapping[Mark, list[Marking] | str], remarks: Counter[str]
    ) -> list[Refusal]:
        """Refusals of files of which nothing is used; what else was not read is remarked."""
        used = {
            name for mark, got in read.items() if not isinstance(got, str) for name in mark.names
        }
        refused = []
        for mark, reason in read.items():
            if not isinstance(reason, str):
                continue
            names = [name for name in mark.names if name not in used]
            refused += [Refusal(name, reason) for name in names]
            if not names or mark.names[0] in self._shared:
                remarks[f"{PARTLY}{reason}"] += 1
        return refused


def find_dicom(
    settings: DicomSource,
    folder: Path,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    """Read every header and bring slices and marks together.

    Raises:
        ReaderError: if the settings name an attribute that DICOM does not have, or a table of
            patients that is wrong.
    """
    attribute = settings.patient.attribute
    if attribute is not None and not known_keyword(attribute):
        raise ReaderError(
            Fault("patient.attribute", attribute, "a DICOM keyword, such as PatientID or StudyID")
        )
    patients = Patients(settings.patient, folder)
    found = Found()
    images: list[Slice] = []
    masks: dict[tuple[str, ...], list[Slice]] = defaultdict(list)
    mark_files: list[MarkFile] = []
    rules: dict[tuple[str, ...], MaskSeriesRule] = {}
    allowed = Allowed(lossy=settings.lossy, colour=settings.colour)
    for file in files:
        progress.advance(file.size)
        if patients.is_table(file):
            found.used.append(file.name)
            continue
        header = read_header(file, attribute or "PatientID", found.oddities, allowed)
        if isinstance(header, Refusal):
            found.refused.append(header)
            continue
        if isinstance(header, MarkFile):
            patient, _ = patients.of(file, header.patient)
            mark_files.append(replace(header, patient=patient))
            continue
        patient, unknown = patients.of(file, header[0].patient, header[0].series)
        slices = [replace(one, patient=patient) for one in header]
        if claim := _claim(settings, slices[0]):
            key, rule = claim
            rules[key] = rule
            masks[key] += slices
        elif reason := _unwanted(settings, slices[0]):
            found.refused.append(Refusal(file.name, reason))
        elif unknown:
            patients.nobody()
            found.refused.append(Refusal(file.name, unknown))
        else:
            patients.note(slices[0])
            images += slices
    found.patients, found.twins = patients.found(settings), patients.twins
    marks: list[Mark] = []
    for key, planes in masks.items():
        mark = MaskSeries(
            tuple(planes), key[0], rules[key].per, planes[0].patient, rules[key].other_grid
        )
        marks += _undamaged(mark, found)
    marks += read_marks(settings, mark_files, found)
    marks += read_point_marks(settings, folder, files)
    stacks, refused = build_stacks(images, settings.irregular, settings.tilt)
    found.refused += refused
    _bring_together(stacks, marks, site_key, settings.check_side, found)
    return found


def _unmarked(stack: Stack) -> list[Refusal]:
    first, count = stack.slices[0], len(stack.slices)
    slices = "1 slice" if count == 1 else f"{count} slices"
    size = f"{first.plane.columns}x{first.plane.rows}"
    what = f"{first.modality} series of {slices}, {size}: {UNMARKED}"
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
    return "" if "burned-in" in settings.allow else header.printed


def _undamaged(mark: MaskSeries, found: Found) -> list[Mark]:
    damaged = [one for one in mark.slices if one.damage]
    if not damaged:
        return [mark]
    reason = f"its mask series is damaged ({damaged[0].file.name}: {damaged[0].damage})"
    found.refused += [Refusal(name, reason) for name in mark.names]
    return []


def _bring_together(
    stacks: list[Stack],
    marks: Sequence[Mark],
    site_key: bytes,
    check_side: bool,
    found: Found,
) -> None:
    if any(isinstance(mark, MaskSeries) for mark in marks):
        stacks = _without_masks(stacks, found)
    of_patient: dict[str, list[Stack]] = defaultdict(list)
    for stack in stacks:
        of_patient[stack.slices[0].patient].append(stack)
    marks_of: dict[Stack, list[Mark]] = defaultdict(list)
    homes: dict[str, set[Stack]] = defaultdict(set)
    homeless: list[tuple[Mark, str]] = []
    for mark in sorted(marks, key=lambda mark: mark.names):
        home = _stack_of(mark, of_patient[mark.patient] if mark.patient else stacks)
        if isinstance(home, str):
            homeless.append((mark, _of_another_patient(mark, stacks) or home))
            continue
        marks_of[home].append(mark)
        for name in mark.names:
            homes[name].add(home)
    for mark, reason in homeless:
        found.refused += [Refusal(name, reason) for name in mark.names if name not in homes]
        if mark.names[0] in homes:
            found.oddities[f"{PARTLY}{reason}"] += 1
    shared = {name for name, several in homes.items() if len(several) > 1}
    for stack in stacks:
        if marks_of[stack]:
            found.cases.append(DicomCase(stack, marks_of[stack], site_key, shared, check_side))
        else:
            found.refused += _unmarked(stack)


def _without_masks(stacks: list[Stack], found: Found) -> list[Stack]:
    """Masks that no rule claims must not be taken for the image that a mask marks."""
    masks = [stack for stack in stacks if is_mask(stack.slices)]
    for stack in masks:
        reason = "a mask (it holds two values) that no rule of the settings names"
        found.refused += [Refusal(one.file.name, reason) for one in stack.slices]
    return [stack for stack in stacks if stack not in masks]


def _stack_of(mark: Mark, own: list[Stack]) -> Stack | str:
    """The volume that a mark lies on among those of its patient, or why there is none."""
    fitting = mark.where(own)
    if isinstance(fitting, str):
        return fitting
    # Where several volumes share a grid, the mask belongs to the one it is kept beside.
    shared = [_shared_folders(mark, stack) for stack in fitting]
    nearest = [stack for stack, depth in zip(fitting, shared, strict=True) if depth == max(shared)]
    if len(nearest) > 1:
        return (
            f"it lies on the grid of {len(nearest)} series: name the one it marks with the "
            "pattern `series`"
        )
    return nearest[0]


def _of_another_patient(mark: Mark, stacks: list[Stack]) -> str:
    """The reason of a mark that would fit, were it its patient's; or what it lacks; or ""."""
    if not mark.patient:
        return ""
    anywhere = mark.where(stacks)
    if isinstance(anywhere, str):
        return anywhere
    if any(stack.slices[0].patient == mark.patient for stack in anywhere):
        return ""
    return "it names another patient than the images on whose grid it lies"


def _shared_folders(mark: Mark, stack: Stack) -> int:
    folders = (PurePosixPath(name).parts for name in (mark.names[0], stack.slices[0].file.name))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*folders, strict=False)))
