"""How alike are synthetic and real patches? Every figure beside that of real and other real ones.

Two halves of the real patches, split by patient, are never quite alike; a synthetic patch cannot be
asked to be closer. So each figure is computed for a half against as many synthetic patches, and
against the other half, over many random halvings (`halves`): the means, the intervals over
halvings, and those of their difference. Whatever bias a figure has at this size, both have it.

These are figures of likeness, not of use: a generator that copies its training patches has the best
of all. Copies are what the gate looks for, and use is what `protocol.evaluate` measures.

::

    found = fidelity(training, release, EvaluationSettings(), Window(-100, 200), seed=0)
    print(found.groups[0].figure("kernel distance").difference)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet, Release, Window, digest_of
from medaug.errors import CohortError, Fault
from medaug.evaluation import agreement
from medaug.evaluation.distances import LEAST_PER_FEATURE, NEIGHBOURS, kernel_distance
from medaug.evaluation.features import (
    Extractor,
    FeatureSpace,
    Images,
    Masks,
    Radiomic,
    extractor,
    looked_at,
)
from medaug.evaluation.halves import Deal, deal, deal_halves, one_per_patient, rooms, sizes_of
from medaug.evaluation.likeness import BETTER, Figure, Sample, likeness
from medaug.evaluation.pairs import Similarity, similarity_of
from medaug.evaluation.radiomics import LEAST_SIDE
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.similarity import scales
from medaug.evaluation.statistics import Interval, holm
from medaug.evaluation.twosample import DIVISIONS, LEAST, TwoSample, two_sample_test
from medaug.progress import Progress, Silent

Floats = NDArray[np.float64]

LEAST_PATCHES = 10
"""Of a class in half of the patients, and of its synthetic patches; with 5 neighbours, fewer say
nothing."""
FEW_PATCHES = 50


@dataclass(frozen=True)
class Group:
    """The figures of one class, or of all together (``label`` None).

    Attributes:
        label: the class.
        patches: on either side of every comparison.
        figures: in the order of the report.
        two_sample: a classifier against all patients, one patch each; None with too few.
        two_sample_baseline: the same for two halves of the patients.
        p_holm: of ``two_sample``, corrected over groups.
        similarity: of patches within the class; None over all, or below 11 pixels.
        missing: sentences on what could not be estimated.
    """

    label: str | None
    patches: int
    figures: tuple[Figure, ...]
    two_sample: TwoSample | None
    two_sample_baseline: TwoSample | None
    p_holm: float | None
    similarity: Similarity | None
    missing: tuple[str, ...]

    def figure(self, name: str) -> Figure:
        """The figure of this name; KeyError where it could not be estimated."""
        return {figure.name: figure for figure in self.figures}[name]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        test, base = self.two_sample, self.two_sample_baseline
        return {
            "label": self.label,
            "patches": self.patches,
            "figures": [figure.document() for figure in self.figures],
            "two_sample": None if test is None else test.document() | {"p_holm": self.p_holm},
            "two_sample_baseline": None if base is None else base.document(),
            "similarity": None if self.similarity is None else self.similarity.document(),
            "missing": list(self.missing),
        }


@dataclass(frozen=True)
class Fidelity:
    """The outcome: what measured, over all (with several classes) and class by class."""

    features: str
    sha256: str | None
    dimensions: int
    deals: int
    confidence: float
    groups: tuple[Group, ...]
    method: tuple[str, ...]
    caveats: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """What stands under ``fidelity`` in ``evaluation.json``."""
        return {
            "features": self.features,
            "sha256": self.sha256,
            "dimensions": self.dimensions,
            "deals": self.deals,
            "confidence": self.confidence,
            "groups": [group.document() for group in self.groups],
            "method": list(self.method),
            "caveats": list(self.caveats),
        }


def distance_to(
    reference: Images, masks: Masks | None = None, measure: Extractor | None = None
) -> Callable[[Images, Masks | None], float]:
    """The kernel distance to real patches as a function of patches, for choosing a checkpoint.

    Args:
        reference: (patch, channel, row, column) or (patch, 1, slice, row, column) on [-1, 1]; real
            patches, which also give the scale.
        masks: theirs; None where the patches to come will have none.
        measure: radiomic by default.

    Returns:
        A function of images and masks (or None); the same for the same patches, in about 4 ms for
        each of 64 x 64.
    """
    measure = measure or Radiomic()
    features = measure(reference, masks)
    space = FeatureSpace.around(measure, features)
    points = space.points(features)

    def distance(images: Images, outlines: Masks | None) -> float:
        return kernel_distance(points, space(images, outlines))

    return distance


def fidelity(
    real: PatchSet,
    synthetic: Release,
    settings: EvaluationSettings,
    window: Window,
    seed: int,
    progress: Progress | None = None,
    masks: Masks | None = None,
) -> Fidelity:
    """Compare ``synthetic`` with ``real``, over all and class by class.

    Args:
        real: real patches; they alone set the scale of features and the baseline.
        synthetic: released patches.
        settings: ``fidelity`` and ``confidence`` are read.
        window: intensities → [-1, 1]; what lies outside is clipped on both sides.
        seed: of halvings and draws.
        progress: follows the halvings.
        masks: of the synthetic patches, where they have any; used if the real ones have, too.

    Raises:
        CohortError: for patches that do not fit one another, are not finite, or are too few.
        SettingsError: for a weight file that cannot be used.
    """
    faults = list(_misfits(real, synthetic))
    if faults:
        raise CohortError(*faults)
    measure = extractor(settings.fidelity.features, settings.fidelity.features_sha256)
    rng = np.random.default_rng(int(digest_of("fidelity", seed)[:15], 16))
    halves = deal_halves(real, settings.fidelity.deals, rng)
    faults = list(_too_few(real, synthetic, halves))
    if faults:
        raise CohortError(*faults)
    comparison = _Comparison.of(real, synthetic, settings, window, measure, masks, halves)
    classes = range(len(real.classes))
    wanted: list[list[int]] = [[at] for at in classes]
    if len(classes) > 1:
        wanted.insert(0, list(classes))
    progress = progress or Silent()
    progress.start("comparing synthetic and real patches", len(wanted) * len(halves))
    groups = _corrected([comparison.group(group, rng, progress) for group in wanted])
    return Fidelity(
        features=measure.name,
        sha256=measure.sha256,
        dimensions=comparison.real.points.shape[1],
        deals=len(halves),
        confidence=settings.confidence,
        groups=groups,
        method=_method(real, measure, settings),
        caveats=_caveats(real, groups),
    )


def _misfits(real: PatchSet, synthetic: Release) -> Iterator[Fault]:
    shape = real.images.shape[1:]
    if len(shape) not in (3, 4) or min(shape[1:]) < LEAST_SIDE:
        yield Fault("real patches", f"of {shape}", f"at least {LEAST_SIDE} pixels along each side")
    if not np.isfinite(real.images).all():
        yield Fault("real patches", "a patch holds NaN or infinity", "finite intensities")
    for what, came, allowed in (
        ("classes", synthetic.classes, real.classes),
        ("unit", synthetic.unit, real.unit),
        ("patch shape", synthetic.pixels.shape[1:], shape),
    ):
        if came != allowed:
            yield Fault("release", f"{what} {came}", f"as in the real patches: {allowed}")


def _too_few(real: PatchSet, synthetic: Release, halves: NDArray[np.bool_]) -> Iterator[Fault]:
    in_half, made = rooms(halves, real.labels, synthetic.labels, len(real.classes))
    for label, held, count in zip(real.classes, in_half, made, strict=True):
        if held < LEAST_PATCHES:
            came = f"{held} patch(es) of this class in a half of the patients"
            yield Fault(f"real patches: {label}", came, f"at least {LEAST_PATCHES}", "add patients")
        if count < LEAST_PATCHES:
            came = f"{count} synthetic patch(es)"
            yield Fault(f"release: {label}", came, f"at least {LEAST_PATCHES} of each class")


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Everything that is computed once, and from which every group's figures are drawn."""

    patches: PatchSet
    labels: NDArray[np.int64]
    images: tuple[NDArray[np.float32], NDArray[np.float32]]
    real: Sample
    synthetic: Sample
    halves: NDArray[np.bool_]
    settings: EvaluationSettings
    width: float
    unit: str
    mm_per_pixel: float

    @classmethod
    def of(
        cls,
        real: PatchSet,
        synthetic: Release,
        settings: EvaluationSettings,
        window: Window,
        measure: Extractor,
        masks: Masks | None,
        halves: NDArray[np.bool_],
    ) -> _Comparison:
        images = window.to_signed(real.images), window.to_signed(synthetic.images)
        outlines = (None, None) if masks is None or real.masks is None else (real.masks, masks)
        raw = [measure(each, outline) for each, outline in zip(images, outlines, strict=True)]
        space = FeatureSpace.around(measure, raw[0])
        samples = [
            Sample(
                points=space.points(features),
                intensity=agreement.cumulative(each),
                inside=None if outline is None else agreement.cumulative(each, outline),
                diameter=None if outline is None else agreement.diameters(outline),
            )
            for features, each, outline in zip(raw, images, outlines, strict=True)
        ]
        return cls(
            patches=real,
            labels=synthetic.labels,
            images=images,
            real=samples[0],
            synthetic=samples[1],
            halves=halves,
            settings=settings,
            width=window.high - window.low,
            unit=real.unit.value,
            mm_per_pixel=synthetic.mm_per_pixel,
        )

    def group(self, classes: Sequence[int], rng: np.random.Generator, progress: Progress) -> Group:
        """The figures of these classes together."""
        in_half, made = rooms(
            self.halves, self.patches.labels, self.labels, len(self.patches.classes)
        )
        sizes = sizes_of(classes, in_half, made, self.settings.fidelity.most)
        found: list[tuple[dict[str, float], dict[str, float]]] = []
        for half in self.halves:
            rows = deal(half, self.patches.labels, self.labels, sizes, rng)
            found.append(self._both(rows, rng))
            progress.advance()
        names = [name for name in found[0][1] if all(name in each[0] for each in found)]
        test, base = self._two_sample(classes, rng)
        alike = None
        if len(classes) == 1 and scales(min(self.patches.images.shape[-2:])):
            at = classes[0]
            alike = similarity_of(
                (self.images[0], self.patches.patient_index, self.patches.labels == at),
                (self.images[1], np.arange(len(self.labels)), self.labels == at),
                self.settings.confidence,
                rng,
            )
        return Group(
            label=self.patches.classes[classes[0]] if len(classes) == 1 else None,
            patches=sum(sizes.values()),
            figures=tuple(self._figure(name, found) for name in names),
            two_sample=test,
            two_sample_baseline=base,
            p_holm=None,
            similarity=alike,
            missing=tuple(self._missing(names, sum(sizes.values()), test, base)),
        )

    def _both(
        self, rows: Deal, rng: np.random.Generator
    ) -> tuple[dict[str, float], dict[str, float]]:
        first, scale = self.real.at(rows.first), (self.width, self.mm_per_pixel)
        return (
            likeness(first, self.synthetic.at(rows.synthetic), *scale, rng),
            likeness(first, self.real.at(rows.second), *scale, rng),
        )

    def _figure(
        self, name: str, found: Sequence[tuple[dict[str, float], dict[str, float]]]
    ) -> Figure:
        values = np.array([[of_synthetic[name], base[name]] for of_synthetic, base in found])
        columns = (*values.T, values[:, 0] - values[:, 1])
        return Figure(name, self._unit(name), BETTER[name], *map(self._interval, columns))

    def _unit(self, name: str) -> str:
        if name.startswith("intensity distance"):
            return self.unit
        if name == "lesion size distance":
            return "mm" if self.mm_per_pixel else "pixels"
        return ""

    def _interval(self, values: Floats) -> Interval:
        tail = (1 - self.settings.confidence) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return Interval(float(values.mean()), float(low), float(high))

    def _two_sample(
        self, classes: Sequence[int], rng: np.random.Generator
    ) -> tuple[TwoSample | None, TwoSample | None]:
        """The test over all patients, and between two halves of them; None with too few."""
        most = self.settings.fidelity.most
        labels = self.patches.labels
        among = np.isin(labels, classes)
        rows = one_per_patient(self.patches, among, rng)
        there = [int((labels[rows] == at).sum()) for at in classes]
        made = [int((self.labels == at).sum()) for at in classes]
        local = range(len(classes))
        sizes = sizes_of([at for at in local if there[at]], there, made, most)
        real, other = [], []
        for at, size in sizes.items():
            real.append(rng.permutation(rows[labels[rows] == classes[at]])[:size])
            other.append(rng.permutation(np.flatnonzero(self.labels == classes[at]))[:size])
        chosen, drawn = np.concatenate(real), np.concatenate(other)
        half = self.halves[0][chosen]
        test = base = None
        if len(chosen) >= LEAST:
            test = two_sample_test(self.real.points[chosen], self.synthetic.points[drawn], rng)
        if min(int(half.sum()), int((~half).sum())) >= LEAST:
            points = self.real.points[chosen]
            base = two_sample_test(points[half], points[~half], rng)
        return test, base

    def _missing(
        self, names: Sequence[str], count: int, test: TwoSample | None, base: TwoSample | None
    ) -> Iterator[str]:
        features = self.real.points.shape[1]
        if "Fréchet distance" not in names:
            yield (
                f"The Fréchet distance of {features} features needs "
                f"{LEAST_PER_FEATURE * features} patches on either side; there are {count}."
            )
        if self.real.inside is not None and "intensity distance in the mask" not in names:
            yield "No intensity in the mask: in some sample every synthetic mask is empty."
        if test is None:
            yield f"The two-sample test needs {LEAST} patients of this group."
        if base is None:
            yield f"The two-sample test of two halves needs {LEAST} patients of this group in each."
        side = min(self.patches.images.shape[-2:])
        if not scales(side):
            yield f"MS-SSIM needs patches of 11 pixels; these have {side}."


def _corrected(groups: Sequence[Group]) -> tuple[Group, ...]:
    """With Holm's correction over the groups that were tested."""
    plain = [group.two_sample.p for group in groups if group.two_sample is not None]
    corrected = iter(holm(plain))
    return tuple(
        group if group.two_sample is None else replace(group, p_holm=next(corrected))
        for group in groups
    )


def _method(real: PatchSet, measure: Extractor, settings: EvaluationSettings) -> tuple[str, ...]:
    who = "patient" if real.patients_known else "patch"
    return (
        *looked_at(real.images.shape),
        (
            f"Real patches were halved by {who} {settings.fidelity.deals} times at random. Each "
            "figure compares one half with as many synthetic patches of the same classes; its "
            "baseline compares the same half with the other half. Values are means over halvings, "
            f"intervals hold {100 * settings.confidence:g} % of them."
        ),
        (
            f"Features: {measure.name}, on the scale of the real patches (median, interquartile "
            f"range). Precision, recall, density and coverage look at {NEIGHBOURS} neighbours. The "
            "kernel distance is unbiased: alike sets give 0 on average, and negative values occur."
        ),
        (
            f"Two-sample test: extremely randomised trees, {DIVISIONS} divisions into halves, one "
            f"patch for each {who}, p = twice the median, corrected by Holm's method over groups. "
            "An accuracy of 0.5 is guessing; one clearly below it hints at copies of these patches."
        ),
    )


def _caveats(real: PatchSet, groups: Sequence[Group]) -> tuple[str, ...]:
    sentences = [
        (
            "A generator that copies its training patches has the best figures here. Likeness says "
            "neither that patches may leave (the gate does) nor that they help (the arms do)."
        )
    ]
    small = min(group.patches for group in groups)
    if small < FEW_PATCHES:
        sentences.append(
            f"With {small} patches on either side only gross faults can be told from chance."
        )
    if not real.patients_known:
        sentences.append(
            "The source does not say which patches belong to one patient. If halves share "
            "patients, the baseline is too good and synthetic patches look worse beside it."
        )
    return tuple(sentences)
