"""From candidates to a release: what may leave, and the proof that it was reviewed.

A `Release` cannot exist without approval: its constructor raises `DisclosureError` unless
the decision covers these very pixels, the policy asks for at least one check, every check it
asks for was run, and each passed. Unknown means refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medaug.domain.cost import PrivacyCost
from medaug.domain.digest import digest_of
from medaug.domain.lesion import PatientKey
from medaug.domain.volume import Rescale, Unit
from medaug.errors import DisclosureError


@dataclass(frozen=True)
class Ancestor:
    """A generator from whose weights another one began.

    Attributes:
        patients: keys of every patient that it, or one that it began from, was trained on. Keys
            made with another site's key cannot be compared with those of this site.
        patches_digest: as in its `TrainingRecord`.
        weights_digest: the same.
        public: the site declares that it saw public or rendered data only.
    """

    patients: frozenset[PatientKey]
    patches_digest: str
    weights_digest: str
    public: bool


@dataclass(frozen=True)
class TrainingRecord:
    """What a generator saw. Stays inside the hospital: it lists patient keys.

    Attributes:
        patients: keys of every patient whose patches were trained on, those of ``ancestors``
            among them.
        patches_digest: `PatchSet.digest` of the training part.
        weights_digest: SHA-256 of the weights.
        settings: generator settings as resolved, JSON-able.
        seed: of the training run.
        images_shown: number of real images shown, repeats counted.
        patients_known: as in the `PatchSet`.
        ancestors: generators that it began from, the first one first.
    """

    patients: frozenset[PatientKey]
    patches_digest: str
    weights_digest: str
    settings: dict[str, Any]
    seed: int
    images_shown: int
    patients_known: bool = True
    ancestors: tuple[Ancestor, ...] = ()


@dataclass(frozen=True, eq=False)
class Drawn:
    """Patches as a generator drew them.

    Attributes:
        images: (sample, channel, row, column) or, in 3-D, (sample, 1, slice, row, column) float32,
            in the unit of the training data; laid out as in `medaug.domain.patch`.
        masks: (sample, row, column) or (sample, slice, row, column) bool, the lesion drawn with
            each; None where it draws none.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_] | None = None


class Sampler(Protocol):
    """What the gate needs of a generator."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it can draw."""

    @property
    def record(self) -> TrainingRecord:
        """What it saw."""

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        """One patch per seed, each with its mask or none with any.

        A seed gives the same patch and mask whatever the other seeds in the call.
        """


@dataclass(frozen=True, eq=False)
class _Synthetic:
    """The columns that candidates and releases share.

    Attributes:
        pixels: (sample, channel, row, column) or, in 3-D, (sample, 1, slice, row, column) int16;
            ``rescale`` gives intensities. Laid out as in `medaug.domain.patch`.
        labels: (sample,) int64, index into `classes`.
        mm_per_pixel: nominal pixel size; 0 where the source has no spacing.
        masks: (sample, row, column) or (sample, slice, row, column) bool, the lesion in each; None
            where no mask was drawn.
    """

    pixels: NDArray[np.int16]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    rescale: Rescale
    unit: Unit
    modality: str
    mm_per_pixel: float
    masks: NDArray[np.bool_] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.int16 or self.pixels.ndim < 4:
            raise ValueError("pixels are int16 (sample, channel, row, column)")
        if len(self.labels) != len(self.pixels):
            raise ValueError("one label per sample")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError("a label has no class")
        shape = (len(self.pixels), *self.pixels.shape[2:])
        if self.masks is not None and (self.masks.dtype != bool or self.masks.shape != shape):
            raise ValueError(f"masks are bool (sample, row, column), here {shape}, or None")

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over pixels, masks if any, labels and what gives them meaning."""
        figures = [self.rescale.slope, self.rescale.intercept, self.mm_per_pixel]
        head = [list(self.classes), self.unit.value, self.modality, *map(float, figures)]
        masks = () if self.masks is None else (self.masks,)
        return digest_of(self.pixels, self.labels, head, *masks)

    @property
    def images(self) -> NDArray[np.float32]:
        """(sample, channel, row, column), or (sample, 1, slice, row, column), float32 in `unit`."""
        return self.rescale.restore(self.pixels)

    def per_class(self) -> dict[str, int]:
        """How many samples of each class."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


_COLUMNS = frozenset(each.name for each in fields(_Synthetic))


@dataclass(frozen=True, eq=False)
class Candidates(_Synthetic):
    """Synthetic patches that nobody has reviewed; ``seeds`` (sample,) never leave the site."""

    seeds: NDArray[np.int64]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.seeds) != len(self.pixels):
            raise ValueError("one seed per candidate")

    def select(self, rows: NDArray[np.int64]) -> Candidates:
        """The candidates at ``rows``, in that order."""
        return replace(
            self,
            pixels=self.pixels[rows],
            labels=self.labels[rows],
            seeds=self.seeds[rows],
            masks=None if self.masks is None else self.masks[rows],
        )


@dataclass(frozen=True)
class ReleasePolicy:
    """Limits fixed before sampling.

    Attributes:
        per_class: samples wanted of every class, or of each class that is to be released.
        checks: names of the checks that must run and pass.
        mode: "empirical": filters and audits see training data, no differential privacy. "dp-vote",
            "dp-sgd": nothing after the noise sees training data.
        tries: candidates drawn at most per wanted sample.
        copy_false_rejection: share of new real patients that the copy limit may reject at most.
        duplicate_limit: correlation above which two samples count as the same picture.
        min_patients_per_class: fewer training patients in a class refuse the release.
        min_calibration_patients: fewer tuning patients refuse the release.
        min_acceptance: a lower share of accepted candidates refuses the release.
        patch_level_only: must be set where patients are not known.
        near_share: share of real patients that the check "near", and that "single_support", may
            turn away.
        cap_share: share of a release that may have one nearest patient, or more where real
            patients do.
        per_patient: samples of a class per training patient of it, over all releases.
        look_alikes: "ask" refuses where two real patients look like one; "different people" says
            that somebody has looked and that they are not.
    """

    per_class: int | Mapping[str, int]
    checks: tuple[str, ...] = ("format", "copy", "duplicate")
    mode: str = "empirical"
    tries: int = 5
    copy_false_rejection: float = 0.05
    duplicate_limit: float = 0.98
    min_patients_per_class: int = 20
    min_calibration_patients: int = 19
    min_acceptance: float = 0.2
    patch_level_only: bool = False
    near_share: float = 0.025
    cap_share: float = 0.05
    per_patient: int = 10
    look_alikes: str = "ask"

    def quota(self, label: str) -> int:
        """Samples wanted of the class ``label``; 0 where it is not to be released.

        >>> ReleasePolicy({"cyst": 50}).quota("metastasis")
        0
        """
        if isinstance(self.per_class, int):
            return self.per_class
        return self.per_class.get(label, 0)


@dataclass(frozen=True)
class CheckResult:
    """One check over the whole set that is to be released.

    ``value`` is the worst figure in the set, ``limit`` what it was held against, ``rejected``
    how many candidates the check turned away before, ``detail`` one sentence for the reader.
    """

    name: str
    passed: bool
    value: float
    limit: float
    rejected: int
    detail: str


@dataclass(frozen=True)
class ReleaseDecision:
    """The outcome of a review, bound by a digest to the pixels and masks it saw.

    ``drawn`` and ``accepted`` count candidates per class; ``statements`` are the sentences that
    may be said outside; ``cost`` is there exactly where the mode claims differential privacy.
    """

    policy: ReleasePolicy
    pixels_digest: str
    results: tuple[CheckResult, ...]
    drawn: dict[str, int]
    accepted: dict[str, int]
    statements: tuple[str, ...]
    cost: PrivacyCost | None = None


@dataclass(frozen=True, eq=False)
class Release(_Synthetic):
    """Synthetic patches that may leave. Carries no patient, seed, latent or source place.

    Raises:
        DisclosureError: unless ``decision`` approves exactly these pixels and masks.
    """

    decision: ReleaseDecision
    generator_digest: str

    @classmethod
    def of(
        cls, candidates: Candidates, decision: ReleaseDecision, generator_digest: str
    ) -> Release:
        """The candidates without their seeds, if ``decision`` approves them."""
        kept = {name: value for name, value in vars(candidates).items() if name in _COLUMNS}
        return cls(**kept, decision=decision, generator_digest=generator_digest)

    def __post_init__(self) -> None:
        super().__post_init__()
        policy = self.decision.policy
        reasons = []
        if not len(self):
            reasons.append("there is nothing to release: no candidate was accepted")
        if self.decision.pixels_digest != self.digest:
            reasons.append("the decision was taken on other pixels or masks than these")
        if not policy.checks:
            reasons.append("the policy asks for no check")
        cost = self.decision.cost
        if (None if cost is None else cost.mechanism) != (
            None if policy.mode == "empirical" else policy.mode
        ):
            reasons.append(f"the mode is {policy.mode} and the cost in privacy is {cost}")
        run = {result.name for result in self.decision.results}
        reasons += [
            f"the check '{name}' was asked for and not run"
            for name in policy.checks
            if name not in run
        ]
        reasons += [
            f"the check '{result.name}' failed: {result.detail}"
            for result in self.decision.results
            if not result.passed
        ]
        if reasons:
            raise DisclosureError(*reasons)
