"""Which image comes next: repeatable, class-balanced, in the doses asked for, within limits."""

import math
from collections import Counter
from typing import Any, get_args

import pytest
import torch

from medaug.domain import Unit, Window
from medaug.evaluation.classical import Limits, Operations
from medaug.evaluation.policies import ARMS, REAL, REFINED, SYNTHETIC, Plan, Policy, Pool, arms_of
from medaug.evaluation.recipes import (
    Classical,
    RandAugment,
    Recipe,
    TrivialAugment,
    draw_operations,
    names_of,
)
from medaug.evaluation.settings import ChosenArm, EvaluationSettings

LABELS = torch.tensor([0] * 40 + [1] * 3 + [2] * 7)
MADE = torch.arange(90) % 3
HU = Limits.of(Unit.HOUNSFIELD, Window(-100, 250), 1.0, (16, 16))
MR = Limits.of(Unit.ARBITRARY, Window(0, 100), 1.0, (16, 16))


def pool(*labels: torch.Tensor, limits: Limits = HU) -> Pool:
    return Pool(labels or (LABELS, MADE), 3, (1, 16, 16), limits)


def plans(policy: Policy, of: Pool, steps: int = 300, count: int = 12) -> list[Plan]:
    return [policy.plan(of, count, step, seed=5) for step in range(steps)]


def shares(found: list[Plan], source: int) -> torch.Tensor:
    """(class,) places of a batch, mean over batches."""
    counts = [torch.bincount(each.labels[each.source == source], minlength=3) for each in found]
    return torch.stack(counts).double().mean(0)


class TestABatch:
    def test_the_same_step_and_seed_give_the_same_batch_in_any_order(self) -> None:
        policy = Policy(dose=1.0, recipe=RandAugment())
        first = [policy.plan(pool(), 12, step, seed=5) for step in (0, 1, 2)]
        for step in (2, 0, 1):
            again = policy.plan(pool(), 12, step, seed=5)
            assert torch.equal(again.row, first[step].row)
            assert again.operations is not None
            assert torch.equal(again.operations.angle, first[step].operations.angle)  # type: ignore[union-attr]
        assert not torch.equal(first[0].row, first[1].row)
        assert not torch.equal(policy.plan(pool(), 12, 0, seed=6).row, first[0].row)

    def test_classes_come_in_equal_shares_and_every_patch_comes(self) -> None:
        found = plans(Policy(), pool())
        assert all((torch.bincount(each.labels) == 4).all() for each in found)
        assert all(torch.equal(LABELS[each.row], each.labels) for each in found)
        assert {int(row) for each in found for row in each.row} == set(range(50))
        uneven = plans(Policy(), pool(), count=10)
        assert shares(uneven, REAL).tolist() == pytest.approx([10 / 3] * 3, abs=0.15)

    def test_rows_have_the_class_that_they_stand_for(self) -> None:
        for each in plans(Policy(dose=1.0, refined=1.0), pool(LABELS, MADE, MADE.flip(0)), 20):
            for source, labels in enumerate((LABELS, MADE, MADE.flip(0))):
                here = each.source == source
                assert torch.equal(labels[each.row[here]], each.labels[here])


class TestDose:
    """Synthetic patches for each real one, class by class."""

    @pytest.mark.parametrize("dose", [0.0, 0.5, 1.0, 2.0, 5.0, 10.0])
    def test_of_every_class(self, dose: float) -> None:
        found = plans(Policy(dose=dose), pool())
        expected = 4 * dose / (1 + dose)
        assert shares(found, SYNTHETIC).tolist() == pytest.approx([expected] * 3, abs=0.15)
        in_a_batch = [int((each.source == SYNTHETIC).sum()) for each in found]
        assert max(in_a_batch) - min(in_a_batch) <= 3  # at most one more or less of a class

    def test_class_by_class_and_two_sources(self) -> None:
        found = plans(Policy(dose=(0.0, 1.0, 3.0), refined=1.0), pool(LABELS, MADE, MADE))
        assert shares(found, SYNTHETIC).tolist() == pytest.approx([0, 4 / 3, 2.4], abs=0.15)
        assert shares(found, REFINED).tolist() == pytest.approx([2, 4 / 3, 0.8], abs=0.15)

    def test_a_single_patch_follows_it_on_average(self) -> None:
        found = plans(Policy(dose=1.0), pool(), 2000, count=1)
        assert shares(found, SYNTHETIC).sum() == pytest.approx(0.5, abs=0.04)

    def test_a_class_that_was_not_released_keeps_its_share_with_real_patches(self) -> None:
        found = plans(Policy(dose=1.0), pool(LABELS, 2 * (torch.arange(40) % 2)))
        assert shares(found, SYNTHETIC).tolist() == pytest.approx([2, 0, 2], abs=0.15)
        assert shares(found, REAL).tolist() == pytest.approx([2, 4, 2], abs=0.15)

    def test_nothing_but_the_release_cannot_teach_what_is_not_in_it(self) -> None:
        with pytest.raises(ValueError, match="never shows"):
            Policy(real=False, dose=1.0).plan(pool(LABELS, torch.tensor([0, 2])), 12, 0, 0)

    def test_bounded_it_also_counts_different_patches(self) -> None:
        """1.5 for each of 40, 3 and 7 real ones, or all 30 that there are."""
        found = plans(Policy(dose=1.5, bounded=True), pool())
        used = {int(row) for each in found for row in each.row[each.source == SYNTHETIC]}
        assert Counter(MADE[list(used)].tolist()) == {0: 30, 1: 5, 2: 11}
        free = plans(Policy(dose=1.5), pool())
        assert len({int(row) for each in free for row in each.row[each.source == SYNTHETIC]}) == 90

    def test_less_than_none(self) -> None:
        with pytest.raises(ValueError, match="0 or more"):
            Policy(dose=(1.0, -0.5))


def drawn(recipe: Recipe, limits: Limits = MR, dims: int = 2) -> Operations:
    generator = torch.Generator().manual_seed(0)
    return draw_operations(recipe, (2000, 1, *[16] * dims), limits, generator)


def done(found: Operations) -> torch.Tensor:
    """(patch,) how many kinds of operation changed it, the flip apart."""
    changes = [
        found.angle != 0, found.zoom != 1, (found.shift != 0).any(dim=1), found.filtering != 0,
        found.contrast != 1, found.brightness != 0, found.noise != 0,
    ]  # fmt: skip
    return torch.stack(changes).sum(dim=0)


class TestRandAugment:
    """Cubuk et al. 2020: N operations with equal chance, all at the magnitude M."""

    def test_as_many_as_asked_for(self) -> None:
        assert done(drawn(RandAugment(1, 4))).max() == 1
        assert done(drawn(RandAugment(3, 4))).max() == 3
        assert (done(drawn(RandAugment(1, 0))) == 0).all()

    @pytest.mark.parametrize("m", [1, 5, 10])
    def test_at_one_magnitude(self, m: int) -> None:
        found = drawn(RandAugment(1, m))
        assert set(found.angle.abs().mul(1000).round().tolist()) == {
            0, round(1000 * math.radians(30) * m / 10),
        }  # fmt: skip
        assert set(found.brightness.abs().mul(1000).round().tolist()) == {0, 250 * m}
        assert found.zoom.max() == pytest.approx(1.25 ** (m / 10), rel=1e-4)

    def test_every_operation_has_the_same_chance(self) -> None:
        found = drawn(RandAugment(1, 10))
        turned = float((found.angle != 0).float().mean())
        assert turned == pytest.approx(1 / len(names_of(MR, 2)), abs=0.025)
        assert float((found.flip < 0).float().mean()) == pytest.approx(0.5, abs=0.04)

    @pytest.mark.parametrize("numbers", [(0, 5), (2, 11), (2, -1)])
    def test_out_of_range(self, numbers: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="m 0 to 10"):
            RandAugment(*numbers)


def test_trivial_augment_does_one_thing_by_any_amount() -> None:
    """Müller & Hutter 2021."""
    found = drawn(TrivialAugment())
    assert done(found).max() == 1
    angles = found.angle[found.angle != 0].abs()
    assert angles.max() < math.radians(135)
    assert angles.mean() == pytest.approx(math.radians(135) / 2, rel=0.1)


@pytest.mark.parametrize("recipe", [Classical(), RandAugment(8, 10), TrivialAugment()])
@pytest.mark.parametrize("dims", [2, 3])
def test_what_the_unit_forbids_is_not_done(recipe: Any, dims: int) -> None:
    limits = Limits.of(Unit.HOUNSFIELD, Window(-100, 250), 1.0, (16,) * dims)
    found = drawn(recipe, limits, dims)
    assert (found.contrast == 1).all()
    assert (found.brightness != 0).any()
    assert found.shift.shape == (2000, dims)
    assert (found.shift != 0).any(dim=0).all()


class TestArms:
    def test_every_name_is_an_arm_in_the_order_of_the_settings(self) -> None:
        assert tuple(arm.name for arm in ARMS) == get_args(ChosenArm)

    def test_what_each_is_made_of(self) -> None:
        every = EvaluationSettings(arms=get_args(ChosenArm), randaugment={"n": 3, "m": 7})
        found = {arm.name: arm.policy((1.0, 2.0)) for arm in arms_of(every)}
        assert found["real"] == Policy()
        assert found["real+randaugment"] == Policy(recipe=RandAugment(3, 7))
        assert found["real+trivialaugment"] == Policy(recipe=TrivialAugment())
        assert found["real+gan"] == Policy(dose=(1.0, 2.0))
        assert found["real+classical+gan"] == Policy(dose=(1.0, 2.0), recipe=Classical())
        assert found["real+classical+refined"] == Policy(refined=(1.0, 2.0), recipe=Classical())
        assert found["gan"] == Policy(real=False, dose=1.0)

    def test_the_settings_say_how_much_of_each_class(self) -> None:
        settings = EvaluationSettings(synthetic_share=0.5, dose={"cyst": 4})
        assert settings.dose_of(("cyst", "metastasis")) == (4.0, 1.0)

    @pytest.mark.parametrize(
        ("asked", "says"),
        [
            ({"arms": ("real", "gan")}, "main comparison needs real.classical and"),
            ({"arms": ("real", "real", "real+classical", "real+classical+gan")}, "each arm once"),
            ({"dose_curve": (1, 0.5)}, "rising"),
            ({"dose": {"cyst": -1}}, "greater than or equal to 0"),
        ],
    )
    def test_what_settings_refuse(self, asked: Any, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            EvaluationSettings(**asked)
