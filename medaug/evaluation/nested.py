"""Cross-validation by patient, with a generator of its own in every fold.

Each patient judges in one fold. In a fold

1. the generator is trained on the training part (`refits`),
2. the tuning part chooses a dose for each classifier (`doses`), and, of the arms without and of
   those with synthetic patches, the best policy,
3. the test part, closed until then, is opened once (`medaug.domain.Sealed`), and every classifier
   is trained and scored.

What comes out are `FoldScores`; `medaug.evaluation.judging` makes figures of them. A generator that
saw a patient who judges or tunes, folds that share patients, a synthetic patch in a test part and
a choice made on those who judge are a `LeakageError`, raised before a classifier is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medaug.domain import (
    Candidates,
    HeldOut,
    PatchSet,
    PatientSplit,
    Release,
    Sealed,
    Window,
    digest_of,
)
from medaug.errors import CohortError, Fault, LeakageError, SettingsError
from medaug.evaluation.bench import Bench, External, Job, Table, fold_scores
from medaug.evaluation.comparison import MAIN
from medaug.evaluation.curve import Shares, subset
from medaug.evaluation.devices import device_of
from medaug.evaluation.doses import best
from medaug.evaluation.fold_scores import FoldScores
from medaug.evaluation.pace import Pace
from medaug.evaluation.policies import ARMS, Arm, arms_of
from medaug.evaluation.refits import Refit, Refitted, refuse_unfit, wanted_for
from medaug.evaluation.settings import ClassifierName, EvaluationSettings
from medaug.evaluation.statistics import macro_auc
from medaug.progress import Progress, Silent

WITHOUT, WITH = "best without synthetic", "best with synthetic"
"""The policies that the tuning part chose, as arms beside the others."""
ALONE_DOSE = 1.0
"""Of the arm without real patches: as many patches of each class as there are real ones."""

Trainings = dict[tuple[str, str], list[FoldScores]]


@dataclass(frozen=True)
class Choice:
    """What the tuning part of a fold chose for a classifier.

    Attributes:
        fold: its number, from 0.
        classifier: which.
        reached: dose to macro AUC on the tuning part.
        dose: the one with the largest.
        without: the best arm without synthetic patches.
        with_synthetic: the best arm with real and synthetic ones.
    """

    fold: int
    classifier: ClassifierName
    reached: dict[float, float]
    dose: float
    without: str = ""
    with_synthetic: str = ""

    @property
    def above_0(self) -> float:
        """The best dose but for 0."""
        return best({dose: at for dose, at in self.reached.items() if dose > 0})

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "fold": self.fold,
            "classifier": self.classifier,
            "reached": {f"{dose:g}": at for dose, at in self.reached.items()},
            "dose": self.dose,
            "without": self.without,
            "with": self.with_synthetic,
        }


@dataclass(frozen=True, eq=False)
class Nested:
    """The scores of a cross-validation.

    Attributes:
        scores: of (classifier, arm), one entry per fold and seed.
        external: the same for each external set, by its name.
        shares: the same for each share of the training patients.
        choices: of each fold and classifier.
    """

    scores: Trainings
    external: dict[str, Trainings]
    shares: Shares
    choices: tuple[Choice, ...]


def cross_validate(
    patches: PatchSet,
    splits: Sequence[PatientSplit],
    refit: Refit,
    settings: EvaluationSettings,
    window: Window,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    external: Sequence[External] = (),
    synthetic: Sequence[Release | Candidates] = (),
) -> Nested:
    """Train and score every arm in every fold.

    The result is the same for the same arguments on the same machine, however often it was stopped.

    Args:
        patches: of the whole cohort.
        splits: the folds, as `medaug.domain.deal_folds` deals them.
        refit: trains a generator inside a fold.
        settings: of the trainings.
        window: intensities → [-1, 1], the classifiers' input.
        seed: of everything random.
        folder: keeps generators and scores; a later call goes on from there.
        progress: is told fold, classifier, arm, seed and time left.
        external: other sites, scored by the same classifiers; they choose nothing.
        synthetic: patches known to be synthetic, such as the release; none may judge.

    Raises:
        LeakageError: for a protocol that would flatter.
        CohortError: for patches that do not fit or do not suffice.
        SettingsError: for a device that is not there.
    """
    refuse_splits(patches, splits)
    for one in external:
        refuse_external(patches, one)
    seeds, classifiers = settings.seeds, len(settings.classifiers)
    curved = 2 * len(settings.learning_curve) * seeds
    arms = len(_arms(settings))
    trainings = classifiers * (len(settings.doses) + arms * seeds + curved)
    generators = 1 + sum(share < 1 for share in settings.learning_curve)
    pace = Pace(
        progress or Silent(), len(splits) * generators, len(splits) * trainings * settings.steps
    )
    bench = Bench(settings, seed, device_of(settings), folder, pace)
    found = Nested({}, {one.name: {} for one in external}, Shares({}, {}, {}), ())
    choices: list[Choice] = []
    for number, split in enumerate(splits):
        fold = _Fold(number, len(splits), split, patches, refit, bench, window, tuple(synthetic))
        choices += fold.run(found, external, trainings * settings.steps)
    return replace(found, choices=tuple(choices))


@dataclass(frozen=True, eq=False)
class _Fold:
    """One fold: its parts, and what works on them."""

    number: int
    of: int
    split: PatientSplit
    patches: PatchSet
    refit: Refit
    bench: Bench
    window: Window
    synthetic: tuple[Release | Candidates, ...]

    def run(self, found: Nested, external: Sequence[External], steps: int) -> Iterator[Choice]:
        """Refit, choose, open the test part, train and score; adds to ``found``."""
        settings, bench = self.bench.settings, self.bench
        training, tuning = (self.split.part(self.patches, part) for part in ("training", "tuning"))
        sealed = Sealed(self.split.part(self.patches, "test"))
        made = {1.0: self._refitted(training, tuning, 1.0)}
        parts = {1.0: training}
        for share in settings.learning_curve:
            if share < 1:
                parts[share] = subset(training, share, bench.seed)
                try:
                    made[share] = self._refitted(parts[share], tuning, share)
                except (CohortError, SettingsError) as error:
                    found.shares.left_out[share] = str(error.faults[0])
        tables = {
            share: Table.laid(parts[share], tuning, each.candidates, self.window)
            for share, each in made.items()
        }
        bench.pace.start(f"fold {self.number + 1} of {self.of}: classifiers", steps)
        choices = [self._choose(name, tables[1.0]) for name in settings.classifiers]
        # Nothing is chosen after this line but between arms, by their tuning scores.
        held = sealed.open(
            tuple(each.record for each in made.values()), {*training.patients, *tuning.patients}
        )
        for known in (*(each.candidates for each in made.values()), *self.synthetic):
            held.refuse_images(known)
        scored = [held.patches]
        for one in external:
            lineage = tuple(each.record for each in made.values())
            scored.append(HeldOut(one.patches, lineage).patches)
        for choice in choices:
            judged = tables[1.0].judged_by(scored, self.window)
            yield self._score_arms(choice, judged, found, external)
            for share in settings.learning_curve:
                if share in tables:
                    self._score_share(choice, share, tables[share], scored[:1], found)

    def _refitted(self, training: PatchSet, tuning: PatchSet, share: float) -> Refitted:
        """A generator of this fold, trained on ``share`` of the training patients."""
        bench, settings = self.bench, self.bench.settings
        wanted = wanted_for(training, max(settings.doses[-1], ALONE_DOSE))
        seed = int(digest_of("refit", bench.seed, self.number, share)[:7], 16)
        assert bench.folder is not None  # cross_validate asks for one
        folder = bench.folder / f"fold_{self.number}" / f"generator_{round(100 * share)}"
        with bench.pace.generator():
            made = self.refit(training, tuning, seed, folder, wanted)
        refuse_unfit(made, training, tuning, wanted)
        return made

    def _choose(self, classifier: ClassifierName, table: Table) -> Choice:
        """The dose with the best macro AUC on the tuning part."""
        mixed, plain = (next(arm for arm in ARMS if arm.name == name) for name in MAIN)
        settings, reached = self.bench.settings, {}
        for dose in settings.doses:
            arm = mixed.at(dose) if dose else plain
            job = Job(self.number, classifier, arm, "choice", 0)
            scores = self.bench.train(job, table, table.diet, ("dose", dose))
            reached[dose] = macro_auc(scores.tuning, table.tuning.labels)
        return Choice(self.number, classifier, reached, best(reached))

    def _score_arms(
        self, choice: Choice, table: Table, found: Nested, external: Sequence[External]
    ) -> Choice:
        """Every arm with every seed; then the policies that their tuning scores choose."""
        runs: dict[str, list[tuple[FoldScores, ...]]] = {}
        arms = _arms(self.bench.settings)
        for arm in arms:
            runs[arm.name] = [
                self._trained(choice, arm, choice.dose, table, run)
                for run in range(self.bench.settings.seeds)
            ]
        tuned = {
            name: float(np.mean([_tuned(of_sets[0]) for of_sets in each]))
            for name, each in runs.items()
        }
        plain = {arm.name: tuned[arm.name] for arm in arms if arm.real and not arm.synthetic}
        mixed = {arm.name: tuned[arm.name] for arm in arms if arm.real and arm.synthetic}
        choice = replace(
            choice,
            without=max(plain, key=lambda name: plain[name]),
            with_synthetic=max(mixed, key=lambda name: mixed[name]),
        )
        runs |= {WITHOUT: runs[choice.without], WITH: runs[choice.with_synthetic]}
        for at, into in enumerate([found.scores, *(found.external[one.name] for one in external)]):
            for name, each in runs.items():
                key = (choice.classifier, name)
                into.setdefault(key, []).extend(of_sets[at] for of_sets in each)
        return choice

    def _score_share(
        self,
        choice: Choice,
        share: float,
        table: Table,
        scored: Sequence[PatchSet],
        found: Nested,
    ) -> None:
        """The main comparison with fewer training patients."""
        judged = table.judged_by(scored, self.window)
        into = found.shares.scores.setdefault(share, {})
        found.shares.patients.setdefault(share, {})[self.number] = table.patients
        for arm in ARMS:
            if arm.name in MAIN:
                for run in range(self.bench.settings.seeds):
                    of_sets = self._trained(choice, arm, choice.above_0, judged, run, share)
                    into.setdefault((choice.classifier, arm.name), []).append(of_sets[0])

    def _trained(
        self,
        choice: Choice,
        arm: Arm,
        dose: float,
        table: Table,
        run: int,
        share: float | None = None,
    ) -> tuple[FoldScores, ...]:
        """One training, on the dose that was chosen; of dose 0 that of the arm without."""
        dealt = list[str | float]()
        if arm.synthetic and arm.real and dose == 0:
            arm = next(
                other for other in ARMS if replace(arm, synthetic=False, name=other.name) == other
            )
        elif arm.synthetic:
            dose = dose if arm.real else ALONE_DOSE
            dealt = ["dose", dose]
            arm = arm.at(dose)
        purpose = "test" if share is None else f"share_{round(100 * share)}"
        job = Job(self.number, choice.classifier, arm, purpose, run)
        return fold_scores(job, table, self.bench.train(job, table, table.diet, dealt))


def _arms(settings: EvaluationSettings) -> tuple[Arm, ...]:
    """The arms asked for; a generator of simulate-and-refine is not refitted beside the other."""
    return tuple(arm for arm in arms_of(settings) if not arm.refined)


def _tuned(run: FoldScores) -> float:
    return macro_auc(run.tuning.probabilities.astype(np.float64), run.tuning.labels)


def refuse_splits(patches: PatchSet, splits: Sequence[PatientSplit]) -> None:
    """Refuse folds that are not by patient, or that lack a class.

    Raises:
        LeakageError: if patients are not known, or somebody judges twice.
        CohortError: if there are fewer than two folds, or a part lacks a class.
    """
    if not patches.patients_known:
        raise LeakageError(
            Fault(
                "folds",
                "the source does not say which patches belong to one patient, so that patches of "
                "one patient would stand in training and test",
                "patients that are known",
            )
        )
    judged = [key for split in splits for key in split.test]
    if len(judged) != len(set(judged)):
        raise LeakageError(
            Fault(
                "folds",
                f"{len(judged) - len(set(judged))} patients judge in more than one fold",
                "each patient in one",
            )
        )
    if len(splits) < 2:
        raise CohortError(Fault("folds", f"{len(splits)}", "at least 2"))
    faults = []
    for number, split in enumerate(splits):
        for part in ("training", "tuning", "test"):
            shown = split.part(patches, part).patients_per_class()
            faults += [
                Fault(
                    f"fold {number + 1}, {part} part: {label}",
                    "no patient of this class",
                    "at least 1",
                    "add patients of this class, or take fewer folds",
                )
                for label, count in shown.items()
                if not count
            ]
    if faults:
        raise CohortError(*faults)


def refuse_external(patches: PatchSet, external: External) -> None:
    """Raise unless an external set is of other patients and can be scored.

    Raises:
        LeakageError: if it shares patients with the cohort.
        CohortError: if its patches do not fit.
    """
    where = f"external set {external.name}"
    shared = len(set(patches.patients) & set(external.patches.patients))
    if shared:
        raise LeakageError(
            Fault(where, f"{shared} of its patients are in the cohort", "patients of its own")
        )
    faults = [
        Fault(where, f"{what} {came}", f"as in the cohort: {wanted}")
        for what, came, wanted in (
            ("classes", external.patches.classes, patches.classes),
            ("unit", external.patches.unit, patches.unit),
            ("patch shape", external.patches.images.shape[1:], patches.images.shape[1:]),
        )
        if came != wanted
    ]
    if not faults:
        faults = [
            Fault(f"{where}: {label}", f"{count} patient(s) of this class", "at least 2")
            for label, count in external.patches.patients_per_class().items()
            if count < 2
        ]
    if faults:
        raise CohortError(*faults)
