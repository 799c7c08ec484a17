"""What every reader hands to `source.scan`: cases that can be opened, and files it refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, Protocol

from medaug.domain import Case
from medaug.readers.files import Refusal

Kind = Literal["dicom", "nifti", "images"]


@dataclass(frozen=True, eq=False)
class Opened:
    """A case with its masks read, or None and the reasons in ``refused``."""

    case: Case | None
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()


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


@dataclass(eq=False)
class Found:
    """What one reader found in its source."""

    cases: list[CaseFiles] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    oddities: Counter[str] = field(default_factory=Counter)
