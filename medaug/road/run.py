"""What a station is called with: the pipeline, its folder, and what earlier stations left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from medaug.config import PipelineConfig
from medaug.domain import PatchSet, PatientKey, PatientSplit, Window
from medaug.domain.cohort import PARTS
from medaug.generators.processes import ALONE, Processes
from medaug.progress import Progress
from medaug.road import private
from medaug.road.refitting import renderer

if TYPE_CHECKING:
    # Importing a station may import torch; only the station that runs needs its own.
    from medaug.domain import Release
    from medaug.generators.refined import RefinedGenerator
    from medaug.generators.trained import TrainedGenerator
    from medaug.privacy.voted import VotedGenerator


@dataclass(frozen=True)
class Run:
    """A pipeline and the folder its results go to.

    ``dask`` is as in `medaug.workers`, ``processes`` as in `medaug.generators.processes`.
    """

    config: PipelineConfig
    folder: Path
    progress: Progress
    dask: str | None = None
    processes: Processes = ALONE

    @property
    def window(self) -> Window:
        """The intensities that the study is about."""
        return Window(*self.config.generator.window)

    @cached_property
    def patches(self) -> PatchSet:
        """Every patch of the cohort."""
        from medaug.patching.store import read_patches

        return read_patches(self.folder / "patches" / "patches.h5")

    @cached_property
    def split(self) -> PatientSplit:
        """Who trains, tunes and judges."""
        parts = json.loads((self.folder / "split.json").read_text())["parts"]
        members = (frozenset(map(PatientKey, parts[part]["patients"])) for part in PARTS)
        return PatientSplit(*members)

    @cached_property
    def generator(self) -> TrainedGenerator | RefinedGenerator | VotedGenerator:
        """The trained generator."""
        from medaug.generators.refined import load_refiner
        from medaug.generators.settings import RefinerSettings, SimulatorSettings
        from medaug.generators.trained import load_generator

        folder, settings = self.folder / "generator", self.config.generator
        if isinstance(settings, RefinerSettings):
            return load_refiner(folder, renderer(self.patches, settings))
        if isinstance(settings, SimulatorSettings):
            return private.open_voted(self.config, settings, self.patches, folder)
        return load_generator(folder)

    @cached_property
    def release(self) -> Release:
        """What the gate let through."""
        from medaug.export.release import load_release

        return load_release(self.folder / "release")
