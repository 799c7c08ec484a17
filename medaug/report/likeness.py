"""The figures of likeness in plain words, and as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medaug.report.charts import Placing, placing
from medaug.report.numbers import digits_for

Record = Mapping[str, Any]

PAIRS, TOLD_APART = "likeness of pairs", "told apart"

_SHARES = {
    "precision",
    "recall",
    "density",
    "coverage",
    "lesion size, largest gap of shares",
    PAIRS,
}
"""Shown with two decimals everywhere; distances as their intervals ask."""

WORDS = {
    "kernel distance": (
        "Kernel distance (KID)",
        (
            "How far apart the two sets of patches lie, each patch summed up in its features: "
            "about 0 for sets from one source, by chance a little below or above; the lower, the "
            "more alike."
        ),
    ),
    "Fréchet distance": (
        "Fréchet distance",
        (
            "The same question, asked of the averages and the spread of the features alone. It is "
            "above 0 even for sets from one source, and more so for small ones: never compare two "
            "of different sizes."
        ),
    ),
    "Fréchet distance, extrapolated": (
        "Fréchet distance, extrapolated",
        (
            "An estimate of what it would be with endlessly many patches; by chance it may fall "
            "below 0."
        ),
    ),
    "precision": (
        "Precision",
        (
            "The share of synthetic patches that lie where real ones lie. Low: many look like no "
            "real patch."
        ),
    ),
    "recall": (
        "Recall",
        (
            "The share of real patches that lie where synthetic ones lie. Low: looks that real "
            "lesions have are never drawn."
        ),
    ),
    "density": (
        "Density",
        (
            "How many real patches lie around a synthetic one: about 1 for sets from one source, "
            "more where only the commonest look is drawn."
        ),
    ),
    "coverage": (
        "Coverage",
        (
            "The share of real patches with a synthetic one close by. Low: a part of what there is "
            "gets left out."
        ),
    ),
    "intensity distance": (
        "Intensity distance",
        "How far, on average, grey values would have to move to give those of the other set.",
    ),
    "intensity distance in the mask": (
        "Intensity distance in the lesion",
        "The same, of the pixels inside the outlines alone.",
    ),
    "lesion size distance": (
        "Lesion size distance",
        "How far, on average, diameters would have to move to give those of the other set.",
    ),
    "lesion size, largest gap of shares": (
        "Lesion size, largest gap",
        "Over all sizes, the largest difference between the shares of lesions up to that size.",
    ),
    PAIRS: (
        "Likeness of pairs (MS-SSIM)",
        (
            "How alike two patches of one class look, 1 being the same picture. Above the real "
            "pairs: the generator varies too little."
        ),
    ),
    TOLD_APART: (
        "Told apart (two-sample accuracy)",
        (
            "How often a second classifier rightly says which of the patches are synthetic: 0.5 is "
            "guessing, 1 is always right. p is the chance of so good a score if both were alike."
        ),
    ),
}
"""Each figure's name on the page, and what it says."""


@dataclass(frozen=True)
class Row:
    """A figure of a group; its ``difference`` is synthetic minus real."""

    key: str
    unit: str
    synthetic: Record
    baseline: Record
    difference: Record
    digits: int
    place: Placing

    @classmethod
    def of(cls, key: str, unit: str, better: str, figure: Record) -> Row:
        """From a record with the three intervals."""
        synthetic, baseline = figure["synthetic"], figure["baseline"]
        return cls(
            key=key,
            unit=unit,
            synthetic=synthetic,
            baseline=baseline,
            difference=figure["difference"],
            digits=2 if key in _SHARES else digits_for(synthetic, baseline),
            place=placing(synthetic, baseline, better),
        )


@dataclass(frozen=True)
class Table:
    """The figures of one class, or of all together (``label`` None).

    Attributes:
        label: the class.
        patches: on either side of every comparison.
        rows: in the order of the evaluation.
        test: of the classifier that tells them apart; None with too few patients.
        test_baseline: the same for two halves of the real patients.
        place: of the test's accuracy.
        missing: sentences on what was not computed.
    """

    label: str | None
    patches: int
    rows: tuple[Row, ...]
    test: Record | None
    test_baseline: Record | None
    place: Placing | None
    missing: tuple[str, ...]

    @property
    def keys(self) -> set[str]:
        """Of the figures that it shows."""
        return {row.key for row in self.rows} | ({TOLD_APART} if self.test else set())


def tables_of(fidelity: Record) -> list[Table]:
    """A table for each group of ``fidelity`` in ``evaluation.json``; none if it has no figures."""
    return [_table(group) for group in fidelity.get("groups", ())]


def words_for(tables: list[Table]) -> list[tuple[str, str]]:
    """Names and sentences of the figures that some table shows."""
    shown = set[str]().union(*(table.keys for table in tables))
    return [words for key, words in WORDS.items() if key in shown]


def _table(group: Record) -> Table:
    rows = [
        Row.of(figure["name"], figure["unit"], figure["better"], figure)
        for figure in group["figures"]
    ]
    if group["similarity"] is not None:
        rows.append(Row.of(PAIRS, "", "lower", group["similarity"]))
    test, baseline = group["two_sample"], group["two_sample_baseline"]
    place = None
    if test is not None:
        # Without a baseline, guessing takes its place.
        told, base = (
            dict.fromkeys(("value", "low", "high"), accuracy)
            for accuracy in (test["accuracy"], baseline["accuracy"] if baseline else 0.5)
        )
        place = placing(told, base, "lower", least=(0.5, 1.0))
    return Table(
        label=group["label"],
        patches=group["patches"],
        rows=tuple(rows),
        test=test,
        test_baseline=baseline,
        place=place,
        missing=tuple(group["missing"]),
    )
