"""Who may be trained on, who tunes, who judges: disjoint by patient, or it does not exist.

"Tuning" is what machine learning calls validation; in radiology "validation" means something
else, so the word is not used (CLAIM checklist [1]_).

A patient may show several classes. As in iterative stratification (Sechidis et al. [2]_) the
patients of the rarest class are dealt out first; unlike there, a patient goes where all of its
classes are missed most, not the rarest alone, which lets common classes drift by 8 patients.

.. [1] Mongan et al. 2020, doi:10.1148/ryai.2020200029
.. [2] Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medaug.domain.digest import digest_of
from medaug.domain.lesion import PatientKey
from medaug.domain.patch import PatchSet
from medaug.domain.synthetic import Candidates, Release, TrainingRecord
from medaug.errors import CohortError, Fault, LeakageError

Part = Literal["training", "tuning", "test"]
PARTS: tuple[Part, ...] = ("training", "tuning", "test")


@dataclass(frozen=True)
class PatientSplit:
    """Three disjoint, non-empty sets of patients.

    Raises:
        LeakageError: if a patient stands in two parts.
        CohortError: if a part is empty.
    """

    training: frozenset[PatientKey]
    tuning: frozenset[PatientKey]
    test: frozenset[PatientKey]

    def __post_init__(self) -> None:
        shared = self.training & self.tuning | self.training & self.test | self.tuning & self.test
        if shared:
            raise LeakageError(
                Fault("split", f"{len(shared)} patients stand in two parts", "one part each")
            )
        for name in PARTS:
            if not self.patients(name):
                raise CohortError(Fault("split", f"no patient is left for the {name} part"))

    def patients(self, part: Part) -> frozenset[PatientKey]:
        """The patients of one part."""
        parts = {"training": self.training, "tuning": self.tuning, "test": self.test}
        return parts[part]

    def part(self, patches: PatchSet, part: Part) -> PatchSet:
        """The patches of one part, in order."""
        return patches.of_patients(self.patients(part))


def split_patients(
    patches: PatchSet,
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    seed: int = 0,
) -> PatientSplit:
    """Deal patients out to training, tuning and test, stratified by the classes they show.

    The result depends on the order of the patches and the seed, never on the patients' tokens,
    so that two sites' keys give the same split.

    Args:
        patches: every patch of the cohort.
        fractions: shares of the three parts; positive, they sum to 1.
        seed: of the random order.

    Raises:
        CohortError: with fewer than three patients; it says how many there are.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"three positive fractions that sum to 1, got {list(fractions)}")
    count = len(patches.patient_order)
    if count < 3:
        raise CohortError(
            Fault("cohort", f"{count} patient(s)", "at least 3, one for each part", "add patients")
        )
    shows = np.zeros((count, len(patches.classes)), dtype=bool)
    shows[patches.patient_index, patches.labels] = True
    part_of = _stratify(shows, np.asarray(fractions), np.random.default_rng(seed))
    members = [
        frozenset(key for key, at in zip(patches.patient_order, part_of, strict=True) if at == part)
        for part in range(3)
    ]
    return PatientSplit(*members)


def deal_independently(patches: PatchSet, fractions: Sequence[float], seed: int) -> PatientSplit:
    """Deal each patient to a part by his own token and the seed, whoever else is in the cohort.

    One patient more or less moves nobody else, which differential privacy over the whole cohort
    needs and `split_patients` does not give. Parts are as large as chance makes them, not
    stratified, and follow from the site's key.

    Raises:
        CohortError: if a part stays empty.
    """
    ends = np.cumsum(fractions)[:2]
    members: list[set[PatientKey]] = [set(), set(), set()]
    for patient in patches.patient_order:
        at = int(digest_of("part", seed, patient.token)[:13], 16) / 16**13
        members[int(np.searchsorted(ends, at, side="right"))].add(patient)
    if not all(members):
        sizes = ", ".join(f"{name} {len(part)}" for name, part in zip(PARTS, members, strict=True))
        raise CohortError(Fault("cohort", f"an empty part: {sizes}", "", "add patients"))
    return PatientSplit(*map(frozenset, members))


def deal_folds(
    patches: PatchSet, folds: int, seed: int, tuning: float = 0.25
) -> tuple[PatientSplit, ...]:
    """Deal patients for a cross-validation: each judges in one fold, all his patches together.

    Stratified by the classes that patients show, as in `split_patients`; of those who do not judge
    in a fold, the share ``tuning`` tunes. The patients' tokens play no part.

    Args:
        patches: every patch of the cohort.
        folds: how many, at least 2.
        seed: of the random order.
        tuning: between 0 and 1.

    Raises:
        LeakageError: if the source does not tell patients apart.
        CohortError: if there are fewer patients than a fold needs.
    """
    if folds < 2 or not 0 < tuning < 1:
        raise ValueError(f"at least 2 folds and a share between 0 and 1, got {folds}, {tuning}")
    if not patches.patients_known:
        raise LeakageError(
            Fault(
                "folds",
                "the source does not say which patches belong to one patient, so that patches of "
                "one patient would stand in training and test",
                "patients that are known",
                "name the patients (sources: patient), or leave evaluation.folds at 0",
            )
        )
    count = len(patches.patient_order)
    if count < max(folds, 3):
        raise CohortError(
            Fault("folds", f"{count} patient(s)", f"at least {max(folds, 3)}", "add patients")
        )
    shows = np.zeros((count, len(patches.classes)), dtype=bool)
    shows[patches.patient_index, patches.labels] = True
    rng = np.random.default_rng((seed, folds))
    fold_of = _stratify(shows, np.full(folds, 1 / folds), rng)
    splits = []
    for fold in range(folds):
        rest = np.flatnonzero(fold_of != fold)
        tunes = _stratify(shows[rest], np.array([1 - tuning, tuning]), rng) == 1
        rows = (rest[~tunes], rest[tunes], np.flatnonzero(fold_of == fold))
        splits.append(
            PatientSplit(*(frozenset(patches.patient_order[at] for at in r) for r in rows))
        )
    return tuple(splits)


def _stratify(
    shows: NDArray[np.bool_], fractions: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Part of each patient, one per fraction; ``shows`` is (patient, class)."""
    patients = len(shows)
    wanted_of_class = np.outer(shows.sum(axis=0), fractions)
    wanted = patients * fractions
    part_of = np.full(patients, -1, dtype=np.int64)
    order = rng.permutation(patients)

    def assign(patient: int, part: int) -> None:
        part_of[patient] = part
        wanted[part] -= 1
        wanted_of_class[shows[patient], part] -= 1

    def gain(patient: int) -> NDArray[np.float64]:
        """(part,) fall of the χ² distance to the wanted numbers, of classes and of patients."""
        missed = np.vstack([wanted_of_class[shows[patient]], wanted])
        return np.asarray(((2 * missed - 1) / fractions).sum(axis=0))

    # No part may stay empty, however small the cohort.
    for part, patient in enumerate(order[: len(fractions)]):
        assign(int(patient), part)
    while (open_patients := part_of < 0).any():
        left = shows[open_patients].sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, patients + 1)))
        for patient in order:
            if part_of[patient] < 0 and (shows[patient, rarest] or not left.any()):
                assign(int(patient), int(np.argmax(gain(patient))))
    return part_of


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Real patches that may judge: no generator in ``lineage`` saw any of their patients.

    Every score in medaug is computed on a `HeldOut`; there is no other way in. It takes a
    `PatchSet`, which is real by type, and refuses patients that a generator was trained on.

    Raises:
        LeakageError: if a patient was seen by a generator of the lineage, or was trained on.
    """

    patches: PatchSet
    lineage: tuple[TrainingRecord, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.patches, PatchSet):
            raise LeakageError(
                Fault("test set", f"a {type(self.patches).__name__}", "real patches (PatchSet)")
            )
        self.refuse_patients(key for record in self.lineage for key in record.patients)

    def refuse_patients(self, trained_on: Iterable[PatientKey]) -> None:
        """Raise `LeakageError` if any patient here is among ``trained_on``."""
        shared = set(self.patches.patients) & set(trained_on)
        if shared:
            raise LeakageError(
                Fault(
                    "test set",
                    f"{len(shared)} of its patients were trained on",
                    "patients that neither generator nor classifier has seen",
                    "split by patient and refit the generator inside the training part",
                )
            )

    def refuse_images(self, release: Release | Candidates) -> None:
        """Raise `LeakageError` if any test image is a synthetic one, pixel for pixel."""
        synthetic = {digest_of(image) for image in release.images}
        stored = release.rescale.restore(release.rescale.store(self.patches.images))
        shared = sum(digest_of(image) in synthetic for image in stored)
        if shared:
            raise LeakageError(
                Fault("test set", f"{shared} synthetic patches", "real patches only")
            )
