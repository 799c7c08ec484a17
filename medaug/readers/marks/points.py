"""Lines of text tables as marks on DICOM series, found by Series Instance UID or by path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medaug.errors import Fault, ReaderError
from medaug.readers.dicom.stack import Stack
from medaug.readers.files import SourceFile
from medaug.readers.marks.mark import Drawn, Mark
from medaug.readers.points import PointsOn, in_one_sentence, read_points
from medaug.readers.rules import Per, PointsRule
from medaug.readers.settings import DicomSource


@dataclass(frozen=True, eq=False, repr=False)
class PointsMark:
    """What the tables of one rule say of one series.

    Attributes:
        names: the tables.
        image: what they call the series.
        points: the lines.
    """

    names: tuple[str, ...]
    image: str
    points: PointsOn
    patient: str = ""
    per: Per = "segment"

    def where(self, stacks: list[Stack]) -> list[Stack] | str:
        """The volumes of the series; of several, those that hold every point."""
        own = [stack for stack in stacks if self._is(stack)]
        if not own:
            return "lines of series that are not among the files that can be used"
        return [stack for stack in own if not self._outside(stack)] or own

    def read(self, stack: Stack, remarks: Counter[str]) -> list[Drawn]:  # noqa: ARG002  a Mark's
        """The boxes of the lines.

        Raises:
            ReaderError: if a point lies outside of the volume; it names every such line.
        """
        if reason := self._outside(stack):
            raise ReaderError(Fault(self.names[0], reason, action="check `space` and the columns"))
        return [Drawn(marking) for marking in self.points.read(stack.geometry)]

    def _outside(self, stack: Stack) -> str:
        try:
            self.points.read(stack.geometry)
        except ReaderError as error:
            return in_one_sentence(error)
        return ""

    def _is(self, stack: Stack) -> bool:
        if self.points.rule.match == "series":
            return stack.slices[0].series == self.image
        name = self.image.replace("\\", "/").strip("/")
        return all(
            one.file.inside == name or one.file.inside.startswith(f"{name}/")
            for one in stack.slices
        )


def read_point_marks(
    settings: DicomSource, folder: Path, files: Sequence[SourceFile]
) -> list[Mark]:
    """A mark per series that the tables name.

    Raises:
        ReaderError: if a table is wrong, with every fault in it.
    """
    shown = {file.inside: file.name for file in files}
    marks: list[Mark] = []
    for rule in settings.lesions:
        if isinstance(rule, PointsRule):
            names = tuple(shown.get(name, name) for name in rule.files)
            marks += [
                PointsMark(names, image, PointsOn(rule, places))
                for image, places in read_points(rule, folder).items()
            ]
    return marks
