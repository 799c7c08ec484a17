"""What every reader promises, whatever kind of file it reads."""

import dataclasses
import gc
import json
import logging
import pickle
import shutil
import warnings
import weakref

import numpy as np
import pytest
from pydantic import TypeAdapter

from medaug.domain import Unit
from medaug.errors import ReaderError
from medaug.progress import Silent
from medaug.readers.dicom import pixels as dicom_pixels
from medaug.readers.pictures import cases as images
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan
from medaug.readers.volumes import raw_voxels
from medaug.spread import in_turn

SETTINGS = TypeAdapter(list[SourceSettings])
MARKER = "XyzzyMARKER"
SEG = {"kind": "seg", "labels": {"Cyst": "cyst", "Neoplasm, primary": "tumour"}}


def dicom_seg(root, write):
    values = {}
    for number in range(3):
        values[number] = write.ct(seed=number)
        series = write.series(
            root / f"p{number}" / "ct", values[number], patient=f"id{number}", seed=number
        )
        write.seg(root / f"p{number}" / "seg.dcm", series, {"Cyst": write.blob()})
    return [{"kind": "dicom", "lesions": [SEG]}], values


def dicom_masks(root, write):
    values = {}
    for number in range(3):
        values[number] = write.ct(seed=number)
        folder = root / f"p{number}"
        write.series(folder / "PATIENT", values[number], patient="", seed=number, extension="")
        mask = np.where(write.blob(), 255, 0)
        write.series(folder / "MASKS" / "cyst", mask, patient="", seed=9, intercept=0, extension="")
    rule = {"kind": "mask-series", "path": "MASKS/(?P<label>[a-z]+)/"}
    patient = {"path": "^(?P<patient>p[0-9])/"}
    return [{"kind": "dicom", "patient": patient, "lesions": [rule]}], values


def niftis(root, write):
    values = {}
    for number in range(3):
        values[number] = write.ct(seed=number)
        write.nifti(root / f"p{number}" / "ct.nii.gz", values[number])
        write.nifti(root / f"p{number}" / "mask.nii.gz", write.blob().astype(np.uint8))
    source = {
        "kind": "volumes",
        "image": "(?P<patient>p[0-9])/ct",
        "labels": "(?P<patient>p[0-9])/mask",
        "values": {1: "cyst"},
        "modality": "CT",
        "unit": "HU",
    }
    return [source], values


def pictures(root, write):
    values = {}
    for number in range(3):
        plane = np.random.default_rng(number).integers(0, 60000, (12, 20)).astype(np.uint16)
        values[number] = plane.T[:, :, None]
        write.picture(root / "cyst" / f"p{number}.png", plane)
    pattern = "(?P<label>cyst)/(?P<patient>p[0-9])"
    return [{"kind": "images", "pattern": pattern}], values


READERS = [dicom_seg, dicom_masks, niftis, pictures]


@pytest.fixture(params=READERS, ids=lambda reader: reader.__name__)
def cohort(request, tmp_path, write):
    root = tmp_path / "data"
    sources, values = request.param(root, write)
    (root / "notes.txt").write_text("stray")
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    return SETTINGS.validate_python(sources), root, values


def _whole(case):
    return case.volume.read()


class TestEveryReader:
    def test_the_voxels_are_those_that_were_written(self, cohort, site_key):
        sources, root, values = cohort
        cases = list(scan(sources, root, site_key).cases())
        assert len(cases) == 3
        for number, case in enumerate(cases):
            whole = case.volume.read()
            assert whole.dtype == np.float32
            # Axial test series may be read from either end; the world decides (test_geometry).
            np.testing.assert_array_equal(whole, values[number])
            box = case.lesions[0].box
            np.testing.assert_array_equal(case.volume.read(box), values[number][box])

    def test_a_case_travels_to_another_process_without_its_pixels(self, cohort, site_key):
        sources, root, _ = cohort
        packets = []

        def through_pickles(work, items, lost):  # noqa: ARG001
            for item in items:
                packets.append(pickle.dumps((work, item)))
                there, with_it = pickle.loads(packets[-1])
                yield pickle.loads(pickle.dumps(there(with_it)))

        here, there = (
            scan(sources, root, site_key, spread=spread) for spread in (in_turn, through_pickles)
        )
        assert here.inventory == there.inventory
        voxels = [
            [voxels.tobytes() for _, voxels in source.each(_whole, spread)]
            for source, spread in ((here, in_turn), (there, through_pickles))
        ]
        assert voxels[0] == voxels[1]
        assert len(packets) == 6
        # What a header says, for at most 16 files here, and no voxel.
        assert max(map(len, packets)) < 16 * 1500

    def test_a_case_that_changes_or_kills_is_told_and_the_others_go_on(self, cohort, site_key):
        sources, root, _ = cohort

        def losing(work, items, lost):
            return (lost(item, "gone") if at == 1 else work(item) for at, item in enumerate(items))

        source = scan(sources, root, site_key)
        for path in list(root.glob("p2/**/*")) + list(root.glob("cyst/p2.png")):
            if path.is_file():
                path.write_bytes(b"")
        first, second, third = source.each(_whole, losing)
        assert first[1].size
        assert second[1].reason == "gone"
        assert third[1].reason.startswith("since it was inspected: ")
        left = scan(sources, root, site_key, spread=losing)
        assert len(left.inventory.cases) == 1
        assert any(entry.reason == "gone" for entry in left.inventory.refused)

    def test_progress_counts_the_bytes_of_the_files(self, cohort, site_key):
        sources, root, _ = cohort
        told = []

        class Listening(Silent):
            def start(self, what, total, unit=""):
                told.append([what, unit, total, 0])

            def advance(self, steps=1, note=""):  # noqa: ARG002
                told[-1][3] += steps

        source = scan(sources, root, site_key, Listening())
        told.append(["cutting", "B", source.size, 0])
        list(source.each(_whole, progress=Listening()))
        every = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        assert [unit for _, unit, _, _ in told] == ["B", "B", "B"]
        assert all(done == total for *_, total, done in told)
        assert told[0][2] == every
        assert told[1][2] == told[2][2] == every - len("stray") - len(b"\0\0\0\1Bud1")

    def test_the_lesions_are_those_that_were_marked(self, cohort, write, site_key):
        sources, root, _ = cohort
        for case in scan(sources, root, site_key).cases():
            (lesion,) = case.lesions
            assert lesion.label == "cyst"
            assert lesion.patient == case.patient
            if lesion.mask is not None:
                marked = np.zeros(case.volume.geometry.shape, bool)
                marked[lesion.box] = lesion.mask
                np.testing.assert_array_equal(marked, write.blob())

    def test_the_inventory_tells_what_the_cases_hold(self, cohort, site_key):
        sources, root, _ = cohort
        source = scan(sources, root, site_key)
        document = json.loads(json.dumps(source.inventory.document()))
        cases = list(source.cases())
        assert [entry["case"] for entry in document["cases"]] == [case.key for case in cases]
        assert [entry["patient"] for entry in document["cases"]] == [
            case.patient.token for case in cases
        ]
        assert document["patients"] == len({case.patient for case in cases}) == 3
        assert document["classes"] == {"cyst": {"lesions": 3, "patients": 3}}
        for entry, case in zip(document["cases"], cases, strict=True):
            (listed,), (lesion,) = entry["lesions"], case.lesions
            assert listed["voxels"] == lesion.voxels
            assert listed["tracking_uid"] == lesion.tracking_uid
            if case.volume.geometry.in_millimetres:
                expected = lesion.voxels * 0.7 * 0.9 * 2.5
                assert listed["volume_mm3"] == pytest.approx(expected, abs=1e-3)
                assert entry["spacing_mm"] == pytest.approx([0.7, 0.9, 2.5])
                assert entry["unit"] == Unit.HOUNSFIELD.value
            else:
                assert listed["volume_mm3"] is None
                assert entry["spacing_mm"] is None

    def test_every_file_is_used_or_refused_with_its_reason(self, cohort, site_key):
        sources, root, _ = cohort
        document = scan(sources, root, site_key).inventory.document()
        files = [path for path in root.rglob("*") if path.is_file()]
        refused = sum(entry["files"] for entry in document["refused"])
        assert document["files"]["seen"] == len(files)
        assert document["files"]["used"] + refused == len(files)
        assert document["files"]["used"] == sum(entry["files"] for entry in document["cases"])
        assert refused == 2

    def test_another_site_key_changes_every_token_and_nothing_else(self, cohort, site_key):
        sources, root, _ = cohort
        ours = scan(sources, root, site_key).inventory.document()
        again = scan(sources, root, site_key).inventory.document()
        theirs = scan(sources, root, b"\1" * 32).inventory.document()
        assert ours == again
        for mine, other in zip(ours["cases"], theirs["cases"], strict=True):
            for name in ("case", "patient"):
                assert mine.pop(name) != other.pop(name)
            for lesion, foreign in zip(mine["lesions"], other["lesions"], strict=True):
                assert lesion.pop("tracking_uid") != foreign.pop("tracking_uid")
        for mine, other in zip(ours["fates"], theirs["fates"], strict=True):
            assert mine.pop("cases", None) != other.pop("cases", None) or "cases" not in mine
        assert ours == theirs

    def test_tokens_do_not_depend_on_where_the_data_lie(self, cohort, site_key, tmp_path):
        sources, root, _ = cohort
        before = scan(sources, root, site_key).inventory.document()
        moved = shutil.move(root, tmp_path / "elsewhere")
        assert scan(sources, type(root)(moved), site_key).inventory.document() == before

    def test_cases_do_not_stay_in_memory(self, cohort, site_key):
        sources, root, _ = cohort
        seen = []
        for case in scan(sources, root, site_key).cases():
            case.volume.read()
            seen.append(weakref.ref(case))
            del case
            gc.collect()
            assert sum(ref() is not None for ref in seen) == 0

    def test_a_case_that_has_gone_since_the_scan_is_an_error(self, cohort, site_key):
        sources, root, _ = cohort
        source = scan(sources, root, site_key)
        for path in sorted(root.rglob("*"), reverse=True):
            if path.is_file():
                path.write_bytes(b"")
        with pytest.raises(ReaderError, match=r"since it was inspected|cannot be decoded"):
            next(source.cases()).volume.read()


class TestOnlyWhatIsAskedForIsDecoded:
    def test_dicom_slices(self, tmp_path, write, site_key, monkeypatch):
        sources, _ = dicom_seg(tmp_path, write)
        decoded = []
        honest = dicom_pixels.stored_values
        monkeypatch.setattr(
            dicom_pixels, "stored_values", lambda one: decoded.append(one) or honest(one)
        )
        source = scan(SETTINGS.validate_python(sources), tmp_path, site_key)
        assert {one.instance for one in decoded} <= {
            one.instance
            for files in source._files
            for at, one in enumerate(files._stack.slices)
            if at in (0, 4, 7)
        }, "more than the first, the middle and the last slice"
        decoded.clear()
        case = next(source.cases())
        assert not decoded
        box = case.lesions[0].box
        planes = box[2].stop - box[2].start
        case.volume.read((slice(0, 3), slice(0, 3), slice(2, 4)))
        assert len(decoded) == 2
        case.volume.read((slice(5, 9), slice(0, 3), slice(3, 5)))
        assert len(decoded) == 3, "a slice that a neighbour read is decoded again"
        case.volume.read(box)
        assert planes == 5
        assert len(decoded) == 5

    def test_a_packed_nifti_is_unpacked_once_per_case(self, tmp_path, write, site_key, monkeypatch):
        sources, _ = niftis(tmp_path, write)
        unpacked = []
        honest = raw_voxels.RawVoxels.unpack
        monkeypatch.setattr(
            raw_voxels.RawVoxels, "unpack", lambda one: unpacked.append(one.name) or honest(one)
        )
        source = scan(SETTINGS.validate_python(sources), tmp_path, site_key)
        assert unpacked == [f"p{number}/mask.nii.gz" for number in range(3)]
        unpacked.clear()
        for case in source.cases():
            for k in range(4):
                case.volume.read((slice(0, 2), slice(0, 2), slice(k, k + 1)))
        images_unpacked = [name for name in unpacked if "ct" in name]
        assert images_unpacked == [f"p{number}/ct.nii.gz" for number in range(3)]

    def test_pictures(self, tmp_path, write, site_key, monkeypatch):
        sources, _ = pictures(tmp_path, write)
        decoded = []
        honest = images.decode_picture
        monkeypatch.setattr(
            images, "decode_picture", lambda file: decoded.append(file.name) or honest(file)
        )
        source = scan(SETTINGS.validate_python(sources), tmp_path, site_key)
        for case in source.cases():
            case.volume.read()
            case.volume.read()
        assert len(decoded) == 6, "once for the scan and once for the case"


def _strings(thing, seen):
    """Every text reachable through fields, closures and containers, and every repr."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, str | bytes):
        yield str(thing)
        return
    if not isinstance(thing, np.ndarray):
        yield repr(thing)
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            yield from _strings(getattr(thing, field.name), seen)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from _strings(key, seen)
            yield from _strings(value, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        for part in thing:
            yield from _strings(part, seen)


def _plant_dicom(root):
    """The marker in every text attribute, in private tags, and where it provokes a warning."""
    import pydicom
    from pydicom.datadict import DicomDictionary

    kept = {"PatientID"}
    plain = {"LO": 64, "SH": 16, "LT": 100, "ST": 100, "UT": 100, "PN": 60, "UC": 100}
    for path in root.rglob("*"):
        if not path.is_file() or path.suffix in (".txt", ""):
            continue
        one = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            for tag, (vr, vm, _, retired, keyword) in DicomDictionary.items():
                in_image = tag >> 16 in (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0040, 0x0032)
                text = vr in plain and vm[0] == "1" and in_image and not retired
                if text and keyword not in kept and "CodingScheme" not in keyword:
                    setattr(one, keyword, MARKER)
            one.PatientID = f"{MARKER}{one.PatientID}"
            one.InstanceCreatorUID = MARKER  # no UID: pydicom warns and quotes it
            one.AcquisitionDate = MARKER
            one.SpecificCharacterSet = MARKER
            one.StationName = MARKER
            block = one.private_block(0x0011, MARKER, create=True)
            block.add_new(1, "LO", MARKER)
            for segment in one.get("SegmentSequence", ()):
                segment.SegmentLabel = segment.SegmentDescription = MARKER
                segment.TrackingID, segment.TrackingUID = MARKER, MARKER
            one.save_as(path)


def _plant_nifti(root):
    import nibabel as nib

    for path in root.rglob("*.nii.gz"):
        image = nib.load(path)
        image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
        for name in ("descrip", "db_name", "aux_file", "intent_name"):
            image.header[name] = MARKER.encode()
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", MARKER.encode()))
        nib.save(image, path)


class TestIdentifiersStopHere:
    @pytest.mark.parametrize(("make", "plant"), [(dicom_seg, _plant_dicom), (niftis, _plant_nifti)])
    def test_a_marker_in_every_text_appears_nowhere(
        self, make, plant, tmp_path, write, site_key, caplog, capfd
    ):
        sources, _ = make(tmp_path, write)
        with warnings.catch_warnings(action="ignore"):
            plant(tmp_path)
        caplog.clear()
        capfd.readouterr()
        caplog.set_level(logging.DEBUG)
        planted = [p for p in tmp_path.rglob("*.*") if p.is_file()]
        if make is dicom_seg:
            assert all(MARKER.encode() in path.read_bytes() for path in planted)
        source = scan(SETTINGS.validate_python(sources), tmp_path, site_key)
        cases = list(source.cases())
        assert len(cases) == 3
        for case in cases:
            case.volume.read()
        texts = list(
            _strings([source, source.inventory, source.inventory.document(), cases], set())
        )
        assert len(texts) > 50
        leaked = [text for text in texts if MARKER.lower() in text.lower()]
        assert not leaked
        shown = capfd.readouterr()
        assert MARKER not in caplog.text + shown.out + shown.err

    def test_the_marker_test_would_find_one(self, tmp_path, write, site_key):
        sources, _ = dicom_seg(tmp_path, write)
        source = scan(SETTINGS.validate_python(sources), tmp_path, site_key)
        case = next(source.cases())
        spoiled = dataclasses.replace(case, key=MARKER)
        assert any(MARKER in text for text in _strings([spoiled], set()))
