"""A generator as a package that medigan [1]_ can load, and the entry for its model list.

::

    <package>/__init__.py          generate(model_file, num_samples, output_path, save_images, …)
    <package>/sampler.py           draws
    <package>/generator.json
    <package>/generator.safetensors
    global.json                    the entry, under the model's id

medigan looks for ``models/<model id>/<package>/`` before it downloads anything: the package is
copied there, and the entry added to its ``config/global.json``. The fields and the arguments of
``generate`` are those that its guide for contributors names. Unknown fields are null: nothing is
claimed that was not measured.

.. [1] Osuala et al. 2023, medigan: a Python library of pretrained generative models for medical
   image synthesis, doi:10.1117/1.JMI.10.6.061403; https://medigan.readthedocs.io
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medaug.atomic import replacing
from medaug.export.sharing.files import (
    DESCRIBED,
    NEEDS,
    UNCHECKED,
    WEIGHTS,
    refuse_full,
    seal,
    write_json,
    write_weights,
)
from medaug.export.sharing.shared import SharedGenerator
from medaug.export.words import NOTICE

_INIT = '''"""{title}. SYNTHETIC - NOT FOR DIAGNOSTIC USE. See README.md beside this package."""

import logging
import secrets
from pathlib import Path

import numpy as np

from .sampler import NOTICE, Sampler

_opened = {{}}


def generate(
    model_file, num_samples, output_path, save_images, label=None, first_seed=None, gpu_id=None
):
    """Draw patches: a list of float32 arrays (channel, row, column), in the unit of generator.json.

    Args:
        model_file: path of generator.safetensors.
        num_samples: how many.
        output_path: folder, used where save_images is true.
        save_images: write <seed>.npy files there, and return nothing.
        label: the class; by default the samples go round the classes.
        first_seed: not negative; seeds count up from it. By default it is drawn at random.
        gpu_id: number of a CUDA device; by default the first, or the CPU where there is none.
    """
    device = None if gpu_id is None else f"cuda:{{gpu_id}}"
    key = (str(model_file), device)
    if key not in _opened:
        _opened[key] = Sampler(model_file, Path(model_file).with_name("generator.json"), device)
    sampler = _opened[key]
    first = secrets.randbelow(2**40) if first_seed is None else int(first_seed)
    drawn = {{}}
    for at, name in enumerate(sampler.classes):
        mine = [
            seed
            for seed in range(first, first + num_samples)
            if (label is None and seed % len(sampler.classes) == at) or label == name
        ]
        for seed, image in zip(mine, sampler.draw(name, mine)["images"]):
            drawn[seed] = (at, image)
    if num_samples and not drawn:
        raise ValueError(f"label {{label!r}}: expected one of {{', '.join(sampler.classes)}}")
    logging.debug("%s: %d patches", NOTICE, len(drawn))
    if not save_images:
        return [drawn[seed][1] for seed in sorted(drawn)]
    folder = Path(output_path)
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (at, image) in drawn.items():
        np.save(folder / f"{{at}}_{{seed}}.npy", image)
    return None
'''
_HOW_TO = """## Load it with medigan

Copy `{package}` to `models/{model}/{package}` in the folder that medigan runs in, add the entry of
`global.json` to medigan's `config/global.json`, then

    from medigan import Generators
    images = Generators().generate("{model}", num_samples=4, save_images=False)

Without medigan: `import {package}` beside this file and call `{package}.generate(...)`. It needs
{needs}. With `save_images` it writes `<class number>_<seed>.npy`: the intensities, not pictures."""


def write_medigan(shared: SharedGenerator, sampler: str, folder: Path) -> Path:
    """Write the package and its entry; arguments and errors as in `monai_bundle.write_bundle`."""
    refuse_full(folder)
    package = "medaug_" + (re.sub(r"[^a-z0-9]+", "_", shared.name.lower()).strip("_") or "patches")
    model = f"00000_DCGAN_{shared.modality}_{package.upper()}_ROI"
    if shared.kind == "votes":
        model = model.replace("DCGAN", "SIMULATOR")
    with replacing(folder) as temporary:
        inside = temporary / package
        write_weights(shared, inside / WEIGHTS)
        write_json(inside / DESCRIBED, shared.described)
        title = re.sub(r'["\\]', "", " ".join(shared.name.split()))
        (inside / "__init__.py").write_text(_INIT.format(title=title), encoding="utf-8")
        (inside / "sampler.py").write_text(sampler, encoding="utf-8")
        write_json(temporary / "global.json", {model: _entry(shared, package)})
        needs = ", ".join(NEEDS[shared.kind])
        seal(shared, temporary, _HOW_TO.format(package=package, model=model, needs=needs))
    return folder


def _entry(shared: SharedGenerator, package: str) -> dict[str, Any]:
    *_, height, width = shared.shape
    depth = shared.shape[1] if len(shared.shape) == 4 else None
    stem, _, extension = WEIGHTS.rpartition(".")
    custom = {"label": None, "first_seed": None, "gpu_id": None}
    size = [height, width] if depth is None else [height, width, depth]
    return {
        "execution": {
            "package_name": package,
            "package_link": "",
            "model_name": stem,
            "extension": f".{extension}",
            "image_size": size,
            "dependencies": list(NEEDS[shared.kind]),
            "generate_method": {
                "name": "generate",
                "args": {
                    "base": ["model_file", "num_samples", "output_path", "save_images"],
                    "custom": custom,
                },
            },
        },
        "selection": {
            "performance": {},
            "use_cases": ["classification"],
            "organ": [],
            "modality": [shared.modality],
            "vendors": [],
            "centres": [],
            "function": ["noise to image"],
            "condition": list(shared.classes),
            "dataset": [],
            "augmentations": [],
            "generates": ["patches", "lesions"],
            "height": height,
            "width": width,
            "depth": depth,
            "type": "simulator" if shared.kind == "votes" else "DCGAN",
            "license": shared.licence,
            "dataset_type": "private",
            "privacy_preservation": shared.grounds.sentence,
            "tags": [shared.modality, "lesion", "patch", "synthetic", NOTICE],
            "year": None,
        },
        "description": {
            "title": shared.name,
            "provided_date": "",
            "trained_date": "",
            "provided_after_epoch": None,
            "version": shared.medaug,
            "published": None,
            "doi": [],
            "comment": f"{NOTICE}. {shared.grounds.sentence} {UNCHECKED}",
        },
    }
