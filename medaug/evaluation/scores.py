"""Scores of finished trainings, kept so that a stopped evaluation goes on where it was.

One NPZ file per (classifier, arm, seed), each with a digest of everything that its training
read. A file with another digest counts as absent. An arm without synthetic patches does not
depend on the release, so a new release retrains only the arms that see it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug.atomic import replacing
from medaug.evaluation.diet import Diet
from medaug.evaluation.policies import Policy
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.training import Scores
from medaug.evaluation.transfer import begins_from


@dataclass(frozen=True)
class ScoreStore:
    """A folder of scores, or nothing at all when ``folder`` is None."""

    folder: Path | None

    def once(self, name: str, digest: str, work: Callable[[], Scores]) -> tuple[Scores, bool]:
        """The scores of training ``name``, and whether there was ``work`` to do for them."""
        scores = self.load(name, digest)
        if scores is not None:
            return scores, False
        scores = work()
        self.save(name, digest, scores)
        return scores, True

    def load(self, name: str, digest: str) -> Scores | None:
        """The scores of training ``name``, if they are there and were made from ``digest``."""
        if self.folder is None or not (path := self.folder / f"{name}.npz").is_file():
            return None
        try:
            # np.load leaves a file that it cannot read open; this closes it.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["digest"]) != digest:
                    return None
                return Scores(stored["tuning"], stored["test"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            # Damaged from outside: what can be computed again is no reason to stop.
            return None

    def save(self, name: str, digest: str, scores: Scores) -> None:
        """Keep ``scores``, atomically."""
        if self.folder is None:
            return
        with replacing(self.folder / f"{name}.npz") as temporary:
            np.savez(temporary, digest=digest, tuning=scores.tuning, test=scores.test)


def recipe_of(
    classifier: str, policy: Policy, diet: Diet, settings: EvaluationSettings
) -> list[Any]:
    """For digests: what decides a training beside its patches, its seed and the machine."""
    return [
        settings.steps,
        settings.batch,
        settings.learning_rate,
        policy.document(),
        asdict(diet.limits),
        *begins_from(classifier, settings),
    ]
