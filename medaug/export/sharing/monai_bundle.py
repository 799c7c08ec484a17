"""A generator as a MONAI Bundle [1]_: ``python -m monai.bundle run`` samples it.

::

    configs/metadata.json    what it is, with its privacy cost
    configs/inference.json   run: draws and writes NPZ files
    configs/generator.json   what the sampler has to know
    models/generator.safetensors
    scripts/sampler.py       draws; of a network it needs no medaug
    README.md, SHA256SUMS

The weights are safetensors and not ``model.pt``: nothing is unpickled.

.. [1] https://docs.monai.io/en/stable/mb_specification.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medaug.atomic import replacing
from medaug.export.sharing.files import (
    DESCRIBED,
    NEEDS,
    UNCHECKED,
    WEIGHTS,
    refuse_full,
    required,
    seal,
    write_json,
    write_weights,
)
from medaug.export.sharing.shared import SharedGenerator
from medaug.export.words import NOTICE

_HOW_TO = """## Sample it

In this folder, offline, with monai, fire, {needs} installed:

    python -m monai.bundle run --config_file configs/inference.json --meta_file \\
        configs/metadata.json --count 16 --first_seed 0 --output_dir samples

writes `samples/<number of the class>.npz` with `images` (sample, channel, row, column) in the unit
that `configs/generator.json` names. `--label CLASS` draws one class alone. MONAI runs what stands
in a bundle's files: compare `SHA256SUMS` first (`sha256sum -c SHA256SUMS`)."""


def write_bundle(shared: SharedGenerator, sampler: str, folder: Path) -> Path:
    """Write the bundle.

    Args:
        shared: what leaves.
        sampler: source of ``scripts/sampler.py``.
        folder: new or empty.

    Returns:
        The folder. The same generator gives the same bytes.

    Raises:
        RunFolderError: if something is in ``folder``.
    """
    refuse_full(folder)
    with replacing(folder) as temporary:
        write_weights(shared, temporary / "models" / WEIGHTS)
        write_json(temporary / "configs" / DESCRIBED, shared.described)
        write_json(temporary / "configs" / "inference.json", _inference(shared))
        write_json(temporary / "configs" / "metadata.json", _metadata(shared))
        scripts = temporary / "scripts"
        scripts.mkdir()
        (scripts / "__init__.py").write_text("", encoding="utf-8")
        (scripts / "sampler.py").write_text(sampler, encoding="utf-8")
        seal(shared, temporary, _HOW_TO.format(needs=", ".join(NEEDS[shared.kind])))
    return folder


def _inference(shared: SharedGenerator) -> dict[str, Any]:
    network = {"network_def": "$@sampler.networks[0]"} if shared.kind == "network" else {}
    return {
        "bundle_root": ".",
        "device": None,
        "output_dir": "$@bundle_root + '/samples'",
        "label": None,
        "count": 16,
        "first_seed": 0,
        "sampler": {
            "_target_": "scripts.sampler.Sampler",
            "weights": f"$@bundle_root + '/models/{WEIGHTS}'",
            "described": f"$@bundle_root + '/configs/{DESCRIBED}'",
            "device": "@device",
        },
        **network,
        "run": ["$@sampler.write(@label, @count, @first_seed, @output_dir)"],
    }


def _metadata(shared: SharedGenerator) -> dict[str, Any]:
    channels, *sides = shared.shape
    numbers = shared.tensors.get("0.first.weight")
    packages = required(shared)
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": "as trained"},
        "monai_version": "1.4.0",
        "pytorch_version": packages.get("torch", "2.4.0"),
        "numpy_version": packages["numpy"],
        "required_packages_version": {"fire": "0.7.1"} | packages,
        "name": shared.name,
        "task": "synthesis of lesion patches",
        "description": f"{NOTICE}. Draws lesion patches of {', '.join(shared.classes)}. "
        f"{UNCHECKED}",
        "authors": "",
        "copyright": shared.licence,
        "intended_use": "research on training with synthetic patches; not for diagnosis",
        "data_type": "npz",
        "medaug": {
            "version": shared.medaug,
            "release": shared.release,
            "privacy": shared.grounds.sentence,
            "cost": _cost(shared),
            "shared_because": shared.grounds.reason,
        },
        "network_data_format": {
            "inputs": {
                "latent": {
                    "type": "noise",
                    "format": "latent",
                    "num_channels": 0 if numbers is None else int(numbers.shape[1]),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": shared.modality,
                    "num_channels": channels + bool(shared.described["draws_masks"]),
                    "spatial_shape": sides,
                    "dtype": "float32",
                    "value_range": [-1, 1],
                    "is_patch_data": True,
                    "channel_def": {"0": "image"},
                }
            },
        },
    }


def _cost(shared: SharedGenerator) -> dict[str, Any] | None:
    cost = shared.grounds.cost
    return None if cost is None else {**vars(cost), "excluded": list(cost.excluded)}
