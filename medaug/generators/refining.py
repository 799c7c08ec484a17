"""Train a refiner on rendered lesions and the patches of the training patients.

As in `training`, the run is a sequence of steps that depend on nothing but the patches, the
renderer, the settings and the seed. Killed at any moment and called again, it continues from the
last checkpoint and ends with the same bits as an unbroken run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medaug.domain import PatchSet, Window
from medaug.generators import checkpoint, history
from medaug.generators.diversity import SAMPLES, collapse_note, diversity
from medaug.generators.refined import RefinedGenerator, Renderer, load_refiner
from medaug.generators.refiner import Refining, planes, refine
from medaug.generators.refusals import refuse_unfit
from medaug.generators.running import completed, device_of, refuse_not_finite, warned
from medaug.generators.settings import RefinerSettings
from medaug.generators.trained import save_generator
from medaug.progress import Progress, Silent

SHEET = 16  # patches of each class on a sample sheet
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]  # rendered, refined
Pairs = Callable[[int, dict[str, Pair]], None]

_FIRST_SEED = 2**40  # of the rendered patches that are learnt from; small seeds are for sampling


def train_refiner(
    training: PatchSet,
    settings: RefinerSettings,
    seed: int,
    folder: Path,
    render: Renderer,
    progress: Progress | None = None,
    on_samples: Pairs | None = None,
) -> RefinedGenerator:
    """Train, or continue, or open what is already complete.

    Args:
        training: patches of the training patients, and of nobody else.
        settings: of the refiner.
        seed: of the run, not negative.
        folder: takes ``generator.safetensors``, ``config.json``, ``training.jsonl`` and, until
            training is complete, ``checkpoint/``.
        render: draws lesions of every class of ``training``, of the same shape and unit.
        progress: is told of every step.
        on_samples: is called now and then with the step and, for each class, rendered patches and
            the same refined, both (sample, channel, row, column) in the unit of ``training``.

    Returns:
        What `refined.load_refiner` gives for ``folder``.

    Raises:
        CohortError: the patches do not suffice; nothing was written.
        SettingsError: the settings do not fit the patches, and nothing was written; or training
            diverged, and the last good checkpoint is kept.
        RunFolderError: ``folder`` holds another run.
    """
    refuse_unfit(training, settings)
    identity = checkpoint.identity_of(training.digest, settings, seed)

    def train() -> None:
        run = _Run(training, settings, seed, folder, identity, render)
        run.proceed(progress or Silent(), on_samples)

    return completed(folder, identity, train, partial(load_refiner, render=render))


class _Run:
    """Where a training run stands."""

    def __init__(
        self,
        training: PatchSet,
        settings: RefinerSettings,
        seed: int,
        folder: Path,
        identity: dict[str, str],
        render: Renderer,
    ) -> None:
        self._training, self._settings, self._seed = training, settings, seed
        self._folder, self._identity, self._render = folder, identity, render
        self._device = device_of(settings)
        self._window = Window(*settings.window)
        self._real = _by_class(self._window.to_signed(training.images), training)
        self._rendered: list[NDArray[np.float32]] = []
        self._steps = math.ceil(settings.images / settings.batch)
        # What changes from step to step, all of it in the checkpoint:
        self._done = 0
        self._figures: list[tuple[float, float, float]] = []  # since the last line of figures
        drawn = int(np.random.default_rng(seed).integers(2**32))
        shape = training.images.shape
        self._game = Refining(
            (shape[1], shape[2], shape[3]), len(training.classes), settings, drawn, self._device
        )
        self._restore()

    def proceed(self, progress: Progress, on_samples: Pairs | None) -> None:
        """Run every step that is left, then write the refiner."""
        settings = self._settings
        self._render_all(progress)
        progress.start("training the refiner", self._steps)
        progress.advance(self._done)
        began, since = time.perf_counter(), self._done
        while self._done < self._steps:
            loss_d, loss_r, change = self._step()
            last = self._done == self._steps
            if self._done % settings.log_every == 0 or last:
                shown = (self._done - since) * settings.batch
                self._log(shown / (time.perf_counter() - began))
                began, since = time.perf_counter(), self._done
            if on_samples and (self._done % settings.sample_sheet_every == 0 or last):
                on_samples(self._done, self._pairs())
            if self._done % settings.checkpoint_every == 0:
                self._save()
            progress.advance(1, f"loss D {loss_d:.2f}, R {loss_r:.2f}, change {change:.3f}")
        self._write()

    def _render_all(self, progress: Progress) -> None:
        """Render what is learnt from: equally many of each class, always the same."""
        classes = self._training.classes
        each = math.ceil(self._settings.rendered / len(classes))
        progress.start("rendering lesions", each * len(classes))
        for label in classes:
            parts = []
            for start in range(0, each, SAMPLES):
                seeds = range(_FIRST_SEED + start, _FIRST_SEED + min(start + SAMPLES, each))
                parts.append(self._window.to_signed(self._render(label, seeds)[0]))
                progress.advance(len(seeds))
            self._rendered.append(np.concatenate(parts))

    def _step(self) -> tuple[float, float, float]:
        rng = np.random.default_rng((self._seed, self._done + 1))
        labels = rng.integers(len(self._training.classes), size=self._settings.batch)
        figures = self._game.step(
            self._done,
            _drawn(self._real, labels, rng).to(self._device),
            _drawn(self._rendered, labels, rng).to(self._device),
            torch.from_numpy(labels).to(self._device),
            rng,
        )
        self._done += 1
        self._figures.append(figures)
        refuse_not_finite([torch.tensor(figures)], "the loss", self._done)
        return figures

    def _log(self, images_per_second: float) -> None:
        loss_d, loss_r, change = np.mean(self._figures, axis=0)
        self._figures = []
        refined = [self._refined(rendered[:SAMPLES]) for rendered in self._rendered]
        names = self._training.classes
        line: dict[str, Any] = {
            "step": self._done,
            "images": self._done * self._settings.batch,
            "loss_d": float(loss_d),
            "loss_g": float(loss_r),
            "self_regularisation": float(change),
            "images_per_second": round(images_per_second, 1),
            "diversity": dict(zip(names, map(diversity, refined), strict=True)),
            "diversity_real": dict(zip(names, map(diversity, self._real), strict=True)),
        }
        history.append(self._folder, line)

    def _refined(self, signed: NDArray[np.float32]) -> NDArray[np.float32]:
        """By the averaged refiner; always with the same noise."""
        return refine(self._game.average, signed, planes(signed, np.random.default_rng(0)))

    def _pairs(self) -> dict[str, Pair]:
        pairs = {}
        for label, rendered in zip(self._training.classes, self._rendered, strict=True):
            some = rendered[:SHEET]
            refined = self._refined(some)
            pairs[label] = self._window.from_signed(some), self._window.from_signed(refined)
        return pairs

    def _save(self) -> None:
        tensors = self._game.state()
        refuse_not_finite(tensors.values(), "a weight", self._done)
        figures = torch.tensor(self._figures, dtype=torch.float64).reshape(-1, 3)
        checkpoint.save(self._folder, self._identity, self._done, {**tensors, "figures": figures})

    def _restore(self) -> None:
        found = checkpoint.load(self._folder, self._identity)
        if found is not None:
            self._done = found.step
            self._figures = [(d, r, c) for d, r, c in found.tensors["figures"].tolist()]
            self._game.restore(found.tensors)
        history.cut_back(self._folder, self._done)

    def _write(self) -> None:
        last = history.cut_back(self._folder, self._done)[-1]
        notes = warned(
            collapse_note(label, refined, last["diversity_real"][label])
            for label, refined in last["diversity"].items()
        )
        save_generator(
            self._folder,
            [self._game.average.state_dict()],
            self._training,
            self._settings,
            self._seed,
            self._identity,
            self._done * self._settings.batch,
            notes,
            [self._done],
        )


def _by_class(images: NDArray[np.float32], patches: PatchSet) -> list[NDArray[np.float32]]:
    return [images[patches.labels == label] for label in range(len(patches.classes))]


def _drawn(
    of_class: list[NDArray[np.float32]], labels: NDArray[np.int64], rng: np.random.Generator
) -> Tensor:
    """A patch of each of ``labels``, with repetition."""
    rows = rng.integers([len(of_class[label]) for label in labels])
    return torch.from_numpy(
        np.stack([of_class[label][row] for label, row in zip(labels, rows, strict=True)])
    )
