"""How good do patches get from 50, 100 and all patients? Each preset, several seeds, one ruler.

    medaug extract mammography_masses --data FOLDER --out RUN
    python benchmarks/generators/cohort_size.py RUN --out TABLE.csv --patients 50 100 all --seeds 2

A cohort of N patients has N to train on and N / 2 to tune on, as many of each class as there can
be; "all" takes both parts of the run's split whole. Every generator is then held against the test
part, which is always the same: likeness of 200 drawn patches of each class beside that of real
patches to other real ones (`medaug.evaluation.fidelity`). Nothing passes the gate here: what is
measured is the generator. A batch larger than the cohort is lowered to it.

One line of the table for each class and training is appended as it comes; what stands there already
is not trained again. A sheet of 64 patches of each class is written beside it.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from medaug.config import load_pipeline
from medaug.domain import Candidates, PatchSet, PatientKey, Rescale, Window, split_patients
from medaug.errors import MedaugError
from medaug.evaluation.fidelity import Group, distance_to, fidelity
from medaug.evaluation.settings import EvaluationSettings
from medaug.generators.evidence import FEWEST, Tuning
from medaug.generators.settings import PRESETS, GeneratorSettings
from medaug.generators.trained import TrainedGenerator
from medaug.generators.training import train_generator
from medaug.patching.store import read_patches
from medaug.report.sheets import write_sheet

DRAWN = 200
FIGURES = ("kernel distance", "precision", "recall", "density", "coverage", "intensity distance")
KEY = ("study", "patients", "preset", "seed", "images")
COLUMNS = (
    *KEY,
    *("class", "cpu_minutes", "refused", "patches"),
    *(f"{name}{part}" for name in FIGURES for part in ("", ", low", ", high", ", real")),
    *("two-sample accuracy", "MS-SSIM", "MS-SSIM, real"),
)
SHOWN = ("kernel distance", "recall", "density", "coverage", "two-sample accuracy", "MS-SSIM")


def main() -> None:
    """Train what is not in the table yet."""
    chosen = arguments()
    patches = read_patches(chosen.run / "patches" / "patches.h5")
    config = load_pipeline(chosen.study)
    window = Window(*config.generator.window)
    split = split_patients(patches, config.cohort.fractions, config.seed)
    training, tuning, test = (split.part(patches, part) for part in ("training", "tuning", "test"))
    for wanted in chosen.patients:
        for preset in chosen.presets:
            for seed in range(chosen.seeds):
                job = (chosen.study, wanted, preset, str(seed), str(chosen.images))
                if job in done(chosen.out):
                    continue
                rng = np.random.default_rng(seed)
                some = training if wanted == "all" else drawn(training, int(wanted), rng)
                judge = tuning if wanted == "all" else drawn(tuning, int(wanted) // 2, rng)
                print(*job, f"{len(some)} patches of {len(some.patient_order)}", flush=True)
                for row in rows(some, judge, test, preset, seed, chosen, window, "_".join(job)):
                    append(chosen.out, dict(zip(KEY, job, strict=True)) | row)
    show(chosen.out)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder with patches")
    parser.add_argument("--study", default="mammography_masses", help="its pipeline")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", nargs="+", default=["50", "100", "all"])
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=16_000)
    return parser.parse_args()


def drawn(patches: PatchSet, wanted: int, rng: np.random.Generator) -> PatchSet:
    """The patches of ``wanted`` patients, equally many of each class; each patient in one class."""
    shows = dict(zip(patches.patients, patches.labels.tolist(), strict=True))
    chosen: list[PatientKey] = []
    for at, label in enumerate(patches.classes):
        of_class = [patient for patient in patches.patient_order if shows[patient] == at]
        count = wanted // len(patches.classes)
        if len(of_class) < count:
            raise SystemExit(f"class {label}: {len(of_class)} patients, {count} are wanted")
        chosen += [of_class[row] for row in rng.permutation(len(of_class))[:count]]
    return patches.of_patients(chosen)


def rows(
    training: PatchSet,
    tuning: PatchSet,
    test: PatchSet,
    preset: str,
    seed: int,
    chosen: argparse.Namespace,
    window: Window,
    name: str,
) -> list[dict[str, Any]]:
    """Train one generator; a row of figures for each class, or one with the reason."""
    own = GeneratorSettings.model_validate({"preset": preset, "window": (window.low, window.high)})
    counts = np.bincount(training.labels)
    batch = min(own.batch, int(counts.min() if own.one_per_class else counts.sum()))
    settings = GeneratorSettings.model_validate(
        {
            "preset": preset,
            "window": (window.low, window.high),
            "batch": batch,
            "images": chosen.images,
        }
    )
    distances = {
        label: _image_only(distance_to(window.to_signed(tuning.of_class(label).images)))
        for label in tuning.classes
        if len(tuning.of_class(label)) >= FEWEST
    }
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            generator = train_generator(
                training, settings, seed, Path(folder) / "g", tuning=Tuning(tuning, distances)
            )
        except MedaugError as refusal:
            print(f"  refused: {refusal}", flush=True)
            return [{"class": "", "cpu_minutes": _minutes(began), "refused": str(refusal)}]
        spent = _minutes(began)
    candidates = candidates_of(generator, test, window)
    for label in candidates.classes:
        at = candidates.labels == candidates.classes.index(label)
        sheet = chosen.out.with_suffix("") / f"{name}_{label}.png"
        write_sheet(sheet, candidates.images[at][:64], window)
    found = fidelity(test, candidates, EvaluationSettings(), window, 0)  # type: ignore[arg-type]
    return [
        {"class": group.label, "cpu_minutes": spent, "refused": ""} | figures(group)
        for group in found.groups
        if group.label is not None
    ]


def candidates_of(generator: TrainedGenerator, real: PatchSet, window: Window) -> Candidates:
    """As many patches of every class."""
    seeds = np.arange(DRAWN)
    rescale = Rescale.of(real.unit, window)
    images = [generator.draw(label, seeds.tolist()).images for label in generator.classes]
    return Candidates(
        pixels=rescale.store(np.concatenate(images)),
        labels=np.repeat(np.arange(len(images)), DRAWN),
        classes=generator.classes,
        rescale=rescale,
        unit=real.unit,
        modality=real.modality,
        mm_per_pixel=generator.mm_per_pixel,
        seeds=np.tile(seeds, len(images)),
    )


def figures(group: Group) -> dict[str, Any]:
    """Of one class, each beside its baseline."""
    row: dict[str, Any] = {"patches": group.patches}
    for name in FIGURES:
        figure = group.figure(name)
        row[name] = figure.synthetic.value
        row[f"{name}, low"], row[f"{name}, high"] = figure.synthetic.low, figure.synthetic.high
        row[f"{name}, real"] = figure.baseline.value
    if group.two_sample is not None:
        row["two-sample accuracy"] = group.two_sample.accuracy
    if group.similarity is not None:
        row["MS-SSIM"] = group.similarity.synthetic.value
        row["MS-SSIM, real"] = group.similarity.baseline.value
    return row


def done(table: Path) -> set[tuple[str, ...]]:
    """The trainings that the table has."""
    if not table.is_file():
        return set()
    with table.open(newline="", encoding="utf-8") as file:
        return {tuple(row[key] for key in KEY) for row in csv.DictReader(file)}


def append(table: Path, row: dict[str, Any]) -> None:
    """Add a line; the first one fixes the columns."""
    fresh = not table.is_file()
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def show(table: Path) -> None:
    """Print means over seeds, with the lowest and the highest where there are several."""
    with table.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    print("| patients | preset | class | " + " | ".join(SHOWN) + " |")
    print("|---" * (3 + len(SHOWN)) + "|")
    for group in dict.fromkeys((row["patients"], row["preset"], row["class"]) for row in lines):
        members = [row for row in lines if (row["patients"], row["preset"], row["class"]) == group]
        cells = [spread([row[name] for row in members]) for name in SHOWN]
        print("| " + " | ".join([*group, *cells]) + " |")


def spread(values: list[str]) -> str:
    """Mean (lowest to highest)."""
    numbers = [float(value) for value in values if value]
    if not numbers:
        return "-"
    mean = f"{np.mean(numbers):.2f}"
    return mean if len(numbers) == 1 else f"{mean} ({min(numbers):.2f} to {max(numbers):.2f})"


def _image_only(distance: Any) -> Any:
    return lambda images: distance(images, None)


def _minutes(began: float) -> float:
    return round((time.process_time() - began) / 60, 2)


if __name__ == "__main__":
    main()
