"""Files that both forms of a shared generator hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from medaug.errors import Fault, RunFolderError
from medaug.export.sharing.shared import SharedGenerator
from medaug.export.sums import SUMS, digests_of, sums_text
from medaug.export.words import NOTICE

WEIGHTS, DESCRIBED = "generator.safetensors", "generator.json"
UNCHECKED = (
    "What this generator draws went through no check. The checks of a release were made on the "
    "release's own samples."
)
NEEDS = {"network": ("numpy", "safetensors", "torch"), "votes": ("numpy", "safetensors", "medaug")}


def refuse_full(folder: Path) -> None:
    """Raise if ``folder`` holds anything: nothing is overwritten.

    Raises:
        RunFolderError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(
            Fault(f"--out {folder}", "there is something already", "a new or empty folder")
        )


def write_weights(shared: SharedGenerator, path: Path) -> None:
    """The tensors as safetensors; the same tensors give the same bytes."""
    tensors = {name: np.array(shared.tensors[name], order="C") for name in sorted(shared.tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, metadata={"notice": NOTICE}))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Indented JSON; the folder around it is written as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def seal(shared: SharedGenerator, folder: Path, how_to: str) -> None:
    """Write ``README.md`` and, last, ``SHA256SUMS``."""
    grounds = shared.grounds
    cost = "" if grounds.cost is None else json.dumps(asdict(grounds.cost), indent=1)
    text = "\n\n".join(
        [
            f"# {shared.name}: a generator of synthetic lesion patches",
            f"**{NOTICE}**",
            (
                f"Classes: {', '.join(shared.classes)}. Modality {shared.modality}, unit "
                f"{shared.described['unit']}, patches of shape {list(shared.shape)}."
            ),
            how_to,
            f"## Privacy\n\n{grounds.sentence}",
            *([f"```json\n{cost}\n```"] if cost else []),
            (
                f"## What to know\n\n{UNCHECKED} Neither the discriminator nor any training state "
                f"is here. Licence: {shared.licence or 'none stated'}. Written by medaug "
                f"{shared.medaug}; the release of the same generator is {shared.release[:16]}."
            ),
        ]
    )
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")
    (folder / SUMS).write_text(sums_text(digests_of(folder)), encoding="utf-8")


def required(shared: SharedGenerator) -> dict[str, str]:
    """Packages that a sampler needs, with the versions that it was written with."""
    return {name: version(name).partition("+")[0] for name in NEEDS[shared.kind]}
