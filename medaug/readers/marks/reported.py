"""What a structured report draws itself, as a `Mark`: one measurement group, one lesion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Region
from medaug.errors import Fault, ReaderError
from medaug.readers.dicom.stack import Stack
from medaug.readers.files import SourceFile
from medaug.readers.lesions import Marking, gather
from medaug.readers.marks.contours import Piece, fill
from medaug.readers.marks.graphics import (
    Graphic,
    ellipsoid,
    enclosed,
    in_patient,
    outline,
    spanned,
)
from medaug.readers.marks.mark import Drawn
from medaug.readers.marks.segmentation import Wanted
from medaug.readers.rules import Per

OUTSIDE = "a graphic of its report lies outside the images"


@dataclass(frozen=True, eq=False, repr=False)
class ReportedRegion:
    """The graphics of one group."""

    file: SourceFile
    patient: str
    per: Per
    wanted: Wanted
    graphics: tuple[Graphic, ...]
    diameter_mm: float | None

    @property
    def names(self) -> tuple[str, ...]:
        """Its file, relative to the data root."""
        return (self.file.name,)

    def where(self, stacks: list[Stack]) -> list[Stack] | str:
        """Those with every image it names, or those of its frame of reference."""
        images = {(one.instance, one.frame) for one in self.graphics if not one.in_patient}
        frames = {one.frame_of_reference for one in self.graphics if one.in_patient}
        if images:
            found = {
                image: [one for one in stacks if one.locate_instance(*image) is not None]
                for image in images
            }
            missing = sum(not holding for holding in found.values())
            if missing:
                return (
                    f"{missing} of the {len(images)} images that its report names are not among "
                    "the files"
                )
            holding = [one for one in stacks if all(one in held for held in found.values())]
            if not holding:
                return "one group of its report is drawn on several series"
            stacks = holding
        if frames:
            stacks = [
                one
                for one in stacks
                if frames == {one.slices[0].frame_of_reference} and one.slices[0].plane.placed
            ]
            if "" in frames or not stacks:
                return "no series among the files is in the frame of reference of its report"
        return stacks

    def read(self, stack: Stack, remarks: Counter[str]) -> list[Drawn]:  # noqa: ARG002
        """The voxels that its closed shapes enclose, or else the box that all of them span.

        Raises:
            ReaderError: if a shape lies outside the volume, or encloses no voxel.
        """
        closed = [one for one in self.graphics if one.closed]
        found = self._masked(closed, stack) if closed else self._box(stack)
        if isinstance(found, str):
            raise ReaderError(Fault(self.file.name, found))
        return [Drawn(found, self.wanted.side)]

    def _marking(self, box: Region, mask: NDArray[np.bool_] | None) -> Marking:
        one = self.wanted
        diameter = None if mask is not None else self.diameter_mm
        return Marking(one.label, one.identity, box, mask, one.finding, diameter)

    def _masked(self, closed: Sequence[Graphic], stack: Stack) -> Marking | str:
        """The union of the shapes; those in slices count slices as the files do."""
        planes: list[tuple[int, NDArray[np.bool_]]] = []
        solids: list[Piece] = []
        for one in closed:
            if one.kind == "ELLIPSOID":
                solid = ellipsoid(one, stack.geometry)
                solids += [] if solid is None else [solid]
                continue
            drawn = _flat(one, stack) if one.in_patient else _on_image(one, stack)
            if isinstance(drawn, str):
                return drawn
            planes += drawn
        flat = gather(planes)
        if flat is not None:
            marking = stack.on_grid(self._marking(*flat))
            if not solids or marking.mask is None:
                return marking
            solids.append((marking.box, marking.mask))
        if not solids:
            return "the graphics of its report enclose no centre of a voxel"
        return self._marking(*reduce(_union, solids))

    def _box(self, stack: Stack) -> Marking | str:
        shape = stack.geometry.shape
        if all(one.in_patient for one in self.graphics):
            points = np.concatenate([in_patient(one, stack.geometry) for one in self.graphics])
            box = spanned(points, shape)
            return OUTSIDE if box is None else self._marking(box, None)
        on_images = []
        for one in self.graphics:
            k = stack.locate_instance(one.instance, one.frame)
            if k is None:
                return OUTSIDE
            on_images.append(np.column_stack([one.points - 0.5, np.full(len(one.points), k)]))
        box = spanned(np.concatenate(on_images), (*shape[:2], len(stack.slices)))
        return OUTSIDE if box is None else stack.on_grid(self._marking(box, None))


def _on_image(graphic: Graphic, stack: Stack) -> list[tuple[int, NDArray[np.bool_]]] | str:
    """A closed shape on an image as (slice, mask (column, row)), or what is wrong."""
    k = stack.locate_instance(graphic.instance, graphic.frame)
    if k is None:
        return OUTSIDE
    mask = enclosed(graphic, stack.slices[k].plane)
    return mask if isinstance(mask, str) else [(k, mask)]


def _flat(graphic: Graphic, stack: Stack) -> list[tuple[int, NDArray[np.bool_]]] | str:
    """A closed flat shape in the patient, likewise."""
    filled = fill([outline(graphic)], stack)
    if filled.off or filled.outside:
        return f"{OUTSIDE}, or not along a slice"
    if filled.marked is None:
        return []
    (i, j, k), inner = filled.marked
    plane = stack.slices[0].plane
    mask = np.zeros((plane.columns, plane.rows), dtype=bool)
    mask[i, j] = inner[:, :, 0]
    return [(k.start, mask)]


def _union(one: Piece, other: Piece) -> Piece:
    """Both, in the box that holds both."""
    i, j, k = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(one[0], other[0], strict=True)
    )
    whole = np.zeros((i.stop - i.start, j.stop - j.start, k.stop - k.start), dtype=bool)
    for box, mask in (one, other):
        part = tuple(
            slice(b.start - a.start, b.stop - a.start) for a, b in zip((i, j, k), box, strict=True)
        )
        whole[part] |= mask
    return (i, j, k), whole
