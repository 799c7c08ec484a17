"""Scores of finished trainings, kept so that a stopped evaluation goes on where it was.

One NPZ file per (classifier, arm, seed), each with a digest of everything that its training
read. A file with another digest counts as absent. An arm without synthetic patches does not
depend on the release, so a new release retrains only the arms that see it.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medaug.atomic import replacing
from medaug.evaluation.training import Scores


@dataclass(frozen=True)
class ScoreStore:
    """A folder of scores, or nothing at all when ``folder`` is None."""

    folder: Path | None

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
