"""Likeness to real patients from whom the generator did not learn.

The training patients would flatter it: a copy of one of them is as alike as can be. The test
patients are the honest comparison, but halves of a small test part say little (`fidelity`). Where
it has too few patches of some class, the tuning patients are added. They are no part of the
training either, but they helped to choose the generator's weights, and the document says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medaug.domain import Part, PatchSet, PatientSplit, Release, Window
from medaug.errors import CohortError
from medaug.evaluation.features import Masks
from medaug.evaluation.fidelity import FEW_PATCHES, fidelity
from medaug.evaluation.released import lacking, only
from medaug.evaluation.settings import EvaluationSettings
from medaug.progress import Progress

ENOUGH = 2 * FEW_PATCHES
"""Test patches of a class, so that a half of them holds `FEW_PATCHES`."""


def likeness_to_unseen(
    patches: PatchSet,
    split: PatientSplit,
    release: Release,
    settings: EvaluationSettings,
    window: Window,
    seed: int,
    progress: Progress | None = None,
    masks: Masks | None = None,
) -> dict[str, Any]:
    """What stands under ``fidelity`` in ``evaluation.json``.

    ``not_computed`` says why there are no figures, in sentences; it is empty where there are.
    ``real`` counts the patients they are held against; ``groups`` and all else are those of
    `fidelity.Fidelity.document`.

    Args:
        patches: of the whole cohort.
        split: of its patients.
        release: made by a generator that learnt from the training part alone.
        settings: ``fidelity`` and ``confidence`` are read.
        window: intensities → [-1, 1].
        seed: of halvings and draws.
        progress: follows the halvings.
        masks: of the synthetic patches, where they have any.

    Raises:
        SettingsError: for a weight file that cannot be used.
    """
    if not settings.fidelity.enabled:
        return {"not_computed": ["Switched off: the setting evaluation.fidelity.enabled is false."]}
    kept = release.per_class()
    missing = lacking(release, patches.classes)
    patches = only(patches, [label for label in patches.classes if kept.get(label)])
    parts = parts_to_compare(patches, split)
    real = patches.of_patients(frozenset().union(*map(split.patients, parts)))
    document: dict[str, Any] = {
        "real": {
            "parts": list(parts),
            "patients": len(real.patient_order),
            "patches": len(real),
            "patients_known": real.patients_known,
        },
        "not_computed": [],
    }
    try:
        found = fidelity(real, release, settings, window, seed, progress, masks)
    except CohortError as error:
        document["not_computed"] = [
            f"{fault.where}: {fault.came}; needed: {fault.allowed}." for fault in error.faults
        ]
        return document
    document |= found.document()
    if missing:
        document["caveats"].append(
            f"Nothing of the class {', '.join(missing)} was released, so it is not compared."
        )
    if "tuning" in parts:
        document["caveats"].append(
            f"Of some class the test part has fewer than {ENOUGH} patches, so the tuning part was "
            "added. It helped to choose which weights of the generator were kept, which may make "
            "the figures slightly too good."
        )
    return document


def parts_to_compare(patches: PatchSet, split: PatientSplit) -> tuple[Part, ...]:
    """The test part where it suffices, otherwise with the tuning part."""
    test = split.part(patches, "test")
    counts = np.bincount(test.labels, minlength=len(test.classes))
    return ("test",) if counts.min() >= ENOUGH else ("tuning", "test")
