"""The stations in order: what each reads, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medaug.road.cutting import extract
from medaug.road.dealing import split
from medaug.road.judging import evaluate
from medaug.road.releasing import release
from medaug.road.run import Run
from medaug.road.training import train


@dataclass(frozen=True)
class Station:
    """One stop: the settings it reads, the artefacts it leaves, and its work."""

    name: str
    reads: tuple[str, ...]
    leaves: tuple[str, ...]
    work: Callable[[Run], None]


DP = "differential privacy"  # that part of ``privacy`` which decides more than the review
STATIONS = (
    Station(
        "extract",
        ("sources", "patching"),
        ("inventory.json", "patches/patches.h5", "patches/summary.json"),
        extract,
    ),
    Station("split", ("cohort", DP), ("split.json",), split),
    Station("train", ("generator", DP), ("generator/generator.safetensors",), train),
    Station(
        "release",
        ("privacy", "export"),
        ("release/release.json", "review/decision.json"),
        release,
    ),
    Station("evaluate", ("evaluation",), ("evaluation.json",), evaluate),
)
