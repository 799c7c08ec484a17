"""From examined cases to the inventory: contradictions refused, every file accounted for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medaug.errors import ReaderError
from medaug.readers.conflicts import (
    Conflict,
    Likeness,
    digest_of_volume,
    find_conflicts,
    part_of,
)
from medaug.readers.examine import Examined
from medaug.readers.files import Refusal
from medaug.readers.found import CaseFiles, Found, PatientsFound
from medaug.readers.inventory import (
    CaseEntry,
    ConflictRow,
    Inventory,
    fates_of_files,
    group_refusals,
)
from medaug.readers.patients import rule_in_words
from medaug.readers.settings import SourceSettings

_NO_PATIENTS = (
    "{} pictures carry no patient identity: each counts as a patient of its own, and no statement "
    "about patients can be made"
)
_MAYBE_TEXT = (
    "{} series or picture(s) may show text near an edge, the first {}: look before any is used "
    "(`maybe_text` in --json names them)"
)
_UNMARKED = (
    "no lesion can be used: put what marks them (DICOM SEG, RTSTRUCT or SR, label maps, tables) "
    "below the same folder, or say in a pipeline file which files are masks; see `lesions` (DICOM) "
    "and `labels` (other volumes)"
)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A case that a reader found, and the source it lies in."""

    settings: SourceSettings
    files: CaseFiles


def candidates_of(sources: Sequence[tuple[SourceSettings, Found]]) -> list[Candidate]:
    """All cases of all sources, sorted by their first file."""
    every = (Candidate(settings, files) for settings, found in sources for files in found.cases)
    return sorted(every, key=lambda one: one.files.name)


def take_stock(
    sources: Sequence[tuple[SourceSettings, Found]],
    candidates: Sequence[Candidate],
    examined: Sequence[Examined],
    refusals: Sequence[Refusal],
    sizes: Mapping[str, int],
) -> tuple[list[CaseFiles], Inventory]:
    """The cases that can be used, and the inventory of all files.

    Args:
        sources: the settings, and what the readers found.
        candidates: see `candidates_of`.
        examined: what was kept of each.
        refusals: of files that no reader was given.
        sizes: bytes of every file, by its path relative to the data root.
    """
    opened = [at for at, one in enumerate(examined) if one.entry is not None]
    conflicts = _conflicts(sources, candidates, examined, opened, sizes)
    against, rows = _judge(conflicts, candidates)
    refusals = [
        *refusals,
        *(refusal for _, found in sources for refusal in found.refused),
        *(refusal for one in examined for refusal in one.refused),
    ]
    usable: list[CaseFiles] = []
    entries: list[CaseEntry] = []
    cases_of: dict[str, list[str]] = {name: [] for _, found in sources for name in found.used}
    for at in opened:
        files, entry = candidates[at].files, examined[at].entry
        contributing = set(files.files) - {refusal.name for refusal in examined[at].refused}
        if at in against:
            refusals += [Refusal(name, against[at]) for name in sorted(contributing)]
        elif entry is not None:
            usable.append(files)
            entries.append(entry)
            for name in contributing:
                cases_of.setdefault(name, []).append(entry.case)
    final = _one_reason_each(refusals, cases_of)
    unknown = sum(not files.patient_known for files in usable)
    inventory = Inventory(
        cases=tuple(entries),
        refused=group_refusals(final),
        notes=tuple(_notes(sources, examined, usable, entries, unknown)),
        patients_known=not unknown,
        files_seen=len(sizes),
        files_used=len(cases_of),
        patients=_patients(sources, candidates, examined, opened),
        conflicts=rows,
        fates=fates_of_files(sizes, cases_of, {one.name: one.reason for one in final}),
    )
    return usable, inventory


def _conflicts(
    sources: Sequence[tuple[SourceSettings, Found]],
    candidates: Sequence[Candidate],
    examined: Sequence[Examined],
    opened: Sequence[int],
    sizes: Mapping[str, int],
) -> list[Conflict]:
    """Conflicts among the opened cases; their positions are those of the candidates."""
    likenesses: list[Likeness] = []
    for at in opened:
        likeness = examined[at].likeness
        if likeness is None:
            raise ValueError("a case that was opened has a likeness")
        likenesses.append(likeness)

    def whole(position: int) -> str:
        case = candidates[opened[position]].files.open().case
        try:
            return digest_of_volume(case.volume) if case is not None else ""
        except ReaderError:
            return ""  # it will be refused with its reason when it is read

    found = find_conflicts(
        likenesses,
        [part_of(candidates[at].files.name, candidates[at].settings) for at in opened],
        sizes,
        [pair for _, one in sources for pair in one.twins],
        whole,
    )
    return [replace(one, cases=tuple(opened[at] for at in one.cases)) for one in found]


def _judge(
    conflicts: Sequence[Conflict], candidates: Sequence[Candidate]
) -> tuple[dict[int, str], tuple[ConflictRow, ...]]:
    """The reason against each case in a conflict that a source of it does not allow."""
    against: dict[int, str] = {}
    rows = []
    names = [candidate.files.name for candidate in candidates]
    for one in conflicts:
        allowed = all(one.kind in candidates[at].settings.allow for at in one.cases)
        rows.append(ConflictRow(one.kind, tuple(names[at] for at in one.cases), allowed))
        if not allowed:
            for at in one.cases:
                against.setdefault(at, one.reason(at, names))
    return against, tuple(rows)


def _one_reason_each(refusals: Sequence[Refusal], used: Mapping[str, object]) -> list[Refusal]:
    """One reason per file that no source uses; a stray's reason gives way to any other."""
    reasons: dict[str, Refusal] = {}
    for refusal in sorted(refusals, key=lambda refusal: refusal.stray):
        if refusal.name not in used:
            reasons.setdefault(refusal.name, refusal)
    return list(reasons.values())


def _notes(
    sources: Sequence[tuple[SourceSettings, Found]],
    examined: Sequence[Examined],
    usable: Sequence[CaseFiles],
    entries: Sequence[CaseEntry],
    unknown: int,
) -> list[str]:
    notes = []
    if not usable:
        notes.append(_UNMARKED)
    if unknown:
        notes.append(_NO_PATIENTS.format(unknown))
    printed = [files.name for files, entry in zip(usable, entries, strict=True) if entry.maybe_text]
    if printed:
        notes.append(_MAYBE_TEXT.format(len(printed), printed[0]))
    oddities = sum((found.oddities for _, found in sources), Counter[str]())
    for one in examined:
        oddities.update(one.oddities)
    return [*notes, *(f"{count} file(s) {what}" for what, count in sorted(oddities.items()))]


def _patients(
    sources: Sequence[tuple[SourceSettings, Found]],
    candidates: Sequence[Candidate],
    examined: Sequence[Examined],
    opened: Sequence[int],
) -> tuple[PatientsFound, ...]:
    """What tells patients apart in each source, and how many that gives."""
    tokens: dict[int, set[str]] = defaultdict(set)
    for at in opened:
        entry = examined[at].entry
        if entry is not None:
            tokens[id(candidates[at].settings)].add(entry.patient)
    return tuple(
        found.patients
        or PatientsFound(
            settings.path, rule_in_words(settings), len(tokens[id(settings)]), found.unnamed
        )
        for settings, found in sources
    )
