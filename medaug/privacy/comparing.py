"""Where pictures are compared with the training patches: on the cores here, or on workers.

A picture's similarities depend on nothing but itself and the galleries, so that it does not matter
who computes them, beside what, or how often it was tried.

Workers read the galleries from a folder that all of them see, mapped into memory: what travels are
pictures, four at a time, and what comes back are similarities. A batch whose worker dies each
time is compared here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.atomic import PARTIAL
from medaug.privacy.pictures import Floats, Views
from medaug.privacy.poses import posing
from medaug.privacy.similarity import Gallery, Similarities
from medaug.privacy.threads import beside, one_thread
from medaug.progress import Progress
from medaug.spread import Spread

_BATCH = 4
NOBODY = -1


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Workers, and a folder for the galleries that all of them see."""

    spread: Spread
    folder: Path


@contextmanager
def elsewhere(spread: Spread, folder: Path) -> Iterator[Elsewhere]:
    """Workers and a folder inside ``folder``, which is gone in the end.

    Only the owner may read it. `medaug.atomic.remove_partials` deletes what a killed run leaves.
    """
    with tempfile.TemporaryDirectory(
        prefix=f"{PARTIAL}galleries-", dir=folder, ignore_cleanup_errors=True
    ) as inside:
        yield Elsewhere(spread, Path(inside).resolve())


@dataclass(frozen=True, eq=False)
class _Batch:
    """A few pictures (picture, plane, row, column), and per picture the patient to leave out."""

    pictures: Floats
    without: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Comparing:
    """The galleries of all planes, and who compares.

    Attributes:
        galleries: one per plane (`pictures.planes`).
        at_once: how many comparisons the memory here holds beside one another.
        workers: compares there; None compares here.
    """

    galleries: tuple[Gallery, ...]
    at_once: int = 1
    workers: Elsewhere | None = None

    @classmethod
    def of(
        cls, galleries: tuple[Gallery, ...], at_once: int, workers: Elsewhere | None
    ) -> Comparing:
        """Ready to compare; where there are workers, the galleries are written for them."""
        if workers is not None:
            for number, gallery in enumerate(galleries):
                _write(gallery, workers.folder / f"{number:03d}")
        posing()  # before threads that would each make it
        return cls(galleries, at_once, workers)

    def each(
        self, pictures: Floats, progress: Progress, without: NDArray[np.int64] | None = None
    ) -> list[Similarities]:
        """Best similarities of each picture over its planes.

        Args:
            pictures: (picture, plane, row, column).
            progress: told of every picture.
            without: (picture,) whose patches each is not compared with; nobody's by default.
        """
        if without is None:
            without = np.full(len(pictures), NOBODY)
        found = []
        results = self._here if self.workers is None else partial(self._there, self.workers)
        for similar in results(pictures, without):
            found.append(similar)
            progress.advance()
        return found

    def _here(self, pictures: Floats, without: NDArray[np.int64]) -> Iterator[Similarities]:
        def one(row: int) -> Similarities:
            return _over_planes(self.galleries, pictures[row], int(without[row]))

        return beside(one, len(pictures), self.at_once)

    def _there(
        self, workers: Elsewhere, pictures: Floats, without: NDArray[np.int64]
    ) -> Iterator[Similarities]:
        starts = range(0, len(pictures), _BATCH)
        batches = [_Batch(pictures[at : at + _BATCH], without[at : at + _BATCH]) for at in starts]
        work: Callable[[_Batch], list[Similarities]] = partial(_on_worker, str(workers.folder))

        def lost(batch: _Batch, _reason: str) -> list[Similarities]:
            return _of_batch(self.galleries, batch)

        for found in workers.spread(work, batches, lost):
            yield from found


def _on_worker(folder: str, batch: _Batch) -> list[Similarities]:
    return _of_batch(_opened(folder), batch)


@lru_cache(maxsize=1)
def _opened(folder: str) -> tuple[Gallery, ...]:
    """The galleries in a folder, whose name no other run has; opened once in every worker."""
    return tuple(_read(plane) for plane in sorted(Path(folder).iterdir()))


def _write(gallery: Gallery, folder: Path) -> None:
    folder.mkdir()
    for each in fields(gallery):
        np.save(folder / f"{each.name}.npy", getattr(gallery, each.name), allow_pickle=False)


def _read(folder: Path) -> Gallery:
    arrays: dict[str, Any] = {
        each.name: np.asarray(np.load(folder / f"{each.name}.npy", mmap_mode="r"))
        for each in fields(Gallery)
    }
    return Gallery(**{**arrays, "rows_at_once": int(arrays["rows_at_once"])})


def _of_batch(galleries: tuple[Gallery, ...], batch: _Batch) -> list[Similarities]:
    with one_thread():
        return [
            _over_planes(galleries, picture, int(without))
            for picture, without in zip(batch.pictures, batch.without, strict=True)
        ]


def _over_planes(galleries: tuple[Gallery, ...], picture: Floats, without: int) -> Similarities:
    """The most alike plane, for each channel, of a picture (plane, row, column)."""
    others = galleries[0].owners != without
    per_plane = [
        gallery.compare(Views.of(plane[None]).of_one(), others)
        for gallery, plane in zip(galleries, picture, strict=True)
    ]
    values = np.array([one.values for one in per_plane])
    best = values.argmax(axis=0)
    return Similarities(
        values.max(axis=0),
        np.array([per_plane[at].rows[kind] for kind, at in enumerate(best)]),
        tuple(per_plane[at].poses[kind] for kind, at in enumerate(best)),
        np.max([one.leads for one in per_plane], axis=0),
        max(one.together for one in per_plane),
        max(per_plane, key=lambda one: one.together).together_at,
    )
