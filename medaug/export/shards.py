"""Samples in tar files that a training pipeline reads from end to end, as WebDataset [1]_ has them.

``shards/release-000000.tar`` and on, `SAMPLES` samples each. A sample is what shares a name up to
its first dot:

=====================  ===========================================================================
``000017.image.npy``   int16 (channel, row, column) or (1, slice, row, column), stored values
``000017.mask.npy``    uint8 (row, column) or (slice, row, column), 1 in the lesion; where drawn
``000017.cls``         index of the class
``000017.json``        ``class``, the mark, and what gives pixels their meaning:
                       value = stored * ``slope`` + ``intercept``, in ``unit``
=====================  ===========================================================================

The number is that of the sample in every other format. A pipeline reads a shard from its beginning,
and a release is in the order of its classes; the samples are therefore mixed, in an order that
follows from the release alone. ::

    shards = webdataset.WebDataset("shards/release-{000000..000009}.tar").decode()
    for image, label in shards.to_tuple("image.npy", "cls"):
        ...

Plain POSIX tar (ustar) [2]_; every header has the same owner, none, and the same time, 0.

.. [1] https://github.com/webdataset/webdataset
.. [2] IEEE Std 1003.1, pax, ustar Interchange Format
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release
from medaug.export.layout import sample_name
from medaug.export.manifest import Manifest
from medaug.export.marks import marks_of, wrong_marks
from medaug.progress import Progress

SHARDS = "shards"
SAMPLES = 1000
"""A thousand flat patches are some megabytes, a thousand cubes of 64 some hundred."""


def shard_names(samples: int) -> list[str]:
    """The files of a release of so many samples.

    >>> shard_names(1001)
    ['shards/release-000000.tar', 'shards/release-000001.tar']
    """
    return [f"{SHARDS}/release-{at:06d}.tar" for at in range(-(-samples // SAMPLES))]


def write_shards(release: Release, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """Write the shards into ``folder``, the release folder."""
    (folder / SHARDS).mkdir()
    order = np.random.default_rng(int(manifest.pixels_digest, 16)).permutation(len(release))
    for at, name in enumerate(shard_names(len(release))):
        with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as shard:
            for number in order[at * SAMPLES : (at + 1) * SAMPLES].tolist():
                _add_sample(shard, release, manifest, number)
                progress.advance()


def shard_problems(folder: Path, manifest: Manifest, names: list[str]) -> list[str]:
    """What is wrong with the shards of a release folder, whose files are ``names``."""
    wanted = shard_names(sum(entry.samples for entry in manifest.classes))
    found = [name for name in names if name.startswith(f"{SHARDS}/")]
    if found != (wanted if "shards" in manifest.formats else []):
        return [f"{SHARDS}/ holds {len(found)} files that are not the release's shards"]
    return [
        f"{name}: {problem}" for name in found for problem in _problems(folder / name, manifest)
    ]


def _problems(path: Path, manifest: Manifest) -> list[str]:
    """Whether the first sample of a shard bears the mark."""
    try:
        with tarfile.open(path, "r:") as shard:
            for info in shard:
                member = shard.extractfile(info)
                if info.name.endswith(".json") and member is not None:
                    return wrong_marks(json.loads(member.read(1 << 20)), manifest)
    except (OSError, ValueError, AttributeError, tarfile.TarError) as error:
        return [f"cannot be read as tar: {error}"]
    return ["holds no sample"]


def _add_sample(shard: tarfile.TarFile, release: Release, manifest: Manifest, number: int) -> None:
    label, image = int(release.labels[number]), manifest.image
    about = {
        "class": manifest.classes[label].name,
        **marks_of(manifest),
        "slope": image.slope,
        "intercept": image.intercept,
        "unit": image.unit,
        "modality": image.modality,
        "mm_per_pixel": image.mm_per_pixel,
        "axes": image.axes,
    }
    members = {
        "cls": str(label).encode(),
        "image.npy": _npy(release.pixels[number].astype("<i2", copy=False)),
        "json": json.dumps(about, allow_nan=False).encode(),
    }
    if release.masks is not None:
        members["mask.npy"] = _npy(release.masks[number].astype(np.uint8))
    for suffix, content in sorted(members.items()):
        info = tarfile.TarInfo(f"{sample_name(number)}.{suffix}")
        info.size = len(content)
        shard.addfile(info, io.BytesIO(content))


def _npy(array: NDArray[np.generic]) -> bytes:
    target = io.BytesIO()
    np.lib.format.write_array(target, np.ascontiguousarray(array), allow_pickle=False)
    return target.getvalue()
