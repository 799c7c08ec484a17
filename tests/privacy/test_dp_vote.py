"""One patient, one vote; all else that is known of the patients is noise."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from medaug.domain import PatchSet
from medaug.evaluation.distances import frechet_distance
from medaug.privacy.accounting import Rounds, rounds_for
from medaug.privacy.dp_vote import evolve, votes
from medaug.privacy.settings import VoteSettings

SIZE = 4  # parameters of the simulator below
Votes = Callable[..., np.ndarray]


def simulate(_: str, parameters: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """The parameters written into pixels, with a little chance of their own."""
    images = np.zeros((len(parameters), 1, 8, 8), np.float32)
    for row, seed in enumerate(seeds):
        own = 0.02 * np.random.default_rng(seed).standard_normal(SIZE)
        images[row, 0, 0, :SIZE] = parameters[row] + own
    return images


def features(images: np.ndarray) -> np.ndarray:
    return images[:, 0, 0, :SIZE].astype(np.float64)


def law(patients: int, each: int, rng: np.random.Generator) -> np.ndarray:
    own = np.array([0.8, 0.2, 0.7, 0.3]) + 0.08 * rng.standard_normal((patients, SIZE))
    patches = np.repeat(own, each, axis=0)
    return np.clip(patches + 0.03 * rng.standard_normal(patches.shape), 0, 1)


@pytest.fixture
def cohort(make_patch_set: Callable[..., PatchSet]) -> Callable[..., PatchSet]:
    def make(parameters: np.ndarray, each: int = 4, classes: int = 1) -> PatchSet:
        rows = np.arange(len(parameters))
        images = simulate("", parameters, rows.tolist())
        names = tuple("abc"[:classes])
        return make_patch_set(images, rows % classes, names, rows // each)

    return make


def per_patch(
    patches: np.ndarray, labels: np.ndarray, _: np.ndarray, candidates: np.ndarray, nearest: int
) -> np.ndarray:
    """The fault to be found: every patch counts as a patient."""
    return votes(patches, labels, np.arange(len(patches)), candidates, nearest)


def furthest(count: Votes) -> float:
    """The largest L2 change by one patient more, over many kinds of patient."""
    rng = np.random.default_rng(0)
    candidates = rng.random((3, 10, 2))
    most = 0.0
    for extra in (1, 2, 7, 40):
        for spread in (0.0, 1.0):
            others, new = rng.random((30, 2)), 0.5 + spread * rng.standard_normal((extra, 2))
            labels, own = rng.integers(3, size=30), rng.integers(3 if spread else 1, size=extra)
            before = count(others, labels, np.arange(30) // 3, candidates, 3)
            after = count(
                np.concatenate([others, new]),
                np.concatenate([labels, own]),
                np.concatenate([np.arange(30) // 3, np.full(extra, 10)]),
                candidates,
                3,
            )
            most = max(most, float(np.linalg.norm(after - before)))
    return most


class TestOneVote:
    """Votes of neighbours differ by at most 1 in L2, however many patches and classes."""

    def test_of_each_patient(self) -> None:
        assert furthest(votes) == pytest.approx(1.0, abs=1e-12)

    def test_a_vote_for_each_patch_is_found(self) -> None:
        assert furthest(per_patch) > 30

    def test_all_votes_are_counted(self) -> None:
        rng = np.random.default_rng(0)
        patients = rng.integers(20, size=100)
        count = votes(
            rng.random((100, 2)), rng.integers(3, size=100), patients, rng.random((3, 5, 2)), 4
        )
        assert count.sum() == pytest.approx(2 * len(np.unique(patients)))


class _Ear:
    """Stands for the secret generator and notes what noise is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float, tuple[int, ...]]] = []
        self._rng = np.random.default_rng(0)

    def normal(self, mean: float, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
        self.asked.append((mean, deviation, shape))
        return self._rng.normal(mean, deviation, shape)


class TestNoise:
    """Every cell of every round gets the noise that was paid for."""

    def test_each_round_and_cell(self, cohort: Callable[..., PatchSet]) -> None:
        ear = _Ear()
        settings = VoteSettings(candidates=7, nearest=2, perturb=(0.2, 0.1))
        training = cohort(law(12, 4, np.random.default_rng(0)), classes=3)
        what = Rounds(2.5, 2)
        evolve(training, simulate, SIZE, features, what, settings, 0, ear)  # type: ignore[arg-type]
        assert ear.asked == [(0.0, 2.5, (3, 7))] * 2

    def test_where_noise_drowns_the_votes_nothing_of_the_patients_is_left(
        self, cohort: Callable[..., PatchSet]
    ) -> None:
        rng = np.random.default_rng(0)
        populations = [
            evolve(
                cohort(parameters),
                simulate,
                SIZE,
                features,
                Rounds(1e18, 10),
                VoteSettings(candidates=30),
                0,
                np.random.default_rng(1),
            )
            for parameters in (law(40, 4, rng), 1 - law(40, 4, rng))
        ]
        np.testing.assert_array_equal(*populations)

    def test_two_runs_differ_in_noise_alone(self, cohort: Callable[..., PatchSet]) -> None:
        training = cohort(law(40, 4, np.random.default_rng(0)))
        settings, what = VoteSettings(candidates=30), Rounds(2.0, 10)
        first, second = (
            evolve(training, simulate, SIZE, features, what, settings, 0) for _ in range(2)
        )
        assert (first != second).any()

    def test_other_rounds_than_were_paid_for(self, cohort: Callable[..., PatchSet]) -> None:
        training = cohort(law(4, 4, np.random.default_rng(0)))
        for what in (Rounds(1.0, 2), Rounds(1.0, 10, 0.5)):
            with pytest.raises(ValueError, match="rounds of all patients"):
                evolve(training, simulate, SIZE, features, what, VoteSettings(), 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_patients_at_epsilon_3_are_told_from_the_prior(
    cohort: Callable[..., PatchSet], seed: int
) -> None:
    """Fréchet distance, standardised by other patients: at most 1.5 where the prior has 10."""
    rng = np.random.default_rng((seed, 1))
    others = law(400, 1, rng)
    centre, scale = others.mean(axis=0), others.std(axis=0)

    def distance(parameters: np.ndarray) -> float:
        return frechet_distance((parameters - centre) / scale, (others - centre) / scale)

    assert distance(rng.random((400, SIZE))) >= 10
    found = evolve(
        cohort(law(100, 4, rng)),
        simulate,
        SIZE,
        features,
        rounds_for(3, 1e-5, 10),
        VoteSettings(),
        seed,
        np.random.default_rng((seed, 2)),
    )
    assert distance(found[0]) <= 1.5
