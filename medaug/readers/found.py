"""What every reader hands to `source.scan`: cases that can be opened, and files it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from medaug.domain import Case
from medaug.readers.files import Refusal

UNMARKED = "no lesion is marked in it"
OFF_GRID = "it lies on another grid than the image"
GRID_MM = 0.05
"""A mask lies on an image's grid when their voxels agree within this."""

Kind = Literal["dicom", "volumes", "images"]


@dataclass(frozen=True, eq=False)
class Opened:
    """A case with its masks read, or None and the reasons in ``refused``."""

    case: Case | None
    refused: tuple[Refusal, ...] = ()
    oddities: Mapping[str, int] = field(default_factory=dict)


class CaseFiles(Protocol):
    """The files of one case. Small: it stands for the case while others are read."""

    @property
    def kind(self) -> Kind:
        """Which reader made it."""

    @property
    def name(self) -> str:
        """Path of its first file relative to the data root; cases are sorted by it."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file it needs, relative to the data root."""

    @property
    def patient_known(self) -> bool:
        """False where the source does not tell patients apart."""

    def open(self) -> Opened:
        """Read the masks; leave the voxels of the volume to `Volume.read`."""


@dataclass(frozen=True)
class PatientsFound:
    """What the rule of one source makes of its files; counts, no identity.

    Attributes:
        source: its path.
        rule: what tells patients apart, in words.
        patients: how many it gives.
        without: files that it gives to nobody; they are not used.
        remarks: reasons to doubt it, as sentences.
    """

    source: str
    rule: str
    patients: int
    without: int
    remarks: tuple[str, ...] = ()


@dataclass(eq=False)
class Found:
    """What one reader found in its source.

    Attributes:
        cases: what can be opened.
        refused: files that cannot be used.
        used: files that are used and belong to no case, such as label tables.
        oddities: how many files each remark is true of; it follows the words "N file(s)".
        patients: what the rule for patients gave; None where the paths of the cases say it all.
        twins: pairs of files that hold one image (by its SOP Instance UID) under two patients.
        unnamed: files that are not used because nothing names their patient.
    """

    cases: list[CaseFiles] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    oddities: Counter[str] = field(default_factory=Counter)
    patients: PatientsFound | None = None
    twins: Sequence[tuple[str, str]] = ()
    unnamed: int = 0
