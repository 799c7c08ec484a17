"""What can go wrong, named by what the caller can do about it.

::

    MedaugError                 exit 1   a fault of medaug itself
    ├── InputError              exit 2   the user's files or settings; lists every fault found
    │   ├── ReaderError                  a file cannot be used
    │   ├── SettingsError                a pipeline file or an option is wrong
    │   ├── CohortError                  the patients do not suffice for what was asked
    │   ├── RunFolderError               the output folder cannot take this run
    │   └── LeakageError                 training data would be used to judge
    └── DisclosureError         exit 3   the gate refused; a valid outcome, with reasons

>>> fault = Fault("pipeline.yaml: generator.widht", "unknown key", "width", "rename it to width")
>>> print(SettingsError(fault))
pipeline.yaml: generator.widht: unknown key
    allowed: width
    to do:   rename it to width
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, what came, what is allowed, what to do."""

    where: str
    came: str
    allowed: str = ""
    action: str = ""

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.came}" if self.where else self.came]
        if self.allowed:
            lines.append(f"    allowed: {self.allowed}")
        if self.action:
            lines.append(f"    to do:   {self.action}")
        return "\n".join(lines)


class MedaugError(Exception):
    """The root; raised as such only for faults of medaug itself."""

    exit_code = 1


class InputError(MedaugError):
    """The user's files or settings are wrong. Carries every fault, not the first."""

    exit_code = 2

    def __init__(self, *faults: Fault) -> None:
        if not faults:
            raise ValueError("an InputError names at least one Fault")
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


class ReaderError(InputError):
    """A file or a series cannot be used."""


class SettingsError(InputError):
    """A pipeline file or an option is wrong."""


class CohortError(InputError):
    """The patients do not suffice for what was asked."""


class RunFolderError(InputError):
    """The output folder cannot take this run."""


class LeakageError(InputError):
    """Data that a model was trained on would be used to judge it."""


class DisclosureError(MedaugError):
    """The gate said no. ``reasons`` are sentences for the person who asked."""

    exit_code = 3

    def __init__(self, *reasons: str) -> None:
        if not reasons:
            raise ValueError("a DisclosureError names at least one reason")
        self.reasons = reasons
        super().__init__("\n".join(reasons))
