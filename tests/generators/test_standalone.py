"""The sampler that is shared draws what medaug draws, of every kind of network."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medaug.domain import PatchSet
from medaug.generators import standalone
from medaug.generators.networks import Generator
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import load_generator, save_generator

WINDOW = (-100.0, 200.0)


@pytest.mark.parametrize(
    ("sides", "given"),
    [
        ((32, 32), {"preset": "radford-2015"}),
        ((32, 32), {"preset": "frid-adar-2018", "outputs": ("image", "mask")}),
        ((48, 48), {"preset": "conditional", "condition_on_size": True}),
        ((32, 32, 32), {"preset": "small-data", "outputs": ("image", "mask")}),
    ],
)
def test_it_draws_the_same(
    sides: tuple[int, ...],
    given: dict[str, Any],
    make_patch_set: Callable[..., PatchSet],
    tmp_path: Path,
) -> None:
    settings = GeneratorSettings(**given, window=WINDOW, width=4, device="cpu")
    patches = make_patch_set(
        np.zeros((8, 1, *sides)), np.arange(8) % 2, ("cyst", "tumour"), np.arange(8)
    )
    patches = with_diameters(patches)
    own = settings.one_per_class
    networks = []
    for at in range(2 if own else 1):
        network = Generator(
            sides[-1], 1 + settings.draws_masks, 1 if own else 2, settings, len(sides)
        )
        stream = torch.Generator().manual_seed(at)
        for weight in network.parameters():  # as large as in a network that has learnt something
            torch.nn.init.normal_(weight, 0, 0.3, generator=stream)
        networks.append(network.state_dict())
    save_generator(tmp_path, networks, patches, settings, 0, {}, 0, [], [0])
    ours = load_generator(tmp_path)
    described = {
        "classes": list(ours.classes),
        "shape": list(ours.shape),
        "window": list(WINDOW),
        "unit": "HU",
        **settings.drawing(),
    }
    (tmp_path / "generator.json").write_text(json.dumps(described))
    theirs = standalone.Sampler(
        tmp_path / "generator.safetensors", tmp_path / "generator.json", "cpu"
    )
    for label in ours.classes:
        drawn, found = ours.draw(label, [3, 0]), theirs.draw(label, [3, 0])
        assert drawn.images.std() > 1
        np.testing.assert_allclose(found["images"], drawn.images, atol=1e-3)
        assert ("masks" in found) == (drawn.masks is not None)
        if drawn.masks is not None:
            assert (found["masks"].astype(bool) == drawn.masks).mean() > 0.999
    assert not np.allclose(*(theirs.draw(label, [3])["images"] for label in ours.classes))
    with pytest.raises(ValueError, match="expected one of cyst, tumour"):
        theirs.draw("unknown", [0])


def with_diameters(patches: PatchSet) -> PatchSet:
    """Lesions of 8 to 15 mm, so that sizes have a law."""
    places = tuple(
        replace(place, diameter_mm=8.0 + row) for row, place in enumerate(patches.locations)
    )
    return replace(patches, locations=places)


def test_it_stands_alone() -> None:
    """No import of medaug: the file is copied to where there is none."""
    source = Path(standalone.__file__).read_text()
    assert "import medaug" not in source
    assert "from medaug" not in source
