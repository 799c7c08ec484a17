"""Cases that contradict each other: an image under two classes or patients, a patient in two parts.

Each is a sign that somebody sorted files wrongly, and each would flatter the result: the same
pixels on both sides of a split, or under both answers. All of them are found before any is
refused.

Whether two images are one is told by their decoded voxels, not by their files: an anonymiser
changes the header. Nothing is decoded that was not decoded anyway, but for images that already
agree: pictures in their voxels, DICOM series in their middle slice, other volumes in the grid and
in the size of the file.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from medaug.domain import Case, Volume
from medaug.readers.found import CaseFiles, Kind
from medaug.readers.settings import SourceSettings

ConflictKind = Literal["two-classes", "two-patients", "two-parts"]

_REASONS: Mapping[ConflictKind, str] = {
    "two-classes": "{} is the same picture in another class: keep the right one, or set "
    "`allow: [two-classes]`",
    "two-patients": "{} is the same image under another patient: keep one, correct what tells "
    "patients apart, or set `allow: [two-patients]`",
    "two-parts": "{} is of the same patient in the folder of another part: keep one part, or set "
    "`allow: [two-parts]` where the folders mean nothing",
}

_PART = re.compile(
    r"(?:^|[-_. ])(?:(?P<training>train(?:ing)?)|(?P<tuning>val(?:id(?:ation)?)?|tuning|dev)"
    r"|(?P<test>test(?:ing)?))(?:$|[-_. ])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Likeness:
    """What is kept of a case to tell whether another shows the same image.

    Attributes:
        name: of its first file.
        files: all of its files.
        kind: which reader made it.
        patient: token.
        patient_known: False where every picture counts as a patient of its own.
        labels: classes of its lesions.
        shape: of its grid.
        digest: of a picture's voxels, or of the middle slice of a DICOM series; else "".
    """

    name: str
    files: tuple[str, ...]
    kind: Kind
    patient: str
    patient_known: bool
    labels: frozenset[str]
    shape: tuple[int, int, int]
    digest: str

    @classmethod
    def of(cls, files: CaseFiles, case: Case, digest: str) -> Likeness:
        """Keep what is needed, and let the case go."""
        return cls(
            name=files.name,
            files=files.files,
            kind=files.kind,
            patient=case.patient.token,
            patient_known=files.patient_known,
            labels=frozenset(lesion.label for lesion in case.lesions),
            shape=case.volume.geometry.shape,
            digest=digest,
        )


@dataclass(frozen=True)
class Conflict:
    """Cases that contradict each other.

    Attributes:
        kind: how.
        cases: their positions in what was compared.
        sides: of each case, the side that it is on: a class, a patient, a part.
    """

    kind: ConflictKind
    cases: tuple[int, ...]
    sides: tuple[object, ...]

    @classmethod
    def among(
        cls, kind: ConflictKind, cases: Iterable[int], side: Callable[[int], object]
    ) -> Iterator[Conflict]:
        """One, if the cases are on several sides; else none."""
        members = tuple(sorted(set(cases)))
        sides = tuple(side(at) for at in members)
        if len(set(sides)) > 1:
            yield cls(kind, members, sides)

    def reason(self, at: int, names: Sequence[str]) -> str:
        """Why the case at a position is refused; names the first that is on another side."""
        side = self.sides[self.cases.index(at)]
        others = zip(self.cases, self.sides, strict=True)
        return _REASONS[self.kind].format(names[next(one for one, its in others if its != side)])


def find_conflicts(
    cases: Sequence[Likeness],
    parts: Sequence[str],
    sizes: Mapping[str, int],
    twins: Iterable[tuple[str, str]],
    whole: Callable[[int], str],
) -> list[Conflict]:
    """Every conflict among the cases, in their order.

    Args:
        cases: what was kept of each.
        parts: of each, the part whose folder it lies in, or "".
        sizes: bytes of the files.
        twins: pairs of files known to hold one image under two patients.
        whole: digest of all voxels of the case at a position; called for few.
    """
    found = [*_same_images(cases, sizes, whole), *_of_twins(cases, twins), *_in_parts(cases, parts)]
    return sorted(set(found), key=lambda one: (one.cases, one.kind))


def _same_images(
    cases: Sequence[Likeness], sizes: Mapping[str, int], whole: Callable[[int], str]
) -> Iterable[Conflict]:
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for at, case in enumerate(cases):
        size = sizes.get(case.name, 0) if case.kind == "volumes" else 0
        alike[case.kind, case.shape, case.digest, size].append(at)
    for (kind, *_), group in alike.items():
        if len(group) < 2 or not _contradictory(cases, group):
            continue
        same: dict[str, list[int]] = {"": group}
        if kind != "images":
            same = defaultdict(list)
            for at in group:
                same[whole(at)].append(at)
        for digest, members in same.items():
            if kind != "images" and not digest:
                continue
            yield from Conflict.among("two-patients", members, lambda at: cases[at].patient)
            if kind == "images":
                yield from Conflict.among("two-classes", members, lambda at: cases[at].labels)


def _contradictory(cases: Sequence[Likeness], group: Sequence[int]) -> bool:
    """Whether the cases of a group, if they were one image, would contradict each other."""
    patients = {cases[at].patient for at in group}
    pictures = cases[group[0]].kind == "images"
    return len(patients) > 1 or (pictures and len({cases[at].labels for at in group}) > 1)


def _of_twins(cases: Sequence[Likeness], twins: Iterable[tuple[str, str]]) -> Iterable[Conflict]:
    of_file: dict[str, list[int]] = defaultdict(list)
    pairs = list(twins)
    if pairs:
        for at, case in enumerate(cases):
            for name in case.files:
                of_file[name].append(at)
    for one, other in pairs:
        members = [*of_file.get(one, ()), *of_file.get(other, ())]
        yield from Conflict.among("two-patients", members, lambda at: cases[at].patient)


def _in_parts(cases: Sequence[Likeness], parts: Sequence[str]) -> Iterable[Conflict]:
    of_patient: dict[str, list[int]] = defaultdict(list)
    for at, case in enumerate(cases):
        if case.patient_known and parts[at]:
            of_patient[case.patient].append(at)
    for members in of_patient.values():
        yield from Conflict.among("two-parts", members, lambda at: parts[at])


def part_of(name: str, settings: SourceSettings) -> str:
    """The part of the cohort whose folder a file lies in; "" if none is named.

    The group ``part`` of a pattern of the source says it; else the nearest folder whose name has
    the word train, val, test or a longer form of it.

    >>> from medaug.readers.settings import ImagesSource
    >>> source = ImagesSource(kind="images", label="mass", pattern="(?P<patient>P[0-9])")
    >>> part_of("masses/train_png/P1.png", source)
    'training'
    """
    inside = name if settings.path == "." else name.removeprefix(f"{settings.path}/")
    for key in ("pattern", "image", "series"):
        pattern = getattr(settings, key, None)
        if isinstance(pattern, re.Pattern) and "part" in pattern.groupindex:
            found = pattern.search(inside)
            return (found and found.group("part")) or ""
    for folder in reversed(PurePosixPath(inside).parts[:-1]):
        if found := _PART.search(folder):
            return found.lastgroup or ""
    return ""


def digest_of_slice(volume: Volume, at: int) -> str:
    """Digest of the decoded voxels of slice ``at`` along the third axis."""
    voxels = volume.read((slice(None), slice(None), slice(at, at + 1)))
    return hashlib.sha256(voxels.tobytes()).hexdigest()


def digest_of_volume(volume: Volume) -> str:
    """Digest of all decoded voxels, one slice at a time."""
    digests = (digest_of_slice(volume, at) for at in range(volume.geometry.shape[2]))
    return hashlib.sha256("".join(digests).encode()).hexdigest()
