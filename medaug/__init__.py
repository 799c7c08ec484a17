"""Synthetic lesion patches, released through a privacy gate and judged on unseen patients.

The road in a few lines, on six phantom patients. The gate refuses so few:

>>> import tempfile, pathlib
>>> import medaug
>>> place = pathlib.Path(tempfile.mkdtemp())
>>> medaug.write_cohort(place / "phantom", patients=6)
>>> short = ["generator.images=64", "generator.batch=8", "privacy.audit=false"]
>>> short += ["generator.min_patients=1", "generator.least_diversity=0"]
>>> config = medaug.load_pipeline("phantom", short, data=place / "phantom")
>>> try:
...     report = medaug.run_pipeline(config, place / "run")
... except medaug.CohortError as refusal:
...     print(str(refusal).splitlines()[0])
class 'cyst': 2 patients would train the generator

Every station can be used alone; ``docs/road.md`` names them:

>>> patches = medaug.read_patches(place / "run" / "patches" / "patches.h5")
>>> split = medaug.split_patients(patches, seed=1)
>>> generator = medaug.train_generator(
...     split.part(patches, "training"), config.generator, seed=0, folder=place / "generator"
... )
>>> generator.sample("cyst", seeds=[17]).shape
(1, 1, 64, 64)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name → where it lives. Loaded when asked for: `import medaug` costs nothing, and reading files
# does not load torch.
_PUBLIC = {
    "CohortError": "medaug.errors",
    "DisclosureError": "medaug.errors",
    "HeldOut": "medaug.domain",
    "InputError": "medaug.errors",
    "LeakageError": "medaug.errors",
    "MedaugError": "medaug.errors",
    "PatchSet": "medaug.domain",
    "PatientSplit": "medaug.domain",
    "Release": "medaug.domain",
    "ReleasePolicy": "medaug.domain",
    "Rescale": "medaug.domain",
    "Window": "medaug.domain",
    "SyntheticPatches": "medaug.datasets",
    "evaluate": "medaug.evaluation.protocol",
    "extract_patches": "medaug.patching.extract",
    "judged_by": "medaug.road.tuning",
    "load_generator": "medaug.generators.trained",
    "load_pipeline": "medaug.config",
    "load_release": "medaug.export.release",
    "load_site_key": "medaug.readers.identity",
    "mixed_dataset": "medaug.datasets",
    "read_patches": "medaug.patching.store",
    "review": "medaug.privacy.gate",
    "run_pipeline": "medaug.pipeline",
    "scan": "medaug.readers.source",
    "split_patients": "medaug.domain",
    "subjects_dataset": "medaug.subjects",
    "train_generator": "medaug.generators.training",
    "verify_release": "medaug.export.verify",
    "write_cohort": "medaug.phantom",
    "write_release": "medaug.export.write",
    "write_report": "medaug.report.page",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605 - the names are the keys above


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'medaug' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
