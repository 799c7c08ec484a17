"""What was done and what may be concluded, in sentences for a reader of the report.

The words are those of CLAIM [1]_ and STARD [2]_: reference standard, index test, tuning.

.. [1] Mongan et al. 2020, doi:10.1148/ryai.2020200029
.. [2] Bossuyt et al. 2015, doi:10.1136/bmj.h5527
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medaug.domain import PatchSet, Release
from medaug.evaluation.comparison import MAIN, Comparison, overall
from medaug.evaluation.released import lacking, trainable
from medaug.evaluation.settings import SANITY_LINES, EvaluationSettings
from medaug.evaluation.statistics import Interval
from medaug.evaluation.training import CHECKPOINTS
from medaug.evaluation.transfer import read_weights

FEW_PATIENTS = 30
FEW_PATIENTS_IN_A_CLASS = 10
"""Fewer test patients than this earn a caveat; a percentile bootstrap is too narrow there."""


def protocol_sentences(
    training: PatchSet,
    tuning: PatchSet,
    test: PatchSet,
    release: Release,
    settings: EvaluationSettings,
    comparisons: Sequence[Comparison],
) -> tuple[str, ...]:
    """How the figures came about."""
    unit = "patients" if test.patients_known else "patches"
    released = ", ".join(f"{count} {label}" for label, count in release.per_class().items())
    share = f"{settings.synthetic_per_batch} of {settings.batch}"
    tests = sum(each.is_main for each in comparisons)
    missing = lacking(release, training.classes)
    names = list(dict.fromkeys((*settings.classifiers, *(each.classifier for each in comparisons))))
    return (
        *_shape_sentence(training),
        f"Reference standard: the class that the source gives each lesion ({_list(test.classes)}).",
        (
            f"Training {_size(training)}; tuning {_size(tuning)}; test {_size(test)}. No test "
            f"{unit[:-1] if unit == 'patients' else 'patch'} was seen by the generator or by a "
            "classifier, and no test patch is synthetic."
        ),
        (
            f"Index tests: {_list(names)}, {settings.seeds} trainings of every arm with different "
            f"seeds, {settings.steps} optimiser steps of {settings.batch} patches in every arm, "
            "classes in equal shares."
        ),
        *classifier_sentences(names, settings),
        (
            f"Synthetic patches come from the release alone ({released}); where an arm mixes them "
            f"with real ones they fill {share} places of each batch. Classical augmentation (flip, "
            "rotation, zoom, shift, filter, intensity, noise) applies to every patch of its arms."
        ),
        (
            f"Tuning {unit} chose which of {CHECKPOINTS} checkpoints of a training was kept (macro "
            "AUC) and each class's threshold (Youden's index); the test part was scored once."
        ),
        (
            "AUC is one class against the rest, macro AUC the mean over classes. A patch is given "
            "the class whose probability is the largest multiple of its threshold; sensitivity and "
            "specificity follow, and balanced accuracy is the mean sensitivity."
        ),
        (
            f"Values are means over seeds. Intervals ({_percent(settings.confidence)}, percentile) "
            f"come from {settings.bootstrap} bootstrap samples of test {unit}, the same for all "
            "arms, and from the spread between seeds beyond what these samples explain."
        ),
        (
            f"The main comparison was fixed in advance: macro AUC of {MAIN[0]} against {MAIN[1]} "
            f"({_count(tests, 'classifier')}). p values are corrected by Holm's method over all "
            f"{len(comparisons)} comparisons; the intervals are not."
        ),
        *_missing_sentences(missing),
    )


def classifier_sentences(
    classifiers: Sequence[str], settings: EvaluationSettings
) -> tuple[str, ...]:
    """What the classifiers began from, and which of them stand apart."""
    fresh = [name for name in settings.classifiers if name not in ("transfer", *SANITY_LINES)]
    sentences = []
    if fresh:
        sentences.append(f"Networks that began from random weights: {_list(fresh)}.")
    if others := [name for name in classifiers if name not in settings.classifiers]:
        sentences.append(
            f"Classifiers handed in, of which nothing more is known here: {_list(others)}. "
            "Those without optimiser steps are shown equally many patches in every arm."
        )
    if "transfer" in classifiers:
        file = Path(settings.weights)
        digest = read_weights(settings.weights, settings.weights_sha256)[1]
        sentences.append(
            f"The classifier transfer began from the weights in {file.name} (SHA-256 {digest}). "
            "What these were trained on is not known here; if any test patient was among it, its "
            "figures are too good."
        )
    if "radiomic-logistic" in classifiers:
        sentences.append(
            "radiomic-logistic, logistic regression on radiomic features, is a sanity line: it has "
            "no optimiser steps and is shown equally many patches in every arm; nothing is "
            "compared or concluded with it."
        )
    return tuple(sentences)


def _shape_sentence(training: PatchSet) -> tuple[str, ...]:
    """What a classifier sees of a patch of several slices."""
    channels, *size = training.images.shape[1:]
    if len(size) == 3:
        return (f"Classifiers see the whole volume of {size[0]} slices: their layers are 3-D.",)
    if channels > 1:
        return (f"Classifiers see {channels} adjacent slices, as channels of a picture.",)
    return ()


def _missing_sentences(missing: Sequence[str]) -> tuple[str, ...]:
    """What became of the arms where the release lacks classes."""
    if not missing:
        return ()
    _, left_out = trainable(missing)
    return (
        (
            f"Nothing of the class {_list(missing)} was released: in the arms that mix real and "
            "synthetic patches it is fed with real ones alone and keeps its share of every batch."
        ),
        *(f"The arm {arm} was left out. {reason}" for arm, reason in left_out.items()),
    )


def caveat_sentences(
    test: PatchSet,
    settings: EvaluationSettings,
    figures: Sequence[Interval],
    comparisons: Sequence[Comparison],
) -> tuple[str, ...]:
    """What the figures do not say; ``figures`` are all that the report shows of the arms."""
    sentences = []
    if not test.patients_known:
        sentences.append(
            "The source does not say which patches belong to one patient. Patches of one patient "
            "may therefore stand in training and test, which makes every figure too good; "
            "intervals are over patches, which makes them too narrow; and nothing can be said "
            "about patients."
        )
    few = _few(test)
    if few:
        sentences.append(few)
    sentences.append(
        "One generator was trained on one split: another training of it or another split could "
        "give other figures, and that spread is not in the intervals."
    )
    sentences.append(
        "No external test set was scored: nothing is said about other sites or scanners."
    )
    if settings.seeds < 3:
        sentences.append(
            f"With {settings.seeds} seeds the luck of a training is hardly known; more seeds "
            "would narrow the intervals."
        )
    if any(figure.low == figure.high for figure in figures):
        sentences.append(
            "An interval without width means that no error occurred in this cohort, or nothing but "
            "errors; resampling cannot show what did not occur, and the truth may lie elsewhere."
        )
    if any(
        each.verdict == "no evidence" and not each.difference.low <= 0 <= each.difference.high
        for each in comparisons
    ):
        sentences.append(
            "An interval that leaves out 0 beside 'no evidence' is no contradiction: the interval "
            "looks at one comparison, the verdict is corrected for all of them."
        )
    return tuple(sentences)


def verdict_sentence(
    comparisons: Sequence[Comparison], test: PatchSet, settings: EvaluationSettings
) -> str:
    """The verdict with its figures, one clause per classifier."""
    main = [each for each in comparisons if each.is_main]
    opening = {
        "helps": "Synthetic patches help on top of classical augmentation",
        "hurts": "Synthetic patches hurt on top of classical augmentation",
        "no evidence": "No evidence that synthetic patches help on top of classical augmentation",
    }[overall(main)]
    clauses = "; ".join(_clause(each, settings.confidence) for each in main)
    patients = len(test.patient_order)
    who = (
        _count(patients, "test patient")
        if test.patients_known
        else f"{_count(len(test), 'test patch', 'test patches')} of unknown patients"
    )
    return f"{opening}: {clauses} ({settings.seeds} seeds, {who})."


def _clause(each: Comparison, confidence: float) -> str:
    difference = each.difference
    text = (
        f"with {each.classifier} the macro AUC changed by {_points(difference.value)} points "
        f"({_percent(confidence)} interval {_points(difference.low)} to "
        f"{_points(difference.high)}, p = {each.p_holm:.3f} after Holm's correction"
    )
    if each.verdict == "no evidence":
        text += (
            "; the smallest difference this cohort could have shown is about "
            f"{100 * each.smallest:.1f} points"
        )
    return text + ")"


def _few(test: PatchSet) -> str:
    per_class = test.patients_per_class()
    label, fewest = min(per_class.items(), key=lambda item: item[1])
    patients = len(test.patient_order)
    if patients >= FEW_PATIENTS and fewest >= FEW_PATIENTS_IN_A_CLASS:
        return ""
    words = ("patient", "patients") if test.patients_known else ("patch", "patches")
    return (
        f"The test part has {_count(patients, *words)}, and {_count(fewest, *words)} of the class "
        f"{label}: intervals from so few are themselves uncertain and rather too narrow."
    )


def _size(patches: PatchSet) -> str:
    count = _count(len(patches), "patch", "patches")
    if not patches.patients_known:
        return f"{count} of unknown patients"
    return f"{count} of {_count(len(patches.patient_order), 'patient')}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _points(difference: float) -> str:
    """A difference of AUC in points, with a sign: 0.042 is +4.2."""
    return f"{100 * difference:+.1f}".replace("-", "−")
