"""Where the classifiers of a cross-validation are trained, one at a time, and kept.

What is scored in a fold is a row of real patch sets: the test part first, external sets after it.
A classifier that is trained to choose something scores the tuning part and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medaug.domain import Candidates, PatchSet, PatientKey, Window, digest_of
from medaug.evaluation.diet import Diet
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.pace import Pace
from medaug.evaluation.policies import Arm
from medaug.evaluation.scores import ScoreStore, recipe_of
from medaug.evaluation.settings import ClassifierName, EvaluationSettings
from medaug.evaluation.training import Scores, train_and_score

RECIPE = 1
"""Part of every stored score's digest; raise it when a training would come out otherwise."""


@dataclass(frozen=True)
class External:
    """Patches of another site or scanner, of patients of its own; ``name`` is for the report."""

    name: str
    patches: PatchSet


@dataclass(frozen=True, eq=False)
class Table:
    """What the classifiers of a fold are fed, and what that came from.

    Attributes:
        diet: every patch as a tensor on [-1, 1].
        tuning: the tuning part.
        patients: how many train.
        scored: what is scored; empty as long as something is chosen.
        digests: of all of it.
    """

    diet: Diet
    tuning: PatchSet
    patients: int
    scored: tuple[PatchSet, ...]
    digests: tuple[Any, ...]

    @classmethod
    def laid(
        cls, training: PatchSet, tuning: PatchSet, candidates: Candidates, window: Window
    ) -> Table:
        """Without anything to score: for choosing."""
        diet = Diet.laid(training, tuning, tuning.select([]), candidates, window)
        digests = (training.digest, tuning.digest, candidates.digest, asdict(window))
        return cls(diet, tuning, len(training.patient_order), (), digests)

    def judged_by(self, scored: Sequence[PatchSet], window: Window) -> Table:
        """The same with what is to be scored, now that everything is chosen."""
        signed = [window.to_signed(patches.images) for patches in scored]
        test = torch.from_numpy(np.concatenate(signed))
        digests = (*self.digests, [patches.digest for patches in scored])
        diet = replace(self.diet, test=test)
        return Table(diet, self.tuning, self.patients, tuple(scored), digests)


@dataclass(frozen=True)
class Job:
    """One training: its fold, classifier and arm, what it is for, and its seed's number."""

    fold: int
    classifier: ClassifierName
    arm: Arm
    purpose: str
    run: int


@dataclass(frozen=True, eq=False)
class Bench:
    """Trains, keeps, and tells how far it is.

    Attributes:
        settings: of the cross-validation.
        seed: of everything random.
        device: where.
        folder: keeps the scores of finished trainings; None keeps nothing.
        pace: is told.
    """

    settings: EvaluationSettings
    seed: int
    device: torch.device
    folder: Path | None
    pace: Pace

    def train(
        self,
        job: Job,
        table: Table,
        diet: Diet,
        dealt: Sequence[Any] = (),
    ) -> Scores:
        """Scores of one training, from the store if they are there.

        Args:
            job: which.
            table: what the diet was taken from, for its digest.
            diet: what is fed.
            dealt: what else was chosen, such as the dose, for the name.
        """
        settings = self.settings
        name = f"{job.purpose}_{job.classifier}_{job.arm.name}_{job.run}"
        # Not of the dose: all doses of a fold begin from the same weights.
        own = [self.seed, job.fold, job.classifier, job.arm.name, job.run]
        own_seed = int(digest_of("fold", *own)[:15], 16)
        if dealt:
            name += "_" + "_".join(map(str, dealt))
        policy = job.arm.policy(settings.dose_of(diet.names))
        recipe = recipe_of(job.classifier, policy, diet, settings)
        what = [RECIPE, torch.__version__, self.device.type, name, list(dealt), own_seed]
        note = f"fold {job.fold + 1}, {job.classifier}, {job.arm.name}"
        note += f", {' '.join(map(str, dealt))}" if dealt else ""
        note += f", seed {job.run + 1}"
        store = ScoreStore(None if self.folder is None else self.folder / f"fold_{job.fold}")
        scores, worked = store.once(
            name,
            digest_of(*table.digests, recipe, what),
            partial(
                train_and_score,
                job.classifier,
                job.arm,
                diet,
                settings,
                own_seed,
                self.device,
                partial(self.pace.advance, note=note),
            ),
        )
        if not worked:
            self.pace.advance(settings.steps, note, worked=False)
        return scores


def fold_scores(job: Job, table: Table, scores: Scores) -> tuple[FoldScores, ...]:
    """One for each set that was scored, in their order."""
    ends = np.cumsum([len(patches) for patches in table.scored])
    tuning = _scored(scores.tuning, table.tuning)
    return tuple(
        FoldScores(job.fold, job.run, _scored(part, patches), tuning)
        for part, patches in zip(np.split(scores.test, ends[:-1]), table.scored, strict=True)
    )


def _scored(probabilities: NDArray[np.float64], patches: PatchSet) -> Scored:
    patients: tuple[PatientKey, ...] = tuple(patches.patients)
    return Scored(probabilities.astype(np.float32), patches.labels, patients)
