"""Draws from a shared population of simulator parameters; medaug is needed, for its simulator.

The counterpart of `medaug.generators.standalone` for ``privacy.mode: dp-vote``, where no network
was trained. What is shared imports it from here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from medaug.domain import Unit, Window
from medaug.export.words import NOTICE
from medaug.road.private import MASS

__all__ = ["NOTICE", "SCRIPT", "Sampler"]

SCRIPT = '''"""Draws synthetic lesion patches; needs medaug, whose simulator renders them."""

from medaug.road.voted_sampling import NOTICE, Sampler

__all__ = ["NOTICE", "Sampler"]
'''


class Sampler:
    """A shared population, opened; arguments and methods as in `medaug.generators.standalone`."""

    def __init__(
        self, weights: str | Path, described: str | Path, device: str | None = None
    ) -> None:
        from medaug.phantom.mass import mass_renderer
        from medaug.phantom.parametric import parametric_renderer

        del device  # nothing is computed on one
        how: dict[str, Any] = json.loads(Path(described).read_text(encoding="utf-8"))
        self.how, self.classes = how, tuple(how["classes"])
        self._population = load_file(weights)["population"]
        kinds = dict(how["kinds"])
        channels, rows, columns = how["shape"]
        shape = (int(channels), int(rows), int(columns))
        self._render = (
            mass_renderer(Window(*how["window"]), shape)
            if set(kinds.values()) == {MASS}
            else parametric_renderer(
                kinds, how["modality"], Unit(how["unit"]), shape, how["mm_per_pixel"] or 0.0
            )
        )

    def draw(self, label: str | None, seeds: Sequence[int]) -> dict[str, NDArray[Any]]:
        """One patch per seed with its mask."""
        label = self.classes[0] if label is None else label
        if label not in self.classes:
            raise ValueError(f"class {label!r}: expected one of {', '.join(self.classes)}")
        at = self.classes.index(label)
        of_class = self._population[at]
        rows = [
            int(np.random.default_rng((at, int(seed))).integers(len(of_class))) for seed in seeds
        ]
        images, masks = self._render(label, of_class[rows], list(seeds))
        return {"images": images, "masks": masks.astype(np.uint8)}

    def write(
        self, label: str | None, count: int, first_seed: int, folder: str | Path
    ) -> list[str]:
        """Draw ``count`` patches of each class, or of ``label``; write ``<class number>.npz``."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        seeds = list(range(first_seed, first_seed + count))
        written = []
        for name in self.classes if label is None else (label,):
            path = place / f"{self.classes.index(name)}.npz"
            said = {"label": name, "seeds": seeds, "unit": self.how["unit"], "notice": NOTICE}
            fields: dict[str, Any] = {**said, **self.draw(name, seeds)}
            np.savez_compressed(path, **fields)
            written.append(str(path))
        return written
