"""Attacks that see samples only, each a score per patch: the higher, the more like a member.

- ``gan-leaks`` [1]_: the smallest distance to a sample, set against the smallest distance to a
  reference of other patients, so that a patch that is like everybody does not pass for a member.
- ``monte-carlo`` [2]_: the share of samples within a small distance, here the 0.1 % or 1 % quantile
  of all distances.
- ``domias`` [3]_: density of the samples over density of the reference at the patch, both from the
  distance to the fifth nearest neighbour, in at most 16 principal components of the reference.
- ``discriminator``: the logits themselves. They never leave and the gate does not use them, for no
  recipient has them; whoever trains may hand them to `of_logits`.

Distance at a scale is √(2 − 2 · correlation), over the eight poses of the sample. References are
patients who are neither members nor judged; calibration patients serve. Without a reference
`gan-leaks` is not calibrated and `domias` does not run.

.. [1] Chen et al. 2020, GAN-Leaks, doi:10.1145/3372297.3417238
.. [2] Hilprecht et al. 2019, Monte Carlo and reconstruction membership inference attacks against
   generative models, doi:10.2478/popets-2019-0067
.. [3] van Breugel et al. 2023, Membership inference attacks against synthetic data through
   overfitting detection, arXiv:2302.12580
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from medaug.domain import PatchSet
from medaug.privacy.memory import MEMORY_MB
from medaug.privacy.nearness import correlations
from medaug.privacy.pictures import Floats
from medaug.privacy.scales import SCALES, at_scales, chunks, highest_per_patient, kept_at_scales
from medaug.privacy.threads import one_thread

QUANTILES = (0.001, 0.01)
COMPONENTS = 16
NEIGHBOURS = 5
# Quantiles of distances are taken from so many samples; they are shuffled, so the first will do.
_FOR_QUANTILES = 500

Scores = NDArray[np.float64]
Views = dict[str, NDArray[np.float16]]


def attack(
    samples: Floats, patches: PatchSet, reference: PatchSet | None, memory_mb: int = MEMORY_MB
) -> dict[str, Scores]:
    """Attack → (patient,) scores, in the order of ``patches.patient_order``.

    Args:
        samples: images (sample, channel, …) that leave.
        patches: of members and others.
        reference: patches of patients who are neither; None if there are none.
        memory_mb: working memory.
    """
    views = kept_at_scales(patches.images)
    with one_thread():
        scores = _by_distance(samples, views, reference, memory_mb)
        if reference is not None and len(reference) > NEIGHBOURS:
            scores |= _by_density(samples, views, reference, memory_mb)
    return {
        name: highest_per_patient(patches, of_patch.astype(np.float32)).astype(np.float64)
        for name, of_patch in scores.items()
    }


def of_logits(logits: NDArray[np.float32], patches: PatchSet) -> Scores:
    """(patient,): the highest of each patient's logits (patch,). Internal: needs the discriminator.

    Raises:
        ValueError: if there is not one finite logit per patch.
    """
    if logits.shape != (len(patches),) or not np.isfinite(logits).all():
        raise ValueError(f"one finite logit for each of {len(patches)} patches")
    return highest_per_patient(patches, logits.astype(np.float32)).astype(np.float64)


def _by_distance(
    samples: Floats, views: Views, reference: PatchSet | None, memory_mb: int
) -> dict[str, Scores]:
    count = len(views[SCALES[0]])
    nearest = np.full((len(SCALES), count), -np.inf)
    first = correlations(samples[:_FOR_QUANTILES], views)
    limits = np.quantile(first.reshape(len(SCALES), -1), [1 - q for q in QUANTILES], axis=1)
    within = np.zeros((len(QUANTILES), len(SCALES), count))
    for part in chunks(len(samples), count, memory_mb):
        found = correlations(samples[part], views)
        nearest = np.maximum(nearest, found.max(axis=1))
        for at, limit in enumerate(limits):
            within[at] += (found >= limit[:, None, None]).sum(axis=1)
    distance = _distance(nearest)
    if reference is not None:
        known = np.full_like(nearest, -np.inf)
        for part in chunks(len(reference), count, memory_mb):
            found = correlations(reference.images[part], views)
            known = np.maximum(known, found.max(axis=1))
        distance = distance - _distance(known)
    scores = {f"gan-leaks, {scale}": -row for scale, row in zip(SCALES, distance, strict=True)}
    for quantile, rows in zip(QUANTILES, within / len(samples), strict=True):
        for scale, row in zip(SCALES, rows, strict=True):
            scores[f"monte-carlo {100 * quantile:g} %, {scale}"] = row
    return scores


def _by_density(
    samples: Floats, views: Views, reference: PatchSet, memory_mb: int
) -> dict[str, Scores]:
    known = kept_at_scales(reference.images)
    drawn: dict[str, list[Floats]] = {scale: [] for scale in SCALES}
    axes = {scale: _components(known[scale]) for scale in SCALES}
    for part in chunks(len(samples), len(reference), memory_mb):
        for scale, view in at_scales(samples[part]).items():
            drawn[scale].append(view @ axes[scale])
    neighbours = min(NEIGHBOURS, len(samples))
    scores = {}
    for scale in SCALES:
        places = _projected(views[scale], axes[scale])
        far = [
            cKDTree(there).query(places, k=[nth])[0][:, 0]
            for there, nth in (
                (np.concatenate(drawn[scale]), neighbours),
                (_projected(known[scale], axes[scale]), NEIGHBOURS),
            )
        ]
        # The log of the density ratio, per dimension.
        scores[f"domias, {scale}"] = np.log(far[1] + 1e-9) - np.log(far[0] + 1e-9)
    return scores


def _projected(vectors: NDArray[np.float16], axes: Floats) -> Floats:
    """(patch, component), a thousand patches at a time."""
    starts = range(0, len(vectors), 1024)
    return np.concatenate([vectors[at : at + 1024].astype(np.float32) @ axes for at in starts])


def _components(vectors: NDArray[np.float16]) -> Floats:
    """(pixel, component): principal axes of the reference."""
    centred = vectors.astype(np.float32)
    centred -= centred.mean(axis=0)
    count = min(COMPONENTS, len(vectors) - 1, vectors.shape[1])
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(axes[:count].T, np.float32)


def _distance(correlation: Scores) -> Scores:
    return np.sqrt(np.maximum(2 - 2 * correlation, 0))
