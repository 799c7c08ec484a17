"""The whole evaluation: check, train every arm, score, compare, conclude.

The test part is scored once by every training, after its checkpoint was chosen; what may not
judge is refused before anything is trained (`refusals`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medaug.domain import HeldOut, PatchSet, Release, Window, digest_of
from medaug.evaluation.classifiers import refuse_small
from medaug.evaluation.comparison import Comparison, Word, compare, overall
from medaug.evaluation.devices import device_of
from medaug.evaluation.entrants import Entrants, refuse_entrants
from medaug.evaluation.policies import Arm, ArmName
from medaug.evaluation.refusals import refuse_leaks, refuse_misfits
from medaug.evaluation.released import labels_among, lacking, trainable
from medaug.evaluation.scores import ScoreStore
from medaug.evaluation.settings import SANITY_LINES, EvaluationSettings
from medaug.evaluation.statements import caveat_sentences, protocol_sentences, verdict_sentence
from medaug.evaluation.statistics import (
    Interval,
    Replicates,
    Spread,
    decide,
    patient_weights,
    replicate,
)
from medaug.evaluation.training import Diet, Scores, train_and_score
from medaug.evaluation.transfer import read_weights
from medaug.progress import Progress, Silent

RECIPE = 1
"""Part of every stored score's digest; raise it when a training would come out otherwise."""

Trainings = dict[tuple[str, ArmName], list[Scores]]


@dataclass(frozen=True)
class ArmResult:
    """Figures of one arm with one classifier; ``per_class`` maps class to figure to interval."""

    classifier: str
    arm: ArmName
    auc: Interval
    balanced_accuracy: Interval
    per_class: dict[str, dict[str, Interval]]
    per_seed: tuple[float, ...]

    @property
    def figures(self) -> tuple[Interval, ...]:
        """Every interval shown of this arm."""
        by_class = [each for figures in self.per_class.values() for each in figures.values()]
        return (self.auc, self.balanced_accuracy, *by_class)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "arm": self.arm,
            "classifier": self.classifier,
            "auc": self.auc.document(),
            "balanced_accuracy": self.balanced_accuracy.document(),
            "per_class": {
                label: {name: interval.document() for name, interval in figures.items()}
                for label, figures in self.per_class.items()
            },
            "per_seed": list(self.per_seed),
        }


@dataclass(frozen=True)
class Verdict:
    """One of three words, and the sentence that carries its figures."""

    word: Word
    sentence: str


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    ``test`` counts patients and patches; ``left_out`` says why an arm could not be trained;
    ``protocol`` and ``caveats`` are prose.
    """

    test: dict[str, Any]
    settings: EvaluationSettings
    arms: tuple[ArmResult, ...]
    left_out: dict[str, str]
    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    protocol: tuple[str, ...]
    caveats: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds."""
        return {
            "test": self.test,
            "seeds": list(range(self.settings.seeds)),
            "classifiers": list(dict.fromkeys(arm.classifier for arm in self.arms)),
            "steps": self.settings.steps,
            "arms": [arm.document() for arm in self.arms],
            "arms_left_out": self.left_out,
            "comparisons": [comparison.document() for comparison in self.comparisons],
            "verdict": asdict(self.verdict),
            "protocol": list(self.protocol),
            "caveats": list(self.caveats),
        }


def evaluate(
    training: PatchSet,
    tuning: PatchSet,
    test: HeldOut,
    release: Release,
    settings: EvaluationSettings,
    window: Window,
    seed: int,
    progress: Progress | None = None,
    folder: Path | None = None,
    entrants: Entrants | None = None,
) -> Evaluation:
    """Train every classifier on every arm with every seed, and judge on unseen real patients.

    The result is the same for the same arguments on the same machine. It does not depend on
    ``folder`` or on how often the work was stopped.

    Args:
        training: real patches to train on.
        tuning: real patches that choose checkpoints and thresholds.
        test: real patches that judge; its lineage names the generator of ``release``.
        release: the synthetic patches.
        settings: of the trainings and the statistics.
        window: intensities → [-1, 1], the classifiers' input.
        seed: of everything random.
        progress: follows optimiser steps over all trainings.
        folder: keeps the scores of finished trainings; a later call goes on from there.
        entrants: classifiers of the caller's own by name, judged beside those of the settings. What
            they are made of cannot be told, so their scores are not kept.

    Raises:
        LeakageError: if what judges was trained on.
        CohortError: if patches and release do not fit one another or a class lacks patients;
            every fault is named.
        SettingsError: for a device or a weight file that is not there, or an entrant that is no
            classifier.
    """
    refuse_leaks(training, tuning, test, release)
    refuse_misfits(training, tuning, test.patches, release)
    refuse_small(settings, training.images.shape[2:])
    entrants = entrants or {}
    refuse_entrants(entrants, settings.classifiers)
    device = device_of(settings)
    diet = _diet(training, tuning, test.patches, release, window)
    digests = (training.digest, tuning.digest, test.patches.digest, asdict(window))
    arms, left_out = trainable(lacking(release, training.classes))
    trainings = _train_all(
        arms,
        diet,
        digests,
        release.digest,
        settings,
        seed,
        device,
        ScoreStore(folder),
        progress or Silent(),
        entrants,
    )
    return _judge(trainings, left_out, training, tuning, test.patches, release, settings, seed)


def _diet(
    training: PatchSet, tuning: PatchSet, test: PatchSet, release: Release, window: Window
) -> Diet:
    """Every patch as a tensor on [-1, 1]; images stay on the CPU."""
    real, synthetic, tuned, tested = (
        torch.from_numpy(window.to_signed(images))
        for images in (training.images, release.images, tuning.images, test.images)
    )
    return Diet(
        real=real,
        labels=torch.from_numpy(training.labels),
        synthetic=synthetic,
        synthetic_labels=torch.from_numpy(labels_among(release, training.classes)),
        tuning=tuned,
        tuning_labels=tuning.labels,
        test=tested,
    )


def _train_all(
    arms: Sequence[Arm],
    diet: Diet,
    digests: tuple[Any, ...],
    release_digest: str,
    settings: EvaluationSettings,
    seed: int,
    device: torch.device,
    store: ScoreStore,
    progress: Progress,
    entrants: Entrants,
) -> Trainings:
    """Scores of every classifier, arm and seed, from the store where they are there."""
    trainings: Trainings = {}
    wanted = list(_wanted((*settings.classifiers, *entrants), settings.seeds, arms))
    progress.start("training classifiers", len(wanted) * settings.steps)
    for classifier, arm, run in wanted:
        name = f"{classifier}_{arm.name}_{run}"
        own_seed = int(digest_of("evaluation", seed, classifier, arm.name, run)[:15], 16)
        recipe: list[Any] = [settings.steps, settings.batch, settings.learning_rate]
        if arm.synthetic:
            recipe += [settings.synthetic_per_batch, release_digest]
        if classifier == "transfer":
            recipe += [read_weights(settings.weights, settings.weights_sha256)[1]]
        what = [RECIPE, torch.__version__, device.type, name, own_seed]
        digest = digest_of(*digests, recipe, what)
        note = f"{classifier}, {arm.name}, seed {run + 1} of {settings.seeds}"
        kept = store if classifier not in entrants else ScoreStore(None)
        scores = kept.load(name, digest)
        if scores is None:
            scores = train_and_score(
                classifier,
                arm,
                diet,
                settings,
                own_seed,
                device,
                partial(progress.advance, note=note),
                entrants.get(classifier),
            )
            kept.save(name, digest, scores)
        else:
            progress.advance(settings.steps, note)
        trainings.setdefault((classifier, arm.name), []).append(scores)
    return trainings


def _wanted(
    classifiers: Sequence[str], seeds: int, arms: Sequence[Arm]
) -> Iterator[tuple[str, Arm, int]]:
    for classifier in classifiers:
        for arm in arms:
            for run in range(seeds):
                yield classifier, arm, run


def _judge(
    trainings: Trainings,
    left_out: dict[str, str],
    training: PatchSet,
    tuning: PatchSet,
    test: PatchSet,
    release: Release,
    settings: EvaluationSettings,
    seed: int,
) -> Evaluation:
    """From scores to the verdict."""
    rng = np.random.default_rng(int(digest_of("bootstrap", seed)[:15], 16))
    weights = patient_weights(test.patient_index, test.labels, settings.bootstrap, rng)
    results = []
    spreads: dict[tuple[str, ArmName], Spread] = {}
    for (classifier, arm), of_seeds in trainings.items():
        scores = np.stack([each.test for each in of_seeds])
        decided = np.stack([decide(each.test, each.tuning, tuning.labels) for each in of_seeds])
        replicates = replicate(scores, decided, test.labels, weights)
        if classifier not in SANITY_LINES:
            spreads[classifier, arm] = Spread.of(replicates.macro_auc)
        results.append(
            _arm_result(classifier, arm, replicates, test.classes, settings.confidence, rng)
        )
    comparisons = compare(spreads, settings.confidence, rng)
    sentence = verdict_sentence(comparisons, test, settings)
    figures = [figure for result in results for figure in result.figures]
    return Evaluation(
        test=_counts(test),
        settings=settings,
        arms=tuple(results),
        left_out=left_out,
        comparisons=comparisons,
        verdict=Verdict(overall(comparisons), sentence),
        protocol=protocol_sentences(training, tuning, test, release, settings, comparisons),
        caveats=caveat_sentences(test, settings, figures, comparisons),
    )


def _arm_result(
    classifier: str,
    arm: ArmName,
    replicates: Replicates,
    classes: tuple[str, ...],
    confidence: float,
    rng: np.random.Generator,
) -> ArmResult:
    def interval(figures: np.ndarray[Any, np.dtype[np.float64]]) -> Interval:
        spread = Spread.of(figures)
        return spread.interval(spread.draws(rng), confidence)

    return ArmResult(
        classifier=classifier,
        arm=arm,
        auc=interval(replicates.macro_auc),
        balanced_accuracy=interval(replicates.balanced_accuracy),
        per_class={
            label: {
                "sensitivity": interval(replicates.sensitivity[:, :, at]),
                "specificity": interval(replicates.specificity[:, :, at]),
                "auc": interval(replicates.auc[:, :, at]),
            }
            for at, label in enumerate(classes)
        },
        per_seed=tuple(float(value) for value in replicates.macro_auc[0]),
    )


def _counts(test: PatchSet) -> dict[str, Any]:
    patches = np.bincount(test.labels, minlength=len(test.classes))
    return {
        "patients": len(test.patient_order),
        "patches": len(test),
        "patients_known": test.patients_known,
        "classes": {
            label: {"patients": patients, "patches": int(count)}
            for (label, patients), count in zip(
                test.patients_per_class().items(), patches, strict=True
            )
        },
    }
