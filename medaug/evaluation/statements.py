"""What was done and what may be concluded, in sentences for a reader of the report.

The words are those of CLAIM [1]_ and STARD [2]_: reference standard, index test, tuning.

.. [1] Mongan et al. 2020, doi:10.1148/ryai.2020200029
.. [2] Bossuyt et al. 2015, doi:10.1136/bmj.h5527
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medaug.domain import PatchSet, Release, Unit
from medaug.evaluation.calibration import BINS
from medaug.evaluation.classical import NOISE_HU, OFFSET_HU
from medaug.evaluation.comparison import FLIPS, MAIN, Comparison, overall
from medaug.evaluation.fitting import CHECKPOINTS
from medaug.evaluation.judging import Judgement
from medaug.evaluation.released import lacking, trainable
from medaug.evaluation.settings import SANITY_LINES, EvaluationSettings
from medaug.evaluation.statistics import Interval
from medaug.evaluation.transfer import read_weights
from medaug.evaluation.uncertainty import POWER

FEW_PATIENTS = 30
FEW_PATIENTS_IN_A_CLASS = 10
"""Fewer test patients than this earn a caveat; a percentile bootstrap is too narrow there."""


_OVERLAP = (
    "Folds share training patients and are not independent: what they differ by beyond patients "
    "and seeds counts with the factor 1/n + tested/trained of Nadeau and Bengio (2003). Their "
    "corrected resampled t test stands beside."
)
_DELONG = (
    "DeLong's test, clustered by patient (Obuchowski 1997), stands beside; it takes the trained "
    "classifiers as given."
)


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
    doses = sorted(set(settings.dose_of(training.classes)))
    dose = _list([f"{each:.2g}" for each in doses])
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
            f"with real ones, {dose} are shown for each real one"
            f"{' (by class)' if len(doses) > 1 else ''}. Classical augmentation (flip, rotation, "
            "zoom, shift, filter, intensity, noise) applies to every patch of its arms, and so do "
            "RandAugment and TrivialAugment to theirs."
        ),
        *_intensity_sentence(training),
        (
            f"Tuning {unit} chose which of {CHECKPOINTS} checkpoints of a training was kept (macro "
            "AUC) and each class's threshold (Youden's index); the test part was scored once."
        ),
        (
            "AUC is one class against the rest, macro AUC the mean over classes. A patch is given "
            "the class whose probability is the largest multiple of its threshold; sensitivity and "
            "specificity follow, and balanced accuracy is the mean sensitivity."
        ),
        *_statistics_sentences(comparisons, settings, unit),
        *_missing_sentences(missing, settings),
        *_search_sentences(settings),
    )


def _statistics_sentences(
    comparisons: Sequence[Comparison], settings: EvaluationSettings, unit: str
) -> tuple[str, ...]:
    """How figures became intervals, and intervals a verdict."""
    folded = any(each.resampled for each in comparisons)
    tests = sum(each.is_main for each in comparisons)
    delong = any(each.delong for each in comparisons)
    return (
        (
            "Calibration is the Brier score (0 to 2, summed over classes) and the expected "
            f"calibration error of the class with the largest probability, in {BINS} bins; both "
            "are 0 at best."
        ),
        (
            f"Values are means over {'folds and ' * folded}seeds. Intervals "
            f"({_percent(settings.confidence)}, percentile) come from {settings.bootstrap} "
            f"bootstrap samples of test {unit}, the same for all arms, and from the spread between "
            "seeds beyond what these samples explain."
        ),
        *[_OVERLAP] * folded,
        (
            f"The main comparison was fixed in advance: macro AUC of {MAIN[0]} against {MAIN[1]} "
            f"({_count(tests, 'classifier')}). p is the larger of two: of the bootstrap, and of a "
            f"permutation of the arms within {unit} ({FLIPS} deals). It is corrected by Holm's "
            f"method over all {len(comparisons)} comparisons; the intervals are not. The smallest "
            f"difference that could have been shown is meant with {_percent(POWER)} power."
        ),
        *[_DELONG] * delong,
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


def _intensity_sentence(training: PatchSet) -> tuple[str, ...]:
    """What augmentation does to values that mean something."""
    if training.unit is Unit.HOUNSFIELD:
        return (
            (
                f"HU are not scaled by augmentation: they move by {OFFSET_HU:g} HU at most, and "
                f"noise has a standard deviation of {NOISE_HU:g} HU at most."
            ),
        )
    return ()


def _search_sentences(settings: EvaluationSettings) -> tuple[str, ...]:
    """How the arm real+searched came about."""
    if not settings.search.trials:
        return ()
    return (
        (
            f"The policy of the arm real+searched was found for each classifier with "
            f"{_count(settings.search.trials, 'trial')} of "
            f"{_count(settings.search.seeds, 'training')} each, by the macro AUC on tuning "
            "patients alone; the policy found was then trained anew."
        ),
    )


def _missing_sentences(missing: Sequence[str], settings: EvaluationSettings) -> tuple[str, ...]:
    """What became of the arms where the release lacks classes."""
    if not missing:
        return ()
    _, left_out = trainable(missing, settings)
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
    if not any(each.resampled for each in comparisons):
        sentences.append(
            "One generator was trained on one split: another training of it or another split "
            "could give other figures, and that spread is not in the intervals."
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
    judged: Judgement, confidence: float, patients_known: bool, what: str = "Synthetic patches"
) -> str:
    """The verdict on ``what`` with its figures, one clause per classifier."""
    main = [each for each in judged.comparisons if each.is_main]
    opening = {
        "helps": f"{what} help on top of classical augmentation",
        "hurts": f"{what} hurt on top of classical augmentation, do not use them",
        "no evidence": (
            f"No evidence that {what[0].lower()}{what[1:]} help on top of classical augmentation, "
            "do not use them"
        ),
    }[overall(main)]
    clauses = "; ".join(_clause(each, confidence) for each in main)
    trained = _count(judged.seeds, "seed")
    if judged.folds > 1:
        trained += f" × {judged.folds} folds"
    who = (
        _count(judged.patients, "test patient")
        if patients_known
        else f"{_count(judged.patches, 'test patch', 'test patches')} of unknown patients"
    )
    return f"{opening}: {clauses} ({trained}, {who})."


def _clause(each: Comparison, confidence: float) -> str:
    percent = _percent(confidence)
    first = f"p = {each.p_holm:.3f} after Holm's correction"
    if each.verdict == "no evidence":
        first += f"; {each.detectable}"
    return (
        f"with {each.classifier} they {_moved('the macro AUC', each.difference)} "
        f"({percent} interval {_ends(each.difference)}, {first}) and "
        f"{_moved('mean sensitivity', each.others['balanced_accuracy'])} "
        f"({_ends(each.others['balanced_accuracy'])})"
    )


def _moved(what: str, difference: Interval) -> str:
    """In points: 0.042 is 4.2."""
    points = f"{100 * abs(difference.value):.1f}"
    if points == "0.0":
        return f"left {what} where it was"
    return f"{'raised' if difference.value > 0 else 'lowered'} {what} by {points} points"


def _ends(difference: Interval) -> str:
    return f"{_points(difference.low)} to {_points(difference.high)}"


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
