"""The stations train and release where differential privacy is asked for.

What reaches patients' data here is `train`, and nothing else: `review` is handed no real patch.
How the patients are dealt out matters too: one patient more must not move another from one part to
another, so that every patient's part follows from his own token alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medaug.atomic import write_json
from medaug.config import PipelineConfig
from medaug.domain import (
    PatchSet,
    PatientSplit,
    PrivacyCost,
    Sampler,
    Window,
    deal_independently,
    split_patients,
)
from medaug.errors import CohortError, Fault
from medaug.progress import Progress

if TYPE_CHECKING:
    from medaug.generators.settings import GeneratorSettings, SimulatorSettings
    from medaug.privacy.accounting import Rounds
    from medaug.privacy.verdict import Review
    from medaug.privacy.voted import Render, VotedGenerator

COST = "cost.json"


def deal_patients(config: PipelineConfig, patches: PatchSet) -> PatientSplit:
    """Who trains, tunes and judges, as the mode asks for."""
    if config.privacy.mode == "empirical":
        return split_patients(patches, config.cohort.fractions, config.seed)
    return deal_independently(patches, config.cohort.fractions, config.seed)


def train(config: PipelineConfig, training: PatchSet, folder: Path, progress: Progress) -> None:
    """Spend ε on the training patients; leaves the generator's ``folder`` with ``cost.json``.

    Raises:
        SettingsError: δ is too large for so few patients, or the settings do not go together.
        CohortError: a class has too few patients, or patients are not known.
    """
    from medaug.generators.settings import GeneratorSettings, SimulatorSettings
    from medaug.privacy.accounting import cost_of, refuse_delta, rounds_for

    _refuse_cohort(config, training)
    privacy, generator = config.privacy, config.generator
    refuse_delta(privacy.delta, len(training.patient_order))
    steps, rate = len(privacy.dp_vote.perturb), 1.0
    if privacy.mode == "dp-sgd":
        steps, rate = privacy.dp_sgd.steps, privacy.dp_sgd.rate
    if TYPE_CHECKING:
        assert privacy.epsilon is not None
    rounds = rounds_for(privacy.epsilon, privacy.delta, steps, rate)
    forced = privacy.mode == "dp-sgd" and privacy.force
    cost = cost_of(rounds, privacy.delta, privacy.mode, forced)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / COST, asdict(cost))
    if isinstance(generator, SimulatorSettings):
        _vote(config, generator, training, rounds, folder, progress)
    elif isinstance(generator, GeneratorSettings):
        _noisy_gradients(config, generator, training, cost, folder, progress)


def _refuse_cohort(config: PipelineConfig, training: PatchSet) -> None:
    least = config.privacy.policy().min_patients_per_class
    faults = [
        Fault(f"class '{label}'", f"{count} patients would train the generator", f"{least} or more")
        for label, count in training.patients_per_class().items()
        if count < least
    ]
    if not training.patients_known:
        faults.append(
            Fault(
                "cohort",
                f"patients are not known, and privacy.mode: {config.privacy.mode} is per patient",
                "a source that names patients",
                "a guarantee per patch is worth little where a patient has several",
            )
        )
    if faults:
        raise CohortError(*faults)


def _vote(
    config: PipelineConfig,
    settings: SimulatorSettings,
    training: PatchSet,
    rounds: Rounds,
    folder: Path,
    progress: Progress,
) -> None:
    from medaug.phantom.parametric import PARAMETERS
    from medaug.privacy.dp_vote import evolve
    from medaug.privacy.looks import looks
    from medaug.privacy.voted import save_voted

    window, render = Window(*settings.window), _renderer(config, settings, training)

    def simulate(
        label: str, parameters: NDArray[np.float64], seeds: Sequence[int]
    ) -> NDArray[np.float32]:
        return render(label, parameters, seeds)[0]

    population = evolve(
        training,
        simulate,
        len(PARAMETERS),
        lambda images: looks(window.to_signed(images)),
        rounds,
        config.privacy.dp_vote,
        config.seed,
        progress=progress,
    )
    save_voted(folder, population, training, settings.model_dump(mode="json"), config.seed)


def _noisy_gradients(
    config: PipelineConfig,
    settings: GeneratorSettings,
    training: PatchSet,
    cost: PrivacyCost,
    folder: Path,
    progress: Progress,
) -> None:
    from medaug.generators.dp_sgd import Noisy, train_private

    how = config.privacy.dp_sgd
    noisy = Noisy(
        sigma=cost.sigma,
        rate=how.rate,
        steps=how.steps,
        clip=how.clip,
        patches=how.patches_per_patient,
        generator_every=how.generator_every,
        mu=cost.mu,
    )
    force = config.privacy.force
    train_private(training, settings, noisy, config.seed, folder, force, progress)


def open_voted(
    config: PipelineConfig, settings: SimulatorSettings, patches: PatchSet, folder: Path
) -> VotedGenerator:
    """The generator that `train` left in ``folder`` with votes."""
    from medaug.privacy.voted import load_voted

    return load_voted(folder, _renderer(config, settings, patches))


def _renderer(config: PipelineConfig, settings: SimulatorSettings, patches: PatchSet) -> Render:
    """The public simulator; of the patches only class names, unit, modality and shape are read."""
    from medaug.phantom.parametric import parametric_renderer

    channels, rows, columns = patches.images.shape[1:]
    return parametric_renderer(
        {label: settings.render.get(label, label) for label in patches.classes},
        patches.modality,
        patches.unit,
        (channels, rows, columns),
        config.patching.mm_per_pixel or 0.0,
    )


def review(
    config: PipelineConfig, generator: Sampler, patches: PatchSet, folder: Path, progress: Progress
) -> Review:
    """Release from the generator in ``folder``; of the patches only unit, modality and shape."""
    from medaug.privacy.dp_release import PatchForm, release_dp

    document = json.loads((folder / COST).read_text(encoding="utf-8"))
    cost = PrivacyCost(**{**document, "excluded": tuple(document["excluded"])})
    form = PatchForm(
        shape=patches.images.shape[1:],
        window=Window(*config.generator.window),
        unit=patches.unit,
        modality=patches.modality,
        mm_per_pixel=config.patching.mm_per_pixel or 0.0,
    )
    return release_dp(
        generator,
        config.privacy.policy(),
        cost,
        form,
        seed=config.seed,
        memory_mb=config.privacy.memory_mb,
        progress=progress,
    )
