"""Intervals and comparisons of the tasks: figures over replicates of the patients.

Resampling, luck and tests are those of the classification (`uncertainty`). Holm's correction runs
over the comparisons of one task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.evaluation.comparison import MAIN, PAIRS
from medaug.evaluation.statistics import Floats, Interval, holm
from medaug.evaluation.uncertainty import Design, Spread, p_value, patient_weights


def lesion_weights(
    patient_index: NDArray[np.int64],
    labels: NDArray[np.int64],
    replicates: int,
    rng: np.random.Generator,
) -> Floats:
    """How often each lesion stands in each replicate: (1 + replicate, lesion), row 0 all ones."""
    return patient_weights(patient_index, labels, replicates, rng)[:, patient_index]


def interval_of(figures: Floats, confidence: float, rng: np.random.Generator) -> Interval:
    """Of a figure (replicate, seed), row 0 being the cohort."""
    spread = Spread.of(figures, _single(figures))
    return spread.interval(spread.draws(rng), confidence)


def comparisons_of(
    figures: Mapping[str, Floats], metric: str, confidence: float, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Every pair of `PAIRS` whose arms are there, as JSON.

    Args:
        figures: of each arm, (replicate, seed), all on the same replicates.
        metric: what they are.
        confidence: of intervals; verdicts are at 1 - confidence.
        rng: of the training luck.
    """
    pairs = [pair for pair in PAIRS if all(arm in figures for arm in pair)]
    differences = [
        Spread.between(figures[arm], figures[base], _single(figures[arm])) for arm, base in pairs
    ]
    drawn = [difference.draws(rng) for difference in differences]
    plain = [p_value(draws) for draws in drawn]
    alpha = 1 - confidence
    documents = []
    for pair, difference, draws, p, corrected in zip(
        pairs, differences, drawn, plain, holm(plain), strict=True
    ):
        word = "helps" if difference.value > 0 else "hurts"
        documents.append(
            {
                "arm": pair[0],
                "baseline": pair[1],
                "metric": metric,
                "main": pair == MAIN,
                "difference": difference.interval(draws, confidence, least=-1.0).document(),
                "p": p,
                "p_holm": corrected,
                "smallest_difference": difference.smallest_difference(alpha / len(pairs), rng),
                "verdict": word if corrected < alpha else "no evidence",
            }
        )
    return documents


def _single(figures: Floats) -> Design:
    """All seeds share one training set."""
    return Design(np.zeros(figures.shape[1], dtype=np.int64), 0.0)
