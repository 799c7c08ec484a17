"""What one patient can change in the discriminator, and the noise that covers it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn.functional import softplus

from medaug.domain import PatchSet
from medaug.errors import SettingsError
from medaug.generators import dp_sgd
from medaug.generators.dp_sgd import (
    Noisy,
    clip_to,
    noised,
    patient_gradients,
    refuse_leaks,
    signal,
    train_private,
)
from medaug.generators.settings import GeneratorSettings

CLIP = 0.5
Sum = Callable[[nn.Module, Sequence[tuple[Tensor, Tensor]], float], list[Tensor]]
Add = Callable[[Sequence[Tensor], Noisy, int, torch.Generator], list[Tensor]]


def settings(**given: object) -> GeneratorSettings:
    plain = {"window": (-1, 1), "width": 4, "latent": 4, "batch": 8, "device": "cpu"}
    private = {"loss": "cross-entropy", "penalty": 0, "augment": 0}
    few = {"min_patients": 1}
    return GeneratorSettings.model_validate(plain | private | few | given)


def how(**given: float) -> Noisy:
    plain = {"sigma": 2.0, "rate": 0.5, "steps": 6, "clip": CLIP, "patches": 3, "mu": 1.0}
    return Noisy(**{**plain, "generator_every": 2, **given})  # type: ignore[arg-type]


class Judge(nn.Module):
    """A linear discriminator."""

    def __init__(self, side: int = 16) -> None:
        super().__init__()
        self.last = nn.Linear(side * side, 1)
        with torch.no_grad():
            self.last.weight.fill_(0.01)
            self.last.bias.zero_()

    def forward(self, images: Tensor, _: Tensor) -> Tensor:
        logits: Tensor = self.last(images.flatten(1)).squeeze(1)
        return logits


def patients(count: int, each: int = 4, size: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    stream = torch.Generator().manual_seed(0)
    return [
        (
            size * torch.randn(1, 1, 16, 16, generator=stream).expand(each, 1, 16, 16),
            torch.zeros(each, dtype=torch.long),
        )
        for _ in range(count)
    ]


def flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def per_patch(
    judge: nn.Module, everyone: Sequence[tuple[Tensor, Tensor]], clip: float
) -> list[Tensor]:
    """The fault to be found: each patch is clipped as if it were a patient."""
    single = [
        (images[at : at + 1], labels[at : at + 1])
        for images, labels in everyone
        for at in range(len(images))
    ]
    return patient_gradients(judge, single, clip)


def of_the_batch(
    judge: nn.Module, everyone: Sequence[tuple[Tensor, Tensor]], clip: float
) -> list[Tensor]:
    """The fault to be found: the gradient of the whole batch is clipped, not each patient's."""
    images, labels = (torch.cat(column) for column in zip(*everyone, strict=True))
    loss = softplus(-judge(images, labels)).mean() * len(everyone)
    gradients = torch.autograd.grad(loss, list(judge.parameters()))
    return clip_to(gradients, clip * len(everyone))


def change(sum_of: Sum) -> float:
    """The largest change of the sum by one patient more, in units of C."""
    judge, most = Judge(), 0.0
    for size in (0.001, 1.0, 1000.0):
        others, (new,) = patients(5), patients(1, each=4, size=size)
        before, after = sum_of(judge, others, CLIP), sum_of(judge, [*others, new], CLIP)
        most = max(most, float((flat(after) - flat(before)).norm()) / CLIP)
    return most


class TestSensitivity:
    """Sums of neighbouring data sets differ by at most C before the noise."""

    def test_of_the_sum(self) -> None:
        assert 0.99 < change(patient_gradients) <= 1 + 1e-5

    @pytest.mark.parametrize("planted", [per_patch, of_the_batch])
    def test_planted_faults_are_found(self, planted: Sum) -> None:
        assert change(planted) > 1.5

    def test_a_small_gradient_is_left_as_it_is(self) -> None:
        small = [torch.full((3,), 0.01), torch.full((2,), -0.01)]
        assert torch.equal(flat(clip_to(small, 1.0)), flat(small))

    def test_nobody_is_a_legal_batch(self) -> None:
        assert flat(patient_gradients(Judge(), [], CLIP)).abs().max() == 0


def half(total: Sequence[Tensor], what: Noisy, n: int, noise: torch.Generator) -> list[Tensor]:
    return noised(total, Noisy(**{**vars(what), "sigma": what.sigma / 2}), n, noise)


def before_the_clip(
    total: Sequence[Tensor], what: Noisy, n: int, noise: torch.Generator
) -> list[Tensor]:
    return clip_to(noised(total, what, n, noise), what.clip)


def only_where_there_is_somebody(
    total: Sequence[Tensor], what: Noisy, n: int, noise: torch.Generator
) -> list[Tensor]:
    if all(float(each.abs().max()) == 0 for each in total):
        return list(total)
    return noised(total, what, n, noise)


def by_an_eighth(
    total: Sequence[Tensor], what: Noisy, n: int, noise: torch.Generator
) -> list[Tensor]:
    """The mean over some batch in place of the public number."""
    return noised(total, Noisy(**{**vars(what), "rate": what.rate * 8}), n, noise)


@pytest.fixture
def cohort(make_patch_set: Callable[..., PatchSet]) -> PatchSet:
    """12 patients of 1 to 12 patches in two classes."""
    owners = np.repeat(np.arange(12), np.arange(1, 13))
    images = np.random.default_rng(0).uniform(-1, 1, (len(owners), 1, 32, 32))
    return make_patch_set(images, np.arange(len(owners)) % 2, ("a", "b"), owners)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """What the discriminator was moved by, step by step."""
    moved: list[Tensor] = []

    class Spied(dp_sgd.Adversaries):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(*given, **named)
            real = self.learning.apply

            def spy(name: str, gradients: Sequence[Tensor]) -> None:
                if name == "discriminator":
                    moved.append(flat(gradients).detach().clone())
                real(name, gradients)

            self.learning.apply = spy  # type: ignore[method-assign]

    monkeypatch.setattr(dp_sgd, "Adversaries", Spied)
    return iter([moved])


def deviation(training: PatchSet, moved: list[Tensor], folder: Path) -> float:
    """Of what moves the weights where next to nobody is in a step, against σC / (rate n)."""
    moved.clear()
    what = how(rate=0.001, steps=4, generator_every=1, sigma=5.0)
    train_private(training, settings(), what, 1, folder, force=True, secret=7)
    expected = what.sigma * what.clip / (what.rate * 12)
    return float(torch.cat(moved).std()) / expected


class TestNoise:
    """What moves the discriminator has the noise that was paid for, within 2 %."""

    def test_of_every_step(
        self, cohort: PatchSet, moves: Iterator[list[Tensor]], tmp_path: Path
    ) -> None:
        moved = next(moves)
        assert deviation(cohort, moved, tmp_path) == pytest.approx(1, abs=0.02)
        assert len(moved) == 4

    @pytest.mark.parametrize(
        "planted", [half, before_the_clip, only_where_there_is_somebody, by_an_eighth]
    )
    def test_planted_faults_are_found(
        self,
        planted: Add,
        cohort: PatchSet,
        moves: Iterator[list[Tensor]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(dp_sgd, "noised", planted)
        assert abs(deviation(cohort, next(moves), tmp_path) - 1) > 0.1


def audited_mu(sum_of: Sum, add: Add, steps: int = 4000) -> float:
    """μ of one step without sampling, measured with the gradient of a canary patient."""
    what, judge = how(rate=1.0, sigma=1.0), Judge()
    others, canary = patients(3), (torch.full((4, 1, 16, 16), -10.0), torch.zeros(4, dtype=int))
    own = flat(patient_gradients(judge, [canary], CLIP)) / CLIP
    noise = torch.Generator().manual_seed(3)
    scores = []
    for everyone in ([*others, canary], others):
        total = sum_of(judge, everyone, CLIP)
        seen = [flat(add(total, what, 4, noise)) @ own for _ in range(steps)]
        scores.append(torch.stack(seen))
    present, absent = scores
    return float((present.mean() - absent.mean()) / absent.std())


class TestCanary:
    """An attacker who sees every step finds a canary as well as the accountant says, not better."""

    def test_measures_mu(self) -> None:
        assert audited_mu(patient_gradients, noised) == pytest.approx(1.0, rel=0.1)

    def test_measures_more_where_patches_are_clipped(self) -> None:
        assert audited_mu(per_patch, noised) > 3


class TestSampling:
    """Patients come in alone and anew in each step, with exactly K patches."""

    def test_batches(
        self, cohort: PatchSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        sizes: list[int] = []
        shown: set[int] = set()

        def spy(
            judge: nn.Module, batch: Sequence[tuple[Tensor, Tensor]], clip: float
        ) -> list[Tensor]:
            sizes.append(len(batch))
            shown.update(len(images) for images, _ in batch)
            return patient_gradients(judge, batch, clip)

        monkeypatch.setattr(dp_sgd, "patient_gradients", spy)
        what = how(rate=0.2, steps=60)
        train_private(cohort, settings(), what, 1, tmp_path, force=True, secret=1)
        assert shown == {3}
        assert 0 in sizes
        assert len(set(sizes)) > 3
        assert np.mean(sizes) == pytest.approx(0.2 * 12, abs=0.6)


class TestTraining:
    def test_the_secret_alone_decides_the_noise(self, cohort: PatchSet, tmp_path: Path) -> None:
        def weights(name: str, secret: int | None) -> dict[str, np.ndarray]:
            train_private(cohort, settings(), how(), 1, tmp_path / name, True, secret=secret)
            return load_file(tmp_path / name / "generator.safetensors")

        first, again, other, own = (
            weights(name, secret) for name, secret in (("a", 5), ("b", 5), ("c", 6), ("d", None))
        )
        key = "0.first.weight"
        np.testing.assert_array_equal(first[key], again[key])
        assert (first[key] != other[key]).any()
        assert (first[key] != own[key]).any()

    def test_it_leaves_a_generator_and_nothing_that_saw_patients(
        self, cohort: PatchSet, tmp_path: Path
    ) -> None:
        generator = train_private(cohort, settings(), how(), 1, tmp_path, force=True)
        assert generator.draw("b", [1, 2]).images.shape == (2, 1, 32, 32)
        assert {path.name for path in tmp_path.iterdir()} == {
            "generator.safetensors",
            "config.json",
        }
        names = load_file(tmp_path / "generator.safetensors")
        assert not [name for name in names if "last" in name or "of_class" in name]
        before = (tmp_path / "generator.safetensors").stat().st_mtime_ns
        train_private(cohort, settings(), how(), 1, tmp_path, force=True)
        assert (tmp_path / "generator.safetensors").stat().st_mtime_ns == before

    def test_too_little_signal_is_refused_unless_forced(
        self, cohort: PatchSet, tmp_path: Path
    ) -> None:
        with pytest.raises(SettingsError, match=r"signal μ n / √d is 0\.21"):
            train_private(cohort, settings(), how(), 1, tmp_path / "g")
        assert not (tmp_path / "g").exists()
        assert signal(2.33, 100, 693_000) == pytest.approx(0.28, abs=0.005)

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({"discriminator_norm": "batch"}, "discriminator_norm"),
            ({"loss": "relativistic"}, "loss"),
            ({"penalty": 0.1}, "penalty"),
            ({"augment": 0.5}, "augment"),
            ({"one_per_class": True}, "one_per_class"),
            ({"least_diversity": 0.3}, "least_diversity"),
            ({"memorised_below": 0.9}, "memorised_below"),
            ({"judge_every": 250}, "judge_every"),
        ],
    )
    def test_what_would_not_be_charged_is_refused(
        self, given: dict[str, object], name: str
    ) -> None:
        with pytest.raises(SettingsError, match=f"generator.{name}"):
            refuse_leaks(settings(**given))
        refuse_leaks(settings())
