"""Collapse, on the case that collapsed: each preset on 60 lung nodules and 300 other patches.

    python benchmarks/generators/collapse.py FOLDER
    python benchmarks/generators/collapse.py FOLDER --presets small-data --seeds 2 --images 24000
    python benchmarks/generators/collapse.py FOLDER --set penalty=0.3 --csv penalty.csv

FOLDER holds luna_nodule_patches, zipped as it comes or unpacked. 48 x 48 pixels, training patches
dealt by the seed of the run. For each preset and seed, over 128 drawn patches of each class:

* spread and apart: over those of the training patches, as in `medaug.generators.diversity`; below
  the setting ``least_diversity`` training would have refused the generator;
* distance: the kernel distance to patches that were not trained on, and beside it that of as many
  training patches, the best that can be asked for;
* memorised: below 1 where drawn patches lie nearer to training than to unseen patches;
* CPU minutes of the whole process while it trained, on all cores together.

The last weights are measured: nothing here helps to choose them. A batch larger than a class is
lowered to it where each class has a network of its own. With ``--sheets``, drawn patches
are written as pictures, to be looked at.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from medaug.domain import PatchLocation, PatchSet, PatientKey, Unit, Window
from medaug.evaluation.fidelity import distance_to
from medaug.generators.diversity import Diversity, lost
from medaug.generators.evidence import Tuning, Witness
from medaug.generators.settings import PRESETS, GeneratorSettings
from medaug.generators.training import train_generator
from medaug.report.sheets import write_sheet

SIDE = 48
SIZES = {"nodule": 60, "other": 300}
UNSEEN = 200
DRAWN = 128
WINDOW = Window(0, 255)
COLUMNS = (
    *("preset", "seed", "images", "class", "spread", "apart", "distance"),
    *("distance_of_training", "memorised", "cpu_minutes", "refused"),
)


def pictures(folder: Path, part: str) -> Iterator[tuple[np.ndarray, int]]:
    """Grey values (row, column) and class of every picture of ``part``, in the order of names.

    The tables say 1 for nodules; here it is the place in `SIZES`.
    """
    words = (folder / f"{part}datalabels.txt").read_text().split()
    labels = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    zipped = folder / f"{part}.zip"
    archive = zipfile.ZipFile(zipped) if zipped.is_file() else None
    for name in sorted(labels):
        whole = archive.read(name) if archive else (folder / name).read_bytes()
        picture = Image.open(io.BytesIO(whole)).convert("F").resize((SIDE, SIDE))
        yield np.asarray(picture), 1 - labels[name]


def patches(images: np.ndarray, labels: np.ndarray) -> PatchSet:
    """As many patients as pictures."""
    count = len(images)
    return PatchSet(
        images=images[:, None].astype(np.float32),
        masks=None,
        labels=labels.astype(np.int64),
        classes=tuple(SIZES),
        patients=tuple(PatientKey(f"{row:032x}") for row in range(count)),
        locations=tuple(
            PatchLocation(f"{row}", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 0.0) for row in range(count)
        ),
        unit=Unit.ARBITRARY,
        modality="CT",
        patients_known=False,
    )


def dealt(
    images: np.ndarray, labels: np.ndarray, sizes: Mapping[str, int], rng: np.random.Generator
) -> PatchSet:
    """``sizes`` of the classes, drawn without replacement."""
    rows = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in enumerate(sizes.values())
    ]
    return patches(images[np.concatenate(rows)], labels[np.concatenate(rows)])


def run(
    training: PatchSet,
    unseen: PatchSet,
    settings: GeneratorSettings,
    seed: int,
    sheets: Path | None,
) -> Iterator[dict[str, object]]:
    """Train, draw, measure: one row for each class."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        # Whatever came of it is measured; whether it would have been refused is told.
        batch = min(settings.batch, *SIZES.values()) if settings.one_per_class else settings.batch
        own = {"least_diversity": 0.0, "device": "cpu", "batch": batch}
        lenient = settings.model_copy(update=own)
        generator = train_generator(training, lenient, seed, Path(folder))
    minutes = (time.process_time() - began) / 60
    shared = {"preset": settings.preset, "seed": seed, "images": generator.record.images_shown}
    for label in SIZES:
        real, other = (WINDOW.to_signed(of.of_class(label).images) for of in (training, unseen))
        drawn = WINDOW.to_signed(generator.sample(label, range(DRAWN)))
        ours, theirs = Diversity.of(drawn, real), Diversity.of(real, real)
        distance = partial(distance_to(other), outlines=None)
        few = np.random.default_rng(seed).permutation(len(real))[:DRAWN]
        evidence = Witness(training, Tuning(unseen, {label: distance}), WINDOW).judge(
            {label: drawn}
        )
        assert evidence is not None
        if sheets is not None:
            name = f"{settings.preset}_{seed}_{label}.png"
            write_sheet(sheets / name, drawn[:64], Window(-1, 1), columns=16)
        yield shared | {
            "class": label,
            "spread": ours.spread / theirs.spread,
            "apart": ours.apart / theirs.apart,
            "distance": evidence.distance[label],
            "distance_of_training": distance(real[few]),
            "memorised": evidence.memorised[label],
            "cpu_minutes": minutes,
            "refused": lost(ours, theirs, settings.least_diversity),
        }


def main() -> None:
    """Print a table, and write it with ``--csv``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds luna_nodule_patches")
    parser.add_argument("--images", type=int, default=24_000, help="shown in each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of settings")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--sheets", type=Path, help="folder for pictures of what was drawn")
    chosen = parser.parse_args()
    own = {key: yaml.safe_load(value) for key, value in (one.split("=", 1) for one in chosen.set)}
    images, labels = map(np.stack, zip(*pictures(chosen.folder, "train"), strict=True))
    others, their_labels = map(np.stack, zip(*pictures(chosen.folder, "val"), strict=True))
    unseen = dealt(others, their_labels, dict.fromkeys(SIZES, UNSEEN), np.random.default_rng(0))
    rows = []
    print(f"{COLUMNS[0]:>16}", *(f"{name[:10]:>10}" for name in COLUMNS[1:]))
    for preset in chosen.presets:
        for seed in range(chosen.seeds):
            asked = {"preset": preset, "window": (0, 255), "images": chosen.images, **own}
            settings = GeneratorSettings.model_validate(asked)
            training = dealt(images, labels, SIZES, np.random.default_rng(seed))
            for row in run(training, unseen, settings, seed, chosen.sheets):
                rows.append(row)
                first, *rest = (f"{v:.3f}" if isinstance(v, float) else v for v in row.values())
                print(f"{first:>16}", *(f"{value!s:>10}" for value in rest), flush=True)
    if chosen.csv is not None:
        with chosen.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
