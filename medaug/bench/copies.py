"""What the copy check blocks, what it costs, and what pixel distance would do.

Patients are dealt out by a fixed seed: training, calibration, fresh. Training patches are altered
in 24 ways, none of which lies on the grid of poses that is searched first, and shown to the
detector; fresh patients show how many honest pictures are turned away. The baseline is the
distance of standardised pixels (L2) to the nearest training patch, its limit set on the same
calibration patients by the same order statistic. Then all rules of the gate judge honest samples
with one per cent of altered copies among them, and the comparison is timed.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medaug.domain import Drawn, PatchSet, TrainingRecord
    from medaug.privacy.copies import CopyDetector

    Picture = NDArray[np.float32]

Kind = Literal["phantom", "masses", "nodules"]
SIDE = 64
_HONEST = 500


def copies(
    kind: Annotated[
        str,
        typer.Argument(
            help="phantom; masses (cbis_ddsm_mass_patches, by patient); nodules "
            "(luna_nodule_patches, by patch)."
        ),
    ] = "phantom",
    data: Annotated[Path | None, typer.Option(help="The folder of masses or nodules.")] = None,
    out: Annotated[Path, typer.Option(help="Where copies.csv and copies.png go.")] = Path("bench"),
    quick: Annotated[bool, typer.Option("--quick", help="A third of everything.")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """The copy check: copies blocked, honest samples lost, time and memory."""
    import numpy as np

    rng = np.random.default_rng(seed)
    parts = _parts(kind, data, quick, rng)
    from medaug.privacy.copies import CopyDetector

    began = time.process_time()
    detector = CopyDetector.fit(parts.training, parts.calibration)
    typer.echo(f"{parts}\nfit {time.process_time() - began:.0f} s of one core")
    typer.echo(str(detector.calibration))
    rows = [*_blocked(parts, detector, 20 if quick else 60, rng)]
    rows += _planted(kind, parts, 1 if quick else 5, rng)
    rows += _timed(parts, detector, 100 if quick else 1000)
    _write(rows, out, kind)
    typer.echo(out / "copies.csv")


@dataclass(frozen=True, eq=False)
class Parts:
    """Who trains, calibrates and is fresh."""

    training: PatchSet
    calibration: PatchSet
    fresh: PatchSet

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {len(part)} patches of {len(part.patient_order)} patients"
            for name, part in vars(self).items()
        )


@dataclass(frozen=True)
class Row:
    """One line of the table; ``limit`` is what the figure is held to, where there is one."""

    what: str
    copy_check: float
    pixel_l2: float | None = None
    limit: str = ""


def _parts(kind: str, data: Path | None, quick: bool, rng: np.random.Generator) -> Parts:
    import numpy as np

    from medaug.errors import Fault, SettingsError

    if kind == "phantom":
        counts = (60, 60, 70) if quick else (60, 60, 200)
        ends = np.cumsum((0, *counts))
        return Parts(*(_phantoms(range(a, b)) for a, b in itertools.pairwise(ends)))
    if kind not in ("masses", "nodules") or data is None or not data.is_dir():
        came, wanted = f"{kind}, --data {data}", "phantom; masses or nodules with their folder"
        raise SettingsError(Fault("bench copies", came, wanted))
    whole = _pictures(kind, data)
    order = [whole.patient_order[at] for at in rng.permutation(len(whole.patient_order))]
    if quick or kind == "nodules":
        order = order[: 400 if quick else 1360]
    half, last = len(order) // 2, 3 * len(order) // 4
    parts = (order[:half], order[half:last], order[last:])
    return Parts(*(whole.of_patients(part) for part in parts))


def _phantoms(seeds: Sequence[int]) -> PatchSet:
    """One lesion of the liver phantom per patient, the kinds in turn."""
    import numpy as np

    from medaug.domain import Unit
    from medaug.phantom.rendering import lesion_renderer

    kinds = ("cyst", "metastasis")
    render = lesion_renderer({k: k for k in kinds}, "CT", Unit.HOUNSFIELD, (1, SIDE, SIDE), 1.0)
    drawn = [render(kinds[seed % 2], [seed])[0][0] for seed in seeds]
    images = np.clip(np.stack(drawn), -160, 240)
    return _patch_set(images, seeds, True)


def _pictures(kind: str, folder: Path) -> PatchSet:
    """Patches 64x64 of a folder; patients from the file names where they stand there."""
    import numpy as np
    from PIL import Image

    from medaug.privacy.pictures import resized

    paths = sorted(folder.rglob("*.png" if kind == "masses" else "*.jpg"))
    named = [re.search(r"P_(\d+)", path.name) if kind == "masses" else None for path in paths]
    numbers = [int(name[1]) if name else row for row, name in enumerate(named)]
    images = [resized(np.asarray(Image.open(path).convert("F"))[None], SIDE) for path in paths]
    return _patch_set(np.stack(images), numbers, kind == "masses")


def _patch_set(images: Picture, numbers: Sequence[int], known: bool) -> PatchSet:
    import numpy as np

    from medaug.domain import PatchLocation, PatchSet, PatientKey, Unit

    return PatchSet(
        images=np.asarray(images, np.float32),
        masks=None,
        labels=np.zeros(len(images), np.int64),
        classes=("lesion",),
        patients=tuple(PatientKey(f"{number:032x}") for number in numbers),
        locations=(PatchLocation("bench", "", -1, (0.0, 0.0, 0.0), 1.0),) * len(images),
        unit=Unit.ARBITRARY,
        modality="OT",
        patients_known=known,
    )


# Of a standardised picture (row, column); ``other`` is a fresh patient's, ``rng`` random.
Alteration = Callable[["Picture", "Picture", Any], "Picture"]


def alterations() -> dict[str, Alteration]:
    """24 ways to hide a copy, none on the grid of poses."""
    import numpy as np
    from scipy.ndimage import gaussian_filter, map_coordinates

    def posed(degrees: float, scale: float = 1.0, down: float = 0, right: float = 0) -> Alteration:
        def alter(image: Picture, *_: Any) -> Picture:
            at = np.indices(image.shape) - (SIDE - 1) / 2 - np.array([down, right])[:, None, None]
            c, s = np.cos(np.deg2rad(degrees)) / scale, np.sin(np.deg2rad(degrees)) / scale
            places = np.stack([c * at[0] - s * at[1], s * at[0] + c * at[1]]) + (SIDE - 1) / 2
            return np.asarray(map_coordinates(image, places, order=3, mode="nearest"), np.float32)

        return alter

    def noisy(level: float) -> Alteration:
        return lambda image, _, rng: image + rng.normal(0, level, image.shape).astype(np.float32)

    def elastic(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        bend = [gaussian_filter(rng.normal(size=image.shape), 8) for _ in range(2)]
        places = np.indices(image.shape) + np.stack([1.5 * one / one.std() for one in bend])
        return np.asarray(map_coordinates(image, places, order=3, mode="nearest"), np.float32)

    def half(image: Picture, other: Picture, _: Any) -> Picture:
        return np.concatenate([image[:, : SIDE // 2], other[:, SIDE // 2 :]], axis=1)

    def unit(image: Picture) -> Picture:
        return np.asarray((image - image.min()) / np.ptp(image), np.float32)

    return {
        "mirrored": lambda image, *_: image[:, ::-1],
        "upside down": lambda image, *_: image[::-1],
        "turned 7°": posed(7),
        "turned 22°": posed(22),
        "turned 37°, mirrored": lambda image, *_: posed(37)(image[:, ::-1], image, None),
        "turned 98°, scaled 0.96": posed(98, 0.96),
        "shifted (4.5, -2.5)": posed(0, 1, 4.5, -2.5),
        "shifted (6, 6)": posed(0, 1, 6, 6),
        "contrast, brightness": lambda image, *_: 0.7 * image + 1,
        "gamma 1.6": lambda image, *_: unit(image) ** 1.6,
        "inverted": lambda image, *_: -image,
        "noise 0.5 sd": noisy(0.5),
        "noise 1 sd": noisy(1),
        "noise 2 sd": noisy(2),
        "blurred 1.5 px": lambda image, *_: gaussian_filter(image, 1.5),
        "cropped to 80 %": posed(0, 1.25),
        "zoomed 1.1": posed(0, 1.1),
        "8 grey levels": lambda image, *_: np.round(unit(image) * 7),
        "bent by 1.5 px": elastic,
        "70 % + 30 % other": lambda image, other, _: 0.7 * image + 0.3 * other,
        "50 % + 50 % other": lambda image, other, _: 0.5 * image + 0.5 * other,
        "half pasted": half,
        "denoised, new noise": lambda image, _, rng: noisy(0.15)(
            gaussian_filter(image, 1.2), image, rng
        ),
        "turned 143°, mirrored, shifted, contrast, noise 0.2 sd": lambda image, _, rng: noisy(0.2)(
            1.3 * posed(143, 1.04, 2.5, -3.5)(image[::-1], image, None), image, rng
        ),
    }


def _blocked(
    parts: Parts, detector: CopyDetector, count: int, rng: np.random.Generator
) -> list[Row]:
    """P1: fresh patients turned away, then each alteration."""
    import numpy as np

    from medaug.privacy.limits import limit_of
    from medaug.privacy.pictures import unit_contrast

    training, limit = parts.training, detector.calibration.limit
    calibrating = _pixel_likeness(parts.calibration.images, training.images)
    baseline = limit_of(_per_patient(parts.calibration, calibrating), 0.05)
    scores = detector.scores(parts.fresh.images).scores
    pixels = _pixel_likeness(parts.fresh.images, training.images)
    rows = [
        Row(
            "fresh patients turned away",
            float(np.mean(_per_patient(parts.fresh, scores) > limit)),
            float(np.mean(_per_patient(parts.fresh, pixels) > baseline)),
            "<= 0.05",
        )
    ]
    _say(rows[0])
    others = unit_contrast(parts.fresh.images[:, 0])
    for name, alter in alterations().items():
        shown = []
        for at in rng.choice(len(training), min(count, len(training)), replace=False):
            plain = unit_contrast(training.images[at : at + 1, 0])[0]
            shown.append(alter(plain, others[rng.integers(len(others))], rng))
        altered = np.stack(shown)[:, None].astype(np.float32)
        blocked = float(np.mean(detector.scores(altered).scores > limit))
        by_pixels = float(np.mean(_pixel_likeness(altered, training.images) > baseline))
        rows.append(Row(name, blocked, by_pixels, ">= 0.9"))
        _say(rows[-1])
    whole = sum(row.copy_check == 1 for row in rows[1:])
    rows.append(Row("alterations blocked every time, of 24", whole, None, ">= 12"))
    _say(rows[-1])
    return rows


def _pixel_likeness(images: Picture, training: Picture) -> Any:
    """Correlation with the nearest training patch: a falling function of the L2 distance."""
    from medaug.privacy.pictures import unit_contrast

    flat, known = (unit_contrast(part[:, 0]).reshape(len(part), -1) for part in (images, training))
    return (flat @ known.T).max(axis=1) / known.shape[1]


def _per_patient(patches: PatchSet, scores: Any) -> Any:
    import numpy as np

    highest = np.full(len(patches.patient_order), -np.inf)
    np.maximum.at(highest, patches.patient_index, scores)
    return highest


@dataclass(eq=False)
class _Prepared:
    """A sampler that hands out prepared pictures one after another."""

    images: Picture
    record: TrainingRecord
    classes: tuple[str, ...] = ("lesion",)
    _next: int = 0

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:  # noqa: ARG002 one class only
        from medaug.domain import Drawn

        first, self._next = self._next, self._next + len(seeds)
        return Drawn(self.images[first : self._next])


def _planted(kind: str, parts: Parts, rounds: int, rng: np.random.Generator) -> list[Row]:
    """P2: in each round 500 honest samples with five altered copies, under all rules of the gate.

    Five rounds go through all 24 alterations. Of the phantom the honest samples are new each time;
    elsewhere they are the fresh patches, however many there are.
    """
    import numpy as np

    ways = list(alterations().items())
    gone: list[bool] = []
    lost: list[float] = []
    slipped, rejections = [], Counter[str]()
    for number in range(rounds):
        first = 1000 + number * _HONEST
        honest = parts.fresh.images[:_HONEST]
        if kind == "phantom":
            honest = _phantoms(range(first, first + _HONEST)).images
        count = max(1, round(0.01 * len(honest)))
        names, shown = [], []
        for place, at in enumerate(rng.choice(len(parts.training), count, replace=False)):
            name, alter = ways[(number * count + place) % len(ways)]
            plain = parts.training.images[at, 0]
            other = honest[rng.integers(len(honest)), 0]
            mean, deviation = float(plain.mean()), float(plain.std())
            altered = alter((plain - mean) / deviation, (other - mean) / deviation, rng)
            shown.append(np.asarray(altered * deviation + mean, np.float32)[None])
            names.append(name)
        removed, counts = _turned_away(parts, np.concatenate([honest, np.stack(shown)]), rng)
        lost.append(float(np.mean(removed[: len(honest)])))
        gone += removed[len(honest) :]
        slipped += [
            name for name, away in zip(names, removed[len(honest) :], strict=True) if not away
        ]
        rejections.update(counts)
    told = f" (passed: {', '.join(slipped)})" if slipped else ""
    rows = [
        Row(f"planted copies removed, of {len(gone)}{told}", float(np.mean(gone)), None, "1"),
        Row(
            f"honest samples removed, mean of {rounds} rounds",
            float(np.mean(lost)),
            None,
            "<= 0.08",
        ),
        Row("honest samples removed, worst round", max(lost)),
    ]
    rows += [Row(f"  turned away by {name}", n) for name, n in rejections.items()]
    for row in rows:
        _say(row)
    return rows


def _turned_away(
    parts: Parts, images: Picture, rng: np.random.Generator
) -> tuple[list[bool], dict[str, int]]:
    """Which images the gate does not let through, and how many each rule turned away."""
    from medaug.domain import Rescale, TrainingRecord, Window
    from medaug.privacy.gate import review
    from medaug.privacy.settings import PrivacySettings

    training = parts.training
    record = TrainingRecord(
        frozenset(training.patients), training.digest, "0" * 64, {}, 0, 0, training.patients_known
    )
    settings = PrivacySettings(
        per_class=len(images), tries=1, patch_level_only=True, look_alikes="different people"
    )
    window = Window(float(images.min()), float(images.max()))
    rescale = Rescale.of(training.unit, window)
    verdict = review(
        _Prepared(images[rng.permutation(len(images))], record),
        replace(settings.policy(), per_patient=len(images)),
        training=training,
        calibration=parts.calibration,
        rescale=rescale,
        window=window,
        mm_per_pixel=1.0,
        seed=0,
    )
    left = {one.tobytes() for one in verdict.release_or_raise().pixels}
    return [rescale.store(image).tobytes() not in left for image in images], verdict.rejections


def _timed(parts: Parts, detector: CopyDetector, candidates: int) -> list[Row]:
    """P13: seconds and megabytes for candidates against 400 training patches."""
    import numpy as np

    from medaug.privacy.copies import CopyDetector

    training = parts.training
    if len(training) != 400:
        wanted = training.select(np.resize(np.arange(len(training)), 400))
        noise = np.random.default_rng(0).normal(0, 0.5 * wanted.images.std(), wanted.images.shape)
        images = (wanted.images + noise).astype(np.float32)
        many = CopyDetector.fit(replace(wanted, images=images), parts.calibration)
        detector = replace(detector, comparing=many.comparing)
    shown = parts.fresh.images[np.resize(np.arange(len(parts.fresh)), candidates)]
    wall, core = time.perf_counter(), time.process_time()
    detector.scores(shown)
    wall, core = time.perf_counter() - wall, time.process_time() - core
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = 1000 / candidates
    rows = [
        Row("seconds for 1000 candidates, 400 training patches", each * wall, None, "<= 180"),
        Row("seconds of one core for the same", each * core),
        Row("peak memory of everything, MB", peak, None, "<= 2000"),
    ]
    for row in rows:
        _say(row)
    return rows


def _say(row: Row) -> None:
    pixel = "" if row.pixel_l2 is None else f"{row.pixel_l2:8.3f}"
    typer.echo(f"{row.what:58s} {row.copy_check:8.3f} {pixel:8s} {row.limit}")


def _write(rows: list[Row], out: Path, kind: str) -> None:
    """copies.csv and copies.png."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    from medaug.atomic import replacing

    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["what", "copy check", "pixel L2", "holds when"])
    table.writerows([row.what.strip(), row.copy_check, row.pixel_l2, row.limit] for row in rows)
    with replacing(out / "copies.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")
    drawn = [row for row in rows if row.pixel_l2 is not None][::-1]
    figure, axes = plt.subplots(figsize=(8, 7), layout="constrained")
    at = range(len(drawn))
    axes.barh([y + 0.2 for y in at], [row.copy_check for row in drawn], 0.4, label="copy check")
    axes.barh([y - 0.2 for y in at], [row.pixel_l2 or 0 for row in drawn], 0.4, label="pixel L2")
    axes.set_yticks(list(at), [row.what for row in drawn])
    axes.set_xlabel("share blocked")
    axes.set_title(f"Copies blocked, {kind}")
    axes.legend()
    with replacing(out / "copies.png") as path:
        figure.savefig(path, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)
