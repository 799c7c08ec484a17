"""From marked voxels to lesions: one per region, or one per connected component.

Components are 26-connected: voxels that share a face, an edge or a corner belong together. This
is the connectivity under which the consensus masks of Lesjak et al. [1]_ have the 37 and 19
lesions that are published for patients 07 and 26 (6-connected: 49 and 27; 18-connected: 38, 19).

.. [1] Lesjak et al. 2018, doi:10.1007/s12021-017-9348-7
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medaug.domain import CodedConcept, Lesion, PatientKey, Region
from medaug.readers.identity import lesion_uid
from medaug.readers.rules import Per

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Marking:
    """Voxels that a source marks as one thing.

    Attributes:
        label: the class.
        identity: names this marking among all of the site; only hashed, never shown.
        box: where the mask lies in the volume.
        mask: bool (i, j, k), tight in its box; None where only a box or a point is known.
        finding: the coded term, where the source gives one.
        diameter_mm: what the source states where it draws no mask.
    """

    label: str
    identity: str
    box: Region
    mask: NDArray[np.bool_] | None
    finding: CodedConcept | None = None
    diameter_mm: float | None = None


def lesions_of(marking: Marking, per: Per, patient: PatientKey, site_key: bytes) -> list[Lesion]:
    """The lesions of one marking, components in raster order."""
    if per == "segment" or marking.mask is None:
        parts: Iterable[tuple[Region, NDArray[np.bool_] | None]] = [(marking.box, marking.mask)]
    else:
        parts = _components(marking.mask, marking.box)
    return [
        Lesion(
            tracking_uid=lesion_uid(site_key, f"{marking.identity}\0{number}"),
            label=marking.label,
            patient=patient,
            box=box,
            mask=mask,
            finding=marking.finding,
            diameter_mm=marking.diameter_mm,
        )
        for number, (box, mask) in enumerate(parts)
    ]


def _components(mask: NDArray[np.bool_], box: Region) -> Iterator[tuple[Region, NDArray[np.bool_]]]:
    numbered, _ = ndimage.label(mask, structure=_NEIGHBOURS)
    for number, part in enumerate(ndimage.find_objects(numbered), start=1):
        yield _shift(part, box), numbered[part] == number


def _shift(part: Region, box: Region) -> Region:
    i, j, k = (
        slice(whole.start + inner.start, whole.start + inner.stop)
        for whole, inner in zip(box, part, strict=True)
    )
    return i, j, k


def tight(mask: NDArray[np.bool_]) -> tuple[Region, NDArray[np.bool_]] | None:
    """The box (i, j, k) that the marked voxels span and the mask inside it; None if empty."""
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        marked = np.flatnonzero(mask.any(axis=others))
        if not marked.size:
            return None
        spans.append(slice(int(marked[0]), int(marked[-1]) + 1))
    box = (spans[0], spans[1], spans[2])
    return box, np.ascontiguousarray(mask[box])


def gather(
    planes: Iterable[tuple[int, NDArray[np.bool_]]],
) -> tuple[Region, NDArray[np.bool_]] | None:
    """As `tight`, from planes (k, mask (i, j)) that arrive one by one in any order.

    Needs memory for the marked box only, not for the volume. A plane that comes twice is the
    union of both.
    """
    pieces: list[tuple[Region, NDArray[np.bool_]]] = []
    for k, plane in planes:
        piece = tight(plane[:, :, np.newaxis])
        if piece is not None:
            (i, j, _), mask = piece
            pieces.append(((i, j, slice(k, k + 1)), mask))
    if not pieces:
        return None
    low = [min(box[axis].start for box, _ in pieces) for axis in range(3)]
    high = [max(box[axis].stop for box, _ in pieces) for axis in range(3)]
    whole = np.zeros([b - a for a, b in zip(low, high, strict=True)], dtype=bool)
    for box, mask in pieces:
        i, j, k_at = (slice(s.start - a, s.stop - a) for s, a in zip(box, low, strict=True))
        whole[i, j, k_at] |= mask
    i, j, k_box = (slice(a, b) for a, b in zip(low, high, strict=True))
    return (i, j, k_box), whole
