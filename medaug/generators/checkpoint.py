"""Where a run stands, in one safetensors file, so that it can be continued bit for bit.

The file is replaced as a whole: a run killed at any moment leaves the last checkpoint or the
one before. It holds the discriminator, which remembers patients far better than a generator;
it never leaves the folder and is deleted when training is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medaug.atomic import replacing
from medaug.domain import digest_of
from medaug.errors import Fault, RunFolderError
from medaug.generators.settings import GeneratorSettings, RefinerSettings

FOLDER = "checkpoint"
FILE = "state.safetensors"


def identity_of(
    patches_digest: str, settings: GeneratorSettings | RefinerSettings, seed: int
) -> dict[str, str]:
    """What a run is made of; a checkpoint of anything else cannot be continued."""
    return {
        "generator settings": digest_of(settings.recipe()),
        "training patches": patches_digest,
        "seed": str(seed),
    }


def refuse_other_run(folder: Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise `RunFolderError` naming what differs, unless both are the same run."""
    other = [name for name, value in expected.items() if found.get(name) != value]
    if other:
        raise RunFolderError(
            Fault(
                folder.name,
                f"holds a generator with other {' and '.join(other)}",
                "the run that was begun there",
                "choose another folder, or delete this one to train anew",
            )
        )


@dataclass(frozen=True)
class Checkpoint:
    """What a run continues from: the number of steps done, and all its tensors by name."""

    step: int
    tensors: dict[str, Tensor]


def save(
    folder: Path, identity: Mapping[str, str], step: int, tensors: Mapping[str, Tensor]
) -> None:
    """Replace the checkpoint under ``folder``."""
    whole = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    # One metadata entry: safetensors does not keep the order of several.
    state = json.dumps({"identity": dict(identity), "step": step}, sort_keys=True)
    with replacing(folder / FOLDER / FILE) as temporary:
        save_file(whole, temporary, metadata={"state": state})


def load(folder: Path, identity: Mapping[str, str]) -> Checkpoint | None:
    """The checkpoint under ``folder``, or None where there is none.

    Raises:
        RunFolderError: it belongs to another run, or cannot be read.
    """
    path = folder / FOLDER / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RunFolderError(
            Fault(
                f"{FOLDER}/{FILE}",
                f"cannot be read ({error})",
                "the file as training left it",
                "delete it to train anew",
            )
        ) from error
    refuse_other_run(folder, state["identity"], identity)
    return Checkpoint(state["step"], tensors)


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
