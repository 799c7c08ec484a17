"""DICOM Segmentation objects (PS3.3 A.51 and A.91): frames of segments on the grid of a series.

A binary segmentation packs one bit per pixel, and frames follow one another without filling up
the last byte [1]_, so a frame may begin inside a byte. A label map holds segment numbers. A
fractional one is refused: where a lesion ends in it is a decision that medaug does not take.

.. [1] DICOM PS3.5 8.1.1 and annex D
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from medaug.domain import CodedConcept
from medaug.errors import Fault, ReaderError
from medaug.readers.dicom_header import ODD, MarkFile, Plane, plane_of
from medaug.readers.dicom_stack import Stack
from medaug.readers.files import Refusal, SourceFile
from medaug.readers.found import OFF_GRID
from medaug.readers.lesions import Marking, gather
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.settings import Per, SegRule

_DAMAGED = "a damaged segmentation: it cannot be read to its end"
_CODE = re.compile(r"[A-Za-z0-9.-]{1,16}")
UNLISTED = "hold segments that are not among `labels`; these were not read"


@dataclass(frozen=True)
class Segment:
    """A segment that the settings ask for."""

    label: str
    identity: str
    finding: CodedConcept | None


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A segmentation, pixels not read.

    Attributes:
        patient: text that names the patient, or "".
        series: Series Instance UIDs of the images it was drawn on; may be empty.
        frame_of_reference: UID, or "".
        segments: by Segment Number.
        frames: (segment number or None in a label map, plane) of each frame.
    """

    file: SourceFile
    patient: str
    per: Per
    series: frozenset[str]
    frame_of_reference: str
    segments: dict[int, Segment]
    frames: tuple[tuple[int | None, Plane], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its file, relative to the data root."""
        return (self.file.name,)

    def stacks_among(self, stacks: list[Stack]) -> list[Stack]:
        """Those it was drawn on and on whose grid at least one frame lies."""
        return [
            stack
            for stack in self.drawn_on(stacks)
            if any(stack.locate(plane) is not None for _, plane in self.frames)
        ]

    def drawn_on(self, stacks: list[Stack]) -> list[Stack]:
        """Those it refers to: by series, or else by frame of reference, or else any."""
        if self.series:
            return [stack for stack in stacks if stack.slices[0].series in self.series]
        if self.frame_of_reference:
            wanted = self.frame_of_reference
            return [stack for stack in stacks if stack.slices[0].frame_of_reference == wanted]
        return stacks

    def read(self, stack: Stack) -> list[Marking]:
        """The marked voxels of each segment that has any.

        Raises:
            ReaderError: if a frame that marks something is off the grid, or the file is damaged.
        """
        try:
            with withheld():
                dataset = dcmread(self.file.path)
                markings = []
                for number, segment in self.segments.items():
                    marked = gather(self._planes(dataset, number, stack))
                    if marked is not None:
                        markings.append(
                            Marking(segment.label, segment.identity, *marked, segment.finding)
                        )
                return markings
        except UNREADABLE:
            raise ReaderError(Fault(self.file.name, _DAMAGED)) from None

    def _planes(
        self, dataset: Dataset, number: int, stack: Stack
    ) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        packed = dataset.BitsAllocated == 1
        pixels = None if packed else dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        for at, (segment, plane) in enumerate(self.frames):
            if segment not in (number, None):
                continue
            if pixels is None:
                marked = _unpack(dataset, at)
            else:
                marked = pixels[at] == number if segment is None else pixels[at] != 0
            if not marked.any():
                continue
            k = stack.locate(plane)
            if k is None:
                raise ReaderError(Fault(self.file.name, OFF_GRID))
            yield k, marked.T


def read_segmentation(
    found: MarkFile, rule: SegRule, patient: str, oddities: Counter[str]
) -> Segmentation | Refusal:
    """Read what a segmentation says about its segments and frames."""
    file = found.file
    try:
        with withheld(oddities, ODD):
            dataset = dcmread(file.path, stop_before_pixels=True)
            kind = dataset.SegmentationType
            if kind not in ("BINARY", "LABELMAP"):
                return Refusal(file.name, "a fractional segmentation is not read: only binary ones")
            segments, unlisted = _segments(dataset, rule, patient)
            if not segments:
                reason = f"none of its segments is among the labels asked for; it has {unlisted}"
                return Refusal(file.name, reason)
            frames = _frames(dataset, label_map=kind == "LABELMAP")
            if isinstance(frames, str):
                return Refusal(file.name, frames)
            references = dataset.get("ReferencedSeriesSequence") or ()
    except UNREADABLE:
        return Refusal(file.name, _DAMAGED)
    if unlisted:
        oddities[UNLISTED] += 1
    return Segmentation(
        file=file,
        patient=patient,
        per=rule.per,
        series=frozenset(str(one.SeriesInstanceUID) for one in references),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
        segments=segments,
        frames=frames,
    )


def _segments(dataset: Dataset, rule: SegRule, patient: str) -> tuple[dict[int, Segment], str]:
    """(segments asked for by number, the others in words that quote no free text)."""
    wanted = {key.strip().casefold(): label for key, label in rule.labels.items()}
    segments: dict[int, Segment] = {}
    others = []
    identities: set[str] = set()
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if dataset.SegmentationType == "LABELMAP" and number in (
            0,
            dataset.get("PixelPaddingValue"),
        ):
            continue  # the background (PS3.3 C.8.20.2.3.3)
        code = item.SegmentedPropertyTypeCodeSequence[0]
        value = str(code.get("CodeValue") or code.get("LongCodeValue") or "")
        scheme = str(code.get("CodingSchemeDesignator") or "")
        meaning = str(code.get("CodeMeaning") or "").strip()
        keys = [meaning, value] if rule.label_from == "property-type" else [item.SegmentLabel]
        named = [wanted[key] for raw in keys if (key := str(raw).strip().casefold()) in wanted]
        label = named[0] if named else "" if wanted else meaning.casefold()
        if not label:
            # Codes tell what to ask for; a label or a meaning might be free text.
            plain = _CODE.fullmatch(value) and _CODE.fullmatch(scheme)
            others.append(f"segment {number}" + (f" coded {value} ({scheme})" if plain else ""))
            continue
        tracked = f"{patient}\0{item.get('TrackingUID') or ''}"
        identity = f"tracked\0{tracked}"
        if not item.get("TrackingUID") or identity in identities:
            identity = f"segment\0{dataset.SOPInstanceUID}\0{number}"
        identities.add(identity)
        segments[number] = Segment(label, identity, CodedConcept(value, scheme, meaning))
    return segments, ", ".join(others)


def _frames(dataset: Dataset, *, label_map: bool) -> tuple[tuple[int | None, Plane], ...] | str:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames: list[tuple[int | None, Plane]] = []
    if len(dataset.PerFrameFunctionalGroupsSequence) != int(dataset.NumberOfFrames):
        return "a damaged segmentation: it does not describe each of its frames"
    for group in dataset.PerFrameFunctionalGroupsSequence:

        def part(name: str, own: Dataset = group) -> Dataset:
            found = own.get(name) or shared.get(name) or [Dataset()]
            item: Dataset = found[0]
            return item

        plane = plane_of(
            dataset,
            part("PixelMeasuresSequence"),
            part("PlaneOrientationSequence"),
            part("PlanePositionSequence"),
        )
        if isinstance(plane, str):
            return f"a frame of the segmentation cannot be placed: {plane}"
        number = part("SegmentIdentificationSequence").get("ReferencedSegmentNumber")
        if number is None and not label_map:
            return "a frame of the segmentation names no segment"
        frames.append((None if label_map or number is None else int(number), plane))
    return tuple(frames)


def _unpack(dataset: Dataset, frame: int) -> NDArray[np.bool_]:
    """One frame (row, column) of a packed binary segmentation, lowest bit first."""
    size = dataset.Rows * dataset.Columns
    first, last = frame * size, (frame + 1) * size
    octets = np.frombuffer(dataset.PixelData, np.uint8)[first // 8 : -(-last // 8)]
    bits = np.unpackbits(octets, bitorder="little")[first % 8 :][:size]
    return bits.reshape(dataset.Rows, dataset.Columns).astype(bool)
