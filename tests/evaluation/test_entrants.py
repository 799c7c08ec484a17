"""Classifiers of every kind through the same protocol."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import resnet18
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

from medaug.domain import Window
from medaug.errors import CohortError, SettingsError
from medaug.evaluation.classifiers import build_classifier
from medaug.evaluation.entrants import Patches
from medaug.evaluation.policies import arms_of
from medaug.evaluation.protocol import Evaluation, evaluate
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.sklearn_classifier import OnRadiomics
from medaug.evaluation.statements import classifier_sentences
from medaug.evaluation.transfer import colours, transferred

MakeStudy = Callable[..., Any]


def run(cohort: Any, settings: EvaluationSettings, **given: Any) -> Evaluation:
    parts = (cohort.training, cohort.tuning, cohort.test, cohort.release)
    return evaluate(*parts, settings, Window(-100, 200), 0, **given)


class Watched:
    """Learns each class's mean picture; writes down what it is shown."""

    fits: list[Patches]

    def __init__(self) -> None:
        self.trained = 0

    def fit(self, patches: Patches) -> None:
        self.trained += 1
        assert self.trained == 1, "a training began where another ended"
        type(self).fits.append(patches)
        of_class = [patches.images[patches.labels == at] for at in range(patches.classes)]
        self.means = np.stack([images.mean(axis=0) for images in of_class])
        self.noise = np.random.rand()

    def predict(self, patches: Patches) -> np.ndarray:
        assert patches.labels is None
        apart = ((patches.images[:, None] - self.means) ** 2).sum(axis=(2, 3, 4))
        near = np.exp(-(apart - apart.min(axis=1, keepdims=True)) - 1e-3 * self.noise)
        return near / near.sum(axis=1, keepdims=True)


def linear(channels: int, classes: int, spatial_dims: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 16**spatial_dims, classes))


class TestEntrants:
    """Anything with fit and predict, and any module, is judged as medaug's own are."""

    def test_every_arm_shows_equally_many_patches_of_its_own_kind(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        cohort = study()
        Watched.fits = []
        state = np.random.get_state()[1].copy()
        settings = quick.model_copy(update={"steps": 12})
        given = {"mine": Watched(), "line": linear}
        found = run(cohort, settings, entrants=given)
        assert np.array_equal(np.random.get_state()[1], state)
        # 4 x 30 real patches are 10 batches of 12.
        assert [len(fit) for fit in Watched.fits] == [120] * 2 * len(arms_of(settings))
        real = {image.tobytes() for image in Window(-100, 200).to_signed(cohort.training.images)}
        made = {image.tobytes() for image in Window(-100, 200).to_signed(cohort.release.images)}
        for fit, arm in zip(Watched.fits[::2], arms_of(settings), strict=True):
            shown = [image.tobytes() for image in fit.images]
            assert np.bincount(fit.labels).tolist() == [40, 40, 40]
            if arm.recipe is None:
                share = sum(each in made for each in shown) / len(shown)
                assert share == pytest.approx(
                    {(1, 0): 0, (1, 1): 0.3, (0, 1): 1}[arm.real, arm.synthetic], abs=0.05
                )
                assert all(each in real or each in made for each in shown)
        assert run(cohort, settings, entrants=given).document() == found.document()
        names = {arm.classifier for arm in found.arms}
        assert names == {"mine", "line", "frid-adar-2018"}
        assert found.document()["classifiers"] == ["frid-adar-2018", "mine", "line"]
        (score,) = [a.auc.value for a in found.arms if (a.classifier, a.arm) == ("mine", "real")]
        assert score > 0.75
        assert len(found.comparisons) == 3 * 4

    def test_scores_of_entrants_are_not_taken_from_a_folder(
        self, study: MakeStudy, quick: EvaluationSettings, tmp_path: Path
    ) -> None:
        Watched.fits = []
        cohort = study()
        run(cohort, quick, entrants={"mine": Watched()}, folder=tmp_path)
        assert not list(tmp_path.glob("mine*"))
        assert list(tmp_path.glob("frid-adar*"))

    @pytest.mark.parametrize(
        ("entrant", "message"),
        [(nn.Linear(1, 1), "makes a fresh one"), (7, "fit\\(patches\\)")],
    )
    def test_what_is_no_classifier_is_refused(
        self, study: MakeStudy, quick: EvaluationSettings, entrant: Any, message: str
    ) -> None:
        with pytest.raises(SettingsError, match=message):
            run(study(), quick, entrants={"mine": entrant})
        with pytest.raises(SettingsError, match="each name once"):
            run(study(), quick, entrants={"frid-adar-2018": linear})

    @pytest.mark.parametrize(
        ("scores", "message"),
        [
            (np.zeros, "shape"),
            (lambda count: np.ones((count, 3)), "sum to 1"),
            (lambda count: np.full((count, 3), np.nan), "not finite"),
        ],
    )
    def test_labels_instead_of_probabilities_are_refused(
        self, study: MakeStudy, quick: EvaluationSettings, scores: Any, message: str
    ) -> None:
        class Wrong(Watched):
            def predict(self, patches: Patches) -> np.ndarray:
                return scores(len(patches))

        Wrong.fits = []
        with pytest.raises(SettingsError, match=message):
            run(study(), quick, entrants={"mine": Wrong()})


class TestSanityLine:
    """Logistic regression on radiomic features is shown, and nothing is concluded from it."""

    def test_it_sees_what_is_there_and_is_in_no_comparison(
        self, study: MakeStudy, quick: EvaluationSettings
    ) -> None:
        names = ("frid-adar-2018", "radiomic-logistic")
        found = run(study(), quick.model_copy(update={"classifiers": names}))
        (score,) = [
            arm.auc.value
            for arm in found.arms
            if (arm.classifier, arm.arm) == ("radiomic-logistic", "real")
        ]
        assert score > 0.9
        assert {each.classifier for each in found.comparisons} == {"frid-adar-2018"}
        assert any("sanity line" in sentence for sentence in found.protocol)
        with pytest.raises(ValidationError, match="gives no verdict"):
            EvaluationSettings(classifiers=("radiomic-logistic",))

    def test_equal_patches_are_measured_once_and_none_is_mistaken(self) -> None:
        rng = np.random.default_rng(0)
        images = rng.uniform(-1, 1, (30, 1, 16, 16)).astype(np.float32)
        labels = np.arange(30) % 2
        images[labels == 1] *= 0.5
        twice = np.tile(np.arange(30), 2)
        plain, doubled = OnRadiomics(LogisticRegression()), OnRadiomics(LogisticRegression(C=0.5))
        plain.fit(Patches(images, labels, 2))
        doubled.fit(Patches(images[twice], labels[twice], 2))
        shown = Patches(images, None, 2)
        assert doubled.predict(shown) == pytest.approx(plain.predict(shown), abs=1e-3)


class TestNetworks:
    """MONAI's networks, flat and 3-D."""

    @pytest.mark.parametrize("name", ["resnet-18", "densenet-121", "efficientnet-b0"])
    @pytest.mark.parametrize("size", [(40, 32), (32, 40, 32)])
    def test_one_logit_per_class(self, name: str, size: tuple[int, ...]) -> None:
        channels = 3 if len(size) == 2 else 1
        network = build_classifier(name, channels, size, 4).eval()
        with torch.no_grad():
            assert network(torch.zeros(2, channels, *size)).shape == (2, 4)

    def test_patches_too_small_are_named(self, study: MakeStudy, quick: EvaluationSettings) -> None:
        names = ("densenet-121", "efficientnet-b0", "resnet-18")
        with pytest.raises(CohortError) as caught:
            run(study(), quick.model_copy(update={"classifiers": names}))
        wanted = ["evaluation.classifiers: densenet-121", "evaluation.classifiers: efficientnet-b0"]
        assert [fault.where for fault in caught.value.faults] == wanted


class TestTransfer:
    """A ResNet goes on from the user's file."""

    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        network = resnet18(
            spatial_dims=2,
            n_input_channels=3,
            num_classes=5,
            conv1_t_stride=2,
            bias_downsample=False,
        )
        path = tmp_path / "own.safetensors"
        save_file(network.state_dict(), path)
        return path

    @pytest.mark.slow
    def test_it_is_trained_and_judged(
        self, study: MakeStudy, quick: EvaluationSettings, weights: Path
    ) -> None:
        settings = quick.model_copy(update={"classifiers": ("transfer",), "weights": str(weights)})
        found = run(study(sizes=(12, 12, 12)), settings)
        assert {arm.classifier for arm in found.arms} == {"transfer"}
        assert any("own.safetensors" in sentence for sentence in found.protocol)

    def test_it_begins_with_the_file_whose_hash_is_said(self, weights: Path) -> None:
        network, stored = transferred(str(weights), 3), load_file(weights)
        assert all(
            torch.equal(stored[key], each) for key, each in network.body.state_dict().items()
        )
        assert [group["lr"] for group in network.groups(1e-3)] == pytest.approx([1e-4, 1e-3])
        with torch.no_grad():
            for size in ((1, 16, 16), (3, 80, 72), (1, 8, 16, 16)):
                assert network(torch.zeros(2, *size)).shape == (2, 3)
        settings = EvaluationSettings(classifiers=("transfer",), weights=str(weights))
        (sentence,) = classifier_sentences(["transfer"], settings)
        assert hashlib.sha256(weights.read_bytes()).hexdigest() in sentence

    def test_three_colours_of_one_three_or_many_slices(self) -> None:
        cube = torch.arange(5.0)[None, None, :, None, None].expand(1, 1, 5, 8, 8)
        assert colours(cube)[0, :, 0, 0].tolist() == [1, 2, 3]
        assert colours(cube[:, 0])[0, :, 0, 0].tolist() == [1, 2, 3]
        assert colours(cube[:, 0, 2:3])[0, :, 0, 0].tolist() == [2, 2, 2]

    def test_another_file_is_refused(self, weights: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"evaluation\.weights: the file has the SHA-256"):
            transferred(str(weights), 2, "0" * 64)
        other = tmp_path / "other.safetensors"
        save_file({"weight": torch.zeros(2)}, other)
        with pytest.raises(SettingsError, match=r"evaluation\.weights: weights of a network"):
            transferred(str(other), 2)
        with pytest.raises(ValidationError, match="go together"):
            EvaluationSettings(classifiers=("transfer",))
