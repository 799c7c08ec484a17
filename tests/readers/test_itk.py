"""NRRD and MetaImage: the same voxels at the same places as SimpleITK and nibabel find."""

import gzip
import re
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from pydantic import TypeAdapter

from medaug.domain import lps_to_ras
from medaug.errors import ReaderError
from medaug.readers.files import SourceFile
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan
from medaug.readers.volumes.cases import read_header, volume_of
from medaug.readers.volumes.file import Wanted

SOURCE = TypeAdapter(SourceSettings)
OBLIQUE = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
DIRECTIONS = {
    "identity": np.eye(3),
    "y flipped": np.diag([1.0, -1, 1]),
    "all flipped": -np.eye(3),
    "axes permuted": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": OBLIQUE,
}
ENDINGS = ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "packed.nrrd", "packed.nhdr", "packed.mha",
           "packed.mhd", "a.nii", "a.nii.gz", "a.img", "a.img.gz"]  # fmt: skip
TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
         "float64"]  # fmt: skip


def file_at(path):
    return SourceFile(path, path.name, path.name)


def header(path, **wanted):
    return read_header(file_at(path), Wanted(**wanted))


def read(path, **wanted):
    return volume_of(header(path, **wanted), "MR", "arbitrary")


def itk_image(values, directions=None, spacing=(0.7, 0.9, 2.5), origin=(-30.0, 12.0, 99.0)):
    """``values`` (i, j, k); the place in LPS."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.ravel(np.eye(3) if directions is None else directions))
    return image


def ras_of(image, index):
    """By SimpleITK itself."""
    x, y, z = image.TransformIndexToPhysicalPoint([int(one) for one in index])
    return [-x, -y, z]


class TestTheSameVolumeInEveryFormat:
    @pytest.mark.parametrize("directions", DIRECTIONS)
    @pytest.mark.parametrize("name", ENDINGS)
    def test_has_its_voxels_where_itk_has_them(self, name, directions, tmp_path, write):
        image = itk_image(write.ct(), DIRECTIONS[directions])
        SimpleITK.WriteImage(image, str(tmp_path / name), name.startswith("packed"))
        volume = read(tmp_path / name)
        np.testing.assert_array_equal(volume.read(), write.ct())
        for index in ((0, 0, 0), (19, 0, 0), (0, 15, 0), (0, 0, 7), (3, 4, 5)):
            np.testing.assert_allclose(
                volume.geometry.world(index), ras_of(image, index), atol=2e-4
            )
        region = (slice(3, 9), slice(2, 5), slice(4, 7))
        np.testing.assert_array_equal(volume.read(region), write.ct()[region])

    @pytest.mark.parametrize("directions", DIRECTIONS)
    def test_has_its_voxels_where_nibabel_has_them(self, directions, tmp_path, write):
        image = itk_image(write.ct(), DIRECTIONS[directions])
        for name in ("a.nrrd", "a.mha", "twin.nii.gz"):
            SimpleITK.WriteImage(image, str(tmp_path / name))
        twin = nib.load(tmp_path / "twin.nii.gz")
        for name in ("a.nrrd", "a.mha"):
            volume = read(tmp_path / name)
            np.testing.assert_allclose(volume.geometry.affine, twin.affine, atol=1e-4)
            np.testing.assert_array_equal(volume.read(), np.asarray(twin.dataobj))

    @pytest.mark.parametrize("kind", TYPES)
    @pytest.mark.parametrize("ending", [".nrrd", ".mha"])
    def test_in_every_type_of_number(self, ending, kind, tmp_path):
        values = (np.arange(60).reshape(3, 4, 5) * 2).astype(kind)
        path = tmp_path / f"a{ending}"
        SimpleITK.WriteImage(itk_image(values), str(path))
        np.testing.assert_array_equal(read(path).read(), values)

    @pytest.mark.parametrize(("ending", "field", "big"), [
        (".nrrd", b"endian: little", b"endian: big"),
        (".mha", b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = True"),
    ])  # fmt: skip
    def test_in_either_order_of_bytes(self, ending, field, big, tmp_path, write):
        path = tmp_path / f"a{ending}"
        SimpleITK.WriteImage(itk_image(write.ct()), str(path))
        data = path.read_bytes()
        head = data[: len(data) - write.ct().nbytes].replace(field, big)
        path.write_bytes(head + write.ct().astype(">i2").tobytes(order="F"))
        np.testing.assert_array_equal(read(path).read(), write.ct())
        twin = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        np.testing.assert_array_equal(twin.transpose(2, 1, 0), write.ct())

    def test_reads_only_the_planes_asked_for(self, tmp_path, write):
        path = tmp_path / "a.mha"
        SimpleITK.WriteImage(itk_image(write.ct((20, 16, 200))), str(path))
        volume = read(path)
        size = path.stat().st_size
        path.write_bytes(path.read_bytes()[: size // 2])  # the rest is not needed
        volume.read((slice(0, 3), slice(0, 3), slice(90, 95)))
        with pytest.raises(ReaderError, match="damaged"):
            volume.read((slice(0, 3), slice(0, 3), slice(150, 155)))


def nrrd(tmp_path, values, *lines, leave=(), data=None, name="a.nrrd"):
    """An NRRD file by hand; ``lines`` replace fields of the same name."""
    kinds = {"int16": "short", "uint8": "uchar"}
    fields = {
        "type": kinds[str(values.dtype)],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, values.shape)),
        "space directions": "(0.7,0,0) (0,0.9,0) (0,0,2.5)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(-30,12,99)",
    }
    for line in lines:
        field, _, text = line.partition(": ")
        fields[field] = text
    text = "".join(f"{key}: {one}\n" for key, one in fields.items() if key not in leave)
    body = values.tobytes(order="F") if data is None else data
    path = tmp_path / name
    path.write_bytes(b"NRRD0005\n" + text.encode() + b"\n" + body)
    return path


class TestNrrd:
    @pytest.mark.parametrize("space", ["RAS", "right-anterior-superior", "left-anterior-superior",
                                       "LAS", "LPS"])  # fmt: skip
    def test_spaces_of_the_patient(self, space, tmp_path, write):
        path = nrrd(tmp_path, write.ct(), f"space: {space}")
        twin = SimpleITK.ReadImage(str(path))
        geometry = header(path).geometry
        for index in ((0, 0, 0), (5, 3, 2)):
            np.testing.assert_allclose(geometry.world(index), ras_of(twin, index), atol=1e-9)

    @pytest.mark.parametrize(("line", "leave", "sentence"), [
        ("space: scanner-xyz", (), "left and right of the patient are not known"),
        ("space dimension: 3", ("space",), "directions, but not in which space"),
        ('space units: "m" "m" "m"', (), "not in mm"),
        ("x: y", ("space directions", "space", "space origin"), "states no spacing"),
        ("space directions: (0.7,0,0) (0.7,0,0) (0,0,2.5)", (), "no usable affine"),
        ("space directions: (nan,0,0) (0,0.9,0) (0,0,2.5)", (), "no usable affine"),
        ("encoding: ascii", (), "written as text"),
        ("encoding: lzw", (), "header cannot be read"),
        ("type: block", (), "not plain numbers"),
        ("sizes: 20 16", (), "header cannot be read"),
        ("sizes: 20 16 80", (), "ends before its last voxel"),
        ("sizes: 99999999999 99999999999 9999999999", (), "ends before its last voxel"),
        ("data file: ../a.raw", (), "outside of its folder"),
        ("data file: /etc/passwd", (), "outside of its folder"),
        ("data file: LIST", (), "a list of files"),
        ("data file: a%03d.raw 1 3 1", (), "a list of files"),
        ("data file: gone.raw", (), "is not there"),
        ("line skip: 3", (), "skips part of its data"),
        ("endian: middle", (), "header cannot be read"),
    ])  # fmt: skip
    def test_what_cannot_be_used_is_refused(self, line, leave, sentence, tmp_path, write):
        path = nrrd(tmp_path, write.ct(), line, leave=leave)
        with pytest.raises(ReaderError, match=re.escape(sentence)):
            header(path).voxels[0].check()

    def test_without_orientation_it_is_noted(self, tmp_path, write):
        leave = ("space directions", "space", "space origin")
        path = nrrd(tmp_path, write.ct(), "spacings: 0.7 0.9 2.5", leave=leave)
        found = header(path)
        assert not found.oriented
        assert found.geometry.spacing == pytest.approx((0.7, 0.9, 2.5))

    def test_bzip2_and_byte_skip(self, tmp_path, write):
        import bz2

        body = write.ct().tobytes(order="F")
        packed = nrrd(tmp_path, write.ct(), "encoding: bzip2", data=bz2.compress(body))
        np.testing.assert_array_equal(read(packed).read(), write.ct())
        for line, data in (("byte skip: 7", b"1234567" + body), ("byte skip: -1", b"12" + body)):
            (tmp_path / "b.raw").write_bytes(data)
            path = nrrd(tmp_path, write.ct(), line, "data file: b.raw", name="b.nhdr", data=b"")
            np.testing.assert_array_equal(read(path).read(), write.ct())

    def test_vectors_are_refused_and_lists_need_a_choice(self, tmp_path):
        values = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
        lines = ("dimension: 4", "space directions: none (0.7,0,0) (0,0.9,0) (0,0,2.5)")
        path = nrrd(tmp_path, values, *lines, "kinds: vector domain domain domain")
        with pytest.raises(ReaderError, match="not plain numbers"):
            header(path)
        path = nrrd(tmp_path, values, *lines, "kinds: list domain domain domain")
        with pytest.raises(ReaderError, match="choose one of 2 by the setting `volume`"):
            header(path)
        np.testing.assert_array_equal(read(path, volume=1).read(), values[1])
        with pytest.raises(ReaderError, match="there is no number 2"):
            header(path, volume=2)

    def test_time_as_the_slowest_axis(self, tmp_path):
        values = np.arange(3 * 4 * 5 * 2, dtype=np.int16).reshape(3, 4, 5, 2)
        lines = ("dimension: 4", "space directions: (0.7,0,0) (0,0.9,0) (0,0,2.5) none")
        for extra in ((), ("encoding: gzip",)):
            body = values.tobytes(order="F")
            data = gzip.compress(body) if extra else body
            path = nrrd(tmp_path, values, *lines, *extra, data=data)
            np.testing.assert_array_equal(read(path, volume=1).read(), values[..., 1])


class TestMetaImage:
    def test_a_volume_of_four_dimensions(self, tmp_path, write):
        one, two = itk_image(write.ct(), OBLIQUE), itk_image(write.ct(seed=1), OBLIQUE)
        path = tmp_path / "a.mha"
        SimpleITK.WriteImage(SimpleITK.JoinSeries([one, two]), str(path))
        with pytest.raises(ReaderError, match="choose one of 2"):
            header(path)
        volume = read(path, volume=1)
        np.testing.assert_array_equal(volume.read(), write.ct(seed=1))
        np.testing.assert_allclose(volume.geometry.world((5, 3, 2)), ras_of(two, (5, 3, 2)))

    @pytest.mark.parametrize(("old", "new", "sentence"), [
        (b"DimSize = 20 16 8", b"DimSize = 20 16 9", "ends before its last voxel"),
        (b"DimSize = 20 16 8", b"DimSize = 2000000 1600000 8", "ends before its last voxel"),
        (b"DimSize = 20 16 8", b"DimSize = 20 16", "header cannot be read"),
        (b"DimSize = 20 16 8", b"DimSize = 20 -16 8", "header cannot be read"),
        (b"ElementType = MET_SHORT", b"ElementType = MET_OTHER", "header cannot be read"),
        (b"ElementType", b"ElementNumberOfChannels = 3\nElementType", "not plain numbers"),
        (b"ElementSpacing = 0.7", b"ElementSpacing = -0.7", "header cannot be read"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = ../a.raw", "outside of its folder"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = C:\\a.raw", "outside of its folder"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = LIST", "a list of files"),
        (b"BinaryData = True", b"BinaryData = False", "written as text"),
        (b"Offset = -30", b"Offset = inf", "no usable affine"),
    ])  # fmt: skip
    def test_what_cannot_be_used_is_refused(self, old, new, sentence, tmp_path, write):
        path = tmp_path / "a.mha"
        SimpleITK.WriteImage(itk_image(write.ct()), str(path))
        data = path.read_bytes().replace(b"0.69999999999999996", b"0.7")
        assert old in data
        path.write_bytes(data.replace(old, new))
        with pytest.raises(ReaderError, match=re.escape(sentence)):
            header(path).voxels[0].check()

    def test_vectors_are_refused(self, tmp_path):
        image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 3), np.int16), isVector=True)
        for name in ("a.mha", "a.nrrd"):
            SimpleITK.WriteImage(image, str(tmp_path / name))
            with pytest.raises(ReaderError, match="not plain numbers"):
                header(tmp_path / name)


class TestAPackedFile:
    @pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii.gz"])
    def test_that_claims_more_than_it_holds_is_refused_at_once(self, name, tmp_path):
        """A header of 8 TB over a few kilobytes."""
        values = np.zeros((40, 40, 40), np.int16)
        path = tmp_path / name
        SimpleITK.WriteImage(itk_image(values), str(path), True)
        data = path.read_bytes()
        if name == "a.nii.gz":
            image = nib.load(path)
            image.header["dim"][1:4] = 20000
            content = image.header.binaryblock + gzip.decompress(data)[348:]
            path.write_bytes(gzip.compress(content))
        else:
            path.write_bytes(data.replace(b"40 40 40", b"20000 20000 20000"))
        started = time.perf_counter()
        with pytest.raises(ReaderError, match="ends before its last voxel"):
            header(path).voxels[0].check()
        assert time.perf_counter() - started < 2

    @pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii.gz"])
    def test_that_is_spoiled_within_is_an_error_on_reading(self, name, tmp_path, write):
        path = tmp_path / name
        SimpleITK.WriteImage(itk_image(write.ct()), str(path), True)
        data = bytearray(path.read_bytes())
        data[-40] ^= 0x10
        path.write_bytes(data)
        with pytest.raises(ReaderError, match="damaged"):
            read(path).read()

    def test_of_several_members_is_read_through(self, tmp_path, write):
        body = write.ct().tobytes(order="F")
        data = gzip.compress(body[:999]) + gzip.compress(body[999:])
        path = nrrd(tmp_path, write.ct(), "encoding: gzip", data=data)
        voxels = header(path)
        voxels.voxels[0].check()
        np.testing.assert_array_equal(read(path).read(), write.ct())


class TestPairs:
    def test_headers_with_their_data_apart(self, tmp_path, write, site_key):
        for name in ("p1", "p2"):
            (tmp_path / name).mkdir()
            ending = {"p1": "mhd", "p2": "nhdr"}[name]
            SimpleITK.WriteImage(itk_image(write.ct()), str(tmp_path / name / f"ct.{ending}"))
            mask = itk_image(write.blob().astype(np.uint8))
            SimpleITK.WriteImage(mask, str(tmp_path / name / f"mask.{ending}"), True)
        source = scan(
            [
                SOURCE.validate_python(
                    {
                        "kind": "volumes",
                        "image": "(?P<patient>p[0-9])/ct",
                        "labels": "(?P<patient>p[0-9])/mask",
                        "values": {1: "x"},
                    }
                )
            ],
            tmp_path,
            site_key,
        )
        assert source.inventory.files_used == source.inventory.files_seen == 8
        assert not source.inventory.refused
        for case in source.cases():
            (lesion,) = case.lesions
            assert lesion.voxels == write.blob().sum()
            assert np.linalg.det(case.volume.geometry.affine[:3, :3]) == pytest.approx(
                0.7 * 0.9 * 2.5
            )

    def test_a_segmentation_of_slicer_with_layers(self, tmp_path, write, site_key):
        values = np.zeros((2, 20, 16, 8), np.uint8)
        values[0, 2:5, 3:6, 1:3] = 1
        values[1, 3:8, 3:6, 1:3] = 1
        values[1, 15:17, 3, 4] = 2
        lines = ("dimension: 4", "kinds: list domain domain domain",
                 "space directions: none (0.7,0,0) (0,0.9,0) (0,0,2.5)",
                 "Segment0_Name:=Tumour", "Segment0_LabelValue:=1", "Segment0_Layer:=0",
                 "Segment1_Name:=Doe Jane", "Segment1_LabelValue:=1", "Segment1_Layer:=1",
                 "Segment2_Name:=Cyst", "Segment2_LabelValue:=2", "Segment2_Layer:=1")  # fmt: skip
        (tmp_path / "p1").mkdir()
        made = nrrd(tmp_path, values, *lines)
        text = re.sub(rb"(Segment[0-9]_[A-Za-z]+):=: ", rb"\1:=", made.read_bytes())
        text = re.sub(rb"(Segment[0-9]_[A-Za-z]+:=[A-Za-z0-9 ]+): \n", rb"\1\n", text)
        made.unlink()
        (tmp_path / "p1" / "all.seg.nrrd").write_bytes(text)
        nrrd(tmp_path / "p1", write.ct())
        source = {"kind": "volumes", "image": "(?P<patient>p1)/a", "per": "segment",
                  "labels": "(?P<patient>p1)/all"}  # fmt: skip
        with pytest.raises(ReaderError, match="overlap in 2 layers"):
            scan([SOURCE.validate_python(source)], tmp_path, site_key)
        source["segments"] = {"tumour": "tumour", "Cyst": "cyst"}
        found = scan([SOURCE.validate_python(source)], tmp_path, site_key)
        (case,) = found.cases()
        assert {lesion.label: lesion.voxels for lesion in case.lesions} == {"tumour": 18, "cyst": 2}
        boxes = {lesion.label: lesion.box for lesion in case.lesions}
        assert boxes["cyst"] == (slice(15, 17), slice(3, 4), slice(4, 5))


class TestOnRealFiles:
    def test_tumours_as_simpleitk_measures_them(self, real_data, site_key):
        root = real_data("pyradiomics_nrrd")
        source = scan(
            [
                SOURCE.validate_python(
                    {
                        "kind": "volumes",
                        "image": "(?P<patient>[^/]+)_image",
                        "labels": "(?P<patient>[^/]+)_label",
                        "label": "tumour",
                        "per": "component",
                        "modality": "MR",
                    }
                )
            ],
            root,
            site_key,
        )
        assert [len(case.lesions) for case in source.inventory.cases] == [2, 1]
        for case, name in zip(source.cases(), ("brain1", "breast1"), strict=True):
            image = SimpleITK.ReadImage(str(root / f"{name}_image.nrrd"))
            label = SimpleITK.ReadImage(str(root / f"{name}_label.nrrd"))
            parts = SimpleITK.ConnectedComponent(label > 0, True)
            shapes = SimpleITK.LabelShapeStatisticsImageFilter()
            shapes.ComputeFeretDiameterOn()
            shapes.Execute(parts)
            intensities = SimpleITK.LabelIntensityStatisticsImageFilter()
            intensities.Execute(parts, image)
            expected = sorted(
                (shapes.GetPhysicalSize(one), intensities.GetMean(one), *ras(shapes, one))
                for one in shapes.GetLabels()
            )
            found = []
            for lesion in case.lesions:
                starts = [part.start for part in lesion.box]
                centre = (np.argwhere(lesion.mask) + starts).mean(axis=0)
                found.append((
                    lesion.volume_mm3(case.volume.geometry),
                    case.volume.read(lesion.box)[lesion.mask].mean(dtype=float),
                    *case.volume.geometry.world(centre),
                ))  # fmt: skip
            np.testing.assert_allclose(sorted(found), expected, rtol=1e-6, atol=1e-4)

    @pytest.mark.parametrize("folder", ["dcmqi_seg", "dicom2nifti_cases", "pyradiomics_nrrd"])
    def test_every_volume_lies_where_itk_has_it(self, folder, real_data):
        count = 0
        for path in sorted(real_data(folder).rglob("*")):
            if not path.name.endswith((".nrrd", ".nii.gz", ".nii")):
                continue
            twin = SimpleITK.ReadImage(str(path))
            if twin.GetDimension() != 3 or twin.GetNumberOfComponentsPerPixel() != 1:
                with pytest.raises(ReaderError):
                    header(path)
                continue
            volume = read(path)
            last = np.array(volume.geometry.shape) - 1
            for index in (np.zeros(3), last):
                np.testing.assert_allclose(
                    volume.geometry.world(index), ras_of(twin, index), atol=1e-2
                )
            values = SimpleITK.GetArrayViewFromImage(twin).transpose(2, 1, 0)
            np.testing.assert_allclose(volume.read(), values, rtol=1e-5)
            count += 1
        assert count >= 4


def ras(shapes, one):
    at = np.eye(4)
    at[:3, 3] = shapes.GetCentroid(one)
    return lps_to_ras(at)[:3, 3]
