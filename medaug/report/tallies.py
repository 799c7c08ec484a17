"""Long lists summed up for reading: cases of one kind, files with one reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

EXAMPLES = 3


@dataclass(frozen=True)
class Reason:
    """Why something was left out, how often, and a few examples."""

    text: str
    count: int
    examples: tuple[str, ...]
    more: int


@dataclass(frozen=True)
class Kind:
    """Cases from one source with one modality and unit; ``spacing`` in mm from least to most."""

    source: str
    modality: str
    unit: str
    cases: int
    files: int
    lesions: int
    spacing: tuple[float, float] | None


def kinds_of(cases: Iterable[Mapping[str, Any]]) -> list[Kind]:
    """The cases of ``inventory.json`` by source, modality and unit."""
    groups = defaultdict(list)
    for case in cases:
        groups[case["source"], case["modality"], case["unit"]].append(case)
    return [
        Kind(
            *key,
            cases=len(group),
            files=sum(case["files"] for case in group),
            lesions=sum(len(case["lesions"]) for case in group),
            spacing=_range(case["spacing_mm"] for case in group),
        )
        for key, group in sorted(groups.items())
    ]


def refusals_of(refused: Iterable[Mapping[str, Any]]) -> list[Reason]:
    """The refused files by reason, counted in files, the most frequent first."""
    return _by_reason(refused, lambda entry: entry["path"], lambda entry: entry["files"])


def skips_of(skipped: Iterable[Mapping[str, Any]]) -> list[Reason]:
    """The skipped lesions by reason, counted in lesions, the most frequent first."""
    return _by_reason(
        skipped, lambda entry: f"{entry['label']} in case {entry['case'][:8]}", lambda _: 1
    )


def _by_reason(
    entries: Iterable[Mapping[str, Any]],
    name: Callable[[Mapping[str, Any]], str],
    size: Callable[[Mapping[str, Any]], int],
) -> list[Reason]:
    groups = defaultdict(list)
    for entry in entries:
        groups[entry["reason"]].append(entry)
    reasons = [
        Reason(
            text,
            sum(map(size, group)),
            tuple(map(name, group[:EXAMPLES])),
            len(group) - len(group[:EXAMPLES]),
        )
        for text, group in groups.items()
    ]
    return sorted(reasons, key=lambda reason: (-reason.count, reason.text))


def _range(spacings: Iterable[list[float] | None]) -> tuple[float, float] | None:
    known = [edge for spacing in spacings if spacing for edge in spacing]
    return (min(known), max(known)) if known else None
