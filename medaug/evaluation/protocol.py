"""The whole evaluation: check, train every arm, score, compare, conclude.

The test part is scored once by every training, after its checkpoint was chosen; what may not
judge is refused before anything is trained (`refusals`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medaug.domain import HeldOut, PatchSet, Release, Window, digest_of
from medaug.evaluation.classifiers import refuse_small
from medaug.evaluation.comparison import Comparison, Word, overall
from medaug.evaluation.devices import device_of
from medaug.evaluation.diet import Diet
from medaug.evaluation.dose_curve import DosePoint, arms_at, curve_of, different_at
from medaug.evaluation.entrants import Entrants, refuse_entrants
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.judging import ArmResult, judge
from medaug.evaluation.policies import REFINED, SYNTHETIC, Arm
from medaug.evaluation.refusals import refuse_doses, refuse_leaks, refuse_misfits
from medaug.evaluation.released import lacking, trainable
from medaug.evaluation.scores import ScoreStore, recipe_of
from medaug.evaluation.search import Found, refuse_without_optuna, search_each
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.statements import caveat_sentences, protocol_sentences, verdict_sentence
from medaug.evaluation.training import Scores, train_and_score
from medaug.progress import Progress, Silent

RECIPE = 2
"""Part of every stored score's digest; raise it when a training would come out otherwise."""

Trainings = dict[tuple[str, str], list[Scores]]


@dataclass(frozen=True)
class Verdict:
    """One of three words, and the sentence that carries its figures."""

    word: Word
    sentence: str


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    ``test`` counts patients and patches; ``left_out`` says why an arm could not be trained;
    ``protocol`` and ``caveats`` are prose; ``searches`` and ``dose_curve`` are there where the
    settings ask for them.
    """

    test: dict[str, Any]
    settings: EvaluationSettings
    arms: tuple[ArmResult, ...]
    left_out: dict[str, str]
    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    protocol: tuple[str, ...]
    caveats: tuple[str, ...]
    searches: tuple[Found, ...] = ()
    dose_curve: tuple[DosePoint, ...] = ()

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
            "searches": [search.document() for search in self.searches],
            "dose_curve": [point.document() for point in self.dose_curve],
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
    refined: Release | None = None,
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
        refined: a second release, made by simulate-and-refine, for the arm
            real+classical+refined; the lineage of ``test`` names its generator too.
        entrants: classifiers of the caller's own by name, judged beside those of the settings. What
            they are made of cannot be told, so their scores are not kept.

    Raises:
        LeakageError: if what judges was trained on.
        CohortError: if patches and release do not fit one another or a class lacks patients;
            every fault is named.
        SettingsError: for a device or a weight file that is not there, or an entrant that is no
            classifier.
    """
    for each in (release,) if refined is None else (release, refined):
        refuse_leaks(training, tuning, test, each)
        refuse_misfits(training, tuning, test.patches, each)
    refuse_small(settings, training.images.shape[2:])
    refuse_doses(settings, training.classes)
    refuse_without_optuna(settings.search)
    own = entrants or {}
    refuse_entrants(own)
    device = device_of(settings)
    diet = Diet.laid(training, tuning, test.patches, release, window, refined)
    digests = (training.digest, tuning.digest, test.patches.digest, asdict(window))
    releases = [release.digest, "" if refined is None else refined.digest]
    arms, left_out = trainable(lacking(release, training.classes), settings, refined is not None)
    store, progress = ScoreStore(folder), progress or Silent()

    def train(
        arms: Sequence[Arm],
        settings: EvaluationSettings = settings,
        entrants: Entrants = own,
    ) -> Trainings:
        return _train_all(
            arms, diet, digests, releases, settings, seed, device, store, progress, entrants
        )

    def judged(trainings: Trainings) -> Evaluation:
        return _judge(trainings, left_out, training, tuning, test.patches, release, settings, seed)

    trainings = train(arms)
    seen = digest_of(*digests[:2], digests[3], releases, RECIPE)
    found = search_each(diet, seen, settings, seed, device, store, progress)
    for winner in found:
        alone = settings.model_copy(update={"classifiers": (winner.classifier,)})
        trainings |= train([Arm("real+searched", found=winner.policy)], alone, {})
    evaluation = replace(judged(trainings), searches=found)
    if not settings.dose_curve:
        return evaluation
    further = train(arms_at(arms, settings.dose_curve))
    rows = (*evaluation.arms, *(judged(further).arms if further else ()))
    points = curve_of(
        arms,
        settings.dose_curve,
        (*settings.classifiers, *own),
        {(row.classifier, row.arm): row.auc for row in rows},
        trainings | further,
        tuning.labels,
        {dose: different_at(dose, training, release) for dose in settings.dose_curve},
    )
    return replace(evaluation, dose_curve=tuple(points))


def _train_all(
    arms: Sequence[Arm],
    diet: Diet,
    digests: tuple[Any, ...],
    releases: Sequence[str],
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
        name = f"{classifier}_{arm.label}_{run}"
        own_seed = int(digest_of("evaluation", seed, classifier, arm.label, run)[:15], 16)
        policy = arm.policy(settings.dose_of(diet.names))
        recipe = recipe_of(classifier, policy, diet, settings)
        recipe += [
            digest
            for source, digest in zip((SYNTHETIC, REFINED), releases, strict=True)
            if policy.uses(source)
        ]
        what = [RECIPE, torch.__version__, device.type, name, own_seed]
        note = f"{classifier}, {arm.label}, seed {run + 1} of {settings.seeds}"
        kept = store if classifier not in entrants else ScoreStore(None)
        scores, worked = kept.once(
            name,
            digest_of(*digests, recipe, what),
            partial(
                train_and_score,
                classifier,
                arm,
                diet,
                settings,
                own_seed,
                device,
                partial(progress.advance, note=note),
                entrants.get(classifier),
            ),
        )
        if not worked:
            progress.advance(settings.steps, note)
        trainings.setdefault((classifier, arm.label), []).append(scores)
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
    scores = {key: _as_one_fold(runs, test, tuning) for key, runs in trainings.items()}
    judged = judge(scores, test.classes, settings.bootstrap, settings.confidence, rng)
    results, comparisons = judged.arms, judged.comparisons
    sentence = verdict_sentence(judged, settings.confidence, test.patients_known)
    figures = [figure for result in results for figure in result.figures]
    return Evaluation(
        test=_counts(test),
        settings=settings,
        arms=results,
        left_out=left_out,
        comparisons=comparisons,
        verdict=Verdict(overall(comparisons), sentence),
        protocol=protocol_sentences(training, tuning, test, release, settings, comparisons),
        caveats=caveat_sentences(test, settings, figures, comparisons),
    )


def _as_one_fold(
    trainings: Sequence[Scores], test: PatchSet, tuning: PatchSet
) -> tuple[FoldScores, ...]:
    """A single split is one fold."""

    def scored(probabilities: NDArray[np.float64], patches: PatchSet) -> Scored:
        return Scored(probabilities.astype(np.float32), patches.labels, tuple(patches.patients))

    return tuple(
        FoldScores(0, seed, scored(each.test, test), scored(each.tuning, tuning))
        for seed, each in enumerate(trainings)
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
