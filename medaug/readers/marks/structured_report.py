"""Measurement groups of DICOM structured reports (PS3.16 TID 1500: 1410, 1411 and 1501).

Each group is one lesion: its Tracking Unique Identifier, its finding, and where it is; either a
segment of a segmentation, or shapes on images, or shapes in the patient. A group that draws no
region, but whose measurements do (the two ends of a long axis), gives the box of what they draw,
and the diameter that the report states.

The content tree is walked as it comes, wherever in it the groups stand: reports of other
programs follow the template loosely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medaug.domain import CodedConcept
from medaug.readers.dicom.header import ODD, MarkFile
from medaug.readers.files import Refusal
from medaug.readers.marks.coded import class_of, concept, shown, side_of
from medaug.readers.marks.contours import FURTHEST_MM
from medaug.readers.marks.graphics import Graphic
from medaug.readers.marks.mark import Mark, Side
from medaug.readers.marks.mark_file import read_object
from medaug.readers.marks.reference import frames_of, image_of, whole_numbers
from medaug.readers.marks.reported import ReportedRegion
from medaug.readers.marks.segmentation import SegmentationFile, Wanted, identity_of, select
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.rules import SrRule

UNLISTED = "hold measurement groups whose finding is not among `labels`; these were not read"
BROKEN = "hold measurement groups that were not read: "

_DAMAGED = "a damaged structured report: it cannot be read to its end"
_MOST_ITEMS = 200_000

_GROUP = {("125007", "DCM")}
_TRACKING = {("112040", "DCM")}
_FINDING = {("121071", "DCM")}
_SITE = {("363698007", "SCT"), ("G-C0E3", "SRT")}
_LATERALITY = {("272741003", "SCT"), ("G-C171", "SRT")}
_DIAMETERS = (
    ("103339001", "SCT"),  # Long Axis
    ("G-A185", "SRT"),
    ("L0JK", "IBSI"),  # Maximum 3D diameter
    ("81827009", "SCT"),  # Diameter
    ("M-02550", "SRT"),
    ("410668003", "SCT"),  # Length
    ("G-D7FE", "SRT"),
)
_VOLUMES = (("118565006", "SCT"), ("G-D705", "SRT"))
_MM = {"mm": 1.0, "cm": 10.0, "mm3": 1.0, "cm3": 1000.0, "ml": 1000.0, "mL": 1000.0}


@dataclass(eq=False, repr=False)
class Group:
    """What one measurement group says."""

    tracking: str = ""
    finding: CodedConcept | None = None
    side: Side = ""
    segments: list[tuple[str, int, frozenset[int] | None]] = field(default_factory=list)
    regions: list[Graphic] = field(default_factory=list)
    measured: list[Graphic] = field(default_factory=list)
    lengths: dict[tuple[str, str], float] = field(default_factory=dict)
    broken: str = ""

    @property
    def diameter_mm(self) -> float | None:
        """The longest diameter as stated, or that of a ball of the volume stated."""
        for name in _DIAMETERS:
            if self.lengths.get(name, 0) > 0:
                return self.lengths[name]
        for name in _VOLUMES:
            if self.lengths.get(name, 0) > 0:
                return float(np.cbrt(6 * self.lengths[name] / np.pi))
        return None


@dataclass(eq=False, repr=False)
class Report:
    """The marks of a report, and the (instance, segment number) that it speaks of."""

    marks: list[Mark]
    segments: set[tuple[str, int]]


def read_report(
    found: MarkFile,
    rule: SrRule,
    segmentations: Mapping[str, SegmentationFile],
    oddities: Counter[str],
) -> Report | Refusal:
    """Read the groups of a report that a rule asks for.

    Args:
        found: the file.
        rule: what is wanted.
        segmentations: those among the files, by SOP Instance UID.
        oddities: counts what is odd.
    """
    name = found.file.name
    try:
        with withheld(oddities, ODD):
            dataset = read_object(found.file.path)
            instance = str(dataset.SOPInstanceUID)
            groups = [_group(item) for item in _containers(dataset)]
    except UNREADABLE:
        return Refusal(name, _DAMAGED)
    if not groups:
        return Refusal(name, "a structured report without a measurement group (TID 1500)")
    report = Report([], set())
    faults: list[str] = []
    others: list[str] = []
    for number, group in enumerate(groups, start=1):
        wanted = _wanted(found, rule, group, f"group\0{instance}\0{number}")
        if wanted is None:
            others.append(f"group {number}{shown(group.finding) if group.finding else ''}")
            continue
        marks = _marks(found, group, wanted, rule, segmentations)
        if isinstance(marks, str):
            faults.append(marks)
            continue
        report.marks += marks
        report.segments |= {(one, segment) for one, segment, _ in group.segments}
    if report.marks:
        oddities[UNLISTED] += bool(others)
        oddities.update(BROKEN + fault for fault in set(faults))
        return report
    if faults:
        return Refusal(name, f"its measurement groups are broken: {'; '.join(sorted(set(faults)))}")
    has = ", ".join(others[:10])
    return Refusal(name, f"none of its findings is among the labels of the rule `sr`; it has {has}")


def _wanted(found: MarkFile, rule: SrRule, group: Group, identity: str) -> Wanted | None:
    """What a group is read as; None if nobody asks for it."""
    label = rule.unnamed if group.finding is None else class_of(group.finding, rule.labels)
    if not label:
        return None
    if group.tracking:
        identity = f"tracked\0{found.patient}\0{group.tracking}"
    return Wanted(label, identity, group.finding, group.side)


def _marks(
    found: MarkFile,
    group: Group,
    wanted: Wanted,
    rule: SrRule,
    segmentations: Mapping[str, SegmentationFile],
) -> list[Mark] | str:
    """The marks of one group, or what is broken in it."""
    if group.broken:
        return group.broken
    marks: list[Mark] = []
    for instance, number, frames in group.segments:
        source = segmentations.get(instance)
        if source is None:
            return "the segmentation it refers to is not among the files"
        segment = source.segments.get(number)
        if segment is None:
            return f"the segmentation it refers to has no segment number {number}"
        tracked = wanted.identity.startswith("tracked")
        one = Wanted(
            wanted.label,
            wanted.identity if tracked else identity_of(source, number),
            wanted.finding or segment.code,
            wanted.side or segment.side,
            frames,
        )
        marks.append(select(source, {number: one}, rule, (found.file.name, source.file.name)))
    if marks:
        return marks
    graphics = group.regions or group.measured
    if not graphics:
        return "it draws nothing"
    if broken := next((one.broken for one in graphics if one.broken), ""):
        return broken
    return [
        ReportedRegion(
            found.file, found.patient, rule.per, wanted, tuple(graphics), group.diameter_mm
        )
    ]


def _containers(dataset: Dataset) -> Iterator[Dataset]:
    """Every measurement group, in the order of the document."""
    waiting = [dataset]
    seen = 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > _MOST_ITEMS:
            raise ValueError("a content tree without end")
        if item.get("ValueType") == "CONTAINER" and _name(item) in _GROUP:
            yield item
        else:
            waiting += reversed(item.get("ContentSequence") or ())


def _group(container: Dataset) -> Group:
    group = Group()
    for item in container.get("ContentSequence") or ():
        kind, name = item.get("ValueType"), _name(item)
        if kind == "UIDREF" and name in _TRACKING:
            group.tracking = str(item.get("UID") or "")
        elif kind == "CODE" and name in _FINDING:
            group.finding = concept(item.ConceptCodeSequence[0])
        elif kind == "CODE" and name in _SITE:
            modifiers = (
                one for one in item.get("ContentSequence") or () if _name(one) in _LATERALITY
            )
            group.side = side_of(concept(one.ConceptCodeSequence[0]) for one in modifiers)
        elif kind == "IMAGE":
            group.segments += _segments(item)
        elif kind in ("SCOORD", "SCOORD3D"):
            _draw(item, group, group.regions)
        elif kind == "NUM":
            _measure(item, group)
    return group


def _measure(item: Dataset, group: Group) -> None:
    """A measurement: its value where it is a length or a volume, and what it was drawn on."""
    for value in item.get("MeasuredValueSequence") or ():
        units = value.get("MeasurementUnitsCodeSequence") or ()
        factor = _MM.get(str(units[0].get("CodeValue"))) if units else None
        number = value.get("NumericValue")
        if factor is not None and number is not None:
            group.lengths[_name(item)] = factor * float(np.atleast_1d(number)[0])
    for child in item.get("ContentSequence") or ():
        if child.get("ValueType") in ("SCOORD", "SCOORD3D"):
            _draw(child, group, group.measured)


def _segments(item: Dataset) -> list[tuple[str, int, frozenset[int] | None]]:
    """(instance, segment number, frames from 0 or None for all) that an image item refers to."""
    return [
        (str(reference.ReferencedSOPInstanceUID), number, frames_of(reference))
        for reference in item.get("ReferencedSOPSequence") or ()
        for number in whole_numbers(reference, "ReferencedSegmentNumber")
    ]


def _draw(item: Dataset, group: Group, into: list[Graphic]) -> None:
    kind = str(item.get("GraphicType") or "")
    flat = item.get("ValueType") == "SCOORD"
    points = _points(item.get("GraphicData"), 2 if flat else 3)
    if points is None:
        group.broken = "a graphic whose data are not coordinates"
    elif not flat:
        frame = str(item.get("ReferencedFrameOfReferenceUID") or "")
        into.append(Graphic(kind, points, frame_of_reference=frame))
    elif item.get("PixelOriginInterpretation") == "VOLUME":
        group.broken = "a graphic on a whole slide, which is not read"
    else:
        images = [
            reference
            for child in item.get("ContentSequence") or ()
            if child.get("ValueType") == "IMAGE"
            for reference in child.get("ReferencedSOPSequence") or ()
        ]
        if len(images) != 1:
            group.broken = f"a graphic that names {len(images)} images instead of one"
            return
        into.append(Graphic(kind, points, *image_of(images)))


def _points(value: Sequence[float] | None, width: int) -> NDArray[np.float64] | None:
    values = np.atleast_1d(np.asarray([] if value is None else value, dtype=np.float64))
    if values.size == 0 or values.size % width or not (np.abs(values) < FURTHEST_MM).all():
        return None
    return values.reshape(-1, width)


def _name(item: Dataset) -> tuple[str, str]:
    codes = item.get("ConceptNameCodeSequence") or ()
    if not codes:
        return "", ""
    found = concept(codes[0])
    return found.value, found.scheme
