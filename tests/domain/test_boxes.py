"""A box holds the whole mask and nothing smaller does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medaug.domain import boxes_of


@given(arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 5))))
def test_a_slow_twin_draws_the_same_boxes(masks: np.ndarray) -> None:
    masks[:, 0, 0] |= ~masks.any(axis=(1, 2))
    for mask, box in zip(masks, boxes_of(masks).tolist(), strict=True):
        marked = [tuple(at) for at in np.argwhere(mask)]
        rows, columns = [row for row, _ in marked], [column for _, column in marked]
        assert box == [min(rows), min(columns), max(rows) + 1, max(columns) + 1]


def test_a_mask_that_marks_nothing_has_no_box() -> None:
    masks = np.ones((3, 4, 4), dtype=bool)
    masks[1:] = False
    with pytest.raises(ValueError, match="2 masks mark no pixel, the first is number 1"):
        boxes_of(masks)


@pytest.mark.parametrize("wrong", [np.ones((4, 4), dtype=bool), np.ones((1, 4, 4), dtype=np.uint8)])
def test_what_is_no_list_of_masks_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected bool"):
        boxes_of(wrong)


def test_no_mask_no_box() -> None:
    assert boxes_of(np.zeros((0, 4, 4), dtype=bool)).shape == (0, 4)
