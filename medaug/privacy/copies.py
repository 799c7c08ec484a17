"""Is a synthetic patch a copy of a training patch?

The more alike a candidate is to its nearest training patch, the higher its score; how alike
new people are by nature is learned from real patients, and the limit is set on patients who are not
in the training part. Nothing about the limit comes from the candidates.

- what is measured of a patch: the similarity (atanh of it) in each channel, and twice the lead
  (`similarity.lead`), how far the nearest patient is ahead of the next ones: in ``low``, and in
  ``fine`` and ``band`` together.
- score of a patch = max over these of (value − median) / spread, where the spread is
  the distance from the median to the 90 % quantile. Both come from the training patients, each
  compared with all *other* training patients. (The upper tails of the channels differ by a factor
  of
  three on real patches: with the MAD as the spread, the channel with the longest tail alone would
  set
  the limit and the others would go unheard.)
- score of a patient = the highest of its patches.
- look-alikes = patients whose score is above `LOOK_ALIKE`: new people are not that alike, so
  one person may stand under two names. They never set the limit, and the gate asks.
- limit = the order statistic (`limits`) over the held-out patients. The same statistic over the
  training patients left out one at a time replaces it where it is smaller and the two disagree
  beyond chance (`limits.disagree`). The promise about new patients is computed on the held-out
  patients alone. Taking the smaller in every cohort weakens that promise wherever leave-one-out
  scores, which come in mutual pairs, happen to scatter downwards.

Many patients are represented by `MOST_PATIENTS` of them, drawn with a fixed seed: an order
statistic of 300 is as valid as one of 3000, only a little less sharp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PatchSet
from medaug.errors import CohortError, Fault
from medaug.privacy.comparing import Comparing, Elsewhere
from medaug.privacy.limits import FEWEST_PATIENTS, disagree, limit_of, share_above
from medaug.privacy.memory import MEMORY_MB
from medaug.privacy.pictures import Floats, planes
from medaug.privacy.poses import Pose
from medaug.privacy.refinement import CHANNELS
from medaug.privacy.similarity import BYTES_EACH, Gallery, Similarities, fisher
from medaug.progress import Progress, Silent

MOST_PATIENTS = 300
# Of 655 pictures of new people, real and simulated, the highest came to 6.5; the median mixture of
# 70 % of a training patch with 30 % of another to 14 and more.
LOOK_ALIKE = 10.0
_UPPER = 0.9
# For one comparison beside the galleries.
_LEAST_MB = 48

_LOW = CHANNELS.index("low")


@dataclass(frozen=True)
class LookAlike:
    """A real patch that is as like another patient's as no two people's are.

    Attributes:
        part: "training" or "calibration".
        row: of the patch in that part.
        like: row of the training patch that it is like.
    """

    part: str
    row: int
    like: int


@dataclass(frozen=True)
class Calibration:
    """Where the limit comes from.

    Attributes:
        patients: held-out patients whose scores were taken.
        training_patients: training patients whose leave-one-out scores were taken.
        held_out_limit: order statistic over the former.
        leave_one_out_limit: order statistic over the latter.
        limit: which of them holds; a higher score is a copy.
        above: held-out patients above the limit.
        bound: at most this share of new real patients lies above, with 95 % confidence.
        look_alikes: per training or held-out patient who looks like another, the patch that does.
    """

    patients: int
    training_patients: int
    held_out_limit: float
    leave_one_out_limit: float
    limit: float
    above: int
    bound: float
    look_alikes: tuple[LookAlike, ...] = ()


_NOT_YET = Calibration(0, 0, np.inf, np.inf, -np.inf, 0, 1.0)


@dataclass(frozen=True, eq=False)
class CopyScores:
    """Per picture: its score, the training row it is nearest to, and in what pose."""

    scores: NDArray[np.float64]
    nearest: NDArray[np.int64]
    poses: tuple[Pose, ...]


@dataclass(frozen=True, eq=False)
class CopyDetector:
    """Scores pictures by their likeness to the training patches.

    Attributes:
        comparing: with the galleries of the planes (`pictures.planes`); a copy of one plane is a
            copy.
        centres: (measure,) median over training patients.
        spreads: (measure,) from there to the 90 % quantile.
    """

    comparing: Comparing
    centres: NDArray[np.float64]
    spreads: NDArray[np.float64]
    calibration: Calibration

    @classmethod
    def fit(
        cls,
        training: PatchSet,
        calibration: PatchSet,
        *,
        false_rejection: float = 0.05,
        memory_mb: int = MEMORY_MB,
        progress: Progress | None = None,
        workers: Elsewhere | None = None,
    ) -> CopyDetector:
        """Set the limit from ``calibration`` and from ``training`` left out patient by patient.

        Args:
            training: what the generator saw.
            calibration: patients that neither generator nor detector saw.
            false_rejection: share of new real patients that the limit may reject.
            memory_mb: working memory; what is prepared of the training patches counts.
            progress: told of every patch compared.
            workers: compare everything, here and in `scores`; the result is the same.

        Raises:
            CohortError: with fewer than 19 patients in a part, patches that are not finite, are
                constant or not of one shape, or training patients that are all alike.
        """
        _refuse_unusable(training, calibration)
        _refuse_memory(training, memory_mb)
        looked_at = planes(training.images)
        at_once = (memory_mb - _needed_mb(training)) // _LEAST_MB
        galleries = tuple(
            Gallery.of(looked_at[:, at], _LEAST_MB, training.patient_index)
            for at in range(looked_at.shape[1])
        )
        comparing = Comparing.of(galleries, at_once, workers)
        known, held_out = _some(training), _some(calibration)
        ticker = progress or Silent()
        ticker.start("calibrating the copy check", len(known.rows) + len(held_out.rows))
        own = training.patient_index[known.rows]
        left_out = comparing.each(planes(known.patches.images), ticker, own)
        fresh = comparing.each(planes(held_out.patches.images), ticker)
        likeness = _per_patient(known.patches, _measured(left_out))
        centres = np.median(likeness, axis=0)
        spreads = np.quantile(likeness, _UPPER, axis=0) - centres
        _refuse_no_spread(spreads)
        detector = cls(comparing, centres, spreads, _NOT_YET)
        looks, scores = [], []
        for name, part, found in (("training", known, left_out), ("calibration", held_out, fresh)):
            scored = detector._scored(found)
            scores.append(_per_patient(part.patches, scored.scores))
            looks += _look_alikes(name, part, scored)
        return replace(
            detector,
            calibration=_calibrated(scores[1], scores[0], tuple(looks), false_rejection),
        )

    def scores(self, images: Floats, progress: Progress | None = None) -> CopyScores:
        """Score images, laid out as the training patches; more than the limit is a copy.

        Raises:
            ValueError: for NaN or infinity, which would compare as "no copy".
        """
        if not np.isfinite(images).all():
            raise ValueError("NaN or infinity cannot be scored")
        return self._scored(self.comparing.each(planes(images), progress or Silent()))

    def without_galleries(self) -> CopyDetector:
        """Its limit alone, where nothing more is to be compared."""
        return replace(self, comparing=Comparing(()))

    def _scored(self, found: list[Similarities]) -> CopyScores:
        if not found:
            return CopyScores(np.zeros(0), np.zeros(0, np.int64), ())
        by_measure = (_measured(found) - self.centres) / self.spreads
        winner = by_measure.argmax(axis=1)
        at = [_seen(one, int(measure)) for one, measure in zip(found, winner, strict=True)]
        return CopyScores(
            by_measure.max(axis=1),
            np.array([row for row, _ in at], np.int64),
            tuple(pose for _, pose in at),
        )


def _calibrated(
    fresh: NDArray[np.float64],
    left_out: NDArray[np.float64],
    look_alikes: tuple[LookAlike, ...],
    share: float,
) -> Calibration:
    """The limit from the scores of held-out patients and of training patients left out."""
    held_out, known = (scores[scores <= LOOK_ALIKE] for scores in (fresh, left_out))
    _refuse_look_alikes_only(len(held_out), len(known))
    held_out_limit, leave_one_out_limit = limit_of(held_out, share), limit_of(known, share)
    limit = held_out_limit
    if leave_one_out_limit < held_out_limit and disagree(held_out, known, share):
        limit = leave_one_out_limit
    above = int((fresh > limit).sum())
    return Calibration(
        patients=len(fresh),
        training_patients=len(left_out),
        held_out_limit=held_out_limit,
        leave_one_out_limit=leave_one_out_limit,
        limit=limit,
        above=above,
        bound=share_above(len(fresh), above),
        look_alikes=look_alikes,
    )


def _look_alikes(name: str, part: _Part, scored: CopyScores) -> list[LookAlike]:
    """Of each patient above `LOOK_ALIKE` the patch with the highest score."""
    met: dict[int, LookAlike] = {}
    for at in np.argsort(-scored.scores, kind="stable"):
        if scored.scores[at] > LOOK_ALIKE:
            patient = int(part.patches.patient_index[at])
            met.setdefault(patient, LookAlike(name, int(part.rows[at]), int(scored.nearest[at])))
    return list(met.values())


def _seen(found: Similarities, measure: int) -> tuple[int, Pose]:
    """The training row, and the pose, in which one of the measures of `_measured` saw a copy."""
    if measure > len(CHANNELS):
        return found.together_at
    channel = measure if measure < len(CHANNELS) else _LOW
    return int(found.rows[channel]), found.poses[channel]


def _measured(found: list[Similarities]) -> NDArray[np.float64]:
    """(sample, measure): Fisher's z of the similarities, the lead in low, and in two together."""
    values = np.array([one.values for one in found]).reshape(-1, len(CHANNELS))
    leads = np.array([(one.leads[_LOW], one.together) for one in found]).reshape(-1, 2)
    return np.concatenate([fisher(values), leads], axis=1)


def _per_patient(patches: PatchSet, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(patient, …): the highest value over each patient's patches."""
    highest = np.full((len(patches.patient_order), *values.shape[1:]), -np.inf)
    np.maximum.at(highest, patches.patient_index, values)
    return highest


@dataclass(frozen=True, eq=False)
class _Part:
    """Some patients' patches, and their rows in the whole part."""

    patches: PatchSet
    rows: NDArray[np.int64]


def _some(patches: PatchSet) -> _Part:
    """All patients, or `MOST_PATIENTS` of them, always the same."""
    count = len(patches.patient_order)
    chosen = np.arange(count)
    if count > MOST_PATIENTS:
        chosen = np.random.default_rng(0).choice(count, MOST_PATIENTS, replace=False)
    rows = np.flatnonzero(np.isin(patches.patient_index, chosen))
    return _Part(patches.select(rows), rows)


def _needed_mb(training: PatchSet) -> int:
    """What the galleries of all image channels take, in megabytes, rounded up."""
    return int(np.ceil(len(training) * planes(training.images[:1]).shape[1] * BYTES_EACH / 1e6))


def _refuse_memory(training: PatchSet, memory_mb: int) -> None:
    needed = _needed_mb(training) + _LEAST_MB
    if needed > memory_mb:
        raise CohortError(
            Fault(
                "copy check",
                f"{len(training)} training patches and {memory_mb} MB of working memory",
                f"at least {needed} MB",
                f"set privacy.memory_mb: {needed}",
            )
        )


def _refuse_unusable(training: PatchSet, calibration: PatchSet) -> None:
    faults = [
        Fault(
            f"copy check: {name}",
            f"{len(part.patient_order)} patients",
            f"at least {FEWEST_PATIENTS}",
            "add patients or give this part a larger share",
        )
        for name, part in (("training", training), ("calibration", calibration))
        if len(part.patient_order) < FEWEST_PATIENTS
    ]
    faults += [
        Fault(f"copy check: {name}", "NaN or infinity in the patches", "finite intensities")
        for name, part in (("training", training), ("calibration", calibration))
        if not np.isfinite(part.images).all()
    ]
    faults += [
        Fault(
            f"copy check: {name}",
            f"{len(flat)} patches without any contrast",
            "pictures",
            "leave them out: nothing can be compared with them",
        )
        for name, part in (("training", training), ("calibration", calibration))
        if len(flat := without_contrast(part.images))
    ]
    if training.images.shape[1:] != calibration.images.shape[1:]:
        faults.append(
            Fault(
                "copy check",
                f"calibration patches of shape {calibration.images.shape[1:]}",
                f"{training.images.shape[1:]}, as the training patches",
            )
        )
    if faults:
        raise CohortError(*faults)


def without_contrast(images: Floats) -> NDArray[np.int64]:
    """Rows of the patches that are constant in every channel."""
    flat = images.reshape(len(images), -1)
    return np.flatnonzero(flat.max(axis=1) == flat.min(axis=1))


def _refuse_look_alikes_only(held_out: int, known: int) -> None:
    faults = [
        Fault(
            f"copy check: {name}",
            f"{count} patients who do not look like another",
            f"at least {FEWEST_PATIENTS}",
            "look for one person under several names",
        )
        for name, count in (("training", known), ("calibration", held_out))
        if count < FEWEST_PATIENTS
    ]
    if faults:
        raise CohortError(*faults)


def _refuse_no_spread(spreads: NDArray[np.float64]) -> None:
    if not (spreads > 0).all():
        raise CohortError(
            Fault(
                "copy check: training",
                "half the patients are equally like their nearest neighbour",
                "different patients",
                "look for repeated patients or empty patches",
            )
        )
