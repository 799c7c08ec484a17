"""Parts of ``release.json`` that are more than a column of it: events, and the verdict.

What was done to patients' data is one thing, what it costs another: `PrivacyEvent` is the first and
`medaug.domain.PrivacyCost` the second. A reading without noise has no finite cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medaug.domain import PrivacyCost

_LOOK_AT_NO_PATIENT = {"format", "duplicate", "quota"}
"""Checks that see samples alone; every other is taken to read patients' data."""


class Entry(BaseModel):
    """Frozen, nothing besides the fields, and numbers that are numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PrivacyEvent(Entry):
    """One way in which patients' data were read on the way to this release."""

    by: str = Field(description="training, a check by its name, or the evaluation")
    noise: Literal["none", "Gaussian"] = Field(description="none: no finite cost")
    sigma: float | None = Field(None, description="noise of one round, in what one patient changes")
    rate: float | None = Field(None, description="probability of each patient to be in a round")
    rounds: int | None = Field(None, description="how often; null where it was not counted")


class Difference(Entry):
    """What synthetic patches add on top of classical augmentation, with one classifier."""

    classifier: str
    arm: str
    baseline: str
    metric: str
    difference: tuple[float, float, float] = Field(description="estimate, low, high; 0.01: a point")
    p: float = Field(description="corrected for every comparison made (Holm)")
    smallest: float = Field(description="true difference that would have shown with power 0.8")


class Verdict(Entry):
    """Whether the release helps, on test patients of the institution that made it."""

    word: Literal["helps", "no evidence", "hurts"]
    sentence: str
    patients: int | None = Field(description="test patients; null where they are not known")
    patches: int = Field(description="of theirs")
    seeds: int = Field(description="trainings of each arm")
    differences: tuple[Difference, ...]
    caveats: tuple[str, ...] = Field(description="what the figures do not say")


def events_of(
    cost: PrivacyCost | None, checks: Iterable[str], evaluated: bool
) -> tuple[PrivacyEvent, ...]:
    """How patients' data were read.

    >>> [event.by for event in events_of(None, ["format", "copy"], evaluated=True)]
    ['training', 'check copy', 'evaluation']

    Args:
        cost: of differential privacy, if that is claimed: then its rounds were the only reading.
        checks: names of those that were run.
        evaluated: whether a verdict is part of the release.
    """
    if cost is not None:
        return (
            PrivacyEvent(
                by="training",
                noise="Gaussian",
                sigma=cost.sigma,
                rate=cost.rate,
                rounds=cost.rounds,
            ),
        )
    reading = [f"check {name}" for name in checks if name not in _LOOK_AT_NO_PATIENT]
    readers = ["training", *reading, *(["evaluation"] if evaluated else [])]
    return tuple(PrivacyEvent(by=reader, noise="none") for reader in readers)


def verdict_of(evaluation: Mapping[str, Any]) -> Verdict:
    """What of an ``evaluation.json`` may leave: the verdict, the figures it rests on, and caveats.

    Figures are rounded to a tenth of a point, probabilities to three digits; nothing of a single
    patient is among them.
    """
    test = evaluation["test"]
    return Verdict(
        word=evaluation["verdict"]["word"],
        sentence=evaluation["verdict"]["sentence"],
        patients=test["patients"] if test["patients_known"] else None,
        patches=test["patches"],
        seeds=len(evaluation["seeds"]),
        differences=tuple(
            Difference(
                classifier=each["classifier"],
                arm=each["arm"],
                baseline=each["baseline"],
                metric=each["metric"],
                difference=tuple(
                    round(each["difference"][end], 3) for end in ("value", "low", "high")
                ),
                p=round(each["p_holm"], 3),
                smallest=round(each["smallest_difference"], 3),
            )
            for each in evaluation["comparisons"]
            if each["main"]
        ),
        caveats=tuple(evaluation["caveats"]),
    )
