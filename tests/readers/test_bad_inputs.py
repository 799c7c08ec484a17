"""What is wrong, where, and what to do: each bad input with the sentence it must give."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydantic import TypeAdapter

from medaug.errors import ReaderError
from medaug.readers.settings import SourceSettings
from medaug.readers.source import guess_sources, scan

SOURCES = TypeAdapter(list[SourceSettings])
DICOM = {"kind": "dicom", "lesions": [{"kind": "seg", "labels": {"Cyst": "cyst"}}]}
NIFTI = {
    "kind": "volumes",
    "image": "(?P<patient>p[0-9])/ct",
    "labels": "(?P<patient>p[0-9])/mask",
    "values": {1: "cyst"},
}
PICTURES = {"kind": "images", "pattern": "(?P<label>cyst)/(?P<patient>p[0-9])"}


def dicom(root, write, name="p1", **changes):
    series = write.series(root / name / "ct", write.ct(), **changes)
    write.seg(root / name / "seg.dcm", series, {"Cyst": write.blob()})
    return series


def nifti(root, write, name="p1", mask=None, affine=None, values=None):
    values = write.ct() if values is None else values
    mask = write.blob().astype(np.uint8) if mask is None else mask
    image = write.nifti(root / name / "ct.nii.gz", values)
    return image, write.nifti(root / name / "mask.nii.gz", mask, affine)


def picture(root, write, name="p1", values=None):
    values = np.arange(96, dtype=np.uint8).reshape(8, 12) if values is None else values
    return write.picture(root / "cyst" / f"{name}.png", values)


def cut(path: Path, share=0.7):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def change(paths, **attributes):
    for path in paths:
        one = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            setattr(one, keyword, value)
        one.save_as(path)


BAD = []


def bad(spoil):
    """A function that spoils the case p1 and returns the settings, where and why."""
    BAD.append(spoil)
    return spoil


@bad
def truncated_slice(root, write):
    series = dicom(root, write)
    cut(series[0])
    return DICOM, "p1/ct", f"its series is damaged (1 of 8 files; p1/ct/{series[0].name}: its pixel"


@bad
def truncated_header(root, write):
    cut(dicom(root, write)[3], 0.02)
    return DICOM, "p1/ct", "slices are missing"


@bad
def truncated_seg(root, write):
    dicom(root, write)
    cut(root / "p1" / "seg.dcm", 0.97)
    return DICOM, "p1/seg.dcm", "a damaged segmentation"


@bad
def empty_slice(root, write):
    dicom(root, write)[3].write_bytes(b"")
    return DICOM, "p1/ct", "slices are missing"


@bad
def no_patient(root, write):
    dicom(root, write, patient="")
    return DICOM, "p1/ct", "PatientID is empty, so its patient is not known: set `patient`"


@bad
def no_position(root, write):
    change(dicom(root, write), ImagePositionPatient=None)
    return DICOM, "p1/ct", "it has no place in the patient"


@bad
def no_spacing(root, write):
    change(dicom(root, write), PixelSpacing=None)
    return DICOM, "p1/ct", "it has no usable Pixel Spacing"


@bad
def bad_orientation(root, write):
    change(dicom(root, write), ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    return DICOM, "p1/ct", "its row and column directions are not perpendicular"


@bad
def zero_slope(root, write):
    change(dicom(root, write), RescaleSlope=0)
    return DICOM, "p1/ct", "its Rescale Slope and Intercept are not two usable numbers"


@bad
def localiser(root, write):
    change(dicom(root, write), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    return DICOM, "p1/ct", "a localiser"


@bad
def lossy(root, write):
    change(dicom(root, write), LossyImageCompression="01")
    return DICOM, "p1/ct", "lossy compression has changed its values"


@bad
def coloured(root, write):
    change(dicom(root, write), PhotometricInterpretation="RGB", SamplesPerPixel=3)
    return DICOM, "p1/ct", "a colour image"


@bad
def multi_frame(root, write):
    change(dicom(root, write), NumberOfFrames=2)
    return DICOM, "p1/ct", "it has no place in the patient"


@bad
def synthetic(root, write):
    change(dicom(root, write), SyntheticData="YES")
    return DICOM, "p1/ct", "it is marked as synthetic (0008,001C)"


@bad
def one_position(root, write):
    write.series(root / "p1" / "ct", write.ct(), step=(0, 0, 0))
    return DICOM, "p1/ct", "8 slices of its series lie at one position"


@bad
def single_slice(root, write):
    for path in dicom(root, write)[1:]:
        path.unlink()
    return DICOM, "p1/ct/image_*", "CT series of 1 slice, 20x16: no lesion is marked in it"


@bad
def unmarked(root, write):
    write.series(root / "p1" / "ct", write.ct())
    return DICOM, "p1/ct", "CT series of 8 slices, 20x16: no lesion is marked in it"


@bad
def empty_seg(root, write):
    dicom(root, write)
    path = root / "p1" / "seg.dcm"
    one = pydicom.dcmread(path)
    one.PixelData = bytes(len(one.PixelData))
    one.save_as(path)
    return DICOM, "p1/seg.dcm", "a mask with no lesion: no voxel is marked in it"


@bad
def fractional_seg(root, write):
    series = write.series(root / "p1" / "ct", write.ct())
    path = write.seg(root / "p1" / "seg.dcm", series, {"Cyst": write.blob()}, kind="FRACTIONAL")
    one = pydicom.dcmread(path)
    del one.MaximumFractionalValue
    one.save_as(path)
    return DICOM, "p1/seg.dcm", "a fractional segmentation without a Maximum Fractional Value"


@bad
def seg_of_another_series(root, write):
    series = write.series(root / "elsewhere", write.ct())
    write.series(root / "p1" / "ct", write.ct())
    write.seg(root / "p1" / "seg.dcm", series, {"Cyst": write.blob()})
    for path in series:
        path.unlink()
    return DICOM, "p1/seg.dcm", "the series it refers to is not among the files"


@bad
def seg_on_another_grid(root, write):
    dicom(root, write)
    path = root / "p1" / "seg.dcm"
    one = pydicom.dcmread(path)
    for frame in one.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[0] += 500
    one.save_as(path)
    return DICOM, "p1/seg.dcm", "it lies on another grid than the image"


@bad
def seg_of_another_patient(root, write):
    dicom(root, write)
    change([root / "p1" / "seg.dcm"], PatientID="somebody else")
    return DICOM, "p1/seg.dcm", "it names another patient than the images"


@bad
def seg_of_other_things(root, write):
    series = write.series(root / "p1" / "ct", write.ct())
    write.seg(root / "p1" / "seg.dcm", series, {"Liver": write.blob()})
    return DICOM, "p1/seg.dcm", "none of its segments is among the labels asked for; it has segment"


@bad
def no_part_10(root, write):
    series = dicom(root, write)
    (root / "p1" / "raw").write_bytes(series[0].read_bytes()[132:])
    return DICOM, "p1/raw", "a copy of a slice in p1/ct (same SOP Instance UID and position)"


@bad
def an_archive(root, write):
    dicom(root, write)
    (root / "p1" / "more.zip").write_bytes(b"PK\3\4")
    return DICOM, "p1/more.zip", "an archive is not read: unpack it"


@bad
def nowhere_link(root, write):
    dicom(root, write)
    (root / "p1" / "link").symlink_to("nowhere")
    return DICOM, "p1/link", "cannot be read"


@bad
def nifti_mask_of_other_size(root, write):
    nifti(root, write, mask=np.ones((20, 16, 7), np.uint8))
    return NIFTI, "p1/mask.nii.gz", "another grid than the image: 20x16x7 voxels, the image has 20x"


@bad
def nifti_mask_elsewhere(root, write):
    affine = np.diag([0.7, 0.9, 2.5, 1.0])
    affine[0, 3] = 1.5
    nifti(root, write, affine=affine)
    return NIFTI, "p1/mask.nii.gz", "its voxels lie up to 1.5 mm from the image's"


@bad
def nifti_mask_flipped(root, write):
    nifti(root, write, affine=np.diag([-0.7, 0.9, 2.5, 1.0]))
    return NIFTI, "p1/mask.nii.gz", "it lies on another grid than the image"


@bad
def nifti_empty_mask(root, write):
    nifti(root, write, mask=np.zeros((20, 16, 8), np.uint8))
    return NIFTI, "p1/mask.nii.gz", "a mask with no lesion"


@bad
def nifti_other_values(root, write):
    nifti(root, write, mask=write.blob().astype(np.uint8) * 7)
    return NIFTI, "p1/mask.nii.gz", "a mask with no lesion; its values [7] are not among those"


@bad
def nifti_probabilities(root, write):
    nifti(root, write, mask=write.blob().astype(np.float32) * 0.5)
    return NIFTI, "p1/mask.nii.gz", "not a label map"


@bad
def nifti_nan_mask(root, write):
    nifti(root, write, mask=np.where(write.blob(), np.nan, 0).astype(np.float32))
    return NIFTI, "p1/mask.nii.gz", "not a label map"


@bad
def nifti_truncated_image(root, write):
    cut(nifti(root, write)[0])
    return NIFTI, "p1/ct.nii.gz", "it ends before its last voxel"


@bad
def nifti_truncated_mask(root, write):
    cut(nifti(root, write)[1])
    return NIFTI, "p1/mask.nii.gz", "it ends before its last voxel"


@bad
def nifti_truncated_header(root, write):
    cut(nifti(root, write)[0], 0.001)
    return NIFTI, "p1/ct.nii.gz", "a damaged NIfTI file: its header cannot be read"


@bad
def nifti_no_nifti(root, write):
    nifti(root, write)[0].write_bytes(b"this is no gzip file, and no NIfTI file")
    return NIFTI, "p1/ct.nii.gz", "a damaged NIfTI file: its header cannot be read"


@bad
def nifti_four_dimensions(root, write):
    nifti(root, write, values=np.zeros((20, 16, 8, 3), np.int16))
    return NIFTI, "p1/ct.nii.gz", "it has 4 dimensions (20x16x8x3): one volume is needed"


@bad
def nifti_complex(root, write):
    nifti(root, write, values=np.zeros((20, 16, 8), np.complex64))
    return NIFTI, "p1/ct.nii.gz", "its voxels are not plain numbers"


@bad
def nifti_no_mask(root, write):
    nifti(root, write)[1].unlink()
    return NIFTI, "p1/ct.nii.gz", "it has no label map"


@bad
def nifti_no_image(root, write):
    nifti(root, write)[0].unlink()
    return NIFTI, "p1/mask.nii.gz", "it has no image"


@bad
def picture_truncated(root, write):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    cut(picture(root, write, values=noise))
    return PICTURES, "cyst/p1.png", "a damaged picture: it cannot be decoded"


@bad
def picture_empty(root, write):
    picture(root, write).write_bytes(b"")
    return PICTURES, "cyst/p1.png", "a damaged picture"


@bad
def picture_coloured(root, write):
    picture(root, write, values=np.arange(96 * 3, dtype=np.uint8).reshape(8, 12, 3))
    return PICTURES, "cyst/p1.png", "a colour picture: one grey channel is needed"


@bad
def picture_transparent(root, write):
    picture(root, write, values=np.full((8, 12, 4), 128, np.uint8))
    return PICTURES, "cyst/p1.png", "partly transparent"


@bad
def picture_of_one_bit(root, write):
    path = picture(root, write)
    Image.fromarray(np.eye(9, dtype=bool)).save(path)
    return PICTURES, "cyst/p1.png", "one bit per pixel"


@bad
def picture_of_several(root, write):
    pages = [Image.fromarray(np.full((5, 5), value, np.uint8)) for value in (1, 2)]
    path = picture(root, write).with_suffix(".tiff")
    path.with_suffix(".png").unlink()
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return PICTURES, "cyst/p1.tiff", "several pictures in one file"


@bad
def picture_without_label(root, write):
    write.picture(root / "other" / "p1.png", np.zeros((4, 4), np.uint8))
    return PICTURES, "other/p1.png", "the pattern for the pictures does not match its path"


def reasons(inventory):
    return {entry.path: entry.reason for entry in inventory.refused}


BESIDE_A_GOOD_CASE = (no_part_10, an_archive, nowhere_link)


def name_of(spoil):
    return spoil.__name__


class TestOneBadCase:
    @pytest.mark.parametrize("spoil", BAD, ids=name_of)
    def test_is_refused_with_its_reason_and_the_rest_go_on(self, spoil, tmp_path, write, site_key):
        settings, path, sentence = spoil(tmp_path, write)
        {"dicom": dicom, "volumes": nifti, "images": picture}[settings["kind"]](
            tmp_path, write, name="p2"
        )
        source = scan(SOURCES.validate_python([settings]), tmp_path, site_key)
        usable = [case for case in source.cases() if case.volume.read().size]
        expected = 2 if spoil in BESIDE_A_GOOD_CASE else 1
        assert len(usable) == expected
        found = reasons(source.inventory)
        matching = [name for name in found if Path(name).match(path)]
        assert matching, found
        assert sentence in found[matching[0]]
        assert source.inventory.files_seen == source.inventory.files_used + sum(
            entry.files for entry in source.inventory.refused
        )

    @pytest.mark.parametrize(
        "spoil", [one for one in BAD if one not in BESIDE_A_GOOD_CASE], ids=name_of
    )
    def test_alone_is_an_error_that_says_the_same(self, spoil, tmp_path, write, site_key):
        settings, _, sentence = spoil(tmp_path, write)
        with pytest.raises(ReaderError) as caught:
            scan(SOURCES.validate_python([settings]), tmp_path, site_key)
        assert sentence in str(caught.value)
        assert "no lesion can be used" in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


class TestNothingAtAll:
    def test_no_such_folder(self, tmp_path, site_key):
        with pytest.raises(ReaderError, match="no such folder"):
            scan(SOURCES.validate_python([DICOM]), tmp_path / "missing", site_key)
        with pytest.raises(ReaderError, match="no such folder"):
            guess_sources(tmp_path / "missing")

    def test_every_missing_folder_is_named(self, tmp_path, site_key):
        sources = [{**DICOM, "path": "one"}, {**NIFTI, "path": "two"}]
        with pytest.raises(ReaderError) as caught:
            scan(SOURCES.validate_python(sources), tmp_path, site_key)
        assert [fault.where for fault in caught.value.faults] == ["one", "two"]

    def test_a_file_instead_of_a_folder(self, tmp_path):
        (tmp_path / "x.dcm").write_text("x")
        with pytest.raises(ReaderError, match="a file"):
            guess_sources(tmp_path / "x.dcm")

    @pytest.mark.parametrize("settings", [[DICOM], [NIFTI], [PICTURES], None])
    def test_an_empty_folder(self, settings, tmp_path, site_key):
        root = tmp_path / "data"
        root.mkdir()
        sources = guess_sources(root) if settings is None else SOURCES.validate_python(settings)
        with pytest.raises(ReaderError, match="data: an empty folder"):
            scan(sources, root, site_key)

    @pytest.mark.parametrize("settings", [[DICOM], [NIFTI], [PICTURES], None])
    def test_only_archives(self, settings, tmp_path, site_key):
        for name in ("a.zip", "b.tar.gz", "SOURCE.txt"):
            (tmp_path / name).write_bytes(b"PK\3\4")
        sources = guess_sources(tmp_path) if settings is None else SOURCES.validate_python(settings)
        with pytest.raises(ReaderError, match=r"only archives: a\.zip, b\.tar\.gz") as caught:
            scan(sources, tmp_path, site_key)
        assert "unpack them" in str(caught.value)

    def test_only_strays(self, tmp_path, site_key):
        (tmp_path / "letter.txt").write_text("x")
        with pytest.raises(ReaderError, match="no lesion can be used; 1 files were looked at"):
            scan(guess_sources(tmp_path), tmp_path, site_key)

    def test_an_attribute_that_dicom_does_not_have(self, tmp_path, write, site_key):
        dicom(tmp_path, write)
        settings = {**DICOM, "patient": {"attribute": "PatientNumber"}}
        with pytest.raises(ReaderError, match="PatientNumber"):
            scan(SOURCES.validate_python([settings]), tmp_path, site_key)


class TestFoldersOnTheWay:
    def test_the_folder_of_a_run_is_passed_over(self, tmp_path, write, site_key):
        nifti(tmp_path, write)
        nifti(tmp_path / "out", write, name="p2")
        (tmp_path / "out" / "run.json").write_text("{}")
        source = scan(SOURCES.validate_python([NIFTI]), tmp_path, site_key)
        assert len(source) == 1
        assert reasons(source.inventory) == {"out": "the folder of a medaug run"}

    def test_links_are_followed_and_loops_are_not(self, tmp_path, write, site_key):
        nifti(tmp_path / "store", write)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "p1").symlink_to(tmp_path / "store" / "p1")
        (tmp_path / "store" / "p1" / "loop").symlink_to(tmp_path / "store")
        source = scan(SOURCES.validate_python([NIFTI]), tmp_path / "data", site_key)
        assert len(source) == 1

    def test_a_pipe_does_not_block(self, tmp_path, write, site_key):
        dicom(tmp_path, write)
        os.mkfifo(tmp_path / "p1" / "ct" / "pipe")
        assert len(scan(SOURCES.validate_python([DICOM]), tmp_path, site_key)) == 1

    def test_a_name_that_is_no_text_can_be_written_as_json(self, tmp_path, write, site_key):
        dicom(tmp_path, write)
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/p1/\xff.txt")).write_text("x")
        source = scan(SOURCES.validate_python([DICOM]), tmp_path, site_key)
        assert "not a DICOM file" in reasons(source.inventory)["p1/\ufffd.txt"]

    def test_two_sources_in_one_folder_do_not_refuse_each_others_files(
        self, tmp_path, write, site_key
    ):
        dicom(tmp_path, write, name="p1")
        nifti(tmp_path, write, name="p2")
        nifti(tmp_path, write, name="p3", mask=np.zeros((20, 16, 8), np.uint8))
        (tmp_path / "notes.txt").write_text("x")
        source = scan(SOURCES.validate_python([DICOM, NIFTI]), tmp_path, site_key)
        assert [entry.source for entry in source.inventory.cases] == ["dicom", "volumes"]
        assert reasons(source.inventory) == {
            "notes.txt": "not a DICOM file",
            "p3/ct.nii.gz": "no lesion is marked in it",
            "p3/mask.nii.gz": "a mask with no lesion",
        }
