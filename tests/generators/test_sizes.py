"""A lesion's diameter is a condition: learnt from what the patches show, asked for in mm."""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from medaug.domain import PatchSet, Window
from medaug.errors import SettingsError
from medaug.generators.adversaries import latents
from medaug.generators.refusals import refuse_unfit
from medaug.generators.sizes import MOST, SizeLaw, draw_sizes, laws_of, shown_diameters
from medaug.generators.trained import TrainedGenerator, load_generator
from medaug.generators.training import _Game, train_generator

_spec = spec_from_file_location("cubes", Path(__file__).with_name("cubes.py"))
cubes = module_from_spec(_spec)
_spec.loader.exec_module(cubes)


def discs(count: int = 24) -> PatchSet:
    return cubes.balls(count, dims=2)


def with_diameters(patches: PatchSet, diameters: Sequence[float], scale: float = 1.0) -> PatchSet:
    places = zip(patches.locations, diameters, strict=True)
    return replace(
        patches,
        locations=tuple(
            replace(place, diameter_mm=float(diameter), scale=scale) for place, diameter in places
        ),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedGenerator]:
    folder = tmp_path_factory.mktemp("sizes")
    chosen = cubes.settings(condition_on_size=True, images=320, batch=16, penalty_every=8)
    return folder, train_generator(discs(), chosen, 0, folder)


class TestTheLaw:
    """Log-normal, by two rounded numbers of each class."""

    def test_it_is_recovered(self) -> None:
        law = SizeLaw.of(np.exp(np.random.default_rng(0).normal(2.5, 0.4, 20_000)))
        assert (law.mean, law.spread) == pytest.approx((2.5, 0.4), abs=0.011)
        assert law.sizes(np.exp([2.1, 2.5, 2.9])) == pytest.approx([-1, 0, 1], abs=0.08)
        assert law.range_mm == pytest.approx(np.exp([1.5, 3.5]), rel=0.04)

    def test_all_of_one_size(self) -> None:
        assert SizeLaw.of(np.full(9, 12.0)).sizes([12.0]) == pytest.approx([0], abs=0.5)

    def test_a_lesion_that_was_shrunk_counts_as_shrunk(self) -> None:
        patches = with_diameters(discs(), np.full(24, 40.0), scale=0.5)
        assert (shown_diameters(patches) == 20).all()
        assert laws_of(patches)["cyst"].mean == pytest.approx(np.log(20), abs=0.005)

    def test_the_folder_keeps_the_law_and_nobody_s_diameter(
        self, trained: tuple[Path, TrainedGenerator]
    ) -> None:
        folder, generator = trained
        config = json.loads((folder / "config.json").read_text())
        assert set(config["sizes"]) == {"cyst", "metastasis"}
        assert all(set(law) == {"log_mm_mean", "log_mm_sd"} for law in config["sizes"].values())
        # One diameter of twelve, half a per cent longer, is not to be seen.
        patches = discs()
        diameters = np.array([place.diameter_mm for place in patches.locations])
        diameters[np.argsort(diameters)[len(diameters) // 2]] *= 1.005
        assert laws_of(with_diameters(patches, diameters)) == generator.sizes == laws_of(patches)
        assert load_generator(folder).sizes == generator.sizes

    def test_sizes_are_drawn_from_the_normal_law_cut_off(self) -> None:
        sizes = draw_sizes(40_000, np.random.default_rng(0))
        assert np.abs(sizes).max() == MOST
        assert (sizes.mean(), sizes.std()) == pytest.approx((0, 1), abs=0.03)

    @pytest.mark.parametrize("noise", ["normal", "uniform"])
    def test_the_latent_is_what_it_was_and_one_number_more(self, noise: str) -> None:
        plain, sized = (
            latents(
                5,
                cubes.settings(latent_noise=noise, condition_on_size=on),
                np.random.default_rng(0),
            )
            for on in (False, True)
        )
        assert sized.shape == (5, 9)
        np.testing.assert_array_equal(sized[:, :8], plain)


class TestDrawing:
    def test_the_seed_decides_where_nothing_is_asked_for(
        self, trained: tuple[Path, TrainedGenerator]
    ) -> None:
        """As if its size had been asked for in mm."""
        _, generator = trained
        law, seeds = generator.sizes["metastasis"], [3, 4]
        sizes = [
            latents(1, generator.settings, np.random.default_rng((1, seed)))[0, -1]
            for seed in seeds
        ]
        asked = np.exp(law.mean + law.spread * np.array(sizes, np.float64))
        unasked = generator.draw("metastasis", seeds)
        alone = generator.draw("metastasis", [4], asked[1:])
        among = generator.draw("metastasis", seeds, asked)
        np.testing.assert_array_equal(alone.images[0], among.images[1])
        other = generator.draw("metastasis", seeds, asked * 1.3)
        apart = np.abs(other.images - among.images).max()
        assert np.abs(unasked.images - among.images).max() < apart / 100

    @pytest.mark.parametrize(
        ("diameters", "words"),
        [([9.0], "1 diameters for 2 seeds"), ([9.0, 900.0], "900 mm: class cyst was learnt from")],
    )
    def test_what_cannot_be_drawn(
        self,
        diameters: list[float],
        words: str,
        trained: tuple[Path, TrainedGenerator],
    ) -> None:
        with pytest.raises(ValueError, match=words):
            trained[1].draw("cyst", [1, 2], diameters)

    def test_size_was_no_condition(self, tmp_path: Path) -> None:
        generator = train_generator(discs(), cubes.settings(), 0, tmp_path)
        assert generator.sizes == {}
        with pytest.raises(ValueError, match="trained without condition_on_size"):
            generator.draw("cyst", [1], [9.0])


class TestUnknownDiameters:
    """Points without a diameter, boxes and pictures give none."""

    def unknown(self, count: int, missing: Sequence[int]) -> PatchSet:
        patches = discs(count)
        diameters = [place.diameter_mm for place in patches.locations]
        for row in missing:
            diameters[row] = 0.0
        return with_diameters(patches, diameters)

    def test_more_than_a_few_are_refused(self) -> None:
        chosen = cubes.settings(condition_on_size=True)
        with pytest.raises(SettingsError, match="2 of 24 training patches have no diameter in mm"):
            refuse_unfit(self.unknown(24, [0, 1]), chosen)
        refuse_unfit(self.unknown(24, range(24)), cubes.settings())

    def test_a_class_with_too_few_is_refused(self) -> None:
        patches = discs(80).select([*range(0, 80, 2), 1, 3, 5, 7])
        with pytest.raises(SettingsError, match="class metastasis has 4 diameters"):
            refuse_unfit(patches, cubes.settings(condition_on_size=True))

    def test_the_few_are_not_shown(self, tmp_path: Path) -> None:
        patches, chosen = self.unknown(40, [7, 8]), cubes.settings(condition_on_size=True)
        game = _Game.of(patches, (0, 1), chosen, Window(-100, 250))
        assert len(game.images) == len(game.sizes) == 38
        assert game.sizes.isfinite().all()
        generator = train_generator(patches, chosen, 0, tmp_path)
        assert np.isfinite(generator.draw("cyst", range(4)).images).all()


def response(patches: PatchSet, folder: Path) -> dict[str, float]:
    """Of each class, by how much the log diameter of a mask grows with that asked for: 1 is ideal.

    A correlation alone would not do: next to no growth can be a very regular one.
    """
    chosen = cubes.settings(
        condition_on_size=True, width=12, batch=16, images=4800, penalty_every=8
    )
    generator = train_generator(patches, chosen, 0, folder)
    found = {}
    for label in generator.classes:
        low, high = generator.sizes[label].range_mm
        asked = np.geomspace(max(low, 5), min(high, 24), 64)
        masks = generator.draw(label, range(64), asked).masks
        drawn = np.sqrt(masks.sum(axis=(1, 2)) + 1)
        found[label] = float(np.polyfit(np.log(asked), np.log(drawn), 1)[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("truthful", [True, False])
def test_larger_lesions_for_larger_diameters(truthful: bool, tmp_path: Path) -> None:
    """And no such thing where the diameters were dealt out at random before training."""
    patches = discs(60)
    if not truthful:
        diameters = np.array([place.diameter_mm for place in patches.locations])
        dealt = np.random.default_rng(0).permutation(diameters)
        patches = with_diameters(patches, dealt)
    found = response(patches, tmp_path)
    assert (min(found.values()) > 0.5) if truthful else (max(found.values()) < 0.4), found
