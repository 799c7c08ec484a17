"""What may not be evaluated, refused before anything is trained.

Published gains of synthetic data often rest on a broken protocol: a test patient that the
generator or the classifier saw, a synthetic patch in the test set, a generator of unknown
training. Those are a `LeakageError`. Patches that do not fit together, or a class with too few
patients to be scored, are a `CohortError` that names every fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from medaug.domain import HeldOut, PatchSet, Release
from medaug.errors import CohortError, Fault, LeakageError, SettingsError
from medaug.evaluation.settings import EvaluationSettings

LEAST_SIDE = 8
"""Pixels; the classifiers halve a patch three times."""
LEAST_TEST_PATIENTS = 2
"""In each class; resampling one patient says nothing about others."""


def refuse_leaks(training: PatchSet, tuning: PatchSet, test: HeldOut, release: Release) -> None:
    """Raise `LeakageError` unless the three parts and the generator's patients are apart."""
    test.refuse_patients({*training.patients, *tuning.patients})
    test.refuse_images(release)
    shared = set(training.patients) & set(tuning.patients)
    if shared:
        raise LeakageError(
            Fault(
                "tuning set",
                f"{len(shared)} of its patients are in the training set",
                "patients of its own",
                "split by patient",
            )
        )
    if release.generator_digest not in {record.weights_digest for record in test.lineage}:
        raise LeakageError(
            Fault(
                "test set",
                "its lineage does not name the generator of the release, which may have seen "
                "the test patients",
                "a HeldOut made with that generator's TrainingRecord",
            )
        )


def refuse_misfits(training: PatchSet, tuning: PatchSet, test: PatchSet, release: Release) -> None:
    """Raise `CohortError` with every reason why these cannot be evaluated together."""
    faults = [
        *_kinds(training, tuning, test, release),
        *_strangers(training, release),
        *_too_few("training set", training, 1),
        *_too_few("tuning set", tuning, 1),
        *_too_few("test set", test, LEAST_TEST_PATIENTS),
    ]
    if faults:
        raise CohortError(*faults)


def refuse_doses(settings: EvaluationSettings, classes: tuple[str, ...]) -> None:
    """Raise `SettingsError` for a dose of a class that the cohort does not have."""
    strangers = [label for label in settings.dose if label not in classes]
    if strangers:
        raise SettingsError(
            *(
                Fault(f"evaluation.dose.{each}", "no such class", ", ".join(classes))
                for each in strangers
            )
        )


def _kinds(
    training: PatchSet, tuning: PatchSet, test: PatchSet, release: Release
) -> Iterator[Fault]:
    """Faults of classes, unit and patch shape."""
    shape = training.images.shape[1:]
    if len(shape) not in (3, 4) or min(shape[1:]) < LEAST_SIDE:
        allowed = f"(channel, [slice,] row, column), at least {LEAST_SIDE} pixels along each side"
        yield Fault("training set", f"patches of {shape}", allowed)
    if len(training.classes) < 2:
        yield Fault("training set", f"only the class {training.classes}", "at least 2 classes")
    expected = (training.classes, training.unit, shape)
    for name, found in (
        ("tuning set", (tuning.classes, tuning.unit, tuning.images.shape[1:])),
        ("test set", (test.classes, test.unit, test.images.shape[1:])),
        # Its classes may be fewer; `_strangers` looks at them.
        ("release", (training.classes, release.unit, release.pixels.shape[1:])),
    ):
        for what, came, wanted in zip(
            ("classes", "unit", "patch shape"), found, expected, strict=True
        ):
            if came != wanted:
                yield Fault(name, f"{what} {came}", f"as in the training set: {wanted}")


def _strangers(training: PatchSet, release: Release) -> Iterator[Fault]:
    """Faults of classes that only the release has; it may lack some of the training set."""
    for label in release.classes:
        if label not in training.classes:
            yield Fault("release", f"classes: {label}", ", ".join(training.classes))


def _too_few(name: str, patches: PatchSet, least: int) -> Iterator[Fault]:
    """Faults of classes with fewer than ``least`` patients."""
    who = "patient(s)" if patches.patients_known else "patch(es)"
    for label, count in patches.patients_per_class().items():
        if count < least:
            yield Fault(
                f"{name}: {label}",
                f"{count} {who} of this class",
                f"at least {least}",
                "add patients of this class, or give this part a larger share (cohort.fractions)",
            )
