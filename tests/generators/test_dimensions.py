"""The same station learns cubes, and pictures with adjacent slices as channels."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

import medaug
from medaug.domain import Drawn, PatchSet, central
from medaug.errors import CohortError, SettingsError
from medaug.generators.augmentation import apply, draw
from medaug.generators.evidence import Tuning, _block_means
from medaug.generators.refusals import refuse_unfit
from medaug.generators.settings import GeneratorSettings, RefinerSettings
from medaug.generators.trained import TrainedGenerator, load_generator
from medaug.generators.training import train_generator

SCRIPT = Path(__file__).with_name("cubes.py")
_spec = spec_from_file_location("cubes", SCRIPT)
cubes = module_from_spec(_spec)
_spec.loader.exec_module(cubes)

Trained = tuple[Path, TrainedGenerator]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("cubes")
    return folder, cubes.train(folder)


class TestCubes:
    def test_what_is_drawn(self, trained: Trained) -> None:
        _, generator = trained
        assert generator.shape == (1, 32, 32, 32)
        drawn = generator.draw("cyst", range(3))
        assert drawn.images.shape == (3, 1, 32, 32, 32)
        assert drawn.masks is not None
        assert drawn.masks.shape == (3, 32, 32, 32)

    def test_a_seed_is_a_cube_in_any_company(self, trained: Trained) -> None:
        folder, generator = trained
        seeds = [*range(10), 2**40]
        together = generator.draw("metastasis", seeds)
        assert len({image.tobytes() for image in together.images}) == len(seeds)
        for at in (0, 7, 8, 10):
            alone = load_generator(folder).draw("metastasis", [seeds[at]])
            np.testing.assert_array_equal(alone.images[0], together.images[at])
            np.testing.assert_array_equal(alone.masks[0], together.masks[at])

    def test_killed_and_continued_it_ends_with_the_same_bits(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        died = subprocess.run(
            [sys.executable, SCRIPT, tmp_path, "3"],
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(torch.get_num_threads()),
                "PYTHONPATH": str(Path(medaug.__file__).parents[1]),
            },
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        assert (tmp_path / "checkpoint" / "state.safetensors").is_file()
        cubes.train(tmp_path)
        for name in ("generator.safetensors", "config.json"):
            assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes()

    def test_networks_of_each_class(self, tmp_path: Path) -> None:
        chosen = cubes.settings(preset="frid-adar-2018")
        generator = train_generator(cubes.balls(), chosen, 0, tmp_path)
        assert generator.draw("cyst", [1]).images.shape == (1, 1, 32, 32, 32)

    def test_sheets_and_judgements_are_of_cubes(self, tmp_path: Path) -> None:
        sheets: dict[int, dict[str, Drawn]] = {}
        patches, seen = cubes.balls(), []

        def distance(images: np.ndarray) -> float:
            seen.append(images.shape)
            return 1.0

        tuning = Tuning(cubes.balls(), dict.fromkeys(patches.classes, distance))
        chosen = cubes.settings(images=8, judge_every=2)
        train_generator(patches, chosen, 0, tmp_path, None, sheets.__setitem__, tuning)
        assert {shape[1:] for shape in seen} == {(1, 32, 32, 32)}
        assert {drawn.images.shape for drawn in sheets[2].values()} == {(16, 1, 32, 32, 32)}


@pytest.mark.slow
def test_it_learns_balls(tmp_path: Path) -> None:
    """300 steps of 8 cubes: dark in the middle, bright in the corners, a mask on what is dark."""
    chosen = cubes.settings(width=8, images=2400, batch=8, penalty_every=8, checkpoint_every=500)
    patches = cubes.balls(60, radius_mm=9.0)
    drawn = train_generator(patches, chosen, 0, tmp_path).draw("cyst", range(24))
    assert drawn.images[:, 0, 14:18, 14:18, 14:18].mean() < 50
    assert drawn.images[:, 0, :6, :6, :6].mean() > 90
    dark, axes = drawn.images[:, 0] < 60, (1, 2, 3)
    overlap = (dark & drawn.masks).sum(axis=axes)
    dice = 2 * overlap / (dark.sum(axis=axes) + drawn.masks.sum(axis=axes))
    assert dice.mean() > 0.6


class TestAugmentation:
    """In 3-D every kind is drawn per patch, by the same law."""

    SIDE = 32

    def moved_only(self, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        what = draw(count, self.SIDE, 1.0, np.random.default_rng(seed), dims=3)
        images = torch.randn(count, 1, *[self.SIDE] * 3)
        plain = replace(what, contrast=torch.ones(1), brightness=torch.zeros(1), kept=torch.ones(1))
        return images, apply(images, plain)

    def test_poses_and_shifts_are_those_of_a_slow_twin(self) -> None:
        """A flip along slices, 8 poses in the plane, and a mirrored shift along three axes."""
        before, after = self.moved_only(6)
        reach, middle = self.SIDE // 8, slice(12, 20)
        for one, moved in zip(before.numpy()[:, 0], after.numpy()[:, 0], strict=True):
            padded = np.pad(one, reach, mode="reflect")
            poses = [
                np.rot90(moved[:, :, ::turn][::flip], quarter, axes=(1, 2))
                for flip in (1, -1)
                for turn in (1, -1)
                for quarter in range(4)
            ]
            wanted = np.stack([pose[middle, middle, middle] for pose in poses])
            windows = np.lib.stride_tricks.sliding_window_view(
                padded[12 : 20 + 2 * reach, 12 : 20 + 2 * reach, 12 : 20 + 2 * reach], (8, 8, 8)
            )
            assert windows.shape[:3] == (9, 9, 9)
            apart = [np.abs(windows - pose).max(axis=(3, 4, 5)).min() for pose in wanted]
            assert min(apart) < 1e-5

    def test_all_sixteen_poses_occur_and_none_tips_the_patient_over(self) -> None:
        what = draw(300, self.SIDE, 1.0, np.random.default_rng(3), dims=3)
        source = what.source.reshape(-1, *[self.SIDE] * 3).numpy()
        middle, side = self.SIDE // 2, self.SIDE
        here = source[:, middle, middle, middle]
        steps = {
            (int(s - h), int(r - h), int(c - h))
            for h, s, r, c in zip(
                here,
                source[:, middle + 1, middle, middle],
                source[:, middle, middle + 1, middle],
                source[:, middle, middle, middle + 1],
                strict=True,
            )
        }
        plane = {
            (a * i, b * j) for i, j in ((1, side), (side, 1)) for a in (1, -1) for b in (1, -1)
        }
        assert steps == {(z, *pair) for z in (side**2, -(side**2)) for pair in plane}

    def test_each_kind_is_drawn_per_patch_as_often_as_asked(self) -> None:
        what = draw(600, 8, 0.3, np.random.default_rng(3), dims=3)
        assert what.kept.shape == (600, 1, 8, 8, 8)
        for touched in (what.contrast != 1, what.brightness != 0, what.kept == 0):
            share = touched.flatten(1).any(1).double().mean().item()
            assert share == pytest.approx(0.3, abs=0.06)
        holes = (what.kept == 0).flatten(1).sum(1)
        assert holes.max() == 3**3
        assert len({hole.numpy().tobytes() for hole in what.kept}) > 100

    def test_pictures_are_augmented_as_ever(self) -> None:
        """The third dimension draws nothing of its own where there are two."""
        plain, named = (
            draw(8, 32, 0.5, np.random.default_rng(0), **own) for own in ({}, {"dims": 2})
        )
        torch.testing.assert_close(plain.source, named.source)
        assert plain.kept.shape == (8, 1, 32, 32)


class TestAdjacentSlicesAsChannels:
    def stacked(self) -> PatchSet:
        balls = cubes.balls()
        return replace(
            balls, images=np.ascontiguousarray(balls.images[:, 0, 13:18]), masks=balls.masks[:, 15]
        )

    def test_five_slices_and_the_mask_of_the_middle_one(self, tmp_path: Path) -> None:
        generator = train_generator(self.stacked(), cubes.settings(), 0, tmp_path)
        assert generator.shape == (5, 32, 32)
        drawn = generator.draw("cyst", [1, 2])
        assert drawn.images.shape == (2, 5, 32, 32)
        assert drawn.masks is not None
        assert drawn.masks.shape == (2, 32, 32)
        assert central(drawn.images).shape == (2, 1, 32, 32)

    def test_the_mask_says_nothing_of_other_slices_than_its_own(self) -> None:
        """Beyond the lesion's poles lies bone, which the window may clip."""
        patches = self.stacked()
        bone = patches.images.copy()
        bone[:, [0, 1, 3, 4]] = 900
        refuse_unfit(replace(patches, images=bone), cubes.settings())
        bone[:, 2] = 900
        with pytest.raises(SettingsError, match="clips"):
            refuse_unfit(replace(patches, images=bone), cubes.settings())


@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 32, 32, 32), (1, 40, 40), (1, 64, 64, 64)])
def test_block_means(shape: tuple[int, ...]) -> None:
    """The slow twin takes one block after another."""
    images = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    sides = shape[1:]
    blocks = 16 if len(sides) == 2 and sides[0] % 16 == 0 else 8
    expected = []
    for image in images:
        means = []
        for channel in image:
            for corner in np.ndindex(*[blocks] * len(sides)):
                step = sides[0] // blocks
                means.append(
                    channel[tuple(slice(n * step, n * step + step) for n in corner)].mean()
                )
        expected.append(np.array(means) - np.mean(means))
    np.testing.assert_allclose(_block_means(images), expected, atol=1e-5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ((1, 72, 72, 72), "72 x 72 x 72 pixels"),
            ((1, 32, 32, 40), "32 x 32 x 40 pixels"),
            ((2, 32, 32, 32), "2 channels in 3-D"),
            ((1, 264, 264), "264 x 264 pixels"),
        ],
    )
    def test_shapes(
        self,
        shape: tuple[int, ...],
        words: str,
        make_patch_set: Callable[..., PatchSet],
        settings: Callable[..., GeneratorSettings],
    ) -> None:
        patches = make_patch_set(
            np.zeros((8, *shape)), np.arange(8) % 2, ("cyst", "metastasis"), np.arange(8)
        )
        with pytest.raises(CohortError, match=words):
            refuse_unfit(patches, settings())

    def test_a_refiner_works_in_pictures(self) -> None:
        chosen = RefinerSettings(preset="simulate-and-refine", window=(-200, 250), batch=4)
        with pytest.raises(SettingsError, match="simulate-and-refine, which renders and refines"):
            refuse_unfit(cubes.balls(), chosen)
