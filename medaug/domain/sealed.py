"""A test part that nobody sees before everything is chosen, and that is read once.

In a cross-validation doses and policies are chosen in every fold. What chooses is handed the
training and the tuning part and a `Sealed` test part, which tells who is in it and no more. Opening
it takes the records of every generator and the patients that chose, and can be done once: a second
look, after which one could choose again, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from medaug.domain.cohort import HeldOut
from medaug.domain.lesion import PatientKey
from medaug.domain.patch import PatchSet
from medaug.domain.synthetic import TrainingRecord
from medaug.errors import Fault, LeakageError


class Sealed:
    """Real patches of a test part, closed.

    Attributes:
        patients: who is in it.
        digest: of its patches.
        size: how many patches there are.

    Raises:
        LeakageError: for anything but real patches.
    """

    def __init__(self, patches: PatchSet) -> None:
        if not isinstance(patches, PatchSet):
            raise LeakageError(
                Fault("test set", f"a {type(patches).__name__}", "real patches (PatchSet)")
            )
        self.patients = frozenset(patches.patients)
        self.digest = patches.digest
        self.size = len(patches)
        self.__patches: PatchSet | None = patches

    def open(self, lineage: tuple[TrainingRecord, ...], chosen_on: Iterable[PatientKey]) -> HeldOut:
        """The patches, for scoring; they cannot be had again.

        Args:
            lineage: records of every generator whose samples were trained on.
            chosen_on: patients who taught the classifiers or chose anything about them.

        Raises:
            LeakageError: if it was opened before; if a generator saw a patient of it; if anything
                was learnt from or chosen on a patient of it.
        """
        if self.__patches is None:
            raise LeakageError(
                Fault("test set", "it was opened before", "one look, after everything is chosen")
            )
        shared = self.patients & set(chosen_on)
        if shared:
            raise LeakageError(
                Fault(
                    "test set",
                    f"on {len(shared)} of its patients something was learnt or chosen",
                    "doses, policies and checkpoints that the training and tuning parts chose",
                    "choose on the tuning part of the fold",
                )
            )
        held = HeldOut(self.__patches, lineage)
        self.__patches = None
        return held
