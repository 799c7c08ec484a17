"""Components and boxes against slow, obvious twins."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medaug.domain import PatientKey
from medaug.readers.lesions import Marking, gather, lesions_of, tight

KEY = bytes(32)
SOMEBODY = PatientKey("0" * 32)
MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.booleans())


def flood(mask):
    """Sets of voxels that touch by a face, an edge or a corner."""
    left = {tuple(at) for at in np.argwhere(mask).tolist()}
    parts = []
    while left:
        part, border = set(), {min(left)}
        while border:
            part |= border
            left -= border
            border = {
                (i + a, j + b, k + c)
                for i, j, k in border
                for a, b, c in product((-1, 0, 1), repeat=3)
            } & left
        parts.append(part)
    return parts


def places(lesion):
    starts = [part.start for part in lesion.box]
    return {tuple(at) for at in (np.argwhere(lesion.mask) + starts).tolist()}


class TestComponents:
    @settings(max_examples=60, deadline=None)
    @given(MASKS.filter(np.any))
    def test_are_those_that_a_flood_finds(self, mask):
        marking = Marking("x", "id", *tight(mask))
        found = lesions_of(marking, "component", SOMEBODY, KEY)
        assert sorted(map(sorted, map(places, found))) == sorted(map(sorted, flood(mask)))
        assert len({lesion.tracking_uid for lesion in found}) == len(found)

    def test_a_corner_is_enough_and_a_gap_is_not(self):
        mask = np.zeros((5, 5, 5), bool)
        mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
        found = lesions_of(Marking("x", "id", *tight(mask)), "component", SOMEBODY, KEY)
        assert [lesion.voxels for lesion in found] == [2, 1]

    @given(MASKS.filter(np.any))
    def test_a_segment_stays_whole(self, mask):
        (whole,) = lesions_of(Marking("x", "id", *tight(mask)), "segment", SOMEBODY, KEY)
        assert places(whole) == {tuple(at) for at in np.argwhere(mask).tolist()}


class TestBoxes:
    @given(MASKS)
    def test_planes_in_any_order_make_the_same_box_as_the_whole(self, mask):
        planes = [(k, mask[:, :, k]) for k in range(mask.shape[2])]
        whole, gathered = tight(mask), gather(reversed(planes))
        if not mask.any():
            assert whole is None
            assert gathered is None
            return
        assert gathered[0] == whole[0]
        np.testing.assert_array_equal(gathered[1], whole[1])

    @given(MASKS.filter(np.any))
    def test_a_box_is_tight(self, mask):
        box, inside = tight(mask)
        assert inside.sum() == mask.sum()
        for axis in range(3):
            ends = np.moveaxis(inside, axis, 0)
            assert ends[0].any()
            assert ends[-1].any()
        np.testing.assert_array_equal(inside, mask[box])
