"""DICOM objects that mark lesions, each read by the rule of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from medaug.readers.dicom.header import MarkFile, MarkKind
from medaug.readers.files import Refusal
from medaug.readers.found import Found
from medaug.readers.marks.mark import Mark
from medaug.readers.marks.rtstruct import read_contours
from medaug.readers.marks.segmentation import SegmentationFile, marks_of, read_segmentation
from medaug.readers.marks.structured_report import read_report
from medaug.readers.rules import RtstructRule, SegRule, SrRule
from medaug.readers.settings import DicomSource

T = TypeVar("T")

_WHAT: Mapping[MarkKind, str] = {
    "seg": "a segmentation",
    "rtstruct": "contours (an RT structure set)",
    "sr": "a structured report",
}


def read_marks(settings: DicomSource, files: Sequence[MarkFile], found: Found) -> list[Mark]:
    """The marks that the settings ask for; what is not read is refused in ``found``.

    A segment that a report speaks of is a lesion of the report, under its finding, and no lesion
    of the segmentation besides.
    """
    seg = next((rule for rule in settings.lesions if isinstance(rule, SegRule)), None)
    contours = next((rule for rule in settings.lesions if isinstance(rule, RtstructRule)), None)
    report = next((rule for rule in settings.lesions if isinstance(rule, SrRule)), None)
    marks: list[Mark] = []
    if contours is not None:
        for one in _of("rtstruct", files):
            _keep(read_contours(one, contours, found.oddities), marks, found)
    sources: list[SegmentationFile] = []
    for one in _of("seg", files) if seg is not None or report is not None else ():
        _keep(read_segmentation(one, found.oddities), sources, found)
    told = set() if report is None else _reported(report, files, sources, marks, found)
    if seg is not None:
        marks += _segmented(seg, sources, told, found)
    rules = {"seg": seg, "rtstruct": contours, "sr": report}
    used = {name for mark in marks for name in mark.names}
    found.refused += [
        Refusal(
            one.file.name,
            f"{_WHAT[one.kind]}, and the settings name no rule of kind `{one.kind}`",
        )
        for one in files
        if rules[one.kind] is None and one.file.name not in used
    ]
    return marks


def _of(kind: MarkKind, files: Sequence[MarkFile]) -> list[MarkFile]:
    return [one for one in files if one.kind == kind]


def _segmented(
    rule: SegRule,
    sources: Sequence[SegmentationFile],
    told: set[tuple[str, int]],
    found: Found,
) -> list[Mark]:
    """The segments that no report speaks of."""
    marks: list[Mark] = []
    for source in sources:
        left = {n: one for n, one in source.segments.items() if (source.instance, n) not in told}
        if left or not source.segments:
            _keep(marks_of(replace(source, segments=left), rule, found.oddities), marks, found)
    return marks


def _reported(
    rule: SrRule,
    files: Sequence[MarkFile],
    sources: Sequence[SegmentationFile],
    marks: list[Mark],
    found: Found,
) -> set[tuple[str, int]]:
    """Read the reports; returns the (instance, segment number) that they speak of."""
    by_instance = {one.instance: one for one in sources}
    told: set[tuple[str, int]] = set()
    for one in _of("sr", files):
        read = read_report(one, rule, by_instance, found.oddities)
        if isinstance(read, Refusal):
            found.refused.append(read)
        else:
            marks += read.marks
            told |= read.segments
    return told


def _keep(read: Sequence[T] | T | Refusal, into: list[T], found: Found) -> None:
    if isinstance(read, Refusal):
        found.refused.append(read)
    elif isinstance(read, Sequence):
        into += read
    else:
        into.append(read)
