"""What every training run does, whatever it trains: begin, continue or open; end; give up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from medaug.atomic import remove, remove_partials
from medaug.errors import Fault, SettingsError
from medaug.generators import checkpoint
from medaug.generators.folder import CONFIG, read_folder
from medaug.generators.memory import kept
from medaug.generators.processes import ALONE, Processes
from medaug.generators.settings import GeneratorSettings, RefinerSettings

logger = logging.getLogger(__name__)
Opened = TypeVar("Opened")
_SHARE = 0.25


def completed(
    folder: Path,
    identity: Mapping[str, str],
    train: Callable[[], None],
    opened: Callable[[Path], Opened],
    processes: Processes = ALONE,
) -> Opened:
    """Train, or continue, or open what is already complete.

    Args:
        folder: made if need be.
        identity: of the run, as `checkpoint.identity_of` gives it.
        train: runs every step that is left and writes ``config.json`` last.
        opened: gives what is in the folder.
        processes: that train; only the first writes.

    Raises:
        RunFolderError: ``folder`` holds another run.
    """
    if processes.first:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partials(folder)
    if not processes.told((folder / CONFIG).is_file()):
        with kept():
            train()
        processes.told()  # the first is ready once it has written
    config, _ = read_folder(folder)
    checkpoint.refuse_other_run(folder, config["identity"], identity)
    result = opened(folder)
    if processes.first:
        remove(folder / checkpoint.FOLDER)
    return result


def device_of(
    settings: GeneratorSettings | RefinerSettings, processes: Processes = ALONE
) -> torch.device:
    """Where this process trains."""
    if processes.device is not None:
        return processes.device
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def halved(settings: GeneratorSettings, device: torch.device) -> bool:
    """Whether the networks compute in bfloat16 where that is enough; weights stay in float32."""
    asked = settings.precision
    return asked == "bf16" or (asked == "auto" and device.type == "cuda")


def compiled(settings: GeneratorSettings, device: torch.device) -> bool:
    """Whether the networks are compiled, which on a CPU takes a C++ compiler."""
    return device.type == "cuda" if settings.compile == "auto" else settings.compile


def stays(patches: Tensor, device: torch.device) -> bool:
    """Whether patches can lie on ``device`` all the time: in a quarter of its free memory."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return patches.nbytes <= free * _SHARE


def reads_each_step(device: torch.device) -> bool:
    """Whether figures are read after every step: on a GPU that would be to wait for it."""
    return device.type == "cpu"


def warned(notes: Iterable[str | None]) -> list[str]:
    """The notes that there are, each logged as a warning."""
    there = [note for note in notes if note is not None]
    for note in there:
        logger.warning(note)
    return there


def refuse_not_finite(tensors: Iterable[Tensor], what: str, step: int) -> None:
    """Raise `SettingsError` where training has left the numbers; ``what`` is not finite."""
    if all(bool(value.isfinite().all()) for value in tensors):
        return
    raise SettingsError(
        Fault(
            "generator",
            f"training diverged: {what} is not finite at step {step}; "
            "the last good checkpoint is kept",
            "",
            "lower generator.learning_rate and train in another folder",
        )
    )
