"""Run folders as the stations leave them, with plausible figures, in several states.

Puts ``markup`` and ``documents`` within reach of the tests beside it.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medaug.domain import Window
from medaug.report.sheets import sample_name, sheet_name, write_sheet

sys.path.insert(0, str(Path(__file__).parent))

from documents import ARMS, PAIRS, by_formula, likeness, settings

LABELS = {
    "liver": ("cyst", "haemangioma", "metastasis"),
    "breast": ("benign mass", "malignant mass"),
    "lung": (
        "adenocarcinoma, lepidic predominant",
        "carcinoid tumour (typical or atypical)",
        "granuloma <script>alert('class')</script>",
        'hamartoma "with" popcorn calcification & fat',
        "metastasis/of unknown primary",
    ),
}
"""The classes of each study; of "breast" the patients are not known."""

WINDOW = Window(-100, 200)
STATES = ("cut", "training", "trained", "refused", "released", "complete")

BuildRun = Callable[..., Path]


class FakeRun:
    """Writes a run folder up to one of `STATES`."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder, self.study, self.labels = folder, study, LABELS[study]
        self.rng = np.random.default_rng(0)
        self.known = study != "breast"
        self.modality, self.unit = ("CT", "HU") if self.known else ("MG", "arbitrary")

    def build(self, state: str) -> Path:
        done = STATES.index(state)
        self._run(state)
        self._cohort()
        if done >= STATES.index("training"):
            self._generator(complete=state != "training")
        if state == "refused":
            self._decision(released=False)
        if done >= STATES.index("released"):
            self._decision(released=True)
        if state == "complete":
            self._evaluation()
        return self.folder

    def write(self, name: str, document: Any) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document), encoding="utf-8")

    def patches(self, count: int, softness: float = 0.0) -> np.ndarray:
        """Noise with a round lesion in the middle: (patch, 1, 32, 32) in HU."""
        rows, columns = np.mgrid[-16:16, -16:16]
        noise = gaussian_filter(self.rng.normal(0, 90, (count, 32, 32)), (0, 1.2, 1.2))
        radius = self.rng.uniform(4, 12, (count, 1, 1))
        inside = np.hypot(rows, columns)[None] < radius * self.rng.uniform(0.8, 1.2)
        depth = self.rng.uniform(40, 110, (count, 1, 1))
        soft = gaussian_filter(inside * depth, (0, 1 + softness, 1 + softness))
        return (100 + noise - soft)[:, None].astype(np.float32)

    def _run(self, state: str) -> None:
        stations = {
            "extract": {"stamp": "5b1f", "seconds": 34.2, "peak_mb": 412.5},
            "split": {"stamp": "93aa", "seconds": 0.1, "peak_mb": 413.0},
            "train": {"stamp": "0c4e", "seconds": 96.4, "peak_mb": 1180.3},
            "release": {"stamp": "77d2", "seconds": 14.8, "peak_mb": 1204.9},
            "evaluate": {"stamp": "e10b", "seconds": 67.9, "peak_mb": 1391.6},
        }
        count = {"cut": 2, "training": 2, "trained": 3, "refused": 3, "released": 4}.get(state, 5)
        self.write(
            "run.json",
            {
                "name": self.study,
                "medaug": "0.1.0",
                "seed": 0,
                "python": "3.11.9",
                "cores": 2,
                "config": settings(),
                "versions": {"medaug": "0.1.0", "torch": "2.13.0", "monai": "1.5.1"},
                "stations": dict(list(stations.items())[:count]),
            },
        )

    def _cohort(self) -> None:
        patients = {label: 41 + 3 * at for at, label in enumerate(self.labels)}
        lesions = {label: count + 23 for label, count in patients.items()}
        total = 90
        cases = [
            {
                "case": f"{number:032x}",
                "source": "dicom" if number % 2 else "volumes",
                "modality": self.modality,
                "unit": self.unit,
                "shape": [160, 160, 40],
                "spacing_mm": [0.7 + number / 500, 0.7 + number / 500, 2.5],
                "patient": f"{number:032x}",
                "files": 41 if number % 2 else 2,
                "lesions": [
                    {
                        "label": self.labels[0],
                        "voxels": 812,
                        "volume_mm3": 1015.2,
                        "tracking_uid": f"2.25.{number}",
                    }
                ],
            }
            for number in range(total)
        ]
        self.write(
            "inventory.json",
            {
                "patients": total,
                "patients_known": self.known,
                "files": {"seen": 1953, "used": 1935},
                "classes": {
                    label: {"lesions": lesions[label], "patients": patients[label]}
                    for label in self.labels
                },
                "cases": cases,
                "refused": [
                    {"path": "dicom/012/report.pdf", "reason": "not an image", "files": 1},
                    {
                        "path": "dicom/031/localiser",
                        "reason": "a localiser: its slices are not parallel",
                        "files": 14,
                    },
                    *(
                        {
                            "path": f"nifti/{number:03d}/lesions.nii.gz",
                            "reason": "the mask lies on another grid than the image "
                            "(160 × 160 × 40 and 160 × 160 × 38 voxels)",
                            "files": 1,
                        }
                        for number in (4, 17, 52)
                    ),
                ],
                "notes": ["2 CT series have a gantry tilt; their slices were used as they are."],
            },
        )
        counts = {
            label: {"patches": lesions[label] - 2, "lesions": lesions[label] - 2, "patients": n}
            for label, n in patients.items()
        }
        self.write(
            "patches/summary.json",
            {
                "patches": sum(each["patches"] for each in counts.values()),
                "size": [64, 64],
                "mm_per_pixel": 1.0 if self.modality == "CT" else None,
                "unit": self.unit,
                "modality": self.modality,
                "window": [-100, 200],
                "patients_known": self.known,
                "classes": counts,
                "skipped": [
                    {
                        "lesion": f"2.25.{number}",
                        "label": self.labels[number % len(self.labels)],
                        "case": f"{number:032x}",
                        "reason": "smaller than 5 mm",
                    }
                    for number in range(5)
                ],
                "scaled": 4,
            },
        )
        parts = {}
        for part, fraction in (("training", 0.5), ("tuning", 0.25), ("test", 0.25)):
            classes = {
                label: {
                    "patients": round(patients[label] * fraction),
                    "patches": round(counts[label]["patches"] * fraction),
                }
                for label in self.labels
            }
            parts[part] = {
                "patients": [f"{n:032x}" for n in range(round(total * fraction))],
                "patches": sum(each["patches"] for each in classes.values()),
                "classes": classes,
            }
        self.write("split.json", {"seed": 0, "fractions": [0.5, 0.25, 0.25], "parts": parts})
        for label in self.labels:
            path = self.folder / "sheets" / sheet_name("real", label)
            write_sheet(path, self.patches(64), WINDOW)

    def _generator(self, complete: bool) -> None:
        last = 1800 if complete else 700
        real = {label: 0.31 + 0.04 * at for at, label in enumerate(self.labels)}
        lines: list[dict[str, Any]] = [
            {
                "step": step,
                "images": step * 64,
                "loss_d": float(0.62 - 0.15 * np.exp(-step / 300) + self.rng.normal(0, 0.02)),
                "loss_g": float(0.8 + 0.5 * np.exp(-step / 200) + self.rng.normal(0, 0.03)),
                "augment": step / 4000,
                "images_per_second": round(float(self.rng.normal(640, 20)), 1),
                "diversity": {
                    label: float(0.9 * value * (1 - np.exp(-step / 400)))
                    for label, value in real.items()
                },
                "diversity_real": real,
            }
            for step in range(50, last + 1, 50)
        ]
        for line in lines:
            if line["step"] % 250 == 0:
                line["distance"] = {
                    label: 0.4 + 8 * float(np.exp(-line["step"] / 300)) for label in self.labels
                }
                line["memorised"] = {
                    label: 1.02 - line["step"] / 9000 - 0.02 * at
                    for at, label in enumerate(self.labels)
                }
        folder = self.folder / "generator"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if not complete:
            text += '{"step": 750, "ima'
        (folder / "training.jsonl").write_text(text, encoding="utf-8")
        for label in self.labels:
            for step in (300, 600, 1200, 1800)[: 4 if complete else 2]:
                path = folder / "samples" / sample_name(step, label)
                write_sheet(path, self.patches(16, 900 / step), WINDOW, columns=4)
        if complete:
            self.write(
                "generator/config.json",
                {"classes": list(self.labels), "notes": [], "kept_steps": [1500]},
            )

    def _decision(self, released: bool) -> None:
        drawn = {label: 120 + 9 * at for at, label in enumerate(self.labels)}
        accepted = {label: 100 if released else 11 + at for at, label in enumerate(self.labels)}
        rejected = sum(drawn.values()) - sum(accepted.values())
        checks = [
            ("format", 0.0, 0.0, 0, "Every patch has the right shape and finite values."),
            ("copy", 3.412, 3.87, rejected - 6, "Highest copy score."),
            ("duplicate", 0.9312, 0.98, 6, "Highest correlation between two released patches."),
        ]
        low = f"{sum(accepted.values())} of {sum(drawn.values())} candidates were accepted"
        self.write(
            "review/decision.json",
            {
                "outcome": "released" if released else "refused",
                "policy": {
                    "per_class": 100,
                    "checks": ["format", "copy", "duplicate"],
                    "mode": "empirical",
                    "tries": 5,
                    "duplicate_limit": 0.98,
                    "min_patients_per_class": 20,
                    "patch_level_only": not self.known,
                },
                "checks": [
                    {
                        "name": name,
                        "passed": True,
                        "value": value,
                        "limit": limit,
                        "rejected": count,
                        "detail": detail,
                    }
                    for name, value, limit, count, detail in (checks if released else [])
                ],
                "drawn": drawn,
                "accepted": accepted,
                "rejections": {"format": 0, "copy": rejected - 6, "duplicate": 6},
                "statements": [
                    (
                        f"{sum(accepted.values())} samples; none exceeded the copy threshold, "
                        "calibrated so that at most 12.7 % of new real patients would be rejected "
                        "(95 % confidence, 22 patients)."
                    )
                ]
                * released,
                "reasons": []
                if released
                else [
                    (
                        f"{low}, fewer than the 20 % that the policy asks for: the generator draws "
                        "what it was shown; train it on more patients or for fewer steps."
                    )
                ],
                "calibration": {
                    "patients": 22,
                    "limit": 3.87,
                    "bound": 0.127,
                    "sentence": "The copy limit is the highest score of 22 tuning patients; with "
                    "95 % confidence at most 12.7 % of new real patients would exceed it.",
                },
                "closest": [
                    {
                        "label": self.labels[at % len(self.labels)],
                        "score": score,
                        "limit": 3.87,
                        "outcome": outcome,
                        "pose": "mirrored, turned 90°",
                        "candidate": f"closest/{at:02d}_candidate.png",
                        "nearest": f"closest/{at:02d}_nearest.png",
                    }
                    for at, (score, outcome) in enumerate(
                        [(5.918, "copy"), (4.37, "copy"), (3.412, "accepted"), (3.05, "accepted")]
                    )
                ],
            },
        )
        for at in range(4):
            for name in ("candidate", "nearest"):
                path = self.folder / "review" / "closest" / f"{at:02d}_{name}.png"
                write_sheet(path, self.patches(1), WINDOW, scale=3)
        for label in self.labels if released else ():
            path = self.folder / "sheets" / sheet_name("synthetic", label)
            write_sheet(path, self.patches(64, 0.7), WINDOW)

    def _interval(self, value: float, width: float) -> dict[str, float]:
        low, high = self.rng.uniform(0.7, 1.3, 2) * width
        return {"value": value, "low": max(0.0, value - low), "high": min(1.0, value + high)}

    def _evaluation(self) -> None:
        classifiers = ["frid-adar-2018", "resnet-10-narrow"]
        base = dict(zip(ARMS, (0.832, 0.871, 0.846, 0.879, 0.774), strict=True))
        arms = [
            {
                "arm": arm,
                "classifier": classifier,
                "auc": self._interval(base[arm] + 0.012 * at, 0.06),
                "balanced_accuracy": self._interval(base[arm] - 0.13, 0.08),
                "per_class": {
                    label: {
                        "sensitivity": self._interval(base[arm] - 0.1 + 0.02 * row, 0.13),
                        "specificity": self._interval(base[arm] + 0.02, 0.07),
                        "auc": self._interval(base[arm] + 0.01 * row, 0.08),
                    }
                    for row, label in enumerate(self.labels)
                },
                "per_seed": [base[arm] - 0.01, base[arm], base[arm] + 0.01],
                "brier": self._interval(0.31 + 0.02 * at, 0.05),
                "calibration_error": self._interval(0.083, 0.02),
            }
            for at, classifier in enumerate(classifiers)
            for arm in ARMS
        ]
        comparisons = [
            {
                "classifier": classifier,
                "arm": arm,
                "baseline": baseline,
                "metric": "auc",
                "main": (arm, baseline) == PAIRS[0],
                "difference": {
                    "value": base[arm] - base[baseline],
                    "low": base[arm] - base[baseline] - 0.021,
                    "high": base[arm] - base[baseline] + 0.024,
                },
                "p": 0.004 if arm == "real+classical" else 0.41,
                "p_holm": 0.0004 if arm == "gan" else 0.032 if arm == "real+classical" else 1.0,
                "smallest_difference": 0.041,
                "verdict": {"gan": "hurts", "real+classical": "helps"}.get(arm, "no evidence"),
                "delong": by_formula(self.labels),
            }
            for classifier in classifiers
            for arm, baseline in PAIRS
        ]
        self.write(
            "evaluation.json",
            {
                "test": {
                    "patients": 22,
                    "patches": 71,
                    "classes": {label: {"patients": 10, "patches": 23} for label in self.labels},
                },
                "seeds": [0, 1, 2],
                "classifiers": classifiers,
                "steps": 400,
                "arms": arms,
                "comparisons": comparisons,
                "verdict": {
                    "word": "no evidence",
                    "sentence": "No evidence that synthetic patches help on top of classical "
                    "augmentation: with frid-adar-2018 the macro AUC changed by +0.8 points (95 % "
                    "interval −1.3 to +3.2, p = 1.000 after Holm's correction; the smallest "
                    "difference this cohort could have shown is about 4.1 points); with "
                    "resnet-10-narrow the macro AUC changed by +0.8 points (95 % interval −1.3 to "
                    "+3.2, p = 1.000 after Holm's correction) (3 seeds, 22 test patients).",
                },
                "protocol": [
                    (
                        "Tuning patients chose which checkpoint of a training was kept and each "
                        "class's threshold (Youden's index); the test part was scored once."
                    ),
                    (
                        "Values are means over seeds. Intervals (95 %, percentile) come from 2000 "
                        "bootstrap samples of test patients, the same for all arms."
                    ),
                ],
                "caveats": [
                    (
                        "No external test set was scored: nothing is said about other sites or "
                        "scanners."
                    ),
                ],
                "fidelity": likeness(self.labels, self.unit, self.known),
            },
        )


@pytest.fixture(scope="session")
def built_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Each run folder once a session; to be copied, not changed."""

    @cache
    def build(state: str, study: str) -> Path:
        return FakeRun(tmp_path_factory.mktemp(state), study).build(state)

    return build


@pytest.fixture
def build_run(built_runs: Callable[[str, str], Path], tmp_path: Path) -> BuildRun:
    """``build_run("complete", "lung")``: a fake run folder of a study up to a state."""

    def build(state: str = "complete", study: str = "liver") -> Path:
        return shutil.copytree(built_runs(state, study), tmp_path / "run")

    return build
