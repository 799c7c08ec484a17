"""Candidates are drawn, stored, and held against the three checks, one by one.

A candidate is judged on the integers that would leave, not on the generator's floats. One that is
turned away is replaced by a new seed; its own seed is never used again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from medaug.domain import Drawn, ReleasePolicy, Rescale, Sampler, digest_of
from medaug.errors import MedaugError
from medaug.privacy.copies import CopyDetector
from medaug.privacy.duplicates import Gathered
from medaug.privacy.format import Format
from medaug.privacy.verdict import Closest, Outcome
from medaug.progress import Progress

CHECKS = ("format", "copy", "duplicate")
# Shown in the internal report, of the accepted and of the others each.
_CLOSEST = 4
# After every batch, a generator without hope is given up.
_BATCH = 256
_CONFIDENCE = 0.999

_Image = NDArray[np.float32]
_Mask = NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Accepted:
    """A candidate that passed: what would leave, its class, and the seed it was drawn from."""

    pixels: NDArray[np.int16]
    mask: NDArray[np.bool_] | None
    label: int
    seed: int


@dataclass(eq=False)
class Screening:
    """The candidates of one review and what became of them.

    Attributes:
        passed: accepted candidates in the order drawn.
        drawn, accepted: counts per class.
        rejections: counts per check.
        closest: the accepted and the other candidates with the highest copy scores.
    """

    policy: ReleasePolicy
    rescale: Rescale
    form: Format
    detector: CopyDetector
    memory_mb: int
    passed: list[Accepted] = field(default_factory=list)
    drawn: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    closest: list[Closest] = field(default_factory=list)
    _scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._gathered = Gathered(self.memory_mb)

    def draw(self, sampler: Sampler, index: int, seeds: Iterator[int], progress: Progress) -> None:
        """Fill the quota of one class, or use up its tries, or find it hopeless."""
        label = sampler.classes[index]
        quota = self.policy.quota(label)
        self.drawn[label] = self.accepted[label] = 0
        while self.accepted[label] < quota and not self._hopeless(label):
            left = quota * self.policy.tries - self.drawn[label]
            wanted = min(quota - self.accepted[label], left, _BATCH)
            if wanted == 0:
                return
            batch = [next(seeds) for _ in range(wanted)]
            images, masks = _columns(sampler.draw(label, batch), wanted)
            for image, mask, seed in zip(images, masks, batch, strict=True):
                outcome = self._judge(image, mask, index, label, seed)
                self.drawn[label] += 1
                if outcome == "accepted":
                    self.accepted[label] += 1
                else:
                    self.rejections[outcome] += 1
                progress.advance(int(outcome == "accepted"), f"{self.drawn[label]} drawn")

    def copy_score(self, pixels: NDArray[np.int16]) -> float:
        """The copy score of exactly these pixels.

        Raises:
            MedaugError: if they were never scored.
        """
        score = self._scores.get(digest_of(pixels))
        if score is None:
            raise MedaugError("pixels that the copy check never saw stand in the final set")
        return score

    def _judge(self, image: _Image, mask: _Mask, index: int, label: str, seed: int) -> Outcome:
        """Copies and duplicates are told by the image alone: no mask can hide one."""
        if self.form.fault(image, mask) is not None:
            return "format"
        pixels = self.rescale.store(image)
        seen = self.rescale.restore(pixels)
        if self.form.fault(seen, mask) is not None:
            return "format"
        found = self.detector.scores(seen[None])
        score = float(found.scores[0])
        outcome: Outcome = "accepted"
        if score > self.detector.calibration.limit:
            outcome = "copy"
        elif self._gathered.likeness(seen) > self.policy.duplicate_limit:
            outcome = "duplicate"
        else:
            self._gathered.add(seen)
            self.passed.append(Accepted(pixels, mask, index, seed))
            self._scores[digest_of(pixels)] = score
        row, pose = int(found.nearest[0]), str(found.poses[0])
        self._remember(Closest(seen, label, score, outcome, row, pose))
        return outcome

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
