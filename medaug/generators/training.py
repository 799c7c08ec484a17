"""Train a generator on the patches of the training patients.

The run is a sequence of steps that depend on nothing but the patches, the settings and the
seed. It writes checkpoints and can be stopped at any moment, even by kill -9; called again with
the same arguments it continues from the last checkpoint and ends with the same bits as an
unbroken run on the same machine with the same number of threads.

With tuning patients at hand, the weights that come out are those that were nearest to them, and
training ends early where it begins to learn its patients by heart; see `evidence`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medaug.domain import Drawn, PatchSet, Window
from medaug.errors import SettingsError
from medaug.generators import checkpoint, history
from medaug.generators.adversaries import Adversaries, latents
from medaug.generators.beginning import Beginning, beginning
from medaug.generators.diversity import (
    Diversity,
    diversity,
    generated_diversity,
    lost_notes,
    measured,
    refuse_lost,
)
from medaug.generators.evidence import (
    PATIENCE,
    SAMPLES,
    Best,
    Evidence,
    Tuning,
    Witness,
    by_heart_notes,
)
from medaug.generators.masks import channels_of, from_channels, image_of, to_channels
from medaug.generators.networks import Generator
from medaug.generators.processes import ALONE, Processes
from medaug.generators.refusals import refuse_unfit
from medaug.generators.running import (
    completed,
    device_of,
    reads_each_step,
    refuse_not_finite,
    stays,
    warned,
)
from medaug.generators.settings import GeneratorSettings
from medaug.generators.sizes import joined, laws_of, shown_diameters
from medaug.generators.trained import TrainedGenerator, draw, load_generator, save_generator
from medaug.progress import Progress, Silent

SHEET = 16  # samples of each class on a sample sheet
Sheets = Callable[[int, dict[str, Drawn]], None]


def train_generator(
    training: PatchSet,
    settings: GeneratorSettings,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    on_samples: Sheets | None = None,
    tuning: Tuning | None = None,
    processes: Processes = ALONE,
) -> TrainedGenerator:
    """Train, or continue, or open what is already complete.

    Args:
        training: patches of the training patients, and of nobody else.
        settings: of the generator.
        seed: of the run, not negative.
        folder: takes ``generator.safetensors``, ``config.json``, ``training.jsonl`` and, until
            training is complete, ``checkpoint/``.
        progress: is told of every step.
        on_samples: is called now and then with the step and, for each class that is being
            learnt, patches in the unit of ``training``; always from the same latents.
        tuning: patients to judge by; without them the last weights are taken.
        processes: that train together, as `processes.together` gives them; every one of them
            calls this function with the same arguments, and only the first writes.

    Returns:
        What `trained.load_generator` gives for ``folder``.

    Raises:
        CohortError: the patches do not suffice; nothing was written.
        SettingsError: the settings do not fit the patches, and nothing was written; or training
            diverged or collapsed, and the last good checkpoint is kept.
        RunFolderError: ``folder`` holds another run.
    """
    begins, faults = beginning(training, settings)
    refuse_unfit(training, settings, faults)
    identity = checkpoint.identity_of(training.digest, settings, seed)
    identity["weights to begin from"] = "none" if begins is None else begins.weights_digest
    identity["tuning patches"] = "none" if tuning is None else tuning.patches.digest

    def train() -> None:
        run = _Run(training, settings, seed, folder, identity, tuning, processes, begins)
        run.proceed(progress or Silent(), on_samples)

    return completed(folder, identity, train, load_generator, processes)


@dataclass(frozen=True)
class _Game:
    """The patches that one pair of networks learns from.

    Attributes:
        classes: their indices in the training part; a label here is a position in this tuple.
        images: (patch, channel, [slice,] row, column) in [-1, 1], with masks as `masks` lays them.
        labels: (patch,) int64.
        sizes: (patch,) float32 as in `sizes`, or None where size is no condition.
        chance: (patch,) probability of being shown; every class is shown equally often.
    """

    classes: tuple[int, ...]
    images: Tensor
    labels: Tensor
    sizes: Tensor | None
    chance: NDArray[np.float64]

    def on(self, device: torch.device) -> _Game:
        """The same where it is shown, if it has room there."""
        if not stays(self.images, device):
            return self
        sizes = None if self.sizes is None else self.sizes.to(device)
        return replace(
            self, images=self.images.to(device), labels=self.labels.to(device), sizes=sizes
        )

    @classmethod
    def of(
        cls,
        training: PatchSet,
        classes: tuple[int, ...],
        settings: GeneratorSettings,
        window: Window,
    ) -> _Game:
        rows = np.flatnonzero(np.isin(training.labels, classes))
        sizes = None
        if settings.condition_on_size:
            rows = rows[shown_diameters(training)[rows] > 0]
            sizes = torch.from_numpy(_sizes(training)[rows])
        labels = np.searchsorted(classes, training.labels[rows])
        chance = 1 / (np.bincount(labels)[labels] * len(classes))
        images = to_channels(training.select(rows), settings, window)
        return cls(classes, torch.from_numpy(images), torch.from_numpy(labels), sizes, chance)

    def of_class(self, label: int) -> NDArray[np.float32]:
        """The images of one class."""
        images: NDArray[np.float32] = self.images[self.labels == label].cpu().numpy()
        return images

    def shown(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(rng.choice(len(self.images), count, p=self.chance))
        rows = rows.to(self.images.device)
        if self.sizes is None:
            return self.images[rows], self.labels[rows]
        return self.images[rows], joined(self.labels[rows], self.sizes[rows])


class _Run:
    """Where a training run stands."""

    def __init__(
        self,
        training: PatchSet,
        settings: GeneratorSettings,
        seed: int,
        folder: Path,
        identity: dict[str, str],
        tuning: Tuning | None,
        processes: Processes,
        begins: Beginning | None,
    ) -> None:
        self._training, self._settings, self._seed = training, settings, seed
        self._processes, self._begins = processes, begins
        self._folder, self._identity = folder, identity
        self._device = device_of(settings, processes)
        self._window = Window(*settings.window)
        asked = tuning if processes.first else None
        self._witness = None if asked is None else Witness(training, asked, self._window)
        every = tuple(range(len(training.classes)))
        groups = [(label,) for label in every] if settings.one_per_class else [every]
        self._games = [
            _Game.of(training, group, settings, self._window).on(self._device) for group in groups
        ]
        self._steps = math.ceil(settings.images / settings.batch / len(self._games))
        # What changes from step to step, all of it in the checkpoint:
        self._done = 0
        self._finished: list[dict[str, Tensor]] = []
        self._losses: list[Tensor] = []  # (2,) of D and G, since the last line of figures
        self._kept: list[int] = []  # of each finished game, the step whose weights were kept
        self._left_out = 0  # steps that were not needed
        self._last_losses = ""  # as they were last read
        self._best = Best()
        self._adversaries = self._fresh_adversaries()
        self._restore()

    @property
    def _game(self) -> _Game:
        return self._games[len(self._finished)]

    def _fresh_adversaries(self) -> Adversaries:
        drawn = np.random.default_rng((self._seed, len(self._finished))).integers(2**32)
        shape, channels = self._training.images.shape, channels_of(self._training, self._settings)
        fresh = Adversaries(
            shape[-1],
            channels,
            len(self._game.classes),
            self._settings,
            int(drawn),
            self._device,
            self._processes,
            dims=len(shape) - 2,
        )
        if self._begins is not None:
            weights = self._begins.weights(len(self._finished))
            fresh.generator.load_state_dict(weights)
            fresh.average.load_state_dict(weights)
        return fresh

    def proceed(self, progress: Progress, on_samples: Sheets | None) -> None:
        """Run every step that is left, then write the generator."""
        settings, total = self._settings, self._steps * len(self._games)
        progress.start("training the generator", total)
        progress.advance(self._done)
        began, since, first = time.perf_counter(), self._done, self._processes.first
        while self._done < total:
            self._step()
            last = self._done % self._steps == 0
            judged = self._done % settings.judge_every == 0 or last
            evidence = self._judge() if judged else None
            if self._done % settings.log_every == 0 or evidence or last:
                shown = (self._done - since) * settings.batch
                self._log(shown / (time.perf_counter() - began), evidence)
                began, since = time.perf_counter(), self._done
            if judged:
                last = bool(self._processes.told(last or self._best.by_heart == PATIENCE))
            rest = 0
            if on_samples and first and (self._done % settings.sample_sheet_every == 0 or last):
                on_samples(self._done, self._sheet())
            if last:
                rest = self._finish_game()
                since += rest
            if self._done % settings.checkpoint_every == 0:
                self._save()
            progress.advance(1 + rest, self._last_losses)
        self._write()

    def _step(self) -> None:
        game, settings = self._game, self._settings
        # Streams of lengths 2 and 3 differ, as the last number here is never 0.
        rng = np.random.default_rng((self._seed, len(self._finished), self._done + 1))
        images, labels = map(self._processes.part, game.shown(settings.batch, rng))
        own = self._adversaries.step(
            self._done % self._steps, images.to(self._device), labels.to(self._device), rng
        )
        self._losses += self._processes.mean([own.double()])
        self._done += 1
        if reads_each_step(self._device):
            self._read_losses()

    def _read_losses(self) -> NDArray[np.float64]:
        """(step, 2) since the last line of figures.

        Raises:
            SettingsError: one of them is not finite.
        """
        losses = torch.stack(self._losses).cpu()
        refuse_not_finite([losses], "the loss", self._done)
        loss_d, loss_g = losses[-1].tolist()
        self._last_losses = f"loss D {loss_d:.2f}, G {loss_g:.2f}"
        return losses.numpy()

    def _judge(self) -> Evidence | None:
        """What the tuning patients say of the averaged weights, which are kept if the best."""
        if self._witness is None:
            return None
        noise = latents(SAMPLES, self._settings, np.random.default_rng(0))
        average = self._adversaries.average
        drawn = {
            self._training.classes[label]: image_of(draw(average, noise, condition), self._settings)
            for condition, label in enumerate(self._game.classes)
        }
        evidence = self._witness.judge(drawn)
        if evidence is not None:
            now = {name: value.detach().clone() for name, value in average.state_dict().items()}
            limit = self._settings.memorised_below
            self._best = self._best.after(evidence, limit, self._done, now)
        return evidence

    def _finish_game(self) -> int:
        """Keep the best weights; gives the number of steps that are left out."""
        last = self._adversaries.average.state_dict()
        self._finished.append(dict(self._best.weights) or last)
        self._kept.append(self._best.step or self._done)
        self._best = Best()
        rest = -self._done % self._steps
        self._left_out += rest
        self._done += rest
        if len(self._finished) < len(self._games):
            self._adversaries = self._fresh_adversaries()
        return rest

    def _log(self, images_per_second: float, evidence: Evidence | None) -> None:
        loss_d, loss_g = self._read_losses().mean(axis=0)
        self._losses = []
        if not self._processes.first:
            return
        diversities = self._diversities(self._game, self._adversaries.average)
        line: dict[str, Any] = {
            "step": self._done,
            "images": self._shown,
            "loss_d": float(loss_d),
            "loss_g": float(loss_g),
            "augment": round(self._adversaries.augment, 4),
            "images_per_second": round(images_per_second, 1),
            "diversity": {label: generated for label, (generated, _) in diversities.items()},
            "diversity_real": {label: real for label, (_, real) in diversities.items()},
        }
        if evidence is not None:
            line |= {"distance": evidence.distance, "memorised": evidence.memorised}
        history.append(self._folder, line)

    @property
    def _shown(self) -> int:
        """Real patches shown so far, repeats counted."""
        return (self._done - self._left_out) * self._settings.batch

    def _diversities(self, game: _Game, network: Generator) -> dict[str, tuple[float, float]]:
        """Generated and real diversity of each class of a game."""
        return {
            self._training.classes[label]: (
                generated_diversity(network, condition, self._settings),
                diversity(
                    image_of(game.images[game.labels == condition].cpu().numpy(), self._settings)
                ),
            )
            for condition, label in enumerate(game.classes)
        }

    def _sheet(self) -> dict[str, Drawn]:
        noise = latents(SHEET, self._settings, np.random.default_rng(0))
        return {
            self._training.classes[label]: from_channels(
                draw(self._adversaries.average, noise, condition), self._settings, self._window
            )
            for condition, label in enumerate(self._game.classes)
        }

    def _save(self) -> None:
        if self._losses:
            self._read_losses()
        tensors = {f"now.{name}": value for name, value in self._adversaries.state().items()}
        for index, weights in enumerate(self._finished):
            tensors |= {f"{index}.{name}": value for name, value in weights.items()}
        refuse_not_finite(tensors.values(), "a weight", self._done)
        if not self._processes.first:
            return
        tensors |= {f"best.{name}": value for name, value in self._best.state().items()}
        tensors["kept"] = torch.tensor([self._left_out, *self._kept])
        tensors["losses"] = torch.stack(self._losses) if self._losses else torch.zeros(0, 2)
        checkpoint.save(self._folder, self._identity, self._done, tensors)

    def _restore(self) -> None:
        found = checkpoint.load(self._folder, self._identity)
        if found is not None:
            self._done = found.step
            self._finished = [
                checkpoint.below(f"{index}.", found.tensors)
                for index in range(self._done // self._steps)
            ]
            self._left_out, *self._kept = found.tensors["kept"].tolist()
            self._best = Best.restored(checkpoint.below("best.", found.tensors))
            self._losses = list(found.tensors["losses"].to(self._device))
            if len(self._finished) < len(self._games):
                self._adversaries = self._fresh_adversaries()
                self._adversaries.restore(checkpoint.below("now.", found.tensors))
        if self._processes.first:
            history.cut_back(self._folder, self._done)

    def _write(self) -> None:
        """Write the weights that were kept, unless they draw too few different patches."""
        kept = self._kept_diversities()
        try:
            refuse_lost(kept, self._settings)
        except SettingsError:
            self._save()
            raise
        if not self._processes.first:
            return
        lines = history.cut_back(self._folder, self._done)
        limit, notes = self._settings.memorised_below, list(lost_notes(kept))
        for index, (game, step) in enumerate(zip(self._games, self._kept, strict=True)):
            names = [self._training.classes[label] for label in game.classes]
            own = [line for line in lines if (line["step"] - 1) // self._steps == index]
            end = (index + 1) * self._steps
            notes += by_heart_notes(", ".join(names), own, step, end, limit)
        save_generator(
            self._folder,
            self._finished,
            self._training,
            self._settings,
            self._seed,
            self._identity,
            self._shown,
            warned(notes),
            self._kept,
            () if self._begins is None else self._begins.ancestors,
        )

    def _kept_diversities(self) -> dict[str, tuple[Diversity, Diversity]]:
        """Generated and real diversity of each class, of the weights that are kept."""
        network = deepcopy(self._adversaries.average)
        kept: dict[str, tuple[Diversity, Diversity]] = {}
        for game, weights in zip(self._games, self._finished, strict=True):
            network.load_state_dict(weights)
            for condition, label in enumerate(game.classes):
                real = game.of_class(condition)
                name = self._training.classes[label]
                kept[name] = measured(network, condition, self._settings, real)
        return kept


def _sizes(training: PatchSet) -> NDArray[np.float32]:
    """(patch,) sizes by the law of each class; of a patch without a diameter, nothing (-inf)."""
    shown, laws = shown_diameters(training), laws_of(training)
    sizes = np.full(len(training), -np.inf, np.float32)
    for label, name in enumerate(training.classes):
        here = (training.labels == label) & (shown > 0)
        sizes[here] = laws[name].sizes(shown[here])
    return sizes
