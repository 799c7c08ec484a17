"""A policy found by search: mix, dose of each class, operations and their magnitude.

Optuna's tree-structured Parzen estimator [1]_ proposes policies; each is trained, and the macro
AUC on the tuning patients is what it tries to raise. Test patients take no part: the diet that the
search sees holds none of them. The first policy tried is the main arm at the settings' dose, so
that what is found is, on the tuning patients, never worse than that.

The best of many trials looks better on the tuning patients than it is. That figure is therefore no
result; the policy found is trained anew from other seeds and judged on the test patients as an arm,
``real+searched``.

A stopped search goes on where it was: the sampler is seeded, and each trial's scores are kept, so
that what was tried is asked for again and answered from the store.

.. [1] Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", NeurIPS 24
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medaug.domain import digest_of
from medaug.errors import Fault, SettingsError
from medaug.evaluation.diet import Diet
from medaug.evaluation.policies import ARMS, Arm, Policy
from medaug.evaluation.recipes import Classical, RandAugment, Recipe, TrivialAugment
from medaug.evaluation.scores import ScoreStore, recipe_of
from medaug.evaluation.settings import (
    SANITY_LINES,
    ClassifierName,
    EvaluationSettings,
    SearchSettings,
)
from medaug.evaluation.statistics import macro_auc
from medaug.evaluation.training import train_and_score
from medaug.progress import Progress, Silent

if TYPE_CHECKING:
    import optuna

MAIN = "real+classical+gan"
"""Whose policy is tried first."""
MOST = 10.0
"""Largest dose that is tried."""

Score = Callable[[Policy, int], float]
"""Trains a policy from a seed, its number among the seeds, and gives the tuning macro AUC."""


@dataclass(frozen=True)
class Found:
    """What a search came to, with one classifier.

    Attributes:
        classifier: whose.
        policy: the best.
        reached: macro AUC of each trial on the tuning patients, in order; too good for the best.
    """

    classifier: ClassifierName
    policy: Policy
    reached: tuple[float, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "classifier": self.classifier,
            "policy": self.policy.document(),
            "trials": len(self.reached),
            "tuning_auc": list(self.reached),
        }


def refuse_without_optuna(settings: SearchSettings) -> None:
    """Raise `SettingsError` where a search is asked for and the extra is not installed."""
    if settings.trials and importlib.util.find_spec("optuna") is None:
        raise SettingsError(
            Fault(
                "evaluation.search.trials",
                f"{settings.trials}, but Optuna is not installed",
                "0",
                "install medaug[search]",
            )
        )


def without_test(diet: Diet) -> Diet:
    """The diet as a search may see it."""
    return replace(diet, test=diet.test[:0])


def search_each(
    diet: Diet,
    data: str,
    settings: EvaluationSettings,
    seed: int,
    device: torch.device,
    store: ScoreStore,
    progress: Progress,
) -> tuple[Found, ...]:
    """A search with every classifier that is judged, if any is asked for. As `searched`."""
    judging = [name for name in settings.classifiers if name not in SANITY_LINES]
    trainings = settings.search.trials * settings.search.seeds * len(judging)
    if not trainings:
        return ()
    progress.start("searching policies", trainings * settings.steps)
    return tuple(
        searched(classifier, diet, data, settings, seed, device, store, progress)
        for classifier in judging
    )


def searched(
    classifier: ClassifierName,
    diet: Diet,
    data: str,
    settings: EvaluationSettings,
    seed: int,
    device: torch.device,
    store: ScoreStore,
    progress: Progress,
) -> Found:
    """Search with trainings of ``classifier``, as long as the evaluation's own.

    Args:
        classifier: which.
        diet: of the evaluation; its test patches are not looked at.
        data: digest of the training and the tuning part, the releases and the window.
        settings: of the trainings and the budget.
        seed: of the evaluation.
        device: where.
        store: keeps the scores of every trial.
        progress: follows optimiser steps, a bar that the caller has started.
    """
    blind = without_test(diet)
    main = next(arm for arm in ARMS if arm.name == MAIN)

    def score(policy: Policy, run: int) -> float:
        # The same seeds for every policy: fewer differences that are luck.
        own_seed = int(digest_of("search", seed, classifier, run)[:15], 16)
        how = recipe_of(classifier, policy, blind, settings)
        digest = digest_of(data, how, own_seed, classifier, torch.__version__, device.type)
        arm, quiet = Arm("real+searched", found=policy), Silent().advance
        scores, _ = store.once(
            f"search_{digest[:24]}",
            digest,
            partial(train_and_score, classifier, arm, blind, settings, own_seed, device, quiet),
        )
        progress.advance(settings.steps, f"{classifier}, a policy tried")
        return macro_auc(scores.tuning, diet.tuning_labels)

    own_seed = int(digest_of("proposals", seed, classifier)[:15], 16)
    first = main.policy(settings.dose_of(diet.names))
    return search(classifier, diet.classes, first, settings.search, own_seed, score)


def search(
    classifier: ClassifierName,
    classes: int,
    first: Policy,
    settings: SearchSettings,
    seed: int,
    score: Score,
) -> Found:
    """The policy with the best mean score over ``settings.seeds`` trainings.

    Args:
        classifier: whose trainings.
        classes: how many doses a policy has.
        first: the policy that is tried first.
        settings: the budget.
        seed: of the proposals.
        score: of one training.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(_described(first, classes))
    best, reached = first, list[float]()
    for _ in range(settings.trials):
        trial = study.ask()
        policy = _proposed(trial, classes)
        value = float(np.mean([score(policy, run) for run in range(settings.seeds)]))
        study.tell(trial, value)
        if value > max(reached, default=-1.0):
            best = policy
        reached.append(value)
    return Found(classifier, best, tuple(reached))


def _proposed(trial: optuna.Trial, classes: int) -> Policy:
    doses = tuple(trial.suggest_float(f"dose {at}", 0.0, MOST) for at in range(classes))
    return Policy(dose=doses, recipe=_recipe(trial))


def _recipe(trial: optuna.Trial) -> Recipe | None:
    name = trial.suggest_categorical(
        "operations", ["none", "classical", "randaugment", "trivialaugment"]
    )
    if name == "classical":
        return Classical(trial.suggest_float("strength", 0.0, 2.0))
    if name == "randaugment":
        return RandAugment(trial.suggest_int("n", 1, 3), trial.suggest_int("m", 1, 10))
    return TrivialAugment() if name == "trivialaugment" else None


def _described(policy: Policy, classes: int) -> dict[str, Any]:
    """``policy`` as the parameters that propose it."""
    doses: Sequence[float]
    doses = policy.dose if isinstance(policy.dose, tuple) else (policy.dose,) * classes
    strength = policy.recipe.strength if isinstance(policy.recipe, Classical) else 1.0
    named = {f"dose {at}": min(dose, MOST) for at, dose in enumerate(doses)}
    return named | {"operations": "classical", "strength": strength}
