"""Sampling: a seed is a patch, in the unit of the training data; the file holds weights only."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from medaug.domain import PatchSet, Sampler, Window
from medaug.errors import RunFolderError
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import TrainedGenerator, load_generator
from medaug.generators.training import train_generator

Trained = tuple[Path, PatchSet, TrainedGenerator]


@pytest.fixture(scope="module", params=["small-data", "frid-adar-2018"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marker-in-the-path") / request.param


@pytest.fixture
def trained(
    folder: Path,
    discs: Callable[..., PatchSet],
    settings: Callable[..., GeneratorSettings],
) -> Trained:
    """Trained at the first call for a folder, opened afterwards."""
    patches = discs(side=64)
    chosen = settings(preset=folder.name, width=8)
    return folder, patches, train_generator(patches, chosen, 1, folder)


class TestSeeds:
    """A seed gives the same bits whatever the other seeds in the call."""

    def test_alone_among_others_and_in_any_order(self, trained: Trained) -> None:
        _, _, generator = trained
        seeds = [*range(40), 2**40, 2**40 + 1]
        together = generator.sample("cyst", seeds)
        for at in (0, 1, 17, 31, 32, 39, 41):
            np.testing.assert_array_equal(generator.sample("cyst", [seeds[at]])[0], together[at])
        order = np.random.default_rng(0).permutation(len(seeds))
        shuffled = generator.sample("cyst", [seeds[at] for at in order])
        np.testing.assert_array_equal(shuffled, together[order])

    def test_seeds_and_classes_give_different_patches(self, trained: Trained) -> None:
        _, _, generator = trained
        images = [
            *generator.sample("cyst", [1, 2, 2**32 + 1]),
            *generator.sample("metastasis", [1]),
        ]
        assert len({image.tobytes() for image in images}) == 4

    def test_the_folder_opened_again_draws_the_same(self, trained: Trained) -> None:
        folder, _, generator = trained
        np.testing.assert_array_equal(
            load_generator(folder).sample("cyst", [5, 6]), generator.sample("cyst", [5, 6])
        )

    def test_no_seed_no_patch(self, trained: Trained) -> None:
        assert trained[2].sample("cyst", []).shape == (0, 1, 64, 64)

    def test_an_unknown_class(self, trained: Trained) -> None:
        with pytest.raises(ValueError, match="expected one of cyst, metastasis"):
            trained[2].sample("adenoma", [1])


class TestUnit:
    """The window is part of the generator and is inverted on sampling."""

    def test_the_window_scales_what_is_drawn(self, trained: Trained) -> None:
        generator = trained[2]
        assert generator.window == Window(-100, 250)
        signed = replace(generator, window=Window(-1, 1)).sample("cyst", range(8))
        assert np.abs(signed).max() <= 1
        in_hu = generator.sample("cyst", range(8))
        np.testing.assert_allclose(in_hu, (signed + 1) * 175 - 100, rtol=1e-5, atol=1e-3)
        assert in_hu.dtype == np.float32

    def test_what_the_road_needs_to_know(self, trained: Trained) -> None:
        _, patches, generator = trained
        sampler: Sampler = generator
        assert sampler.classes == patches.classes
        assert (generator.unit, generator.modality) == (patches.unit, patches.modality)
        assert generator.mm_per_pixel == 1.0
        record = generator.record
        assert record.patients == frozenset(patches.patients)
        assert record.patches_digest == patches.digest
        assert record.images_shown == 48
        begins = {"init", "init_is_public"}  # told by record.ancestors
        assert record.settings == generator.settings.model_dump(mode="json", exclude=begins)


class TestFile:
    """The weights file holds weights and nothing else."""

    def test_names_metadata_and_no_pickle(self, trained: Trained) -> None:
        folder, patches, _ = trained
        path = folder / "generator.safetensors"
        with safe_open(path, framework="np") as file:
            assert file.metadata() == {"format": "medaug generator 1"}
            names = set(file.keys())
        assert not [name for name in names if "discriminator" in name or "adam" in name]
        raw = path.read_bytes()
        planted = [key.token for key in patches.patients] + list(patches.classes)
        planted += ["marker-in-the-path", os.fspath(folder), patches.digest]
        assert not [text for text in planted if text.encode() in raw]
        # Length, JSON header, tensors, end: no room for a pickle or a path.
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:start])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name in names]
        assert start + max(ends) == len(raw)
        assert not (folder / "checkpoint").exists()

    def test_weights_that_were_changed_are_refused(self, trained: Trained, tmp_path: Path) -> None:
        folder, _, _ = trained
        for name in ("generator.safetensors", "config.json"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        load_generator(tmp_path)
        raw = bytearray((tmp_path / "generator.safetensors").read_bytes())
        raw[-1] ^= 1
        (tmp_path / "generator.safetensors").write_bytes(raw)
        with pytest.raises(RunFolderError, match="not the weights"):
            load_generator(tmp_path)
        with pytest.raises(RunFolderError, match="not there"):
            load_generator(tmp_path / "elsewhere")

    def test_config_lists_the_record(self, trained: Trained) -> None:
        folder, patches, _ = trained
        config = json.loads((folder / "config.json").read_text())
        assert set(config) == {
            *("classes", "shape", "window", "unit", "modality", "mm_per_pixel"),
            *("settings", "notes", "kept_steps", "sizes", "record", "identity"),
        }
        assert config["record"]["patients"] == sorted({key.token for key in patches.patients})
