"""``report.json``: what the page shows, as data, for whoever reads it by program.

Figures of results are those of ``evaluation.json``, ``release.json`` and ``review/decision.json``,
unrounded and where those files have them. Of the rest it holds what the page sums up, and no path,
no patient and no lesion. Like the page it belongs to the run folder and must not leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

FORMAT = "medaug report 1"
NOTE = "Patient data: this file belongs to the run folder and must not leave the hospital."


def document_of(content: Mapping[str, Any], release: Any) -> dict[str, Any]:
    """The document.

    Args:
        content: of the page, see `medaug.report.page`.
        release: ``release.json``, or None.
    """
    run, inventory, patches = content["run"], content["inventory"], content["patches"]
    return {
        "format": FORMAT,
        "note": NOTE,
        "name": run["name"],
        "medaug": run["medaug"],
        "seed": run["seed"],
        "stations": {
            name: {key: spent[key] for key in ("seconds", "peak_mb") if key in spent}
            for name, spent in run["stations"].items()
        },
        "cohort": {
            "patients_known": content["patients_known"],
            "found": _some(inventory, "patients", "files", "classes"),
            "images": [asdict(each) for each in content["kinds"]],
            "refused": [{"reason": r.text, "files": r.count} for r in content["refusals"]],
            "cut": _some(
                patches, "patches", "size", "mm_per_pixel", "unit", "window", "classes", "scaled"
            ),
            "diameters_mm": content["diameters"],
            "skipped": [{"reason": r.text, "lesions": r.count} for r in content["skips"]],
            "split": _parts(content["split"]),
        },
        "training": _training(content["training"]),
        "decision": content["decision"],
        "release": release,
        "evaluation": content["evaluation"],
    }


def _some(document: Mapping[str, Any] | None, *names: str) -> dict[str, Any] | None:
    return None if document is None else {name: document[name] for name in names}


def _parts(split: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Counts of the parts, without the patients' tokens."""
    if split is None:
        return None
    return {
        name: {
            "patients": len(part["patients"]),
            "patches": part["patches"],
            "classes": part["classes"],
        }
        for name, part in split["parts"].items()
    }


def _training(training: Any) -> dict[str, Any] | None:
    if training is None:
        return None
    one = [training.losses, *([training.augment] if training.augment is not None else [])]
    return {
        "steps": training.steps,
        "images": training.images,
        "images_per_second": training.speed,
        "last": _last(one),
        "diversity": _last(training.diversity),
        "distance": _last(training.distance),
        "memorised": _last(training.memorised),
    }


def _last(charts: Iterable[Any]) -> dict[str, Any]:
    """Of each chart the last value of each line, and the steps that are marked."""
    return {
        chart.title: {
            "last": {line.name: line.last for line in chart.lines},
            "marked": list(chart.marks),
        }
        for chart in charts
    }
