"""The files as an independent reader sees them: pydicom, highdicom and nibabel, none of ours."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from medaug.errors import SettingsError
from medaug.phantom import KINDS, PhantomPatient, make_patient
from medaug.phantom.dicom_files import write_dicom
from medaug.phantom.marker import KEPT, TEXT_VRS, check_marker
from medaug.phantom.nifti_files import ORIENTATIONS, write_nifti

MARKER = "QXZMARK7"
SEED = 21


@pytest.fixture(scope="module")
def shows_all() -> PhantomPatient:
    """A patient with all three kinds; how it is written depends on the number alone."""
    return make_patient(SEED, 3)


@pytest.fixture(scope="module", params=[0, 2, 4])
def in_dicom(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    shows_all: PhantomPatient,
) -> tuple[PhantomPatient, Path]:
    folder = tmp_path_factory.mktemp("dicom")
    patient = replace(shows_all, number=request.param)
    write_dicom(patient, folder)
    return patient, folder


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory, shows_all: PhantomPatient) -> Path:
    """One patient in both formats, with the marker."""
    folder = tmp_path_factory.mktemp("marked")
    write_dicom(shows_all, folder, MARKER)
    write_nifti(shows_all, folder, MARKER)
    return folder


def series(folder: Path) -> list[pydicom.Dataset]:
    """The CT images in order of position along the normal."""
    found = [pydicom.dcmread(path) for path in (folder / "ct").iterdir()]
    return sorted(found, key=lambda dataset: float(dataset.ImagePositionPatient[2]))


def patient_point(dataset: pydicom.Dataset, row: float, column: float) -> np.ndarray:
    """RAS mm of a pixel, by the equation of DICOM PS3.3 C.7.6.2.1.1, from one image's header."""
    along_row, along_column = np.reshape(dataset.ImageOrientationPatient, (2, 3)).astype(float)
    row_mm, column_mm = (float(value) for value in dataset.PixelSpacing)
    lps = np.array(dataset.ImagePositionPatient, dtype=float)
    lps = lps + along_row * column_mm * column + along_column * row_mm * row
    return lps * (-1, -1, 1)


class TestDicom:
    def test_voxels_come_back_through_the_rescale(self, in_dicom) -> None:
        patient, folder = in_dicom
        for k, dataset in enumerate(series(folder)):
            hu = dataset.pixel_array * dataset.RescaleSlope + dataset.RescaleIntercept
            assert np.array_equal(hu.T, patient.voxels[:, :, k])

    def test_lesion_centres_come_back_in_mm(self, in_dicom) -> None:
        patient, folder = in_dicom
        planes = {dataset.SOPInstanceUID: dataset for dataset in series(folder)}
        segmentation = hd.seg.segread(folder / "seg.dcm")
        frames = segmentation.get_pixels_by_source_instance(
            list(planes), combine_segments=False, assert_missing_frames_are_empty=True
        )
        for order, lesion in enumerate(patient.lesions):
            points = [
                patient_point(dataset, row, column)
                for dataset, frame in zip(planes.values(), frames[..., order], strict=True)
                for row, column in np.argwhere(frame)
            ]
            assert np.linalg.norm(np.mean(points, axis=0) - lesion.centre_mm) < 1.5

    def test_segments_carry_snomed_codes(self, in_dicom) -> None:
        patient, folder = in_dicom
        known = {
            "cyst": codes.SCT.Cyst,
            "metastasis": codes.SCT.Metastasis,
            "haemangioma": codes.SCT.Hemangioma,
        }
        segmentation = hd.seg.segread(folder / "seg.dcm")
        assert segmentation.number_of_segments == len(patient.lesions)
        for order, lesion in enumerate(patient.lesions, start=1):
            segment = segmentation.get_segment_description(order)
            assert segment.segmented_property_type == known[lesion.kind]
            assert segment.segmented_property_type.meaning == known[lesion.kind].meaning
            assert segment.segment_label == lesion.kind
        assert len(set(segmentation.get_tracking_ids())) == len(patient.lesions)

    def test_files_are_in_no_order(self, in_dicom) -> None:
        _, folder = in_dicom
        by_name = [
            int(pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber)
            for path in sorted((folder / "ct").iterdir())
        ]
        assert by_name != sorted(by_name)
        assert by_name != sorted(by_name, reverse=True)
        assert len(set(by_name)) == len(by_name)

    def test_patients_differ_in_what_archives_differ_in(self, in_dicom) -> None:
        patient, folder = in_dicom
        first = series(folder)[0]
        numbers = [int(dataset.InstanceNumber) for dataset in series(folder)]
        found = (first.PixelRepresentation, int(first.RescaleIntercept), first.BitsStored)
        assert (*found, min(numbers)) == {
            0: (0, -1024, 16, 1),
            2: (1, 0, 16, 1),
            4: (0, -1024, 12, 0),
        }[patient.number]

    def test_uids_are_valid_and_differ_between_patients_and_seeds(self, in_dicom) -> None:
        patient, folder = in_dicom
        uids = [dataset.SOPInstanceUID for dataset in series(folder)]
        assert len(set(uids)) == len(uids)
        assert all(uid.is_valid for uid in uids)
        assert len({dataset.SeriesInstanceUID for dataset in series(folder)}) == 1
        segmentation = pydicom.dcmread(folder / "seg.dcm")
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
            assert segmentation[keyword].value == series(folder)[0][keyword].value
        assert series(folder)[0].PatientID == f"PH{patient.number:04d}"


class TestNifti:
    @pytest.mark.parametrize("number", [1, 3, 5, 7, 9])
    def test_voxels_and_centres_come_back_in_any_orientation(
        self, number: int, tmp_path: Path, shows_all: PhantomPatient
    ) -> None:
        patient = replace(shows_all, number=number)
        write_nifti(patient, tmp_path)
        ct, lesions = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("ct", "lesions"))
        assert "".join(nib.aff2axcodes(ct.affine)) == ORIENTATIONS[number // 2]
        assert ct.get_data_dtype() == np.int16
        assert lesions.get_data_dtype() == np.uint8
        assert np.allclose(ct.affine, lesions.affine)
        assert ct.header.get_xyzt_units()[0] == "mm"

        labels, voxels = np.asarray(lesions.dataobj), np.asarray(ct.dataobj)
        for lesion in patient.lesions:
            middle = np.linalg.inv(lesions.affine) @ [*lesion.centre_mm, 1]
            at = tuple(np.rint(middle[:3]).astype(int))
            assert labels[at] == 1 + KINDS.index(lesion.kind)
            where = tuple(np.rint(patient.geometry.index(lesion.centre_mm)).astype(int))
            assert voxels[at] == patient.voxels[where]

    def test_all_lesions_of_a_kind_share_a_value(
        self, tmp_path: Path, shows_all: PhantomPatient
    ) -> None:
        patient = shows_all
        write_nifti(patient, tmp_path)
        labels = np.asarray(nib.load(tmp_path / "lesions.nii.gz").dataobj)
        for value, kind in enumerate(KINDS, start=1):
            orders = [n for n, lesion in enumerate(patient.lesions, 1) if lesion.kind == kind]
            assert (labels == value).sum() == np.isin(patient.labels, orders).sum()


class TestMarker:
    def test_stands_in_every_text_of_the_dicom_files(self, marked: Path) -> None:
        texts = 0
        for path in [*(marked / "ct").iterdir(), marked / "seg.dcm"]:
            for element in pydicom.dcmread(path).iterall():
                if element.VR in TEXT_VRS and element.keyword not in KEPT:
                    values = element.value if element.VM > 1 else [element.value]
                    assert all(str(value).startswith(MARKER) for value in values), element
                    assert all(str(value).count(MARKER) == 1 for value in values), element
                    assert all(len(str(value)) <= TEXT_VRS[element.VR] for value in values)
                    texts += 1
                elif element.VR not in ("OB", "OW", "SQ"):
                    assert MARKER not in str(element.value), element
        assert texts > 30 * len(list((marked / "ct").iterdir()))

    def test_texts_that_name_people_are_there(self, marked: Path) -> None:
        dataset = pydicom.dcmread(next((marked / "ct").iterdir()))
        for keyword in (
            *("PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientComments"),
            *("InstitutionName", "InstitutionAddress", "StationName", "ReferringPhysicianName"),
            *("OperatorsName", "AccessionNumber", "StudyID", "StudyDescription", "ImageComments"),
        ):
            assert MARKER in str(dataset[keyword].value)
        assert MARKER in dataset[0x0009, 0x0010].value, "private creator"
        assert MARKER in dataset[0x0009, 0x1001].value, "private text"

    def test_leaves_codes_and_labels_alone(self, marked: Path) -> None:
        segmentation = hd.seg.segread(marked / "seg.dcm")
        for segment in segmentation.SegmentSequence:
            assert segment.SegmentLabel in KINDS
            for code in segment.SegmentedPropertyTypeCodeSequence:
                assert MARKER not in f"{code.CodeValue}{code.CodeMeaning}"
        assert pydicom.dcmread(next((marked / "ct").iterdir())).RescaleType == "HU"

    @pytest.mark.parametrize("name", ["ct", "lesions"])
    def test_stands_in_the_nifti_headers(self, marked: Path, name: str) -> None:
        header = nib.load(marked / f"{name}.nii.gz").header
        for field in ("descrip", "aux_file", "db_name"):
            assert MARKER in header[field].item().decode()
        assert any(MARKER.encode() in extension.content for extension in header.extensions)

    def test_stands_nowhere_without_being_asked_for(self, in_dicom: tuple[PhantomPatient, Path]):
        for path in in_dicom[1].rglob("*.dcm"):
            assert MARKER.encode() not in path.read_bytes()

    @pytest.mark.parametrize("marker", ["abc", "with space", "A" * 17, "back\\slash", ""])
    def test_must_fit_every_text(self, marker: str) -> None:
        with pytest.raises(SettingsError, match="4 to 16"):
            check_marker(marker)
