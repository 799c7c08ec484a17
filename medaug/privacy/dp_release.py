"""The gate of a release with differential privacy: it is handed no patient's patch at all.

A filter that looks at training data and differential privacy are exclusive: whether a sample was
withheld would itself be an answer about a patient. What is checked here is checked on the output
of the mechanism alone: FORMAT (shape, range, not blank) and DUPLICATE (no two samples are the same
picture). Real patches cannot get in, because no argument takes any.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medaug.domain import (
    Candidates,
    CheckResult,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Sampler,
    Unit,
    Window,
)
from medaug.domain.cost import PrivacyCost
from medaug.errors import Fault, MedaugError, SettingsError
from medaug.privacy.accounting import statements
from medaug.privacy.claims import acceptance_sentence, duplicate_sentence
from medaug.privacy.duplicates import Gathered, closest_pair
from medaug.privacy.format import Format
from medaug.privacy.verdict import Review
from medaug.progress import Progress, Silent

CHECKS = ("format", "duplicate")
_BATCH = 64


@dataclass(frozen=True)
class PatchForm:
    """What is public about the patches: it comes from settings, not from patients.

    Attributes:
        shape: (channel, [slice,] row, column).
        window: intensities that are drawn.
        unit: of the intensities.
        modality: DICOM's word.
        mm_per_pixel: nominal pixel size; 0 where the source has no spacing.
    """

    shape: tuple[int, ...]
    window: Window
    unit: Unit
    modality: str
    mm_per_pixel: float

    @property
    def rescale(self) -> Rescale:
        """How intensities are stored."""
        return Rescale.of(self.unit, self.window)


def release_dp(
    sampler: Sampler,
    policy: ReleasePolicy,
    cost: PrivacyCost,
    form: PatchForm,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Review:
    """Draw from a generator with differential privacy, check form and repetition, release.

    Args:
        sampler: its weights are the output of a mechanism with this cost; drawing is
            post-processing.
        policy: limits, fixed beforehand; its mode is the mechanism of the cost.
        cost: what it says of itself.
        form: of the patches.
        seed: of the candidates' seeds and of the order in the release.
        progress: told of every candidate accepted.

    Raises:
        SettingsError: if the policy is of another mode, or asks for a check that would need
            patients' data.
    """
    _refuse_settings(policy, cost, sampler.classes)
    ticker = progress or Silent()
    drawing = _Drawing(policy, form)
    for index, label in enumerate(sampler.classes):
        if quota := policy.quota(label):
            ticker.start(f"drawing {label}", quota)
            drawing.fill(sampler, index, np.random.default_rng((seed, index)), ticker)
    reasons = drawing.why_not()
    if reasons:
        return _refused(drawing, reasons)
    candidates = drawing.candidates(sampler.classes)
    results = drawing.check_again(candidates)
    # The order must not tell what was drawn first.
    order = np.random.default_rng((seed, len(sampler.classes)))
    shuffled = candidates.select(order.permutation(len(candidates)))
    failed = tuple(result.detail for result in results if not result.passed)
    if failed:
        return _refused(drawing, failed)
    decision = ReleaseDecision(
        policy=policy,
        pixels_digest=shuffled.digest,
        results=results,
        drawn=drawing.drawn,
        accepted=drawing.accepted,
        statements=(
            *statements(cost),
            duplicate_sentence(policy.duplicate_limit, results[1].value),
            *(
                acceptance_sentence(label, drawing.accepted[label], drawing.drawn[label])
                for label in drawing.drawn
            ),
        ),
        cost=cost,
    )
    release = Release.of(shuffled, decision, sampler.record.weights_digest)
    return Review(
        "released",
        policy,
        decision=decision,
        release=release,
        drawn=drawing.drawn,
        accepted=drawing.accepted,
        rejections=drawing.rejections,
    )


def _refused(drawing: _Drawing, reasons: tuple[str, ...]) -> Review:
    return Review(
        "refused",
        drawing.policy,
        reasons,
        drawn=drawing.drawn,
        accepted=drawing.accepted,
        rejections=drawing.rejections,
    )


@dataclass(eq=False)
class _Drawing:
    """The candidates so far and what became of them."""

    policy: ReleasePolicy
    form: PatchForm
    drawn: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    _pixels: list[NDArray[np.int16]] = field(default_factory=list)
    _masks: list[NDArray[np.bool_]] = field(default_factory=list)
    _labels: list[int] = field(default_factory=list)
    _seeds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gathered = Gathered()
        # The least contrast of real patches would be a figure about patients: only 0 is dead.
        self._format = Format(self.form.shape, self.form.window, self.form.rescale.slope, 0.0)

    def fill(
        self, sampler: Sampler, index: int, chance: np.random.Generator, progress: Progress
    ) -> None:
        """Draw until the quota of a class is met or its tries are used up."""
        label = sampler.classes[index]
        quota = self.policy.quota(label)
        self.drawn[label] = self.accepted[label] = 0
        while self.accepted[label] < quota and self.drawn[label] < quota * self.policy.tries:
            left = quota * self.policy.tries - self.drawn[label]
            wanted = min(quota - self.accepted[label], left, _BATCH)
            batch = chance.integers(0, 2**63, wanted).tolist()
            found = sampler.draw(label, batch)
            masks = [None] * wanted if found.masks is None else list(found.masks)
            for image, mask, seed in zip(found.images, masks, batch, strict=True):
                reason = self._fault(image, mask)
                self.drawn[label] += 1
                if reason is None:
                    self.accepted[label] += 1
                    self._labels.append(index)
                    self._seeds.append(seed)
                else:
                    self.rejections[reason] += 1
                progress.advance(int(reason is None), f"{self.drawn[label]} drawn")

    def _fault(self, image: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> str | None:
        # What lies outside the window is clipped, as a trained generator's output is by itself.
        window = self.form.window
        if self._format.fault(np.clip(image, window.low, window.high), mask) is not None:
            return "format"
        pixels = self.form.rescale.store(np.clip(image, window.low, window.high))
        seen = self.form.rescale.restore(pixels)
        if self._format.fault(seen, mask) is not None:
            return "format"
        if self._gathered.likeness(seen) > self.policy.duplicate_limit:
            return "duplicate"
        self._gathered.add(seen)
        self._pixels.append(pixels)
        if mask is not None:
            self._masks.append(mask)
        return None

    def why_not(self) -> tuple[str, ...]:
        """Sentences for classes of which too little was accepted."""
        least = self.policy.min_acceptance
        return tuple(
            f"Class {label}: {self.accepted[label]} of {drawn} candidates accepted, at least "
            f"{least:.0%} are needed (format {self.rejections['format']}, duplicate "
            f"{self.rejections['duplicate']} over all classes). Duplicate: the generator repeats "
            "itself; format: it draws blank pictures or none of the right kind."
            for label, drawn in self.drawn.items()
            if self.accepted[label] == 0 or self.accepted[label] / drawn < least
        )

    def candidates(self, classes: tuple[str, ...]) -> Candidates:
        """All that passed, in the order drawn."""
        if self._masks and len(self._masks) != len(self._pixels):
            raise MedaugError("some samples came with a mask and others without")
        # A class that is not to be released is no class of the release.
        released = tuple(self.drawn)
        return Candidates(
            pixels=np.stack(self._pixels),
            labels=np.array([released.index(classes[at]) for at in self._labels], np.int64),
            classes=released,
            rescale=self.form.rescale,
            unit=self.form.unit,
            modality=self.form.modality,
            mm_per_pixel=self.form.mm_per_pixel,
            seeds=np.array(self._seeds, np.int64),
            masks=np.stack(self._masks) if self._masks else None,
        )

    def check_again(self, candidates: Candidates) -> tuple[CheckResult, CheckResult]:
        """Both checks over the whole set."""
        images, masks = candidates.images, candidates.masks
        faults = sum(
            self._format.fault(image, None if masks is None else masks[row]) is not None
            for row, image in enumerate(images)
        )
        contrast = min(map(self._format.contrast, images))
        pair = closest_pair(images)
        shape = " x ".join(map(str, self.form.shape))
        return (
            CheckResult(
                "format",
                faults == 0,
                round(contrast, 4),
                0.0,
                self.rejections["format"],
                f"{len(images) - faults} of {len(images)} samples are {shape}, finite, inside the "
                "window and not blank; the value is the lowest standard deviation.",
            ),
            CheckResult(
                "duplicate",
                pair <= self.policy.duplicate_limit,
                round(pair, 4),
                self.policy.duplicate_limit,
                self.rejections["duplicate"],
                f"The two most alike samples correlate by {pair:.3f}, the limit is "
                f"{self.policy.duplicate_limit:g}.",
            ),
        )


def _refuse_settings(policy: ReleasePolicy, cost: PrivacyCost, classes: tuple[str, ...]) -> None:
    named = () if isinstance(policy.per_class, int) else policy.per_class
    faults = [
        Fault(f"privacy.per_class.{name}", "no class has this name", ", ".join(classes))
        for name in named
        if name not in classes
    ]
    if policy.mode != cost.mechanism:
        faults.append(Fault("privacy.mode", f"{policy.mode}, the generator's is {cost.mechanism}"))
    faults += [
        Fault(
            "privacy.checks",
            f"'{name}' in mode {policy.mode}",
            ", ".join(CHECKS),
            "a check that looks at patients' data ends differential privacy: leave it out",
        )
        for name in policy.checks
        if name not in CHECKS
    ]
    if faults:
        raise SettingsError(*faults)
