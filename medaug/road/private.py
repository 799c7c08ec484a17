"""The stations train and release where differential privacy is asked for.

What reaches patients' data here is `train`, and nothing else: `review` is handed no real patch.
Before `train` asks the patients anything, what it costs each of them is reserved in the site's
ledger; a training that is stopped or begun anew has spent it.
How the patients are dealt out matters too: one patient more must not move another from one part to
another, so that every patient's part follows from his own token alone.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medaug.atomic import write_json
from medaug.config import PipelineConfig
from medaug.domain import (
    PatchSet,
    PatientSplit,
    PrivacyCost,
    Sampler,
    Unit,
    Window,
    deal_independently,
    digest_of,
    split_patients,
)
from medaug.errors import CohortError, Fault, SettingsError
from medaug.progress import Progress
from medaug.site import open_ledger

if TYPE_CHECKING:
    from medaug.generators.settings import GeneratorSettings, SimulatorSettings
    from medaug.privacy.accounting import Rounds
    from medaug.privacy.ledger import Booking, Cap
    from medaug.privacy.verdict import Review
    from medaug.privacy.voted import Render, VotedGenerator

COST = "cost.json"
NOISE = "noise.json"  # a random number that this drawing of noise is known by in the ledger
COMPLETE = "config.json"  # written last, by either mechanism
MASS = "mass"  # what is rendered where there is no lesion of the class's own


def deal_patients(config: PipelineConfig, patches: PatchSet) -> PatientSplit:
    """Who trains, tunes and judges, as the mode asks for."""
    if config.privacy.mode == "empirical":
        return split_patients(patches, config.cohort.fractions, config.seed)
    return deal_independently(patches, config.cohort.fractions, config.seed)


def train(config: PipelineConfig, training: PatchSet, folder: Path, progress: Progress) -> None:
    """Spend ε on the training patients; leaves the generator's ``folder`` with ``cost.json``.

    What is already complete there is left as it is.

    Raises:
        DisclosureError: the ledger does not verify, a patient has withdrawn, or a patient's loss
            over all runs of the site would exceed ``privacy.epsilon_cap``.
        SettingsError: δ is too large for so few patients, or the settings do not go together.
        CohortError: a class has too few patients, or patients are not known.
    """
    from medaug.generators.settings import GeneratorSettings, SimulatorSettings
    from medaug.privacy.accounting import cost_of, refuse_delta, rounds_for

    if all((folder / name).is_file() for name in (COMPLETE, COST, NOISE)):
        return
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
    reserve = partial(_reserve, config, training, folder)
    if isinstance(generator, SimulatorSettings):
        _vote(config, generator, training, rounds, folder, reserve, progress)
    elif isinstance(generator, GeneratorSettings):
        _noisy_gradients(config, generator, training, cost, folder, reserve, progress)


def _reserve(config: PipelineConfig, training: PatchSet, folder: Path) -> None:
    """Charge every training patient; the noise that follows is known by a new random number."""
    from medaug.privacy.ledger import Booking

    number = secrets.token_hex(32)
    write_json(folder / NOISE, {"run": number})
    ledger = open_ledger(config.ledger, config.site_key)
    booked = Booking(
        run=number,
        dataset=training.digest,
        patients=frozenset(key.token for key in training.patient_order),
        attempt=digest_of("noise", number),
        mode=config.privacy.mode,
        wanted={},
        event=_event(folder),
    )
    ledger.reserve(booked, cap(config))


def _event(folder: Path) -> dict[str, Any]:
    """What the mechanism in ``folder`` did to the data, as the ledger keeps it."""
    cost = cost_in(folder)
    figures = {name: cost[name] for name in ("mechanism", "sigma", "rounds", "rate")}
    return figures | {"noise": _number(folder)}


def _number(folder: Path) -> str:
    return str(json.loads((folder / NOISE).read_text(encoding="utf-8"))["run"])


def cost_in(folder: Path) -> dict[str, Any]:
    """What `train` wrote into ``folder`` of its cost, as JSON."""
    document: dict[str, Any] = json.loads((folder / COST).read_text(encoding="utf-8"))
    return document


def cap(config: PipelineConfig) -> Cap:
    """The most that may be spent on a patient, and how costs add up."""
    from medaug.privacy.accounting import epsilon_of_events
    from medaug.privacy.ledger import Cap

    privacy = config.privacy
    if TYPE_CHECKING:
        assert privacy.epsilon is not None
    compose = partial(epsilon_of_events, delta=privacy.delta)
    return Cap(privacy.epsilon_cap or privacy.epsilon, compose)


def booking(config: PipelineConfig, generator: Sampler, folder: Path) -> Booking:
    """What a release is booked as: it spends nothing beyond the noise that was charged before."""
    from medaug.privacy.ledger import Booking

    record, policy = generator.record, config.privacy.policy()
    settings = config.privacy.decisive()
    return Booking(
        run=digest_of(_number(folder), record.weights_digest, settings, config.seed),
        dataset=record.patches_digest,
        patients=frozenset(key.token for key in record.patients),
        attempt=digest_of("release", _number(folder)),
        mode=config.privacy.mode,
        wanted={label: policy.quota(label) for label in generator.classes if policy.quota(label)},
        event=_event(folder),
    )


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
    reserve: Callable[[], None],
    progress: Progress,
) -> None:
    from medaug.privacy.dp_vote import evolve
    from medaug.privacy.looks import looks
    from medaug.privacy.voted import save_voted

    window, simulator = Window(*settings.window), _simulator(config, settings, training)

    def simulate(
        label: str, parameters: NDArray[np.float64], seeds: Sequence[int]
    ) -> NDArray[np.float32]:
        return simulator.render(label, parameters, seeds)[0]

    reserve()
    population = evolve(
        training,
        simulate,
        simulator.parameters,
        lambda images: looks(window.to_signed(images)),
        rounds,
        config.privacy.dp_vote,
        config.seed,
        progress=progress,
    )
    stands_for = settings.model_dump(mode="json")
    save_voted(folder, population, training, stands_for, config.seed, simulator.notes)


def _noisy_gradients(
    config: PipelineConfig,
    settings: GeneratorSettings,
    training: PatchSet,
    cost: PrivacyCost,
    folder: Path,
    reserve: Callable[[], None],
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
    train_private(training, settings, noisy, config.seed, folder, force, progress, reserve=reserve)


def open_voted(
    config: PipelineConfig, settings: SimulatorSettings, patches: PatchSet, folder: Path
) -> VotedGenerator:
    """The generator that `train` left in ``folder`` with votes."""
    from medaug.privacy.voted import load_voted

    return load_voted(folder, _simulator(config, settings, patches).render)


@dataclass(frozen=True)
class _Simulator:
    """What draws, how many numbers it takes, and what a reader of the report must know of it."""

    render: Render
    parameters: int
    notes: tuple[str, ...]


def voted_kinds(
    render: Mapping[str, str], classes: Sequence[str], modality: str, unit: Unit
) -> dict[str, str]:
    """What stands for each class in the simulator: a lesion of the phantom, or a mass."""
    from medaug.phantom import KINDS

    liver = (modality, unit) == ("CT", Unit.HOUNSFIELD)
    return {
        label: render.get(label, label if liver and label in KINDS else MASS) for label in classes
    }


def _simulator(
    config: PipelineConfig, settings: SimulatorSettings, patches: PatchSet
) -> _Simulator:
    """The public simulator; of the patches only class names, unit, modality and shape are read."""
    from medaug.phantom import KINDS
    from medaug.phantom.mass import PARAMETERS as OF_MASS
    from medaug.phantom.mass import mass_renderer
    from medaug.phantom.parametric import PARAMETERS as OF_LIVER
    from medaug.phantom.parametric import parametric_renderer

    shape = patches.images.shape[1:]
    if len(shape) != 3 or shape[0] != 1:
        raise SettingsError(
            Fault(
                "generator.preset",
                f"dp-vote, whose simulator draws single slices, for patches of shape {shape}",
                "2-D patches of one slice",
                "set patching.spatial_dims: 2 and patching.adjacent: 0",
            )
        )
    wanted = voted_kinds(settings.render, patches.classes, patches.modality, patches.unit)
    notes = []
    if settings.instead_of is not None:
        notes.append(
            f"generator.preset: {settings.instead_of} and its settings played no part: with "
            "privacy.mode: dp-vote, what is drawn comes from a simulator that patients voted on."
        )
    if MASS in wanted.values():
        if others := sorted(label for label, kind in wanted.items() if kind != MASS):
            raise SettingsError(
                Fault(
                    "generator.render",
                    f"{', '.join(others)} beside classes that are rendered as {MASS}",
                    f"all classes as {MASS}, or all as one of {', '.join(KINDS)}",
                    f"add an entry for {', '.join(sorted(set(wanted) - set(others)))}",
                )
            )
        notes.append(
            f"Every class was drawn as a {MASS}: a lobed body on a cloudy ground, with no anatomy. "
            "Classes differ in size, contrast, border and texture alone."
        )
        window = Window(*settings.window)
        return _Simulator(mass_renderer(window, shape), len(OF_MASS), tuple(notes))
    mm = config.patching.mm_per_pixel or 0.0
    render = parametric_renderer(wanted, patches.modality, patches.unit, shape, mm)
    return _Simulator(render, len(OF_LIVER), tuple(notes))


def review(
    config: PipelineConfig, generator: Sampler, patches: PatchSet, folder: Path, progress: Progress
) -> Review:
    """Release from the generator in ``folder``; of the patches only unit, modality and shape."""
    from medaug.privacy.dp_release import PatchForm, release_dp

    document = cost_in(folder)
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
        progress=progress,
    )
