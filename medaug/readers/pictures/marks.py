"""What marks lesions within a picture: masks beside it, boxes in a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medaug.domain import Geometry
from medaug.errors import Fault, ReaderError
from medaug.readers.files import Refusal, SourceFile, search
from medaug.readers.found import Found
from medaug.readers.lesions import Marking, tight
from medaug.readers.pictures.file import decode_mask
from medaug.readers.points import NOT_HERE, Place, PointsOn, points_of, read_points
from medaug.readers.rules import Per
from medaug.readers.settings import ImagesSource

Key = tuple[str | None, ...]


@dataclass(frozen=True, eq=False, repr=False)
class PictureMarks:
    """The marks of one picture.

    Attributes:
        label: the class of what a mask marks.
        masks: pictures of the same size.
        points: lines of tables.
        per: one lesion per mask, or per component.
    """

    label: str
    masks: tuple[SourceFile, ...]
    points: PointsOn | None
    per: Per

    def read(self, geometry: Geometry) -> list[Marking]:
        """Everything that is marked.

        Raises:
            ReaderError: if a mask is damaged, empty or of another size, or if a box lies outside.
        """
        found = [] if self.points is None else self.points.read(geometry)
        for file in self.masks:
            mask = decode_mask(file)
            if mask.shape != geometry.shape:
                sizes = [f"{shape[0]}x{shape[1]}" for shape in (mask.shape, geometry.shape)]
                came = "a mask of {} pixels, its picture has {}".format(*sizes)
                raise ReaderError(Fault(file.name, came))
            marked = tight(mask)
            if marked is None:
                raise ReaderError(Fault(file.name, "a mask with no lesion: no pixel is marked"))
            found.append(Marking(self.label, f"picture mask\0{file.name}", *marked))
        return found


class MarksOfSource:
    """Masks and boxes of a source, to be given to its pictures one by one.

    Raises:
        ReaderError: if a table of boxes is wrong, with every fault in it.
    """

    def __init__(
        self, settings: ImagesSource, folder: Path, pictures: Sequence[SourceFile]
    ) -> None:
        self._settings = settings
        self._boxes: dict[str, tuple[Place, ...]] = {}
        self._shared: list[str] = []
        self._masks: dict[Key, list[SourceFile]] = defaultdict(list)
        self._named: set[str] = set()
        self._paired: set[Key] = set()
        if settings.boxes is not None:
            self._boxes = read_points(settings.boxes, folder)
        if settings.masks is not None:
            self._shared = sorted(set(settings.pattern.groupindex) & set(settings.masks.groupindex))
            for file in pictures:
                groups = search(settings.masks, file)
                if groups is not None:
                    self._masks[self._key(groups)].append(file)
        self.masks = {file.inside for several in self._masks.values() for file in several}

    def _key(self, groups: Mapping[str, str]) -> Key:
        return tuple(map(groups.get, self._shared))

    def of(
        self, file: SourceFile, groups: Mapping[str, str], label: str
    ) -> tuple[PictureMarks | None, str]:
        """(the marks of a picture, why it has none); neither where the whole is the lesion."""
        settings = self._settings
        if settings.masks is None and settings.boxes is None:
            return None, ""
        points = None
        if settings.boxes is not None:
            keys = _names(settings.boxes.match, file, groups)
            self._named |= set(keys)
            points = points_of(settings.boxes, self._boxes, keys)
        self._paired.add(self._key(groups))
        masks = tuple(self._masks.get(self._key(groups), ()))
        if not masks and points is None:
            return None, "no lesion is marked in it: it has no mask and no box"
        return PictureMarks(label, masks, points, settings.per), ""

    def left(self, found: Found) -> None:
        """Note what belongs to no picture."""
        for key in self._masks.keys() - self._paired:
            found.refused += [Refusal(mask.name, "it has no picture") for mask in self._masks[key]]
        absent = sum(len(lines) for key, lines in self._boxes.items() if key not in self._named)
        if absent:
            found.oddities[NOT_HERE] += absent


def _names(match: str, file: SourceFile, groups: Mapping[str, str]) -> list[str]:
    """What a table may call a picture: without its ending, or with it."""
    if match == "stem":
        return [file.path.stem, file.path.name]
    if match == "path":
        return [file.inside]
    return [groups[match]] if match in groups else []
