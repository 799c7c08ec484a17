"""Which slices make one volume, and which make none. Slices without files: only places count."""

from dataclasses import replace
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from medaug.domain import Case, Lesion, PatientKey, Unit
from medaug.readers.dicom.header import read_header
from medaug.readers.dicom.stack import build_stacks
from medaug.readers.dicom.volume import volume_of
from medaug.readers.files import list_files
from medaug.readers.inventory import CaseEntry

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.96, 0.0, -0.28, 0.0, 1.0, 0.0)
KEYS = ("acquisition", "echo", "b-value", "moment")


def places(stack):
    return [one.plane.position for one in stack.slices]


def series(write, heights, folder="a", **changes):
    return [
        write.slice((0, 0, height), f"{folder}/{number:03d}", **changes)
        for number, height in enumerate(heights)
    ]


def only(found):
    (stack,), refused = found
    assert not refused
    return stack


def refusals(slices, **settings):
    """The one reason for which every slice is refused."""
    stacks, refused = build_stacks(slices, **settings)
    assert not stacks
    assert sorted(one.name for one in refused) == sorted(one.file.name for one in slices)
    (reason,) = {one.reason for one in refused}
    return reason


class TestOneVolume:
    """One series of one patient, modality and unit, in parallel planes of one size and spacing."""

    @given(order=st.permutations(range(7)), turned=st.booleans())
    def test_any_order_of_files_gives_the_same_stack(self, write, order, turned):
        plane = {"orientation": OBLIQUE} if turned else {}
        normal = np.cross(*np.reshape(OBLIQUE, (2, 3))) if turned else np.array([0, 0, 1.0])
        # File names run in one order, the slices lie in another, and they come in a third.
        slices = [write.slice(2.5 * at * normal + 9, f"a/{(at * 3) % 7}", plane) for at in range(7)]
        stack = only(build_stacks([slices[at] for at in order]))
        assert list(stack.slices) == slices
        step = stack.geometry.world((0, 0, 1)) - stack.geometry.world((0, 0, 0))
        np.testing.assert_allclose(step, normal * [-2.5, -2.5, 2.5], atol=1e-9)

    @pytest.mark.parametrize(
        "other",
        [
            {"series": "1.2.9"},
            {"patient": "4712"},
            {"modality": "MR"},
            {"unit": Unit.ARBITRARY},
            {"plane": {"orientation": SAGITTAL}},
            {"plane": {"rows": 7}},
            {"plane": {"columns": 7}},
            {"plane": {"spacing": (0.8, 0.6)}},
        ],
        ids=str,
    )
    def test_what_is_not_alike_is_another_volume(self, write, other):
        first = series(write, range(4), "a")
        second = series(write, np.arange(4) + 0.5, "b", **other)
        if other == {"plane": {"orientation": SAGITTAL}}:
            second = [
                replace(one, plane=replace(one.plane, position=(float(at), 0.0, 0.0)))
                for at, one in enumerate(second)
            ]
        stacks, refused = build_stacks(second + first)
        assert not refused
        assert [set(stack.slices) for stack in stacks] == [set(first), set(second)]

    def test_rounding_in_the_file_is_no_difference(self, write):
        slices = series(write, range(5))
        tilted = tuple(np.add(slices[3].plane.orientation, 2e-5).tolist())
        slices[3] = replace(slices[3], plane=replace(slices[3].plane, orientation=tilted))
        assert len(only(build_stacks(slices)).slices) == 5

    def test_without_a_series_uid_a_folder_is_one(self, write):
        first = series(write, range(3), "a", series="")
        second = series(write, range(3), "b", series="")
        stacks, refused = build_stacks(first + second)
        assert not refused
        assert [stack.slices for stack in stacks] == [tuple(first), tuple(second)]

    def test_frames_of_reference_do_not_mix(self, write):
        slices = series(write, range(4))
        slices[1] = replace(slices[1], frame_of_reference="")
        assert only(build_stacks(slices))
        slices[2] = replace(slices[2], frame_of_reference="1.2.5")
        assert "lie in 2 frames of reference" in refusals(slices)

    def test_one_damaged_slice_spoils_its_volume_and_no_other(self, write):
        spoilt = series(write, range(3), "a", apart=(("echo", "1"),))
        spoilt[1] = replace(spoilt[1], damage="its pixel data are cut off")
        sound = series(write, range(3), "b", apart=(("echo", "2"),))
        (stack,), refused = build_stacks(spoilt + sound)
        assert stack.slices == tuple(sound)
        assert {one.reason for one in refused} == {
            "its series is damaged (1 of 3 files; a/001: its pixel data are cut off)"
        }


class TestCopies:
    def test_a_copy_is_dropped_by_name(self, write):
        slices = series(write, range(3))
        copy = write.slice((0, 0, 1), "b/001", instance=slices[1].instance)
        (stack,), refused = build_stacks([copy, *slices])
        assert stack.slices == tuple(slices)
        ((name, reason),) = [(one.name, one.reason) for one in refused]
        assert (name, "a copy of a slice in a" in reason) == ("b/001", True)

    def test_one_uid_for_every_slice_is_an_export_gone_wrong_and_no_copy(self, write):
        slices = series(write, range(3), instance="1.2")
        assert only(build_stacks(slices)).slices == tuple(slices)

    def test_frames_of_one_file_are_no_copies(self, write):
        slices = [
            write.slice((0, 0, at % 3), "a/1", frame=at, apart=(("echo", str(at // 3)),))
            for at in range(6)
        ]
        stacks, refused = build_stacks(slices)
        assert not refused
        assert [stack.slices for stack in stacks] == [tuple(slices[:3]), tuple(slices[3:])]

    def test_a_picture_without_a_place_too(self, write):
        plane = {"placed": False}
        slices = [write.slice((0, 0, 0), name, plane, instance="1.7") for name in ("a/1", "b/1")]
        (_,), (refused,) = build_stacks(slices)
        assert refused.name == "b/1"


@st.composite
def mixed_series(draw):
    """(heights of every part, statements of every part): parts differ in one key or in two."""
    height = st.lists(st.integers(0, 9), min_size=1, max_size=1).map(lambda a: a[0])
    count = draw(st.integers(2, 5))
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True))
    wide = 2 if len(keys) == 2 else count
    parts = []
    for number in range(count if len(keys) == 1 else 4):
        start, size = draw(height), draw(st.integers(2, 6))
        stated = dict.fromkeys(KEYS, "same")
        stated[keys[0]] = str(number % wide)
        if len(keys) == 2:
            stated[keys[1]] = str(number // 2)
        parts.append(([start + at for at in range(size)], stated))
    return parts


class TestOnePosition:
    """Where positions repeat: the first statement, or smallest set, that leaves none twice."""

    @given(parts=mixed_series(), seed=st.integers(0, 2**31))
    def test_parts_that_lie_over_one_another_come_apart(self, write, parts, seed):
        heights = [height for part, _ in parts for height in part]
        slices = [
            [
                write.slice((0, 0, height), f"{number}/{height}", apart=tuple(stated.items()))
                for height in part
            ]
            for number, (part, stated) in enumerate(parts)
        ]
        together = [one for part in slices for one in part]
        np.random.default_rng(seed).shuffle(together)
        stacks, refused = build_stacks(together)
        found = {stack.slices for stack in stacks}
        if len(set(heights)) == len(heights):  # they never meet: one series, judged as one
            assert len(stacks) + bool(refused) == 1
            return
        for stack in stacks:
            assert len(set(places(stack))) == len(stack.slices)
        assert not refused or "slices are missing" in refused[0].reason
        if all(set(a) & set(b) for a, _ in parts for b, _ in parts):
            # Every two share a position, so that nothing less than all of them tells them apart.
            assert found == {tuple(part) for part in slices}

    def test_the_first_statement_that_does_it_decides(self, write):
        slices = [
            write.slice(
                (0, 0, at % 3), f"a/{at}", apart=(("echo", str(at // 3)), ("moment", str(at % 2)))
            )
            for at in range(6)
        ]
        stacks, _ = build_stacks(slices)
        assert [stack.slices for stack in stacks] == [tuple(slices[:3]), tuple(slices[3:])]

    def test_a_number_that_counts_the_slices_is_passed_over(self, write):
        slices = [
            write.slice(
                (0, 0, at // 2),
                f"a/{at}",
                apart=(("acquisition", f"{at:02d}"), ("b-value", str(at % 2 * 1000))),
            )
            for at in range(10)
        ]
        stacks, refused = build_stacks(slices)
        assert not refused
        assert [stack.slices for stack in stacks] == [tuple(slices[::2]), tuple(slices[1::2])]

    def test_nothing_tells_them_apart(self, write):
        stated = (("acquisition", "1"), ("echo", "2"))
        slices = series(write, [0, 1, 1, 1, 2, 2], apart=stated)
        reason = refusals(slices)
        assert "3 slices of its series lie at one position" in reason
        assert "tried: acquisition, echo" in reason
        assert "its files state nothing that could" in refusals(series(write, [0, 0, 1]))

    @pytest.mark.parametrize(
        ("keyword", "values"),
        [
            ("EchoTime", (20, 80)),
            ("DiffusionBValue", (0.0, 1000.0)),
            ("TemporalPositionIdentifier", (1, 2)),
            ("AcquisitionNumber", (3, 4)),
            ("TriggerTime", (0, 500)),
        ],
    )
    def test_as_files_state_it(self, write, tmp_path, keyword, values):
        series = generate_uid()
        frame = generate_uid()
        for number, value in enumerate(values):
            write.series(
                tmp_path / str(number),
                write.ct((6, 5, 4), seed=number),
                seed=number,
                series=series,
                frame_of_reference=frame,
                **{keyword: value},
            )
        files, _ = list_files(tmp_path, tmp_path)
        stacks, refused = build_stacks(
            [one for file in files for one in read_header(file, "PatientID")]
        )
        assert not refused
        folders = [{one.file.name[0] for one in stack.slices} for stack in stacks]
        assert folders in ([{"0"}, {"1"}], [{"1"}, {"0"}])
        assert [stack.geometry.shape for stack in stacks] == [(6, 5, 4)] * 2

    def test_parts_are_judged_each_alone(self, write):
        whole = series(write, range(5), "a", apart=(("echo", "1"),))
        gap = series(write, [0, 1, 3, 4], "b", apart=(("echo", "2"),))
        (stack,), refused = build_stacks(whole + gap)
        assert stack.slices == tuple(whole)
        assert {one.name for one in refused} == {one.file.name for one in gap}
        assert "slices are missing" in refused[0].reason

    def test_a_hundredth_of_a_millimetre_is_one_position(self, write):
        assert "2 slices" in refusals(series(write, [0, 1, 1.009, 2]))
        assert "uneven" in refusals(series(write, [0, 1, 1.011, 2]))

    def test_many_statements_take_no_time(self, write):
        slices = [
            write.slice(
                (0, 0, at % 400),
                f"a/{at}",
                apart=tuple((f"key {key}", str(at >> key & 1)) for key in range(14)),
            )
            for at in range(1600)
        ]
        same = [replace(one, file=replace(one.file, name=f"b{one.file.name}"), instance=f"{at}")
                for at, one in enumerate(slices)]  # fmt: skip
        start = process_time()
        assert "tried: key 0, key 1" in refusals(slices + same)
        assert process_time() - start < 3


class TestPictures:
    """A single picture has its spacing where the file gives one, and never a thickness."""

    def test_without_a_place_each_is_a_volume(self, write):
        plane = {"placed": False}
        slices = [write.slice((0, 0, 0), f"a/{at}", plane, frame=at) for at in range(3)]
        stacks, refused = build_stacks(slices)
        assert not refused
        assert [stack.slices for stack in stacks] == [(one,) for one in slices]
        geometry = stacks[0].geometry
        assert (geometry.shape, geometry.flat) == ((8, 6, 1), True)
        assert geometry.in_millimetres
        assert geometry.spacing == (0.5, 0.8, 1.0)
        assert stacks[0].locate(slices[0].plane) is None

    def test_without_spacing_it_is_in_pixels(self, write):
        plane = {"placed": False, "measured": False, "spacing": (1.0, 2.0)}
        geometry = only(build_stacks([write.slice((0, 0, 0), "a/1", plane)])).geometry
        assert geometry.flat
        assert not geometry.in_millimetres
        assert geometry.spacing == (2.0, 1.0, 1.0)  # its pixels are twice as wide as high

    def test_a_slice_alone_in_its_series_lies_where_it_says(self, write):
        one = write.slice((10, 20, 30), "a/1", {"orientation": OBLIQUE})
        stack = only(build_stacks([one]))
        assert stack.geometry.flat
        np.testing.assert_allclose(
            stack.geometry.world((2, 3, 0)), (-(10 + 2 * 0.5 * 0.96), -(20 + 3 * 0.8), 30 - 0.28)
        )
        assert stack.locate(one.plane) == 0
        values = np.arange(48, dtype=np.float32).reshape(8, 6)
        read = volume_of(stack, lambda _: values).read((slice(1, 3), slice(2, 6), slice(0, 1)))
        np.testing.assert_array_equal(read[:, :, 0], values[1:3, 2:6])

    @pytest.mark.parametrize(
        ("plane", "spacing"), [({}, (0.5, 0.8)), ({"placed": False, "measured": False}, None)]
    )
    def test_the_inventory_states_no_volume_in_mm3(self, write, plane, spacing):
        stack = only(build_stacks([write.slice((0, 0, 0), "a/1", plane)]))
        patient = PatientKey("0" * 32)
        lesion = Lesion("2.25.1", "cyst", patient, (slice(1, 4), slice(2, 4), slice(0, 1)))
        case = Case("a", patient, volume_of(stack, lambda _: None), (lesion,))
        entry = CaseEntry.of(case, "dicom", 1)
        assert (entry.spacing_mm, entry.shape) == (spacing, (8, 6, 1))
        assert (entry.lesions[0].voxels, entry.lesions[0].volume_mm3) == (6, None)

    def test_one_that_is_not_axial_is_refused(self, write):
        one = write.slice((0, 0, 0), "a/1", {"orientation": SAGITTAL})
        assert "not axial" in refusals([one])

    def test_one_among_others_is_refused(self, write):
        slices = series(write, range(3))
        lone = write.slice((0, 0, 0), "b/1", {"rows": 9})
        (_,), (refused,) = build_stacks([*slices, lone])
        assert (refused.name, "a single slice among 4 of its series" in refused.reason) == (
            "b/1",
            True,
        )

    def test_moments_at_one_position_are_single_slices(self, write):
        slices = [
            write.slice((0, 0, 0), f"a/{at}", apart=(("acquisition", str(at)),)) for at in range(4)
        ]
        assert "a single slice among 4" in refusals(slices)


class TestReferences:
    def test_by_instance_and_frame(self, write):
        slices = series(write, range(3))
        stack = only(build_stacks(slices))
        assert stack.locate_instance(slices[2].instance) == 2
        assert stack.locate_instance(slices[1].instance, 0) == 1
        assert stack.locate_instance(slices[1].instance, 1) is None
        assert stack.locate_instance("1.2.3.other") is None
        nameless = [replace(one, instance="") for one in slices]
        assert only(build_stacks(nameless)).locate_instance("") is None

    def test_among_frames(self, write):
        slices = [write.slice((0, 0, 5 - at), "a/1", frame=at) for at in range(5)]
        stack = only(build_stacks(slices))
        assert stack.locate_instance(slices[0].instance, 4) == 0
        assert stack.locate_instance(slices[0].instance) is None


class TestNonsense:
    @pytest.mark.parametrize(
        ("position", "plane", "words"),
        [
            ((0, 0, 1e300), {}, "Image Position is no place"),
            ((0, -2e6, 0), {}, "Image Position is no place"),
            ((0, 0, 0), {"spacing": (1e-300, 1.0)}, "Pixel Spacing is no distance"),
            ((0, 0, 0), {"spacing": (1.0, 1e9)}, "Pixel Spacing is no distance"),
        ],
    )
    @pytest.mark.parametrize("tilt", ["refuse", "shear"])
    def test_is_refused_file_by_file(self, write, position, plane, words, tilt):
        bad = write.slice(position, "b/1", plane)
        (stack,), (refused,) = build_stacks([*series(write, range(3)), bad], tilt=tilt)
        assert len(stack.slices) == 3
        assert words in refused.reason

    @given(
        places=st.lists(
            st.tuples(*[st.floats(-1e6, 1e6)] * 3) | st.tuples(*[st.integers(-3, 3)] * 3),
            max_size=9,
        ),
        irregular=st.sampled_from(["refuse", "resample", "longest-block"]),
        tilt=st.sampled_from(["refuse", "shear"]),
    )
    def test_any_places_end_in_a_stack_or_a_reason(self, write, places, irregular, tilt):
        slices = [write.slice(at, f"a/{number}") for number, at in enumerate(places)]
        stacks, refused = build_stacks(slices, irregular, tilt)
        names = [one.file.name for stack in stacks for one in stack.slices]
        assert sorted(names + [one.name for one in refused]) == sorted(
            one.file.name for one in slices
        )
        for stack in stacks:
            assert np.prod(stack.geometry.shape) <= 5 * 48 * len(stack.slices)
