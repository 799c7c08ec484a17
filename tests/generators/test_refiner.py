"""Rendered patches are refined: what they show stays, how they look comes nearer to real ones."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from medaug.domain import PatchLocation, PatchSet, PatientKey, Sampler, Unit, Window
from medaug.errors import CohortError, RunFolderError, SettingsError
from medaug.evaluation.distances import kernel_distance
from medaug.evaluation.radiomics import radiomic_features
from medaug.generators import refining
from medaug.generators.image_history import ImageHistory
from medaug.generators.refined import RefinedGenerator, load_refiner
from medaug.generators.refiner import LocalDiscriminator, Refiner, Refining
from medaug.generators.refining import train_refiner
from medaug.generators.settings import RefinerSettings
from medaug.phantom.dealing import KINDS
from medaug.phantom.rendering import lesion_renderer

WINDOW = Window(-100, 250)
CLASSES = ("cyst", "metastasis")


def chosen(**own: object) -> RefinerSettings:
    small = {"width": 4, "blocks": 1, "batch": 8, "images": 96, "rendered": 40, "history": 12}
    often = {"checkpoint_every": 3, "log_every": 2, "device": "cpu"}
    row = {"preset": "simulate-and-refine", "window": (-100, 250), **small, **often}
    return RefinerSettings(**{**row, **own})


def render(label: str, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Discs without noise: quicker than the phantom's lesions."""
    row, column = np.mgrid[:32, :32] - 16
    radii = [np.random.default_rng(seed).uniform(3, 10) for seed in seeds]
    masks = np.array([np.hypot(row, column) < radius for radius in radii]).reshape(-1, 32, 32)
    level = 20 * (1 + CLASSES.index(label))
    return np.where(masks, level, 110)[:, None].astype(np.float32), masks


def real_set(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> PatchSet:
    """A patient for each patch."""
    return PatchSet(
        images=images.astype(np.float32),
        masks=None,
        labels=labels.astype(np.int64),
        classes=classes,
        patients=tuple(PatientKey(f"{row:032x}") for row in range(len(images))),
        locations=tuple(
            PatchLocation("case", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 1.0)
            for row in range(len(images))
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


def noisy() -> PatchSet:
    """Discs 40 HU brighter than the rendered ones, and with noise."""
    labels = np.arange(24) % 2
    images = np.concatenate([render(CLASSES[at], [row])[0] for row, at in enumerate(labels)])
    noise = np.random.default_rng(0).normal(0, 12, images.shape)
    return real_set(images + 40 + noise, labels, CLASSES)


def figures_of(folder: Path) -> list[dict]:
    """The lines of a run; how fast it went is no part of them."""
    lines = (folder / "training.jsonl").read_text().splitlines()
    return [{**json.loads(line), "images_per_second": 0} for line in lines]


class Interrupted:
    """A Progress that stops at a step of the training."""

    def __init__(self, at: int) -> None:
        self.at, self.done, self.training = at, 0, False

    def start(self, what: str, total: int, unit: str = "") -> None:  # noqa: ARG002
        self.training = what == "training the refiner"

    def advance(self, steps: int = 1, note: str = "") -> None:
        # The first call says what is done already.
        self.done += steps * self.training
        if self.training and note and self.done == self.at:
            raise KeyboardInterrupt


class TestNetworks:
    """Fully convolutional; the refiner begins as the identity and keeps the shape."""

    @pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 64), (1, 72)])
    def test_shapes_and_the_identity_at_first(self, channels: int, side: int) -> None:
        shape = (channels, side, side)
        game = Refining(shape, 3, chosen(), 0, torch.device("cpu"))
        images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        noise = torch.randn(5, 1, side, side)
        assert torch.equal(game.refiner(images, noise), images)
        logits = game.discriminator(images, torch.tensor([0, 1, 2, 0, 1]))
        assert logits.shape == (5, side // 4, side // 4)

    def test_a_logit_sees_its_region_only(self) -> None:
        network = Refining((1, 64, 64), 2, chosen(), 0, torch.device("cpu")).discriminator
        images = torch.zeros(1, 1, 64, 64, requires_grad=True)
        network(images + 0.1, torch.tensor([0]))[0, 8, 8].backward()
        rows, columns = np.nonzero(images.grad[0, 0].numpy())
        assert np.ptp(rows) < 18
        assert np.ptp(columns) < 18

    def test_a_refined_pixel_depends_on_its_surround_only(self) -> None:
        network = Refiner(1, chosen())
        images = torch.zeros(1, 1, 64, 64, requires_grad=True)
        network(images, torch.zeros(1, 1, 64, 64))[0, 0, 30, 30].backward()
        assert np.ptp(np.nonzero(images.grad[0, 0].numpy())[0]) <= 2 * 3

    def test_the_discriminator_knows_the_class(self) -> None:
        network = LocalDiscriminator(1, 2, chosen())
        images = torch.rand(2, 1, 32, 32)
        one, other = (network(images, torch.full((2,), label)) for label in (0, 1))
        assert not torch.allclose(one, other)


class SlowHistory:
    """The same rules with lists and one patch at a time."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.held = capacity, []

    def mix(self, fresh: list, rng: np.random.Generator) -> list:
        old = len(fresh) // 2
        kept, given = fresh[: len(fresh) - old], fresh[len(fresh) - old :]
        seen = fresh
        if 0 < old <= len(self.held):
            rows = rng.choice(len(self.held), old, replace=False)
            seen = kept + [self.held[row] for row in rows]
        waiting = []
        for one in given:
            if len(self.held) < self.capacity:
                self.held.append(one)
            else:
                waiting.append(one)
        waiting = waiting[-self.capacity :] if self.capacity else []
        if waiting:
            for row, one in zip(
                rng.choice(self.capacity, len(waiting), replace=False), waiting, strict=True
            ):
                self.held[row] = one
        return seen


class TestImageHistory:
    """Half of what the discriminator sees was refined earlier, once there is enough."""

    @pytest.mark.parametrize("capacity", [0, 2, 3, 12, 100])
    @pytest.mark.parametrize("batch", [2, 7, 8])
    def test_against_a_slow_twin(self, capacity: int, batch: int) -> None:
        fast, slow = ImageHistory.empty(capacity, (1, 2, 2), torch.device("cpu")), None
        slow = SlowHistory(capacity)
        for step in range(20):
            numbers = torch.arange(step * batch, (step + 1) * batch)
            images = numbers.float()[:, None, None, None].expand(-1, 1, 2, 2)
            seen, labels = fast.mix(images, numbers, np.random.default_rng(step))
            assert labels.tolist() == slow.mix(numbers.tolist(), np.random.default_rng(step))
            assert seen[:, 0, 1, 1].tolist() == labels.tolist()
            assert fast.labels.tolist() == slow.held
        assert len(fast.images) == min(capacity, 20 * (batch // 2))

    def test_half_is_old_and_the_history_is_no_view_of_the_batch(self) -> None:
        past = ImageHistory.empty(8, (1, 2, 2), torch.device("cpu"))
        labels = torch.zeros(8, dtype=torch.int64)
        first = torch.zeros(8, 1, 2, 2)
        past.mix(first, labels, np.random.default_rng(0))
        first += 7
        seen, _ = past.mix(torch.ones(8, 1, 2, 2), labels, np.random.default_rng(0))
        assert sorted(seen[:, 0, 0, 0].tolist()) == [0] * 4 + [1] * 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RefinedGenerator]:
    folder = tmp_path_factory.mktemp("refiner")
    return folder, train_refiner(noisy(), chosen(), 3, folder, render)


class TestSampler:
    """A seed is rendered and refined: label and mask are the rendering's, whatever the company."""

    def test_masks_and_labels_are_those_of_the_rendering(
        self, trained: tuple[Path, RefinedGenerator]
    ) -> None:
        generator = trained[1]
        asked = []

        def watched(label: str, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            asked.append((label, list(seeds)))
            return render(label, seeds)

        drawn = replace(generator, render=watched).draw("cyst", range(20))
        assert asked == [("cyst", list(range(20)))]
        rendered, of_rendering = render("cyst", range(20))
        assert drawn.masks.dtype == bool
        np.testing.assert_array_equal(drawn.masks, of_rendering)
        assert not np.array_equal(drawn.images, rendered)
        pair = (drawn.images, drawn.masks)
        inside = [image[0][mask].mean() for image, mask in zip(*pair, strict=True)]
        outside = [image[0][~mask].mean() for image, mask in zip(*pair, strict=True)]
        assert max(inside) < min(outside)

    def test_a_seed_gives_the_same_bits_in_any_company(
        self, trained: tuple[Path, RefinedGenerator]
    ) -> None:
        sampler: Sampler = trained[1]
        seeds = [*range(40), 2**41]
        together = sampler.sample("cyst", seeds)
        assert together.dtype == np.float32
        assert -100 <= together.min() < together.max() <= 250
        for at in (0, 1, 31, 32, 40):
            np.testing.assert_array_equal(sampler.sample("cyst", [seeds[at]])[0], together[at])
        np.testing.assert_array_equal(sampler.sample("cyst", seeds[::-1]), together[::-1])
        assert sampler.sample("cyst", []).shape == (0, 1, 32, 32)

    def test_the_record_names_every_patient(self, trained: tuple[Path, RefinedGenerator]) -> None:
        folder, generator = trained
        real = noisy()
        assert generator.record.patients == frozenset(real.patients)
        assert generator.record.patches_digest == real.digest
        assert generator.record.images_shown == 96
        assert generator.record.settings == chosen().model_dump(mode="json")
        assert (generator.unit, generator.mm_per_pixel) == (Unit.HOUNSFIELD, 1.0)
        again = load_refiner(folder, render)
        np.testing.assert_array_equal(again.sample("cyst", [4]), generator.sample("cyst", [4]))
        files = sorted(path.name for path in folder.iterdir())
        assert files == ["config.json", "generator.safetensors", "training.jsonl"]

    def test_refusals(self, trained: tuple[Path, RefinedGenerator], tmp_path: Path) -> None:
        folder, generator = trained
        with pytest.raises(ValueError, match="expected one of cyst, metastasis"):
            generator.sample("adenoma", [1])
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        with pytest.raises(RunFolderError, match=r"missing, or not the weights"):
            load_refiner(tmp_path, render)


class TestTraining:
    """Deterministic, watched, and refused where it cannot work."""

    def test_figures_and_pairs(self, tmp_path: Path) -> None:
        heard = {}
        settings = chosen(sample_sheet_every=6, learning_rate=5e-3)
        train_refiner(noisy(), settings, 3, tmp_path, render, on_samples=heard.__setitem__)
        lines = figures_of(tmp_path)
        assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
        assert set(lines[0]) == {
            *("step", "images", "loss_d", "loss_g", "self_regularisation", "images_per_second"),
            *("diversity", "diversity_real"),
        }
        assert lines[-1]["self_regularisation"] > lines[0]["self_regularisation"] > 0
        assert list(heard) == [6, 12]
        rendered, refined = heard[12]["metastasis"]
        expected = render("metastasis", range(2**40, 2**40 + 16))[0]
        np.testing.assert_allclose(rendered, expected, atol=1e-3)
        assert refined.shape == rendered.shape
        assert np.abs(refined - rendered).max() > 1

    def test_the_price_of_change(self, tmp_path: Path) -> None:
        """The dearer a change, the less is changed; at a huge price, nothing."""
        changes = []
        for price in (0.0, 1e4):
            settings = chosen(self_regularisation=price, images=640, rendered=40)
            generator = train_refiner(noisy(), settings, 3, tmp_path / str(price), render)
            difference = generator.sample("cyst", range(32)) - render("cyst", range(32))[0]
            changes.append(np.abs(difference).mean())
        assert changes[0] > 5  # HU
        assert changes[1] < 0.3

    def test_the_seed_decides(self, trained: tuple[Path, RefinedGenerator], tmp_path: Path) -> None:
        torch.manual_seed(1)  # nothing is drawn from the global stream
        train_refiner(noisy(), chosen(), 3, tmp_path / "same", render)
        train_refiner(noisy(), chosen(), 4, tmp_path / "other", render)
        weights = [
            (folder / "generator.safetensors").read_bytes()
            for folder in (trained[0], tmp_path / "same", tmp_path / "other")
        ]
        assert weights[0] == weights[1] != weights[2]

    def test_a_broken_run_ends_with_the_same_bits(
        self, trained: tuple[Path, RefinedGenerator], tmp_path: Path
    ) -> None:
        for at in (2, 4, 8, 9, 11):  # before the first checkpoint, between two, and at one
            with pytest.raises(KeyboardInterrupt):
                train_refiner(noisy(), chosen(), 3, tmp_path, render, Interrupted(at))
        train_refiner(noisy(), chosen(), 3, tmp_path, render)
        for name in ("generator.safetensors", "config.json"):
            assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes()

        assert figures_of(tmp_path) == figures_of(trained[0])

    def test_another_run_and_unfit_patches_are_refused(
        self, trained: tuple[Path, RefinedGenerator], tmp_path: Path
    ) -> None:
        with pytest.raises(RunFolderError, match="other generator settings"):
            train_refiner(noisy(), chosen(history=5), 3, trained[0], render)
        one = noisy().select([0, 2, 4, 1])
        with pytest.raises(CohortError, match="class metastasis: 1 training patches") as refused:
            train_refiner(one, chosen(), 3, tmp_path / "run", render)
        assert "generator.batch" in str(refused.value)
        assert not (tmp_path / "run").exists()

    def test_nan_stops_training(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        step = Refining.step

        def poisoned(self: Refining, at: int, *rest: object) -> tuple[float, float, float]:
            figures = step(self, at, *rest)
            return (float("nan"), *figures[1:]) if at == 7 else figures

        monkeypatch.setattr(refining.Refining, "step", poisoned)
        with pytest.raises(SettingsError, match=r"diverged: the loss is not finite at step 8"):
            train_refiner(noisy(), chosen(), 3, tmp_path, render)
        assert (tmp_path / "checkpoint" / "state.safetensors").is_file()
        assert not (tmp_path / "config.json").exists()


def another_scanner(images: np.ndarray, seed: int) -> np.ndarray:
    """Blurred, with coarse noise of its own, and with brighter tissue."""
    smooth = ndimage.gaussian_filter(images, (0, 0, 1.1, 1.1))
    noise = np.random.default_rng(seed).standard_normal(images.shape)
    noise = ndimage.gaussian_filter(noise, (0, 0, 1.3, 1.3))
    lift = np.interp(smooth, (-50, 60, 140, 250), (0, 30, 30, 20))
    return smooth + lift + 14 * noise / noise.std()


def contrasts(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """HU by which a ring of 3 pixels around each mask is brighter than what is inside."""
    rings = [
        ndimage.binary_dilation(mask, iterations=5) & ~ndimage.binary_dilation(mask, iterations=2)
        for mask in masks
    ]
    return np.array(
        [
            np.median(image[0][ring]) - np.median(image[0][mask])
            for image, ring, mask in zip(images, rings, masks, strict=True)
        ]
    )


@pytest.mark.slow
def test_refined_patches_come_nearer_to_those_of_unseen_patients(tmp_path: Path) -> None:
    kinds = tuple(sorted(KINDS))
    draw = lesion_renderer({kind: kind for kind in kinds}, "CT", Unit.HOUNSFIELD, (1, 64, 64), 1.0)

    def scanned(first: int, count: int) -> PatchSet:
        images = np.concatenate([draw(kind, range(first, first + count))[0] for kind in kinds])
        return real_set(another_scanner(images, first), np.arange(3 * count) // count, kinds)

    training, unseen = scanned(10_000, 40), scanned(20_000, 40)
    settings = RefinerSettings(preset="simulate-and-refine", window=(-100, 250), images=5600)
    generator = train_refiner(training, settings, 1, tmp_path, draw)

    real = radiomic_features(WINDOW.to_signed(unseen.images))
    middle, spread = real.mean(axis=0), real.std(axis=0) + 1e-9

    def apart(images: np.ndarray) -> float:
        features = (radiomic_features(WINDOW.to_signed(images)) - middle) / spread
        return kernel_distance(np.clip(features, -8, 8), np.clip((real - middle) / spread, -8, 8))

    drawn = {kind: draw(kind, range(40)) for kind in kinds}
    made = {kind: generator.sample(kind, range(40)) for kind in kinds}
    rendered = apart(np.concatenate([images for images, _ in drawn.values()]))
    refined = apart(np.concatenate(list(made.values())))
    real_too = apart(training.images)
    print(f"rendered {rendered:.2f}, refined {refined:.2f}, training {real_too:.2f}")  # noqa: T201
    assert refined < rendered / 5
    assert generator.notes == ()

    # The lesion is where the mask says, and as dark against its surround as half of what it was.
    for kind in ("cyst", "metastasis"):
        images, masks = drawn[kind]
        kept = np.median(contrasts(made[kind], masks) / contrasts(images, masks))
        print(f"{kind}: contrast kept {kept:.2f}")  # noqa: T201
        assert kept > 0.5
