"""Segmentation and detection: do the synthetic patches help to outline and to find lesions?

Beside the classification, which alone gives the verdict. One network (`segmentation`) is trained on
every arm with real patches, for the same steps; its maps of the test patches give Dice per lesion
and the free-response curve (`detection`). Patients, resampling and comparisons are those of the
classifiers; Holm's correction runs over the comparisons of each task by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medaug.domain import HeldOut, PatchSet, Release, Window, digest_of
from medaug.evaluation.detection import (
    FAINT,
    LEVELS,
    OVERLAP,
    blind_marks,
    marks_on,
    sensitivities,
)
from medaug.evaluation.devices import device_of
from medaug.evaluation.lesion_statistics import comparisons_of, interval_of, lesion_weights
from medaug.evaluation.policies import SYNTHETIC, Arm
from medaug.evaluation.refusals import refuse_doses, refuse_leaks, refuse_misfits
from medaug.evaluation.released import trainable
from medaug.evaluation.scores import ScoreStore
from medaug.evaluation.segmentation import Outlined, dice, overlaps, train_and_map
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.training import Scores
from medaug.progress import Progress, Silent

RECIPE = 1
"""Part of every stored map's digest; raise it when a training would come out otherwise."""
NETWORK = "u-net"

Floats = NDArray[np.float64]
Maps = dict[str, list[NDArray[np.float16]]]


def evaluate_lesions(
    training: PatchSet,
    tuning: PatchSet,
    test: HeldOut,
    release: Release,
    settings: EvaluationSettings,
    window: Window,
    seed: int,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """What stands under ``tasks`` in ``evaluation.json``: a document per task that was asked for.

    Where it cannot be done, ``not_computed`` says why in sentences, and there is nothing else.

    Args:
        training: real patches to train on.
        tuning: real patches that choose checkpoints.
        test: real patches that judge.
        release: the synthetic patches; without masks, arms that mix them in are left out.
        settings: ``tasks``, and what the trainings and the statistics are told.
        window: intensities → [-1, 1].
        seed: of everything random.
        progress: follows optimiser steps over all trainings.
        folder: keeps the maps of finished trainings; a later call goes on from there.

    Raises:
        LeakageError: if what judges was trained on.
        CohortError: if patches and release do not fit one another.
    """
    asked = [task for task in settings.tasks if task != "classification"]
    if not asked:
        return {}
    refuse_leaks(training, tuning, test, release)
    refuse_misfits(training, tuning, test.patches, release)
    refuse_doses(settings, training.classes)
    if reasons := list(_obstacles(training, tuning, test.patches)):
        return {task: {"not_computed": reasons} for task in asked}
    judges = _with_outline(test.patches)
    arms, left_out = _arms(release, settings)
    maps = _train_all(
        arms, training, tuning, judges, release, settings, window, seed, folder, progress
    )
    found = _Found(judges, len(test.patches) - len(judges), left_out, maps, training)
    documents = {"segmentation": _segmentation, "detection": _detection}
    return {task: documents[task](found, settings, seed) for task in asked}


@dataclass(frozen=True, eq=False)
class _Found:
    """Test patches whose lesion is outlined, how many were not, and the maps of every training."""

    test: PatchSet
    without: int
    left_out: dict[str, str]
    maps: Maps
    training: PatchSet

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Of the test patches."""
        assert self.test.masks is not None
        return self.test.masks


def _obstacles(training: PatchSet, tuning: PatchSet, test: PatchSet) -> Sequence[str]:
    parts = {"training": training, "tuning": tuning, "test": test}
    reasons = [
        f"The {name} patches have no masks: their source marks no outlines."
        for name, part in parts.items()
        if part.masks is None
    ]
    if not reasons:
        kept = _with_outline(test)
        reasons = [
            f"Fewer than 2 test patients have an outlined lesion of the class {label}."
            for label, count in kept.patients_per_class().items()
            if count < 2
        ]
    return reasons


def _with_outline(patches: PatchSet) -> PatchSet:
    """The patches whose mask marks something."""
    assert patches.masks is not None
    return patches.select(np.flatnonzero(patches.masks.reshape(len(patches), -1).any(axis=1)))


def _arms(release: Release, settings: EvaluationSettings) -> tuple[tuple[Arm, ...], dict[str, str]]:
    """The arms that can be trained, and why each other one with real patches cannot."""
    asked, left_out = trainable((), settings)
    real = tuple(arm for arm in asked if arm.real)
    if release.masks is not None:
        return real, left_out
    reason = "The released patches have no masks, so nothing can be outlined in them."
    return (
        tuple(arm for arm in real if not arm.synthetic),
        left_out | {arm.name: reason for arm in real if arm.synthetic},
    )


def _train_all(
    arms: Sequence[Arm],
    training: PatchSet,
    tuning: PatchSet,
    test: PatchSet,
    release: Release,
    settings: EvaluationSettings,
    window: Window,
    seed: int,
    folder: Path | None,
    progress: Progress | None,
) -> Maps:
    """Maps of every arm and seed, from the folder where they are there."""
    diet = Outlined.of(training, tuning, test, release, window)
    store, follower, device = ScoreStore(folder), progress or Silent(), device_of(settings)
    digests = (training.digest, tuning.digest, test.digest, asdict(window))
    follower.start("training networks that outline", len(arms) * settings.seeds * settings.steps)
    maps: Maps = {}
    for arm in arms:
        for run in range(settings.seeds):
            name = f"{NETWORK}_{arm.name}_{run}"
            own_seed = int(digest_of("tasks", seed, arm.name, run)[:15], 16)
            policy = arm.policy(settings.dose_of(diet.names))
            recipe: list[Any] = [settings.steps, settings.batch, settings.learning_rate]
            recipe += [policy.document(), asdict(diet.limits)]
            recipe += [release.digest] if policy.uses(SYNTHETIC) else []
            what = [RECIPE, torch.__version__, device.type, name, own_seed]
            digest = digest_of(*digests, recipe, what)
            note = f"{NETWORK}, {arm.name}, seed {run + 1} of {settings.seeds}"
            kept = store.load(name, digest)
            if kept is None:
                advanced = partial(follower.advance, note=note)
                found = train_and_map(arm, diet, settings, own_seed, device, advanced)
                kept = Scores(np.zeros(0), found)  # type: ignore[arg-type]
                store.save(name, digest, kept)
            else:
                follower.advance(settings.steps, note)
            maps.setdefault(arm.name, []).append(kept.test)  # type: ignore[arg-type]
    return maps


def _segmentation(found: _Found, settings: EvaluationSettings, seed: int) -> dict[str, Any]:
    """Dice of each lesion; all patches that show it are one outline."""
    test = found.test
    keys = [(key, place.lesion) for key, place in zip(test.patients, test.locations, strict=True)]
    lesions = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    lesion_of = np.array([lesions[key] for key in keys])
    first = np.unique(lesion_of, return_index=True)[1]
    labels, patient_of = test.labels[first], test.patient_index[first]
    rng = np.random.default_rng(int(digest_of("segmentation", seed)[:15], 16))
    weights = lesion_weights(patient_of, labels, settings.bootstrap, rng)
    figures: dict[str, dict[str, Floats]] = {}
    for arm, maps in found.maps.items():
        of_seeds = []
        for each in maps:
            both, together = overlaps(each > 0, found.masks)
            summed = [
                np.bincount(lesion_of, weights=part).astype(np.int64) for part in (both, together)
            ]
            of_seeds.append(dice(summed[0], summed[1]))
        of_lesions = np.stack(of_seeds, axis=1)
        figures[arm] = {"": _mean(weights, of_lesions, np.ones(len(labels), np.bool_))} | {
            label: _mean(weights, of_lesions, labels == at) for at, label in enumerate(test.classes)
        }
    sentences = [
        (
            "Each test lesion is outlined by the network: every pixel whose probability is above "
            "one half. Dice, 2 x what both mark over the sum of what each marks, is taken per "
            "lesion (over all patches that show it) and averaged over lesions."
        ),
        *_shared_sentences(found, settings),
    ]
    counted = {"lesions": len(labels)}
    return _document("dice", figures, found, counted, sentences, settings, rng)


def _detection(found: _Found, settings: EvaluationSettings, seed: int) -> dict[str, Any]:
    """Sensitivity at a few numbers of false marks per patient."""
    test = found.test
    rng = np.random.default_rng(int(digest_of("detection", seed)[:15], 16))
    weights = lesion_weights(test.patient_index, test.labels, settings.bootstrap, rng)
    patients = len(test.patient_order)
    figures: dict[str, dict[str, Floats]] = {}
    for arm, maps in found.maps.items():
        curves = np.stack(
            [sensitivities(marks_on(each, found.masks), weights, patients) for each in maps], axis=1
        )
        figures[arm] = {"": curves.mean(axis=2)} | {
            f"{level:g}": curves[:, :, at] for at, level in enumerate(LEVELS)
        }
    assert found.training.masks is not None
    blind = float(blind_marks(found.training.masks, found.masks).hit.mean())
    who = "patient" if test.patients_known else "patch"
    sentences = [
        (
            f"A mark is a region of the network's map above {FAINT:g}; it hits if its box and the "
            f"lesion's overlap by {OVERLAP:g} (intersection over union). The figure is the mean "
            f"sensitivity at {', '.join(f'{level:g}' for level in LEVELS)} false marks per {who}."
        ),
        (
            "Patches are cut around lesions: this says how well a lesion is found and bounded in a "
            "region that somebody pointed at, not how well whole volumes are searched. One mark of "
            f"the usual size in the middle of every patch, without looking, hits "
            f"{100 * blind:.0f} % of the lesions; it makes a false mark of every miss."
        ),
        *_shared_sentences(found, settings),
    ]
    counted = {"lesions": len(test), "hit_blindly": blind}
    return _document("mean sensitivity", figures, found, counted, sentences, settings, rng)


def _mean(weights: Floats, of_lesions: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """(replicate, seed) weighted means of the chosen lesions."""
    part = weights[:, chosen]
    return np.asarray(part @ of_lesions[chosen] / part.sum(axis=1, keepdims=True))


def _document(
    metric: str,
    figures: dict[str, dict[str, Floats]],
    found: _Found,
    counted: dict[str, Any],
    sentences: Sequence[str],
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """JSON; of the ``figures`` (replicate, seed) of an arm, that named "" is the one compared."""
    arms = []
    for arm, of_arm in figures.items():
        intervals = {
            name: interval_of(each, settings.confidence, rng).document()
            for name, each in of_arm.items()
        }
        whole = intervals.pop("")
        per_seed = of_arm[""][0].tolist()
        arms.append({"arm": arm, "figure": whole, "parts": intervals, "per_seed": per_seed})
    compared = {arm: of_arm[""] for arm, of_arm in figures.items()}
    comparisons = comparisons_of(compared, metric, settings.confidence, rng)
    return {
        "not_computed": [],
        "metric": metric,
        "network": NETWORK,
        "patients": len(found.test.patient_order),
        "patients_known": found.test.patients_known,
        **counted,
        "arms": arms,
        "arms_left_out": found.left_out,
        "comparisons": comparisons,
        "sentences": list(sentences),
    }


def _shared_sentences(found: _Found, settings: EvaluationSettings) -> list[str]:
    unit = "patients" if found.test.patients_known else "patches"
    sentences = [
        (
            f"The network is a U-Net, trained {settings.seeds} times in every arm for "
            f"{settings.steps} optimiser steps of {settings.batch} patches; tuning {unit} chose "
            f"the checkpoint by mean Dice. Intervals ({100 * settings.confidence:g} %, percentile) "
            f"come from {settings.bootstrap} bootstrap samples of test {unit} and the spread "
            "between seeds; p values are corrected by Holm's method within this task. The "
            "verdict rests on the classification alone."
        )
    ]
    if found.without:
        sentences.append(f"{found.without} test patches without an outline were left out.")
    sentences += [f"The arm {arm} was left out. {why}" for arm, why in found.left_out.items()]
    return sentences
