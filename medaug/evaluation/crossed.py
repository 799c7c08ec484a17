"""What the report says of a cross-validation: figures, verdict, choices and sentences.

Stands under ``folds`` in ``evaluation.json``, beside the verdict on the release itself: that one
asks whether these very patches help, this one whether the recipe that made them does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medaug.domain import PatchSet, digest_of
from medaug.evaluation.bench import External
from medaug.evaluation.comparison import MAIN, PAIRS, overall
from medaug.evaluation.curve import worth
from medaug.evaluation.judging import Judgement, judge
from medaug.evaluation.nested import ALONE_DOSE, WITH, WITHOUT, Choice, Nested, Trainings
from medaug.evaluation.protocol import Verdict
from medaug.evaluation.settings import SANITY_LINES, EvaluationSettings
from medaug.evaluation.statements import verdict_sentence

PAIRS_OF_FOLDS = (*PAIRS, (WITH, WITHOUT))


def document(
    found: Nested,
    patches: PatchSet,
    settings: EvaluationSettings,
    seed: int,
    external: Sequence[External] = (),
) -> dict[str, Any]:
    """As JSON.

    Args:
        found: what `nested.cross_validate` gave.
        patches: of the whole cohort.
        settings: of the cross-validation.
        seed: of resampling.
        external: as they were given to the cross-validation.
    """
    judged = _judged(found.scores, patches, settings, seed)
    classifiers = list(dict.fromkeys(arm.classifier for arm in judged.arms))
    return {
        "folds": 1 + max(run.fold for runs in found.scores.values() for run in runs),
        "seeds": list(range(settings.seeds)),
        "quick": settings.quick,
        "classifiers": classifiers,
        "steps": settings.steps,
        "test": _counts(patches),
        "arms": [arm.document() for arm in judged.arms],
        "comparisons": [each.document() for each in judged.comparisons],
        "verdict": asdict(_verdict(judged, patches, found, settings)),
        "choices": [choice.document() for choice in found.choices],
        "doses": {name: _dose_curve(found.choices, name) for name in classifiers},
        "learning_curve": _learning_curve(found, patches, settings, seed),
        "external": [_external(one, found.external[one.name], settings, seed) for one in external],
        "protocol": _protocol(found, patches, settings, external),
        "caveats": _caveats(external),
    }


def _judged(
    scores: Trainings, patches: PatchSet, settings: EvaluationSettings, seed: int
) -> Judgement:
    rng = np.random.default_rng(int(digest_of("folds", seed)[:15], 16))
    return judge(
        scores, patches.classes, settings.bootstrap, settings.confidence, rng, PAIRS_OF_FOLDS
    )


def _counts(patches: PatchSet) -> dict[str, Any]:
    return {"patients": len(patches.patient_order), "patches": len(patches)}


def _dose_curve(choices: Sequence[Choice], classifier: str) -> list[dict[str, Any]]:
    """Of each dose the macro AUC on the tuning parts, fold by fold, and how often it was chosen."""
    mine = [choice for choice in choices if choice.classifier == classifier]
    return [
        {
            "dose": dose,
            "auc": [choice.reached[dose] for choice in mine],
            "chosen": sum(choice.dose == dose for choice in mine),
        }
        for dose in mine[0].reached
    ]


def _verdict(
    judged: Judgement, patches: PatchSet, found: Nested, settings: EvaluationSettings
) -> Verdict:
    judging = [each for each in found.choices if each.classifier not in SANITY_LINES]
    if not any(choice.dose for choice in judging):
        sentence = (
            "No evidence that synthetic patches of refitted generators help on top of classical "
            "augmentation: in every fold the tuning part chose none of them, so that the arms of "
            "the comparison are the same trainings."
        )
        return Verdict("no evidence", sentence)
    sentence = verdict_sentence(
        judged,
        settings.confidence,
        patches.patients_known,
        "Synthetic patches of refitted generators",
    )
    return Verdict(overall(judged.comparisons), sentence)


def _learning_curve(
    found: Nested, patches: PatchSet, settings: EvaluationSettings, seed: int
) -> dict[str, Any] | None:
    """Figures of the main comparison at every share that every fold could train with."""
    if not settings.learning_curve:
        return None
    shares = found.shares
    whole = [share for share in shares.scores if share not in shares.left_out]
    rows: list[dict[str, Any]] = []
    for share in sorted(whole):
        judged = _judged(shares.scores[share], patches, settings, seed)
        patients = float(np.mean(list(shares.patients[share].values())))
        for each in judged.comparisons:
            values = {
                arm.arm: arm.auc.document()
                for arm in judged.arms
                if arm.classifier == each.classifier
            }
            rows.append(
                {
                    "share": share,
                    "patients": patients,
                    "classifier": each.classifier,
                    "with": values[MAIN[0]],
                    "without": values[MAIN[1]],
                    "difference": each.difference.document(),
                }
            )
    for row in rows:
        mine = [each for each in rows if each["classifier"] == row["classifier"]]
        row["worth_patients"] = worth(
            [each["patients"] for each in mine],
            [each["without"]["value"] for each in mine],
            row["with"]["value"],
        )
    left_out = {f"{share:g}": reason for share, reason in shares.left_out.items()}
    return {"rows": rows, "left_out": left_out}


def _external(
    one: External, scores: Trainings, settings: EvaluationSettings, seed: int
) -> dict[str, Any]:
    """The same classifiers on another site; nothing is concluded but what is shown."""
    judged = _judged(scores, one.patches, settings, seed)
    return {
        "name": one.name,
        "test": _counts(one.patches) | {"patients_known": one.patches.patients_known},
        "arms": [arm.document() for arm in judged.arms],
        "comparisons": [each.document() for each in judged.comparisons],
    }


def _protocol(
    found: Nested,
    patches: PatchSet,
    settings: EvaluationSettings,
    external: Sequence[External],
) -> list[str]:
    folds = 1 + max(choice.fold for choice in found.choices)
    counted = Counter(choice.dose for choice in found.choices)
    chosen = ", ".join(f"{dose:g} ({count} times)" for dose, count in sorted(counted.items()))
    sentences = [
        (
            f"{folds} folds by patient, stratified by class: each of {len(patches.patient_order)} "
            "patients judges in one fold. Of the others in a fold the share "
            f"{settings.tuning_share:g} tunes and the rest trains."
        ),
        (
            "In every fold a generator was trained on the training part alone. Its patches were "
            "used as it drew them: the gate, which turns some away before a release, took no part."
        ),
        (
            "The test part of a fold was opened once, after the dose had been chosen; between arms "
            "only tuning scores chose."
        ),
        (
            "Dose: synthetic patches per real one of each class, of "
            f"{', '.join(f'{dose:g}' for dose in settings.doses)}; chosen in every fold for each "
            "classifier by the macro AUC on the tuning part, in the arm of the main comparison, "
            f"with one training each. Chosen: {chosen}. At dose 0 an arm is its own baseline. The "
            f"arm gan has dose {ALONE_DOSE:g}."
        ),
        (
            f"'{WITHOUT}' and '{WITH}' are, in every fold, the arm with the best mean macro AUC on "
            "the tuning part, among those without synthetic patches and those that mix."
        ),
        (
            f"{settings.seeds} trainings of every arm in every fold, {settings.steps} optimiser "
            f"steps of {settings.batch} patches each, with different seeds."
        ),
        (
            "Intervals hold the patients, the luck of trainings and that of training sets, whose "
            "overlap between folds is allowed for (Nadeau and Bengio)."
        ),
    ]
    if settings.quick:
        sentences.append(
            "Quick: fewer classifiers, seeds, steps, folds and doses than were set, and generators "
            "that were trained for a shorter time than the released one."
        )
    if external:
        names = ", ".join(one.name for one in external)
        sentences.append(
            f"External sets ({names}) were scored by the same classifiers of every fold; none of "
            "their patients is in the cohort, and they chose nothing."
        )
    return sentences


def _caveats(external: Sequence[External]) -> list[str]:
    sentences = [
        (
            "The verdict is about the recipe: generators like the one behind the release, trained "
            "on other parts of the same patients. About the very patches that were released the "
            "verdict on the release speaks."
        )
    ]
    if not external:
        sentences.append(
            "No external test set was scored: nothing is said about other sites or scanners."
        )
    sentences += [
        f"External set {one.name}: the source does not say which patches belong to one patient; "
        "intervals are over patches, and that its patients are not in the cohort cannot be told."
        for one in external
        if not one.patches.patients_known
    ]
    return sentences
