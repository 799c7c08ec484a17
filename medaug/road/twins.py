"""Twins on the road: the training procedure is audited where one run says too little.

With ``privacy.twins: N`` the release station trains N generators more, with the settings of the
run, on complementary random halves of the training patients, before it reviews anything
(`medaug.privacy.twins`). What is audited are their samples before any check, without canaries: a
leak that the gate would have filtered counts. A twin that is complete is not trained again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medaug.config import PipelineConfig
from medaug.domain import PatchSet, PatientSplit, Window
from medaug.progress import Progress
from medaug.road.tuning import judged_by

if TYPE_CHECKING:
    from medaug.privacy.twins import TwinAudit

SAMPLES = 100  # of each class and twin


def findings(
    config: PipelineConfig,
    patches: PatchSet,
    split: PatientSplit | None,
    folder: Path,
    progress: Progress,
) -> tuple[TwinAudit, ...]:
    """What the twins say; empty where none are asked for.

    Args:
        config: the study.
        patches: of the cohort.
        split: of its patients; None with differential privacy, where there are no twins.
        folder: of the run's generator; takes ``twins/00`` and so on.
        progress: told of every step.

    Raises:
        CohortError: if half of the patients do not suffice to train.
    """
    from medaug.generators.settings import GeneratorSettings
    from medaug.generators.training import train_generator
    from medaug.privacy.twins import audit_twins, deal_twins, scores_of_twins

    settings, seed = config.generator, config.seed
    if not config.privacy.twins or split is None or not isinstance(settings, GeneratorSettings):
        return ()
    training, tuning = (split.part(patches, part) for part in ("training", "tuning"))
    halves = deal_twins(len(training.patient_order), config.privacy.twins, seed)
    least = max(1, settings.min_patients // 2)
    settings = settings.model_copy(update={"min_patients": least})
    judge = judged_by(tuning, Window(*settings.window))

    def samples_of(half: PatchSet, number: int) -> NDArray[np.float32]:
        place = folder / "twins" / f"{number:02d}"
        twin = train_generator(half, settings, seed + 1 + number, place, progress, None, judge)
        return np.concatenate([twin.draw(one, range(SAMPLES)).images for one in twin.classes])

    return (audit_twins(scores_of_twins(training, halves, samples_of), halves, seed),)
