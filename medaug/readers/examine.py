"""One case, opened and looked at; what is kept of it is small.

Of the voxels as little is decoded as possible: a picture, which its opening has decoded anyway, and
of a DICOM series the first, the middle and the last slice. They are searched for text near an
edge, and hashed to find the same image elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Case
from medaug.errors import ReaderError
from medaug.readers.burned_in import has_letters
from medaug.readers.conflicts import Likeness, digest_of_slice
from medaug.readers.files import Refusal
from medaug.readers.found import CaseFiles
from medaug.readers.inventory import CaseEntry


@dataclass(frozen=True, eq=False)
class Examined:
    """What is kept of a case that was opened: no masks; None where it cannot be used."""

    entry: CaseEntry | None
    likeness: Likeness | None
    refused: tuple[Refusal, ...]
    oddities: Mapping[str, int] = field(default_factory=dict)


def examine(files: CaseFiles, measure: bool = False) -> Examined:
    """Open a case, and look at it.

    Args:
        files: the case.
        measure: decode the voxels of the lesions, to know their mean.
    """
    opened = files.open()
    case = opened.case
    if case is None:
        return Examined(None, None, opened.refused, opened.oddities)
    text, digest = False, ""
    try:
        if files.kind != "volumes":
            text = any(has_letters(picture) for picture in _sample(case))
            digest = digest_of_slice(case.volume, case.volume.geometry.shape[2] // 2)
        contributing = set(files.files) - {refusal.name for refusal in opened.refused}
        entry = CaseEntry.of(case, files.kind, len(contributing), maybe_text=text, measure=measure)
    except ReaderError as error:
        reason = error.faults[0].came
        refused = (Refusal(name, reason) for name in files.files)
        return Examined(None, None, (*opened.refused, *refused), opened.oddities)
    likeness = Likeness.of(files, case, digest)
    return Examined(entry, likeness, opened.refused, opened.oddities)


def not_examined(files: CaseFiles, reason: str) -> Examined:
    """What stands for a case over which the process died."""
    return Examined(None, None, tuple(Refusal(name, reason) for name in files.files))


def _sample(case: Case) -> Iterator[NDArray[np.float32]]:
    """First, middle and last slice as (row, column)."""
    count = case.volume.geometry.shape[2]
    for at in sorted({0, count // 2, count - 1}):
        yield case.volume.read((slice(None), slice(None), slice(at, at + 1)))[:, :, 0].T
