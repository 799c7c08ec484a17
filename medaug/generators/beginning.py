"""Beginning from the weights of another run's generator, at this site or another.

Only the generator's weights are taken. A discriminator never leaves a run, because it remembers
patients far better than a generator; the new one is drawn afresh and knows nothing at first, so
the first some hundred steps may lead the generator away from where it began.

What the earlier generator learnt may show in what the new one draws. Its patients therefore count
as seen: nobody of them may judge or calibrate, and the gate refuses a release unless it holds the
very patches that the earlier one was trained on, or the site declares by
``generator.init_is_public`` that these were public or rendered. The release then says so.
Patient keys of another site cannot be compared with those of this one: that no patient stands
in both is then known to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medaug.domain import Ancestor, PatchSet
from medaug.errors import Fault, RunFolderError, SettingsError
from medaug.generators.folder import WEIGHTS, read_folder
from medaug.generators.settings import GeneratorSettings

if TYPE_CHECKING:
    from torch import Tensor

_ARCHITECTURE = (
    "outputs",
    "one_per_class",
    "width",
    "latent",
    "latent_noise",
    "kernel",
    "generator_slope",
    "condition_on_size",
)


@dataclass(frozen=True)
class Beginning:
    """Where a run begins.

    Attributes:
        weights_digest: of the earlier generator.
        ancestors: it, and those that it began from itself.
        path: of its weights.
    """

    weights_digest: str
    ancestors: tuple[Ancestor, ...]
    path: Path

    def weights(self, index: int) -> dict[str, Tensor]:
        """Of its network ``index``, by name."""
        from safetensors.torch import load_file

        from medaug.generators.checkpoint import below

        return below(f"{index}.", load_file(self.path))


def beginning(
    training: PatchSet, settings: GeneratorSettings
) -> tuple[Beginning | None, list[Fault]]:
    """Where to begin if ``settings.init`` is set, and everything that forbids it."""
    if settings.init is None:
        return None, []
    try:
        config, described = read_folder(settings.init)
    except RunFolderError as error:
        return None, [_not_there(settings.init, error)]
    record = described["record"]
    own = Ancestor(
        record.patients, record.patches_digest, record.weights_digest, settings.init_is_public
    )
    found = Beginning(record.weights_digest, (*record.ancestors, own), settings.init / WEIGHTS)
    return found, _misfits(config, training, settings)


def init_digest(folder: Path) -> str:
    """SHA-256 of the weights to begin from.

    Raises:
        SettingsError: no generator is there.
    """
    try:
        config, _ = read_folder(folder)
    except RunFolderError as error:
        raise SettingsError(_not_there(folder, error)) from None
    return str(config["record"]["weights_digest"])


def _not_there(folder: Path, error: RunFolderError) -> Fault:
    return Fault(
        "generator.init",
        f"{folder}: {'; '.join(f'{fault.where} is {fault.came}' for fault in error.faults)}",
        "the folder of a trained generator, which is generator/ in a run folder",
    )


def _misfits(
    config: dict[str, Any], training: PatchSet, settings: GeneratorSettings
) -> list[Fault]:
    theirs = config["settings"]
    now = settings.model_dump(mode="json")
    pairs: list[tuple[str, Any, Any]] = [
        ("classes", config["classes"], list(training.classes)),
        ("window", config["window"], list(settings.window)),
        ("unit", config["unit"], training.unit.value),
        ("modality", config["modality"], training.modality),
        ("shape of a patch", config["shape"], list(training.images.shape[1:])),
        *((name, theirs.get(name), now[name]) for name in _ARCHITECTURE),
    ]
    if theirs["preset"] == "simulate-and-refine":
        pairs = [("kind", "a refiner", "a generator that draws from nothing"), *pairs[:5]]
    return [
        Fault(
            "generator.init",
            f"{name}: {_shown(came)}",
            f"as here: {_shown(wanted)}",
            "begin from another generator, or change this run to fit it",
        )
        for name, came, wanted in pairs
        if came != wanted
    ]


def _shown(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)
