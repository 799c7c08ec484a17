"""What the gate must know of the generators that a generator began from.

Copies are looked for among the patches that the gate holds. A patch that only an earlier generator
saw is not among them; see `medaug.generators.beginning`.
"""

from __future__ import annotations

from medaug.domain import PatchSet, TrainingRecord

PUBLIC_BEGINNING = (
    "The generator began from the weights of another, of which the site declares that it saw "
    "public or rendered data only. Copies of those data were not looked for."
)


def lineage_reasons(record: TrainingRecord, training: PatchSet) -> list[str]:
    """Sentences for what the generator saw, by itself or before, and the gate does not hold."""
    reasons = []
    declared = [ancestor.patients for ancestor in record.ancestors]
    unseen = len(record.patients.difference(training.patients, *declared))
    if unseen:
        reasons.append(
            f"The generator saw {unseen} patients whose patches the gate does not hold: copies of "
            "them could not be found."
        )
    elif record.patches_digest != training.digest:
        reasons.append(
            "The generator was trained on other patches than those the gate holds: copies of them "
            "could not be found."
        )
    foreign = [
        ancestor
        for ancestor in record.ancestors
        if not ancestor.public and ancestor.patches_digest != training.digest
    ]
    if foreign:
        patients = len(frozenset().union(*(ancestor.patients for ancestor in foreign)))
        reasons.append(
            f"The generator began from one that was trained on patches of {patients} patients "
            "which the gate does not hold: copies of them could not be found. If these were public "
            "or rendered data only, declare it by generator.init_is_public: true and train again."
        )
    return reasons


def lineage_statements(record: TrainingRecord) -> tuple[str, ...]:
    """What a release must say of where its generator began."""
    return (PUBLIC_BEGINNING,) if any(one.public for one in record.ancestors) else ()
