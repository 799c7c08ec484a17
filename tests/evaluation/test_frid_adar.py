"""The two sweeps of Frid-Adar et al.: what a training set holds, what chooses, what is printed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folding import Generators

from medaug.domain import HeldOut, PatchSet, PatientKey, Sealed, Window, deal_folds
from medaug.evaluation import bench, frid_adar
from medaug.evaluation.fold_scores import FoldScores, Scored
from medaug.evaluation.frid_adar import COPIES, rates, sweep
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.training import train_and_score

WINDOW = Window(-100.0, 200.0)


@pytest.fixture
def settings(quick: EvaluationSettings) -> EvaluationSettings:
    changed = {"folds": 3, "doses": (0.0, 1.0, 2.0), "table": "frid-adar-2018"}
    return quick.model_copy(update=changed)


class TestRates:
    """Sensitivity and specificity of the table are those of one confusion matrix."""

    def test_against_a_count_by_hand(self) -> None:
        truth, given = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 1, 2, 0, 2])
        keys = [PatientKey(f"{at:032x}") for at in range(7)]
        folds = [
            FoldScores(
                fold,
                0,
                Scored(
                    np.eye(3, dtype=np.float32)[given[rows]],
                    truth[rows],
                    tuple(np.array(keys)[rows]),
                ),
                Scored(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), ()),
            )
            for fold, rows in enumerate([np.arange(3), np.arange(3, 7)])
        ]
        number = {key: at for at, key in enumerate(keys)}
        ((sensitivity, specificity),) = rates(folds, np.ones((1, 7)), number)
        assert sensitivity == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
        assert specificity == pytest.approx((4 / 5 + 4 / 5 + 1) / 3)
        # A patient who is drawn twice counts twice.
        twice = np.array([[1, 1, 1, 1, 2, 1, 1]])
        ((sensitivity, _),) = rates(folds, twice, number)
        assert sensitivity == pytest.approx((1 / 2 + 1 + 3 / 4) / 3)


class TestSweep:
    def test_both_sweeps_choose_before_the_test_part_is_opened(
        self,
        study: Callable[..., Any],
        settings: EvaluationSettings,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        patches: PatchSet = study().held
        splits = deal_folds(patches, 3, 0)
        fed: list[tuple[int, int, int, bool]] = []
        opened: list[HeldOut] = []
        open_it = Sealed.open

        def noted(self: Sealed, *given: Any) -> HeldOut:
            opened.append(open_it(self, *given))
            return opened[-1]

        def counted(name: Any, arm: Any, diet: Any, *given: Any) -> Any:
            # A dose of its own also bounds how many different patches are drawn.
            synthetic = round(arm.dose * len(diet.real)) if arm.synthetic else 0
            fed.append((len(diet.real), synthetic, len(diet.test), len(opened) > 0))
            assert len(diet.labels) == len(diet.real)
            return train_and_score(name, arm, diet, *given)

        monkeypatch.setattr(Sealed, "open", noted)
        monkeypatch.setattr(bench, "train_and_score", counted)
        document = sweep(patches, splits, Generators(), settings, WINDOW, 0, tmp_path, phantom=True)
        json.dumps(document, allow_nan=False)
        training = len(splits[0].part(patches, "training"))
        first = fed[: len(COPIES) + 2]
        copies = document["choices"][0]["chosen_copies"]
        assert [real for real, *_ in first[: len(COPIES)]] == [
            training * (1 + count) for count in COPIES
        ]
        assert first[len(COPIES) :] == [
            (training * (1 + copies), training * dose, 0, False) for dose in (1, 2)
        ]
        assert len(opened) == 3
        assert document["table"]["label"] == "phantom patients"
        rows = {row["row"]: row for row in document["table"]["rows"]}
        assert rows["classical"]["paper_percent"] == {"sensitivity": 78.6, "specificity": 88.4}
        ours = rows["classical+synthetic"]["ours"]["sensitivity"]
        assert 0 <= ours["low"] <= ours["value"] <= ours["high"] <= 1
        said = document["verdict"]["sentence"]
        if any(choice["chosen_synthetic"] for choice in document["choices"]):
            assert "20 phantom patients" in said
        else:
            assert "chose none of them" in said
        fed.clear()
        again = sweep(patches, splits, Generators(), settings, WINDOW, 0, tmp_path, phantom=True)
        assert not fed
        assert again == document

    def test_a_copy_is_altered_and_the_patch_stays(self) -> None:
        images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        before = images.clone()
        copies = [frid_adar.altered_once(images, torch.Generator().manual_seed(1)) for _ in "ab"]
        assert torch.equal(*copies)
        assert torch.equal(images, before)
        assert not torch.isclose(copies[0], images).all(dim=(1, 2, 3)).any()
