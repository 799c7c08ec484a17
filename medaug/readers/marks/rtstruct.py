"""Contours of RT Structure Sets (PS3.3 A.19.3) as masks, region of interest by region.

An object in which a region that is asked for is broken is refused as a whole, and the reason says
what is broken: a region without contours, a contour on an image that is not there, off every
slice, on another slice than it says, or outside the picture. What it says about regions that
nobody asked for is not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medaug.domain import CodedConcept
from medaug.errors import Fault, ReaderError
from medaug.readers.dicom.header import ODD, MarkFile
from medaug.readers.dicom.stack import Stack
from medaug.readers.files import Refusal, SourceFile
from medaug.readers.lesions import Marking
from medaug.readers.marks.coded import concept
from medaug.readers.marks.contours import FURTHEST_MM, Contour, Filled, fill, point_box
from medaug.readers.marks.mark import Drawn
from medaug.readers.marks.mark_file import read_object
from medaug.readers.marks.reference import image_of
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.rules import Per, RtstructRule

UNLISTED = "hold contours of regions that are not among `labels`; these were not read"
OTHER_FRAME = (
    "hold contours in a frame of reference of their own, on the very planes of the images they name"
)
GAPS = "hold contours that leave out slices in between; nothing is filled in there"
EMPTY = "hold regions that are asked for and have no contour"
OPEN = "hold open contours, which enclose nothing; these were not read"

_CONTOUR_DATA = 0x30060050
_DAMAGED = "a damaged RT structure set: it cannot be read to its end"


@dataclass(frozen=True, eq=False, repr=False)
class Roi:
    """A region of interest that the settings ask for.

    Attributes:
        points: contours of a single point.
    """

    number: int
    label: str
    finding: CodedConcept | None
    frame_of_reference: str
    contours: tuple[Contour, ...]
    points: tuple[Contour, ...]

    @property
    def named(self) -> set[str]:
        """SOP Instance UIDs of the images its contours name."""
        return {one.instance for one in (*self.contours, *self.points) if one.instance}


@dataclass(frozen=True, eq=False, repr=False)
class StructureSet:
    """The regions of one file as a `Mark`.

    Attributes:
        instance: its SOP Instance UID.
        images: SOP Instance UIDs that the file as a whole refers to.
    """

    file: SourceFile
    patient: str
    per: Per
    instance: str
    images: frozenset[str]
    rois: tuple[Roi, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its file, relative to the data root."""
        return (self.file.name,)

    def where(self, stacks: list[Stack]) -> list[Stack] | str:
        """Those that hold an image it names; if it names none, those of its frame of reference."""
        named: Set[str] = set[str]().union(*(roi.named for roi in self.rois)) or self.images
        if named:
            held = {stack: {one.instance for one in stack.slices} for stack in stacks}
            holding = [stack for stack in stacks if held[stack] & named]
            if not holding:
                return f"none of the {len(named)} images that its contours name is among the files"
            there = set[str]().union(*(held[stack] for stack in holding))
            if missing := named - there:
                return (
                    f"{len(missing)} of the {len(named)} images that its contours name are not "
                    f"among the files that can be used ({self._broken(missing)})"
                )
            return holding
        frames = {roi.frame_of_reference for roi in self.rois} - {""}
        same = [stack for stack in stacks if stack.slices[0].frame_of_reference in frames]
        if not same:
            what = "it names no image, and "
            if not frames:
                return f"{what}no frame of reference"
            return f"{what}no series among the files is in its frame of reference"
        return same

    def read(self, stack: Stack, remarks: Counter[str]) -> list[Drawn]:
        """The voxels that each region's contours enclose, and its points.

        Raises:
            ReaderError: if a contour cannot be placed; the fault names every broken region.
        """
        drawn: list[Drawn] = []
        broken: list[str] = []
        for roi in self.rois:
            filled = fill(roi.contours, stack)
            if reason := _misplaced(roi, filled):
                broken.append(reason)
                continue
            if roi.frame_of_reference not in ("", stack.slices[0].frame_of_reference):
                if not all(
                    self._on_named_plane(one, stack) for one in (*roi.contours, *roi.points)
                ):
                    broken.append(
                        f"ROI number {roi.number} is in another frame of reference than the images"
                    )
                    continue
                remarks[OTHER_FRAME] += 1
            if filled.gaps:
                remarks[GAPS] += 1
            drawn += self._markings(roi, filled, stack, broken)
        if broken:
            raise ReaderError(Fault(self.file.name, "; ".join(broken)))
        return drawn

    def _markings(self, roi: Roi, filled: Filled, stack: Stack, broken: list[str]) -> list[Drawn]:
        identity = f"roi\0{self.instance}\0{roi.number}"
        found = []
        if filled.marked is not None:
            marking = Marking(roi.label, identity, *filled.marked, roi.finding)
            found.append(Drawn(stack.on_grid(marking)))
        elif roi.contours:
            broken.append(f"the contours of ROI number {roi.number} enclose no centre of a pixel")
        for number, point in enumerate(roi.points):
            box = point_box(point, stack)
            if box is None:
                broken.append(f"a point of ROI number {roi.number} lies outside the images")
                continue
            marking = Marking(roi.label, f"{identity}\0{number}", box, None, roi.finding)
            found.append(Drawn(stack.on_grid(marking)))
        return found

    def _on_named_plane(self, contour: Contour, stack: Stack) -> bool:
        """Whether a contour lies within a hundredth of a mm of the plane of the image it names."""
        k = stack.locate_instance(contour.instance, contour.frame)
        if k is None:
            return False
        plane = stack.slices[k].plane
        normal = np.cross(*np.reshape(plane.orientation, (2, 3)))
        return bool(np.abs((contour.points - plane.position) @ normal).max() <= 0.01)

    def _broken(self, missing: Set[str]) -> str:
        parts = []
        for roi in self.rois:
            every = (*roi.contours, *roi.points)
            gone = sum(one.instance in missing for one in every)
            if gone:
                parts.append(f"ROI number {roi.number}: {gone} of {len(every)} contours")
        return ", ".join(parts[:5]) + (", …" if len(parts) > 5 else "")


def read_contours(
    found: MarkFile, rule: RtstructRule, oddities: Counter[str]
) -> list[StructureSet] | Refusal:
    """Read the regions of a structure set that a rule asks for."""
    name = found.file.name
    try:
        with withheld(oddities, ODD):
            dataset = read_object(found.file.path)
            wanted, others = _wanted(dataset, rule)
            if not wanted:
                return Refusal(
                    name,
                    f"none of its {others} regions of interest has a name that is among the "
                    "labels of the rule `rtstruct`",
                )
            rois, broken = _rois(dataset, wanted, oddities)
            images = frozenset(_images(dataset))
            instance = str(dataset.SOPInstanceUID)
    except UNREADABLE:
        return Refusal(name, _DAMAGED)
    if broken:
        return Refusal(name, "; ".join(broken))
    if others:
        oddities[UNLISTED] += 1
    return [StructureSet(found.file, found.patient, rule.per, instance, images, rois)]


def _wanted(dataset: Dataset, rule: RtstructRule) -> tuple[dict[int, tuple[str, str]], int]:
    """({ROI number: (class, frame of reference)} of the regions asked for, count of the others)."""
    wanted: dict[int, tuple[str, str]] = {}
    others = 0
    for item in dataset.get("StructureSetROISequence") or ():
        if label := rule.label_of(str(item.get("ROIName") or "")):
            wanted[int(item.ROINumber)] = (
                label,
                str(item.get("ReferencedFrameOfReferenceUID") or ""),
            )
        else:
            others += 1
    return wanted, others


def _rois(
    dataset: Dataset, wanted: Mapping[int, tuple[str, str]], oddities: Counter[str]
) -> tuple[tuple[Roi, ...], list[str]]:
    """(regions with contours, what is broken)."""
    findings = _findings(dataset)
    drawn: dict[int, tuple[list[Contour], list[Contour]]] = {}
    broken: list[str] = []
    nameless = 0
    for item in dataset.get("ROIContourSequence") or ():
        number = item.get("ReferencedROINumber")
        if number is None:
            nameless += 1
        elif int(number) in wanted:
            closed, points = drawn.setdefault(int(number), ([], []))
            reason = _lines(item.get("ContourSequence") or (), closed, points, oddities)
            if reason:
                broken.append(f"ROI number {int(number)}: {reason}")
    empty = [number for number in wanted if not any(drawn.get(number, ()))]
    if empty and not broken:
        if nameless or len(empty) == len(wanted):
            orphans = f" ({nameless} sets of contours name no ROI number)" if nameless else ""
            which = ", ".join(str(number) for number in empty[:5])
            broken.append(f"no contours for ROI number {which}{orphans}")
        else:
            oddities[EMPTY] += 1
    rois = [
        Roi(
            number,
            label,
            findings.get(number),
            frame,
            tuple(drawn[number][0]),
            tuple(drawn[number][1]),
        )
        for number, (label, frame) in wanted.items()
        if number not in empty
    ]
    return tuple(rois), broken


def _lines(
    items: Sequence[Dataset],
    closed: list[Contour],
    points: list[Contour],
    oddities: Counter[str],
) -> str:
    """Sort the contours of one region by kind; returns what is broken, or ""."""
    for item in items:
        kind = str(item.get("ContourGeometricType") or "")
        data = _numbers(item)
        if data is None:
            return "a contour whose coordinates are not triples of numbers"
        contour = Contour(data, *image_of(item.get("ContourImageSequence") or ()))
        if kind == "POINT" and len(data) == 1:
            points.append(contour)
        elif kind in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") and len(data) >= 3:
            closed.append(contour)
        elif kind in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "POINT"):
            return f"a contour of kind {kind} with {len(data)} points"
        else:
            oddities[OPEN] += 1
    return ""


def _numbers(item: Dataset) -> NDArray[np.float64] | None:
    """Contour Data as (point, 3) LPS mm; None if it is no such thing."""
    # As the file's bytes: a million numbers as objects of pydicom take minutes and gigabytes.
    element = item.get_item(_CONTOUR_DATA)
    value = [] if element is None or element.value is None else element.value
    if isinstance(value, bytes):
        value = value.rstrip(b"\0 ").split(b"\\")
    values = np.atleast_1d(np.asarray(value).astype(np.float64))
    if values.size == 0 or values.size % 3 or not (np.abs(values) < FURTHEST_MM).all():
        return None
    return values.reshape(-1, 3)


def _findings(dataset: Dataset) -> dict[int, CodedConcept]:
    """The coded identification of regions, where observations give one."""
    return {
        int(item.ReferencedROINumber): concept(codes[0])
        for item in dataset.get("RTROIObservationsSequence") or ()
        if (codes := item.get("RTROIIdentificationCodeSequence"))
        and item.get("ReferencedROINumber") is not None
    }


def _images(dataset: Dataset) -> list[str]:
    """SOP Instance UIDs of the images that the file lists for its frames of reference."""
    return [
        str(image.get("ReferencedSOPInstanceUID") or "")
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
        for image in series.get("ContourImageSequence") or ()
    ]


def _misplaced(roi: Roi, filled: Filled) -> str:
    of = f"of the {len(roi.contours)} contours of ROI number {roi.number}"
    parts = []
    if filled.off:
        parts.append(
            f"{filled.off} {of} lie off every slice or not along one (up to {filled.off_mm:.3g} mm)"
        )
    if filled.elsewhere:
        parts.append(f"{filled.elsewhere} {of} lie on another slice than the image they name")
    if filled.outside:
        hint = ", and inside it with left and right exchanged" if filled.mirror else ""
        parts.append(f"{filled.outside} {of} lie outside the picture{hint}")
    return "; ".join(parts)
