"""Candidates are drawn, stored, and held against the rules, one by one.

A candidate is judged on the integers that would leave, not on the generator's floats. One that is
turned away is replaced by a new seed; its own seed is never used again. Candidates come in batches
and are forgotten unless they pass: only what passed grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from medaug.domain import Drawn, PatchSet, ReleasePolicy, Rescale, Sampler
from medaug.errors import MedaugError
from medaug.privacy.canaries import CanaryFinding, CanaryWatch
from medaug.privacy.copies import CopyDetector
from medaug.privacy.duplicates import Gathered
from medaug.privacy.format import Format
from medaug.privacy.neighbours import Neighbours, Place
from medaug.privacy.outlines import Outlines
from medaug.privacy.sizes import NAMES, Sizes
from medaug.privacy.verdict import CANARY, CHECKS, OUTLINE, Closest, Finding, Outcome
from medaug.progress import Progress

# Shown in the internal report, of the accepted and of the others each.
_CLOSEST = 4
# After every batch, a generator without hope is given up.
_BATCH = 256
_CONFIDENCE = 0.999

_Image = NDArray[np.float32]
_Mask = NDArray[np.bool_] | None
# A candidate as the integers that would leave, and as whoever receives them sees it.
_Stored = tuple[NDArray[np.int16], _Image]


@dataclass(frozen=True, eq=False)
class Against:
    """What candidates are held against; fitted before any is drawn.

    Attributes:
        outlines: None where no masks can be compared.
        sizes: None where the training patches have no masks.
        allowed: per class, samples that may still be released.
        cap: how many samples may share one nearest patient.
        earlier: pictures of earlier releases, (sample, channel, row, column) each.
        canaries: None where none were trained on.
        beside: findings about the generator that were made before.
    """

    form: Format
    detector: CopyDetector
    outlines: Outlines | None
    neighbours: Neighbours
    sizes: Sizes | None
    allowed: Mapping[str, int]
    cap: int
    earlier: Sequence[NDArray[np.float32]] = ()
    canaries: CanaryWatch | None = None
    beside: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False)
class Accepted:
    """A candidate that passed: what would leave, its class, its seed, and where it lies."""

    pixels: NDArray[np.int16]
    mask: NDArray[np.bool_] | None
    label: int
    seed: int
    score: float
    place: Place
    overlap: float


def cap_of(policy: ReleasePolicy, neighbours: Neighbours, samples: int) -> int:
    """How many of ``samples`` may share one nearest patient.

    No fewer than real patients do: with `ReleasePolicy.cap_share` alone, 6 % of honest phantom
    samples
    were turned away, because one plain lesion is the nearest to many.
    """
    patients = int(neighbours.owners.max()) + 1
    share = max(policy.cap_share, 3 / patients, neighbours.crowd)
    return max(2, int(np.ceil(share * samples)))


def allowed_of(
    policy: ReleasePolicy, training: PatchSet, released_before: Mapping[str, int]
) -> dict[str, int]:
    """Samples of each class that may still be released, over all releases."""
    return {
        label: max(policy.per_patient * patients - released_before.get(label, 0), 0)
        for label, patients in training.patients_per_class().items()
    }


@dataclass(eq=False)
class Screening:
    """The candidates of one review and what became of them.

    Attributes:
        passed: accepted candidates in the order drawn.
        drawn, accepted: counts per class.
        rejections: counts per check.
        sizes: per class and size (accepted, drawn).
        closest: the accepted and the other candidates with the highest copy scores.
    """

    policy: ReleasePolicy
    rescale: Rescale
    against: Against
    passed: list[Accepted] = field(default_factory=list)
    drawn: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    closest: list[Closest] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [name for name in CHECKS if name != OUTLINE]
        if self.against.outlines is not None:
            names.insert(names.index("near"), OUTLINE)
        if self.against.canaries is not None:
            names.insert(names.index("copy"), CANARY)
        self.rejections = dict.fromkeys(names, 0)
        self._gathered = Gathered()
        self._supported: Counter[int] = Counter()
        for images in self.against.earlier:
            for image in images:
                self._gathered.add(image)

    @property
    def canaries(self) -> CanaryFinding | None:
        """What the candidates drawn so far say of the canaries; None where there are none."""
        if self.against.canaries is None:
            return None
        return self.against.canaries.finding(self.rejections[CANARY])

    @property
    def remembered(self) -> tuple[str, ...]:
        """Why the canaries refuse the release; empty where they do not, or there are none."""
        return () if (found := self.canaries) is None else found.reasons

    @property
    def said_besides(self) -> tuple[str, ...]:
        """What may be said outside of the canaries and of what was found before."""
        canaries = () if (found := self.canaries) is None else found.statements
        return (*canaries, *(said for one in self.against.beside for said in one.statements))

    def draw(self, sampler: Sampler, index: int, seeds: Iterator[int], progress: Progress) -> None:
        """Fill the quota of one class, or use up its tries, or find it hopeless."""
        label = sampler.classes[index]
        quota = min(self.policy.quota(label), self.against.allowed[label])
        self.rejections["quota"] += self.policy.quota(label) - quota
        self.drawn[label] = self.accepted[label] = 0
        while self.accepted[label] < quota and not self._hopeless(label):
            left = quota * self.policy.tries - self.drawn[label]
            wanted = min(quota - self.accepted[label], left, _BATCH)
            if wanted == 0:
                return
            batch = [next(seeds) for _ in range(wanted)]
            images, masks = _columns(sampler.draw(label, batch), wanted)
            seen = [self._stored(image, mask) for image, mask in zip(images, masks, strict=True)]
            scores = self._scores(seen)
            for stored, mask, seed in zip(seen, masks, batch, strict=True):
                outcome: Outcome = "format"
                if stored is not None:
                    outcome = self._judge(stored, mask, index, label, seed, next(scores))
                self.drawn[label] += 1
                if outcome == "accepted":
                    self.accepted[label] += 1
                else:
                    self.rejections[outcome] += 1
                self._measure(label, mask, outcome)
                progress.advance(int(outcome == "accepted"), f"{self.drawn[label]} drawn")

    def keep_to_cap(self, classes: Sequence[str]) -> None:
        """Take back the last drawn of those who share a nearest patient, until the cap holds.

        Where fewer came than were wanted, the cap is smaller than it was while drawing.
        """
        while self.passed:
            count = Counter(one.place.patient for one in self.passed)
            patient, most = count.most_common(1)[0]
            if most <= cap_of(self.policy, self.against.neighbours, len(self.passed)):
                return
            last = max(at for at, one in enumerate(self.passed) if one.place.patient == patient)
            self.accepted[classes[self.passed.pop(last).label]] -= 1
            self.rejections["cap"] += 1

    def let_go(self) -> None:
        """Of what was prepared to compare with: nothing is drawn any more."""
        self.against = replace(self.against, detector=self.against.detector.without_galleries())
        self._gathered = Gathered()

    def _stored(self, image: _Image, mask: _Mask) -> _Stored | None:
        """What would leave of a candidate, None where its form is at fault before or after."""
        form = self.against.form
        if form.fault(image, mask) is not None:
            return None
        pixels = self.rescale.store(image)
        seen = self.rescale.restore(pixels)
        return None if form.fault(seen, mask) is not None else (pixels, seen)

    def _scores(self, stored: Sequence[_Stored | None]) -> Iterator[tuple[float, int, str]]:
        """Copy score, nearest training row and pose of each that is there, compared together."""
        there = [seen for one in stored if one is not None for seen in one[1:]]
        if not there:
            return iter(())
        found = self.against.detector.scores(np.stack(there))
        poses = [str(pose) for pose in found.poses]
        return zip(found.scores.tolist(), found.nearest.tolist(), poses, strict=True)

    def _judge(
        self,
        stored: _Stored,
        mask: _Mask,
        index: int,
        label: str,
        seed: int,
        found: tuple[float, int, str],
    ) -> Outcome:
        """Image and mask are told apart: no mask can hide a copied image, nor the other way."""
        against = self.against
        pixels, seen = stored
        score, row, pose = found
        overlap = 0.0
        if mask is not None and against.outlines is not None:
            overlap = against.outlines.overlap(mask)
        place = against.neighbours.place(seen)
        outcome = self._outcome(seen, score, overlap, place)
        if outcome == "accepted":
            self._gathered.add(seen)
            self._supported[place.patient] += 1
            self.passed.append(Accepted(pixels, mask, index, seed, score, place, overlap))
        self._remember(Closest(seen, label, score, outcome, row, pose))
        return outcome

    def _outcome(self, seen: _Image, score: float, overlap: float, place: Place) -> Outcome:
        """The first rule that turns a candidate away."""
        against = self.against
        if against.canaries is not None and against.canaries.look(seen[None])[0]:
            return CANARY
        if score > against.detector.calibration.limit:
            return "copy"
        if against.outlines is not None and overlap > against.outlines.limit:
            return "outline"
        if place.nearest < against.neighbours.near_limit:
            return "near"
        if place.ratio < against.neighbours.single_limit:
            return "single_support"
        if self._gathered.likeness(seen) > self.policy.duplicate_limit:
            return "duplicate"
        if self._supported[place.patient] >= against.cap:
            return "cap"
        return "accepted"

    def _measure(self, label: str, mask: _Mask, outcome: Outcome) -> None:
        if mask is None or self.against.sizes is None or not mask.any():
            return
        counts = self.sizes.setdefault(label, dict.fromkeys(NAMES, (0, 0)))
        size = self.against.sizes.name(mask)
        accepted, drawn = counts[size]
        counts[size] = (accepted + (outcome == "accepted"), drawn + 1)

    def _remember(self, one: Closest) -> None:
        """Keep the closest few of the accepted and of the others, highest score first."""
        ranked = sorted([*self.closest, one], key=lambda at: -at.score)
        passed = [at for at in ranked if at.outcome == "accepted"][:_CLOSEST]
        others = [at for at in ranked if at.outcome != "accepted"][:_CLOSEST]
        self.closest = [*passed, *others]

    def _hopeless(self, label: str) -> bool:
        """Whether acceptance is below the policy's least with 99.9 % confidence."""
        accepted, drawn = self.accepted[label], self.drawn[label]
        if accepted == drawn:
            return False
        highest = beta.ppf(_CONFIDENCE, accepted + 1, drawn - accepted)
        return bool(highest < self.policy.min_acceptance)


def _columns(drawn: Drawn, wanted: int) -> tuple[_Image, Sequence[_Mask]]:
    """An image and a mask, or None, for each sample that was asked for."""
    masks = [None] * wanted if drawn.masks is None else list(drawn.masks)
    if not len(drawn.images) == len(masks) == wanted:
        raise MedaugError(
            f"{wanted} samples were asked for, {len(drawn.images)} came with {len(masks)} masks"
        )
    return np.asarray(drawn.images, np.float32), masks
