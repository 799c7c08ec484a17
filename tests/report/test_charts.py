"""Axes hold their values, and curves go through the records."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug.report.axes import polyline, round_axis
from medaug.report.charts import training_of

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
