"""Masks that the image itself speaks against."""

import numpy as np
import pydicom
import pytest
from pydantic import TypeAdapter
from pydicom.sr.codedict import codes

from medaug.errors import ReaderError
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
KEY = bytes(range(32))
SHAPE = (64, 48, 6)


def read(root, **given):
    rule = {"kind": "dicom", "lesions": [{"kind": "seg"}], **given}
    return scan([SOURCE.validate_python(rule)], root, KEY)


def a_body(write, folder, **attributes):
    """An oval of 300 x 200 mm with lungs in it; columns run to the patient's left."""
    i, j = np.meshgrid(np.arange(64), np.arange(48), indexing="ij")
    values = np.full(SHAPE, -1000, np.int16)
    values[np.hypot((i - 31.5) / 25, (j - 23.5) / 17) <= 1] = 40
    for side in (20, 43):
        values[np.hypot((i - side) / 8, (j - 23.5) / 10) <= 1] = -850
    return write.series(folder, values, spacing=(6.0, 6.0, 5.0), **attributes)


def a_lesion(column):
    mask = np.zeros(SHAPE, bool)
    mask[column - 2 : column + 3, 20:25, 2:4] = True
    return mask


def code_side(path, side):
    one = pydicom.dcmread(path)
    region, modifier = pydicom.Dataset(), pydicom.Dataset()
    code = getattr(codes.SCT, side)
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "39607008", "SCT", "Lung"
    modifier.CodeValue, modifier.CodingSchemeDesignator = code.value, code.scheme_designator
    modifier.CodeMeaning = code.meaning
    region.AnatomicRegionModifierSequence = [modifier]
    one.SegmentSequence[0].AnatomicRegionSequence = [region]
    one.save_as(path)


class TestTheSide:
    """The segment's laterality against where it lies; +x is to the patient's left in DICOM."""

    @pytest.mark.parametrize(("side", "column"), [("Left", 44), ("Right", 19)])
    def test_that_fits(self, side, column, tmp_path, write):
        images = a_body(write, tmp_path / "ct")
        code_side(write.seg(tmp_path / "seg.dcm", images, {"Cyst": a_lesion(column)}), side)
        assert len(read(tmp_path)) == 1

    @pytest.mark.parametrize(("side", "column"), [("Left", 19), ("Right", 44)])
    @pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0)])
    def test_that_does_not(self, side, column, orientation, tmp_path, write):
        images = a_body(write, tmp_path / "ct", orientation=orientation)
        column = column if orientation[0] > 0 else 63 - column
        code_side(write.seg(tmp_path / "seg.dcm", images, {"Cyst": a_lesion(column)}), side)
        with pytest.raises(ReaderError, match=f"it is coded as {side.lower()}, and lies 7. mm on"):
            read(tmp_path)
        assert len(read(tmp_path, check_side=False)) == 1

    def test_near_the_middle_nothing_is_said(self, tmp_path, write):
        images = a_body(write, tmp_path / "ct")
        code_side(write.seg(tmp_path / "seg.dcm", images, {"Cyst": a_lesion(34)}), "Right")
        assert len(read(tmp_path)) == 1

    def test_of_a_body_cut_off_by_the_picture_nothing_is_said(self, tmp_path, write):
        values = np.full(SHAPE, 40, np.int16)
        images = write.series(tmp_path / "ct", values, spacing=(6.0, 6.0, 5.0))
        code_side(write.seg(tmp_path / "seg.dcm", images, {"Cyst": a_lesion(44)}), "Right")
        assert len(read(tmp_path)) == 1


class TestTheSize:
    """A mask that covers a large part of the body is worth a warning."""

    def test_of_an_organ_is_remarked(self, tmp_path, write):
        images = a_body(write, tmp_path / "ct")
        mask = np.zeros(SHAPE, bool)
        mask[12:36, 12:36, 2:4] = True
        write.seg(tmp_path / "seg.dcm", images, {"Cyst": mask})
        body = np.hypot(*np.meshgrid((np.arange(64) - 31.5) / 25, (np.arange(48) - 23.5) / 17)) <= 1
        share = 24 * 24 / body.sum()
        assert read(tmp_path).inventory.notes == (
            f"1 file(s) mark {share:.0%} of the body's section as a lesion: is it an organ?",
        )

    def test_of_a_lesion_is_not(self, tmp_path, write):
        images = a_body(write, tmp_path / "ct")
        write.seg(tmp_path / "seg.dcm", images, {"Cyst": a_lesion(30)})
        assert read(tmp_path).inventory.notes == ()
