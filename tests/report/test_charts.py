"""Axes hold their values, and curves go through the records."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug.report.axes import polyline, round_axis
from medaug.report.charts import placing, training_of
from medaug.report.numbers import digits_for

FINITE = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(FINITE, min_size=1, max_size=8))
def test_an_axis_holds_its_values_between_few_round_ticks(values: list[float]) -> None:
    axis = round_axis(values)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values)
    assert max(values) <= axis.high + slack
    assert 2 <= len(axis.ticks) <= 7
    steps = [b - a for a, b in pairwise(axis.ticks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - round_step) for round_step in (1, 2, 5)) < 1e-6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_an_axis_stays_within_what_the_quantity_can_be(values: list[float]) -> None:
    axis = round_axis([value for value in values if value > 1e-6], least=0.0, most=1.0)
    assert axis.low >= 0
    assert axis.high <= 1


def test_values_that_could_not_be_estimated_do_not_bend_the_axis() -> None:
    assert round_axis([0.6, None, 0.9]) == round_axis([0.6, 0.9])


def test_a_polyline_runs_from_left_to_right_and_up() -> None:
    across, up = round_axis([0, 100]), round_axis([0.0, 1.0])
    assert (
        polyline([(0, 0), (50, 0.5), (100, 1)], across, up) == "0.00,100.00 50.00,50.00 100.00,0.00"
    )


def test_one_network_per_class_gives_a_curve_per_class() -> None:
    """frid-adar-2018 trains class after class: a record speaks of one class alone."""
    records = [
        {
            "step": step,
            "images": step * 64,
            "loss_d": 0.5,
            "loss_g": 0.5,
            "images_per_second": speed,
            "diversity": {label: 0.1},
            "diversity_real": {label: 0.4},
        }
        for step, label, speed in [(50, "cyst", 90.0), (100, "cyst", 400.0), (150, "mass", 110.0)]
    ]
    training = training_of(records)
    assert training is not None
    assert (training.steps, training.images, training.speed) == (150, 9600, 110.0)
    assert [chart.title for chart in training.diversity] == ["cyst", "mass"]
    points = [len(chart.lines[0].points.split()) for chart in training.diversity]
    assert points == [2, 1]
    assert training_of([]) is None
    assert training.augment is None
    assert training.distance == training.memorised == ()


class TestEvidence:
    """What tuning patients say while training; not every record is a judgement."""

    def records(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = [
            {
                "step": step,
                "images": step * 64,
                "loss_d": 0.5,
                "loss_g": 0.5,
                "images_per_second": 100.0,
                "augment": step / 1000,
                "diversity": {label: 0.1},
                "diversity_real": {label: 0.4},
            }
            for step, label in [(50, "cyst"), (100, "cyst"), (150, "cyst"), (200, "mass")]
        ]
        records[1] |= {"distance": {"cyst": 4.0}, "memorised": {"cyst": 0.97}}
        records[2] |= {"distance": {"cyst": 2.0}, "memorised": {"cyst": 0.95}}
        records[3] |= {"distance": {"mass": -0.1}, "memorised": {"mass": 0.8}}
        return records

    def test_a_chart_for_each_class_that_was_judged(self) -> None:
        training = training_of(self.records(), kept=[150, 200])
        assert training is not None
        for charts in (training.distance, training.memorised):
            assert [chart.title for chart in charts] == ["cyst", "mass"]
            assert [chart.marks for chart in charts] == [(150.0,), (200.0,)]
            assert [len(chart.lines[0].points.split()) for chart in charts] == [2, 1]
            assert charts[0].up == charts[1].up
        assert [chart.level for chart in training.memorised] == [1.0, 1.0]
        assert training.memorised[0].up.high >= 1.0
        assert training.distance[0].up.low <= -0.1
        assert [chart.lines[0].last for chart in training.distance] == [2.0, -0.1]

    def test_the_probability_of_augmentation(self) -> None:
        training = training_of(self.records())
        assert training is not None
        assert training.augment is not None
        assert (training.augment.up.low, training.augment.up.high) == (0.0, 1.0)
        assert len(training.augment.lines[0].points.split()) == 4
        assert [chart.marks for chart in training.distance] == [(), ()]


@st.composite
def intervals(draw: st.DrawFn) -> dict[str, float]:
    low, value, high = sorted(draw(st.lists(FINITE, min_size=3, max_size=3)))
    return {"value": value, "low": low, "high": high}


class TestPlacing:
    """More alike lies left, whichever direction is better."""

    @given(intervals(), intervals())
    def test_order(self, synthetic: dict[str, float], baseline: dict[str, float]) -> None:
        for better, sign in (("lower", 1), ("higher", -1)):
            place = placing(synthetic, baseline, better)
            for ends, centre in ((place.band, place.middle), (place.span, place.dot)):
                assert 0 <= ends[0] <= centre <= ends[1] <= 100
            if sign * (synthetic["value"] - baseline["value"]) > 0:
                assert place.dot >= place.middle
            else:
                assert place.dot <= place.middle

    def test_places(self) -> None:
        synthetic = {"value": 0.6, "low": 0.5, "high": 0.7}
        baseline = {"value": 0.9, "low": 0.8, "high": 1.0}
        place = placing(synthetic, baseline, "higher")
        assert (place.middle, place.dot) == (20.0, 80.0)
        assert (place.band, place.span) == ((0.0, 40.0), (60.0, 100.0))
        place = placing(synthetic, baseline, "lower", least=(0.0,))
        assert (place.middle, place.dot) == (90.0, 60.0)

    def test_no_width_at_all(self) -> None:
        same = {"value": 1.0, "low": 1.0, "high": 1.0}
        assert placing(same, same, "lower").band == (0.0, 0.0)


@pytest.mark.parametrize(
    ("widths", "digits"),
    [([0.031, 9.0], 3), ([0.12], 2), ([1.3], 1), ([23.0], 0), ([0.0, 0.5], 2), ([0.0], 3)],
)
def test_decimals_follow_the_narrowest_interval(widths: list[float], digits: int) -> None:
    assert digits_for(*({"low": -1.0, "high": -1.0 + width} for width in widths)) == digits
