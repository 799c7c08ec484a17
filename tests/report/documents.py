"""Parts of a run's documents that stay the same in every state, with plausible figures."""

from collections.abc import Sequence
from typing import Any

ARMS = ("real", "real+classical", "real+gan", "real+classical+gan", "gan")
PAIRS = (
    ("real+classical+gan", "real+classical"),
    ("real+classical", "real"),
    ("real+gan", "real"),
    ("gan", "real"),
)


def settings() -> dict[str, Any]:
    """``config`` of ``run.json``."""
    return {
        "name": "liver",
        "seed": 0,
        "sources": [
            {"reader": "dicom", "path": "dicom", "label": None, "modality": "CT"},
            {"reader": "nifti", "path": "nifti", "labels": {1: "cyst", 2: "metastasis"}},
        ],
        "patching": {"size": 64, "mm_per_pixel": 1.0, "margin_mm": 8.0, "slices": "largest"},
        "cohort": {"fractions": [0.5, 0.25, 0.25]},
        "generator": {
            "preset": "small-data",
            "images": 115200,
            "batch": 64,
            "window": [-100, 200],
        },
        "privacy": {"per_class": 100, "tries": 5, "copy_false_rejection": 0.05},
        "export": {"formats": ["npz", "png", "nifti", "dicom"]},
        "evaluation": {"classifiers": ["frid-adar-2018", "resnet-10-narrow"], "seeds": 3},
    }


def likeness(labels: Sequence[str], unit: str, patients_known: bool) -> dict[str, Any]:
    """``fidelity`` of ``evaluation.json`` for these classes."""
    return {
        "real": {
            "parts": ["tuning", "test"],
            "patients": 45,
            "patches": 133,
            "patients_known": patients_known,
        },
        "not_computed": [],
        "features": "radiomic",
        "sha256": None,
        "dimensions": 69,
        "deals": 50,
        "confidence": 0.95,
        "groups": [
            _group(None, unit, True),
            *(_group(each, unit, each != labels[0]) for each in labels),
        ],
        "method": ["Real patches were halved by patient 50 times at random."],
        "caveats": ["With 20 patches on either side only gross faults can be told."],
    }


def _group(label: str | None, unit: str, tested: bool) -> dict[str, Any]:
    """The figures of one class, which has no Fréchet distance, or of all."""
    alone = label is not None
    figures = [_figure("kernel distance", "lower", 1.4632, 0.2214)]
    if not alone:
        figures += [
            _figure("Fréchet distance", "lower", 25.02, 1.52),
            _figure("Fréchet distance, extrapolated", "lower", 24.21, -0.13),
        ]
    figures += [
        _figure("precision", "higher", 0.96, 0.97),
        _figure("recall", "higher", 0.14, 0.96),
        _figure("density", "higher", 1.07, 0.94),
        _figure("coverage", "higher", 0.65, 0.95),
        _figure("intensity distance", "lower", 7.23, 6.71, unit),
    ]
    pairs = _figure("", "lower", 0.312, 0.098)
    return {
        "label": label,
        "patches": 20 if alone else 160,
        "figures": figures,
        "two_sample": {"accuracy": 0.923, "p": 0.0001, "count": 22, "p_holm": 0.0004},
        "two_sample_baseline": {"accuracy": 0.518, "p": 0.91, "count": 22} if tested else None,
        "similarity": (
            {key: pairs[key] for key in ("synthetic", "baseline", "difference")} if alone else None
        ),
        "missing": ["The Fréchet distance of 69 features needs 138 patches."] * alone,
    }


def _figure(
    name: str, better: str, synthetic: float, baseline: float, unit: str = ""
) -> dict[str, Any]:
    width = 0.3 * abs(synthetic - baseline) + 0.01
    values = {
        "synthetic": synthetic,
        "baseline": baseline,
        "difference": synthetic - baseline,
    }
    intervals = {
        key: {"value": value, "low": value - width, "high": value + 1.2 * width}
        for key, value in values.items()
    }
    return {"name": name, "unit": unit, "better": better, **intervals}


def by_formula(labels: Sequence[str]) -> dict[str, float] | None:
    """``delong`` of a comparison: there is one for two classes only."""
    if len(labels) != 2:
        return None
    return {"value": 0.0081, "low": -0.0192, "high": 0.0354, "p": 0.5612}
