"""A refiner that has been trained: open it, draw from it.

It renders a lesion from a seed and refines it. The lesion's label and mask are those of the
rendering. That they still fit the refined patch is what the price of change is for: the refiner
shifts nothing, yet where change is too cheap it can wash a faint lesion away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from medaug.domain import Drawn
from medaug.generators.checkpoint import below
from medaug.generators.folder import WEIGHTS, Described, read_folder
from medaug.generators.networks import place
from medaug.generators.refiner import Refiner, planes, refine
from medaug.generators.settings import RefinerSettings

Renderer = Callable[[str, Sequence[int]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""(class, seeds) → images (patch, channel, row, column) in the unit of the patches, and masks
(patch, row, column). A seed gives the same patch whatever the other seeds in the call."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RefinedGenerator(Described):
    """A `medaug.domain.Sampler` that renders and refines.

    Attributes:
        settings: as resolved.
        render: draws what is refined.
    """

    settings: RefinerSettings
    render: Renderer
    _network: Refiner = field(repr=False)

    def sample(self, label: str, seeds: Sequence[int]) -> NDArray[np.float32]:
        """The images of `draw`."""
        return self.draw(label, seeds).images

    def draw(self, label: str, seeds: Sequence[int]) -> Drawn:
        """One patch per seed (not negative), and the mask of its lesion as it was rendered.

        A seed gives the same bits whatever the other seeds in the call.

        Raises:
            ValueError: for a class that it was not trained on.
        """
        at = self.position(label)
        rendered, masks = self.render(label, seeds)
        noise = np.zeros((len(seeds), 1, *self.shape[1:]), np.float32)
        for row, seed in enumerate(seeds):
            noise[row] = planes(rendered[:1], np.random.default_rng((at, int(seed))))[0]
        signed = refine(self._network, self.window.to_signed(rendered), noise)
        return Drawn(self.window.from_signed(signed), masks)


def load_refiner(folder: Path, render: Renderer) -> RefinedGenerator:
    """Open the folder that `refining.train_refiner` left.

    Args:
        folder: of the refiner.
        render: the renderer that it was trained with.

    Raises:
        RunFolderError: nothing complete is there, or the weights are not those that
            ``config.json`` speaks of.
    """
    config, described = read_folder(folder)
    settings = RefinerSettings.model_validate(config["settings"])
    with torch.device("meta"):
        network = Refiner(described["shape"][0], settings)
    network.load_state_dict(below("0.", load_file(folder / WEIGHTS)), assign=True)
    place(network, torch.device("cpu"))
    return RefinedGenerator(
        **described,
        settings=settings,
        render=render,
        _network=network.requires_grad_(False).eval(),
    )
