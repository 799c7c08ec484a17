"""DICOM Segmentation objects (PS3.3 A.51 and A.91): frames of segments on the grid of a series.

A binary segmentation packs one bit per pixel, and frames follow one another without filling up
the last byte [1]_, so a frame may begin inside a byte. A label map holds segment numbers. A
fractional one holds probabilities or occupancies in steps of 1 / Maximum Fractional Value: a
voxel belongs to the lesion from the threshold of the settings on.

A frame lies where its plane position puts it; without one, as on a mammogram, on the image that
it says it was derived from, pixel by pixel.

.. [1] DICOM PS3.5 8.1.1 and annex D
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels

from medaug.domain import CodedConcept, Region
from medaug.errors import Fault, ReaderError
from medaug.readers.dicom.attributes import numbers
from medaug.readers.dicom.header import ODD, MarkFile
from medaug.readers.dicom.plane import Plane, plane_of
from medaug.readers.dicom.stack import Stack
from medaug.readers.files import Refusal, SourceFile
from medaug.readers.lesions import Marking
from medaug.readers.marks.coded import class_of, concept, label_of, shown, side_of
from medaug.readers.marks.mark import Drawn, Side
from medaug.readers.marks.mark_file import read_object
from medaug.readers.marks.placing import Placement, Site
from medaug.readers.marks.reference import image_of
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.rules import Per, SegRule, SrRule

_DAMAGED = "a damaged segmentation: it cannot be read to its end"
_MOST_PIXELS = 1 << 26
UNLISTED = "hold segments that are not among `labels`; these were not read"

Encoding = Literal["BINARY", "FRACTIONAL", "LABELMAP"]


@dataclass(frozen=True, repr=False)
class Segment:
    """A segment as the file describes it; ``name`` is its free text."""

    code: CodedConcept
    name: str
    tracking: str
    side: Side


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationFile:
    """What a segmentation says, pixels not read.

    Attributes:
        instance: its SOP Instance UID.
        series: Series Instance UIDs of the images it was drawn on; may be empty.
        segments: by Segment Number, without the background.
        frames: the segment of each frame; None in a label map.
        sites: where each frame lies.
        full: the stored value that stands for 1 in a fractional segmentation.
    """

    file: SourceFile
    patient: str
    instance: str
    encoding: Encoding
    series: frozenset[str]
    frame_of_reference: str
    segments: Mapping[int, Segment]
    frames: tuple[int | None, ...]
    sites: tuple[Site, ...]
    step: float | None
    full: int


@dataclass(frozen=True)
class Wanted:
    """A segment or another region that is read, and what it is read as.

    Attributes:
        frames: the only frames of a segment that are meant, from 0; None for all.
    """

    label: str
    identity: str
    finding: CodedConcept | None
    side: Side = ""
    frames: frozenset[int] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Segments of one file as a `Mark`.

    Attributes:
        names: the file, and the report that points to it, if one does.
        wanted: by segment number.
        threshold: of a fractional segmentation.
    """

    source: SegmentationFile
    names: tuple[str, ...]
    per: Per
    placement: Placement
    wanted: Mapping[int, Wanted]
    threshold: float

    @property
    def patient(self) -> str:
        """Text that names the patient, or ""."""
        return self.source.patient

    def where(self, stacks: list[Stack]) -> list[Stack] | str:
        """Those it was drawn on: by series, or else by frame of reference, or else any."""
        source = self.source
        if source.series:
            stacks = [stack for stack in stacks if stack.slices[0].series in source.series]
        elif source.frame_of_reference:
            wanted = source.frame_of_reference
            stacks = [one for one in stacks if one.slices[0].frame_of_reference == wanted]
        if not stacks:
            return "the series it refers to is not among the files that can be used"
        return self.placement.among(stacks, every=False)

    def read(self, stack: Stack, remarks: Counter[str]) -> list[Drawn]:
        """The marked voxels of each segment that has any.

        Raises:
            ReaderError: if what it marks cannot be placed, or the file is damaged.
        """
        name = self.source.file.name
        try:
            with withheld():
                dataset = read_object(self.source.file.path)
                drawn = [self._segment(dataset, number, stack, remarks) for number in self.wanted]
        except UNREADABLE:
            raise ReaderError(Fault(name, _DAMAGED)) from None
        for one in drawn:
            if isinstance(one, str):
                raise ReaderError(Fault(name, one))
        return [one for one in drawn if isinstance(one, Drawn)]

    def _segment(
        self, dataset: Dataset, number: int, stack: Stack, remarks: Counter[str]
    ) -> Drawn | str | None:
        wanted = self.wanted[number]

        def make(box: Region, mask: NDArray[np.bool_]) -> Marking:
            return Marking(wanted.label, wanted.identity, box, mask, wanted.finding)

        def planes() -> Iterator[tuple[int, NDArray[np.bool_]]]:
            return self._planes(dataset, number)

        found = self.placement.put(planes, make, stack, remarks)
        return Drawn(found, wanted.side) if isinstance(found, Marking) else found

    def _planes(self, dataset: Dataset, number: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """(frame, mask (column, row)) of the frames that may show a segment."""
        only = self.wanted[number].frames
        at = [
            frame
            for frame, segment in enumerate(self.source.frames)
            if segment in (number, None) and (only is None or frame in only)
        ]
        native = not dataset.file_meta.TransferSyntaxUID.is_encapsulated
        if dataset.BitsAllocated == 1 and native:
            for frame in at:
                yield frame, _unpack(dataset, frame).T
            return
        if not at:
            return
        decoded = iter_pixels(dataset, indices=at, raw=True)
        for frame, pixels in zip(at, decoded, strict=True):
            if self.source.encoding == "LABELMAP":
                marked = pixels == number
            elif self.source.encoding == "FRACTIONAL":
                marked = pixels >= self.threshold * self.source.full
            else:
                marked = pixels != 0
            yield frame, np.asarray(marked, dtype=bool).T


def read_segmentation(found: MarkFile, oddities: Counter[str]) -> SegmentationFile | Refusal:
    """Read what a segmentation says about its segments and frames."""
    file = found.file
    try:
        with withheld(oddities, ODD):
            dataset = read_object(file.path, pixels=False)
            return _described(dataset, found)
    except UNREADABLE:
        return Refusal(file.name, _DAMAGED)


def marks_of(
    source: SegmentationFile, rule: SegRule, oddities: Counter[str]
) -> Segmentation | Refusal:
    """The segments that the settings ask for."""
    wanted: dict[int, Wanted] = {}
    others = []
    identities: set[str] = set()
    for number, segment in source.segments.items():
        if rule.label_from == "property-type":
            label = class_of(segment.code, rule.labels)
        else:
            label = label_of([segment.name], rule.labels)
        if not label:
            others.append(f"segment {number}{shown(segment.code)}")
            continue
        identity = identity_of(source, number)
        if identity in identities:  # two segments under one Tracking UID
            identity = f"segment\0{source.instance}\0{number}"
        identities.add(identity)
        wanted[number] = Wanted(label, identity, segment.code, segment.side)
    if not wanted:
        has = ", ".join(others) or "none"
        return Refusal(
            source.file.name, f"none of its segments is among the labels asked for; it has {has}"
        )
    if others:
        oddities[UNLISTED] += 1
    return select(source, wanted, rule, (source.file.name,))


def select(
    source: SegmentationFile,
    wanted: Mapping[int, Wanted],
    rule: SegRule | SrRule,
    names: tuple[str, ...],
) -> Segmentation:
    """A `Mark` of some segments, read as a rule has it."""
    placement = Placement(source.sites, source.frame_of_reference, rule.other_grid, source.step)
    return Segmentation(source, names, rule.per, placement, wanted, rule.threshold)


def identity_of(source: SegmentationFile, number: int) -> str:
    """What names a segment among all of the site: its Tracking UID where it has one."""
    if tracking := source.segments[number].tracking:
        return f"tracked\0{source.patient}\0{tracking}"
    return f"segment\0{source.instance}\0{number}"


def _described(dataset: Dataset, found: MarkFile) -> SegmentationFile | Refusal:
    name = found.file.name
    encoding = dataset.SegmentationType
    if encoding not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        return Refusal(name, "a segmentation of an unknown Segmentation Type")
    full = dataset.get("MaximumFractionalValue")
    if encoding == "FRACTIONAL" and not full:
        return Refusal(name, "a fractional segmentation without a Maximum Fractional Value")
    if int(dataset.Rows) * int(dataset.Columns) > _MOST_PIXELS:
        return Refusal(name, "a damaged segmentation: its frames are larger than any image")
    frames = _frames(dataset, label_map=encoding == "LABELMAP")
    if isinstance(frames, str):
        return Refusal(name, frames)
    return SegmentationFile(
        file=found.file,
        patient=found.patient,
        instance=str(dataset.SOPInstanceUID),
        encoding=encoding,
        series=frozenset(
            str(one.SeriesInstanceUID) for one in dataset.get("ReferencedSeriesSequence") or ()
        ),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
        segments=_segments(dataset),
        frames=tuple(segment for segment, _ in frames),
        sites=tuple(site for _, site in frames),
        step=_step(dataset),
        full=int(full or 1),
    )


def _segments(dataset: Dataset) -> dict[int, Segment]:
    """Segments by number; the background of a label map is none (PS3.3 C.8.20.2.3.3)."""
    background = (0, dataset.get("PixelPaddingValue"))
    segments = {}
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if dataset.SegmentationType == "LABELMAP" and number in background:
            continue
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        modifiers = [
            *(kind.get("SegmentedPropertyTypeModifierCodeSequence") or ()),
            *(
                modifier
                for region in item.get("AnatomicRegionSequence") or ()
                for modifier in region.get("AnatomicRegionModifierSequence") or ()
            ),
        ]
        segments[number] = Segment(
            code=concept(kind),
            name=str(item.get("SegmentLabel") or ""),
            tracking=str(item.get("TrackingUID") or ""),
            side=side_of(concept(modifier) for modifier in modifiers),
        )
    return segments


def _frames(dataset: Dataset, *, label_map: bool) -> list[tuple[int | None, Site]] | str:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(groups) != int(dataset.NumberOfFrames):
        return "a damaged segmentation: it does not describe each of its frames"
    frames: list[tuple[int | None, Site]] = []
    for own in groups:
        site = _site(dataset, own, shared)
        if isinstance(site, str):
            return f"a frame of the segmentation cannot be placed: {site}"
        segment = _part("SegmentIdentificationSequence", own, shared)
        number = segment.get("ReferencedSegmentNumber")
        if number is None and not label_map:
            return "a frame of the segmentation names no segment"
        frames.append((None if label_map or number is None else int(number), site))
    return frames


def _part(name: str, own: Dataset, shared: Dataset) -> Dataset:
    """A functional group of a frame: its own, or that of all frames (PS3.3 C.7.6.16)."""
    found = own.get(name) or shared.get(name) or [Dataset()]
    item: Dataset = found[0]
    return item


def _site(dataset: Dataset, own: Dataset, shared: Dataset) -> Site | str:
    derivation = _part("DerivationImageSequence", own, shared)
    instance, frame = image_of(derivation.get("SourceImageSequence") or ())
    position = _part("PlanePositionSequence", own, shared)
    if "ImagePositionPatient" not in position:
        if not instance:
            return "it has no place in the patient, and names not exactly one image"
        size = (int(dataset.Rows), int(dataset.Columns))
        axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        nowhere = Plane(*size, (1.0, 1.0), axial, (0.0, 0.0, 0.0), placed=False)
        return Site(nowhere, instance, frame)
    plane = plane_of(
        dataset,
        _part("PixelMeasuresSequence", own, shared),
        _part("PlaneOrientationSequence", own, shared),
        position,
    )
    return plane if isinstance(plane, str) else Site(plane, instance, frame)


def _step(dataset: Dataset) -> float | None:
    """Distance of planes in mm as stated; Slice Thickness only where nothing else is."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    measures = _part("PixelMeasuresSequence", shared, shared)
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        found = numbers(measures, keyword, 1)
        if found and found[0] > 0:
            return found[0]
    return None


def _unpack(dataset: Dataset, frame: int) -> NDArray[np.bool_]:
    """One frame (row, column) of a packed binary segmentation, lowest bit first."""
    size = dataset.Rows * dataset.Columns
    first, last = frame * size, (frame + 1) * size
    octets = np.frombuffer(dataset.PixelData, np.uint8)[first // 8 : -(-last // 8)]
    bits = np.unpackbits(octets, bitorder="little")[first % 8 :][:size]
    return bits.reshape(dataset.Rows, dataset.Columns).astype(bool)
