"""The protocol of Frid-Adar et al. [1]_: first how much classical augmentation, then how much GAN.

They sort liver lesions of three classes, 64 x 64, with three folds by patient, and fill the
training set in two stages. First each real patch stands beside more and more altered copies of
itself; then, with the best number of copies, beside more and more synthetic patches. Their table
gives sensitivity and specificity, means over the classes, of the best of either stage.

Three things differ here, all against us. Both doses are chosen on the tuning part of each fold,
where they chose on the folds that they report. The generator is trained on the training part of
the fold. And every row has several seeds.

.. [1] Frid-Adar et al. 2018, doi:10.1016/j.neucom.2018.09.013
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medaug.domain import (
    Candidates,
    PatchSet,
    PatientKey,
    PatientSplit,
    Release,
    Sealed,
    Window,
    digest_of,
)
from medaug.evaluation.bench import Bench, Job, Table, fold_scores
from medaug.evaluation.classical import ON_UNKNOWN, Limits, augment, draw
from medaug.evaluation.comparison import Comparison
from medaug.evaluation.devices import device_of
from medaug.evaluation.diet import Diet
from medaug.evaluation.doses import best
from medaug.evaluation.fold_scores import FoldScores
from medaug.evaluation.judging import judge
from medaug.evaluation.nested import refuse_splits
from medaug.evaluation.pace import Pace
from medaug.evaluation.policies import ARMS
from medaug.evaluation.refits import Refit, refuse_unfit, wanted_for
from medaug.evaluation.settings import ClassifierName, EvaluationSettings
from medaug.evaluation.statistics import Floats, Interval, macro_auc
from medaug.evaluation.training import Scores
from medaug.evaluation.uncertainty import patient_weights
from medaug.progress import Progress, Silent

CLASSIFIER: ClassifierName = "frid-adar-2018"
CLASSICAL, SYNTHETIC = "classical", "classical+synthetic"
PAPER = {CLASSICAL: (78.6, 88.4), SYNTHETIC: (85.7, 92.4)}
"""Their sensitivity and specificity in per cent: 182 lesions, best number of each stage."""
COPIES = (0, 1, 2, 5, 10, 20)
"""Altered copies beside each real patch."""


@dataclass(frozen=True)
class Chosen:
    """Doses of a fold, each with the macro AUC that it reached on the tuning part."""

    fold: int
    copies: dict[float, float]
    synthetic: dict[float, float]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "fold": self.fold,
            "copies": {f"{dose:g}": at for dose, at in self.copies.items()},
            "chosen_copies": best(self.copies),
            "synthetic": {f"{dose:g}": at for dose, at in self.synthetic.items()},
            "chosen_synthetic": best(self.synthetic),
        }


def sweep(
    patches: PatchSet,
    splits: Sequence[PatientSplit],
    refit: Refit,
    settings: EvaluationSettings,
    window: Window,
    seed: int,
    folder: Path,
    phantom: bool,
    progress: Progress | None = None,
    synthetic: Sequence[Release | Candidates] = (),
) -> dict[str, Any]:
    """Both sweeps in every fold; what stands under ``folds`` in ``evaluation.json``.

    Args:
        patches: of the whole cohort.
        splits: the folds.
        refit: trains a generator inside a fold.
        settings: ``doses`` are those of the second sweep.
        window: intensities → [-1, 1].
        seed: of everything random.
        folder: keeps generators and scores; a later call goes on from there.
        phantom: whether the patients are phantoms, for the label.
        progress: is told fold, arm, seed and time left.
        synthetic: patches known to be synthetic; none may judge.

    Raises:
        LeakageError: as in `nested.cross_validate`.
        CohortError: as there.
    """
    refuse_splits(patches, splits)
    trainings = len(COPIES) + len(settings.doses) - 1 + 2 * settings.seeds
    steps = trainings * settings.steps
    pace = Pace(progress or Silent(), len(splits), len(splits) * steps)
    bench = Bench(settings, seed, device_of(settings), folder, pace)
    scores: dict[tuple[str, str], list[FoldScores]] = {}
    chosen = []
    for number, split in enumerate(splits):
        training, tuning = split.part(patches, "training"), split.part(patches, "tuning")
        sealed = Sealed(split.part(patches, "test"))
        wanted = wanted_for(training, settings.doses[-1])
        own_seed = int(digest_of("refit", seed, number, 1.0)[:7], 16)
        with pace.generator():
            made = refit(
                training, tuning, own_seed, folder / f"fold_{number}" / "generator_100", wanted
            )
        refuse_unfit(made, training, tuning, wanted)
        pace.start(f"fold {number + 1} of {len(splits)}: classifiers", steps)
        table = Table.laid(training, tuning, made.candidates, window)
        filling = _Filling.of(bench, number, table)
        choice = filling.choose(table)
        chosen.append(choice)
        held = sealed.open((made.record,), {*training.patients, *tuning.patients})
        for known in (made.candidates, *synthetic):
            held.refuse_images(known)
        judged = table.judged_by([held.patches], window)
        copies = int(best(choice.copies))
        for name, dose in ((CLASSICAL, 0.0), (SYNTHETIC, best(choice.synthetic))):
            for run in range(settings.seeds):
                job, found = filling.train(judged, copies, dose, run, "test")
                scores.setdefault((CLASSIFIER, name), []).extend(fold_scores(job, judged, found))
    return _document(scores, chosen, patches, settings, seed, phantom)


@dataclass(frozen=True, eq=False)
class _Filling:
    """What the training sets of one fold are filled with.

    Attributes:
        bench: trains.
        fold: its number.
        altered: one copy of every real patch in each.
    """

    bench: Bench
    fold: int
    altered: Sequence[Tensor]

    @classmethod
    def of(cls, bench: Bench, fold: int, table: Table) -> _Filling:
        """Draw every copy that there may be."""
        seed = int(digest_of("copies", bench.seed, fold)[:15], 16)
        generator = torch.Generator().manual_seed(seed)
        return cls(
            bench,
            fold,
            [
                altered_once(table.diet.real, generator, table.diet.limits)
                for _ in range(COPIES[-1])
            ],
        )

    def choose(self, table: Table) -> Chosen:
        """First the copies alone, then the dose beside the best number of copies."""
        labels = table.tuning.labels
        copies = {
            float(count): macro_auc(self.train(table, count, 0.0, 0, "choice")[1].tuning, labels)
            for count in COPIES
        }
        kept = best(copies)
        synthetic = {
            dose: macro_auc(self.train(table, int(kept), dose, 0, "choice")[1].tuning, labels)
            if dose
            else copies[kept]
            for dose in self.bench.settings.doses
        }
        return Chosen(self.fold, copies, synthetic)

    def train(
        self, table: Table, copies: int, dose: float, run: int, purpose: str
    ) -> tuple[Job, Scores]:
        """One training with so many copies and synthetic patches beside each real one."""
        arm = next(each for each in ARMS if each.name == ("real+gan" if dose else "real"))
        if dose:
            # Copies count as real ones there.
            arm = arm.at(dose / (1 + copies))
        job = Job(self.fold, CLASSIFIER, arm, purpose, run)
        return job, self.bench.train(
            job, table, self._filled(table.diet, copies), ("copies", copies, "dose", dose)
        )

    def _filled(self, diet: Diet, copies: int) -> Diet:
        """With so many copies; every real patch of a class has the same chance."""
        return replace(
            diet,
            real=torch.cat([diet.real, *self.altered[:copies]]),
            labels=diet.labels.repeat(1 + copies),
        )


def altered_once(images: Tensor, generator: torch.Generator, limits: Limits = ON_UNKNOWN) -> Tensor:
    """Every patch once, flipped, turned, zoomed, shifted and so on at random."""
    return augment(images, draw(images.shape, generator, limits))


def rates(runs: Sequence[FoldScores], weights: Floats, number: dict[PatientKey, int]) -> Floats:
    """(replicate, 2): sensitivity and specificity, means over classes, then over seeds.

    As in the paper a patch is given the class with the largest probability, and the confusion
    matrix holds the patches of all folds.

    Args:
        runs: of one row of the table.
        weights: (replicate, patient).
        number: of each patient, his column.
    """
    of_seeds = []
    for seed in sorted({run.seed for run in runs}):
        mine = [run.test for run in runs if run.seed == seed]
        given = np.concatenate([test.probabilities.argmax(axis=1) for test in mine])
        truth = np.concatenate([test.labels for test in mine])
        columns = [number[key] for test in mine for key in test.patients]
        own = weights[:, columns]
        hit, spared = [], []
        for at in range(mine[0].probabilities.shape[1]):
            here: NDArray[np.bool_] = truth == at
            hit.append(own @ ((given == at) & here) / (own @ here))
            spared.append(own @ ((given != at) & ~here) / (own @ ~here))
        of_seeds.append(np.stack([np.mean(hit, axis=0), np.mean(spared, axis=0)], axis=1))
    return np.asarray(np.mean(of_seeds, axis=0))


def _document(
    scores: dict[tuple[str, str], list[FoldScores]],
    chosen: Sequence[Chosen],
    patches: PatchSet,
    settings: EvaluationSettings,
    seed: int,
    phantom: bool,
) -> dict[str, Any]:
    rng = np.random.default_rng(int(digest_of("table", seed)[:15], 16))
    number = {key: at for at, key in enumerate(patches.patient_order)}
    weights = patient_weights(patches.patient_index, patches.labels, settings.bootstrap, rng)
    rows = []
    for (_, name), runs in scores.items():
        drawn = rates(runs, weights, number)
        tail = (1 - settings.confidence) / 2
        low, high = np.quantile(drawn[1:], [tail, 1 - tail], axis=0)
        figures = [
            Interval(*map(float, each)).document()
            for each in zip(drawn[0], low, high, strict=False)
        ]
        paper = dict(zip(("sensitivity", "specificity"), PAPER[name], strict=True))
        ours = dict(zip(("sensitivity", "specificity"), figures, strict=True))
        rows.append({"row": name, "paper_percent": paper, "ours": ours})
    pair = (SYNTHETIC, CLASSICAL)
    judged = judge(scores, patches.classes, settings.bootstrap, settings.confidence, rng, (pair,))
    return {
        "folds": len(chosen),
        "seeds": list(range(settings.seeds)),
        "quick": settings.quick,
        "test": {"patients": len(patches.patient_order), "patches": len(patches)},
        "table": {
            "phantom": phantom,
            "label": "phantom patients" if phantom else "the cohort of this run",
            "rows": rows,
        },
        "choices": [each.document() for each in chosen],
        "comparisons": [each.document() for each in judged.comparisons],
        "verdict": _verdict(judged.comparisons[0], patches, chosen, settings, phantom),
        "protocol": _sentences(settings, phantom),
        "caveats": ["Quick: fewer seeds, steps, folds and doses, and generators trained for less."]
        if settings.quick
        else [],
    }


def _verdict(
    found: Comparison,
    patches: PatchSet,
    chosen: Sequence[Chosen],
    settings: EvaluationSettings,
    phantom: bool,
) -> dict[str, str]:
    if not any(best(each.synthetic) for each in chosen):
        sentence = (
            "No evidence that synthetic patches help beside the best number of classical copies: "
            "in every fold the tuning part chose none of them, and the rows are the same trainings."
        )
        return {"word": "no evidence", "sentence": sentence}
    opening = {
        "helps": "Synthetic patches help beside the best number of classical copies",
        "hurts": "Synthetic patches hurt beside the best number of classical copies",
        "no evidence": "No evidence that synthetic patches help beside the best number of "
        "classical copies",
    }[found.verdict]
    value, low, high = (
        f"{100 * each:+.1f}".replace("-", "−")
        for each in (found.difference.value, found.difference.low, found.difference.high)
    )
    patients = f"{len(patches.patient_order)} {'phantom ' if phantom else ''}patients"
    sentence = (
        f"{opening}: the macro AUC changed by {value} points ({100 * settings.confidence:g} % "
        f"interval {low} to {high}, p = {found.p_holm:.3f}; {settings.seeds} seeds x {len(chosen)} "
        f"folds, {patients})"
    )
    if found.verdict == "no evidence":
        sentence += f"; {found.detectable}"
    return {"word": found.verdict, "sentence": sentence + "."}


def _sentences(settings: EvaluationSettings, phantom: bool) -> list[str]:
    who = "phantom patients, drawn by a program" if phantom else "the patients of this run"
    return [
        (
            f"Ours is of {who}; theirs is of 182 lesions of patients: the rows stand side by side "
            "to compare protocols, not scores."
        ),
        (
            "Copies beside each real patch, of "
            f"{', '.join(map(str, COPIES))}, and then synthetic patches beside each real patch, of "
            f"{', '.join(f'{dose:g}' for dose in settings.doses)}, were chosen on the tuning part "
            "of each fold by the macro AUC of one training each; the paper chose on the folds that "
            "it reports."
        ),
        (
            "Sensitivity and specificity are means over the classes; a patch is given its most "
            "probable class, and the patches of all folds make one table. Intervals are "
            "percentiles over resampled patients; they do not hold the luck of trainings, as the "
            "verdict's does."
        ),
    ]
