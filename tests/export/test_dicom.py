"""DICOM: built from an allow-list, marked as synthetic, and valid for a validator."""

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest

from medaug.domain import Rescale, Unit, Window
from medaug.errors import SettingsError
from medaug.export.dicom import IMPLEMENTATION
from medaug.export.settings import ExportSettings, Finding
from medaug.export.words import NOTICE
from medaug.export.write import write_release

# Everything that a file may hold, wherever it stands.
ALLOWED = {
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "SyntheticData",
    "Modality",
    "ConversionType",
    "ImageType",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyDescription",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "ReferringPhysicianName",
    "AccessionNumber",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "ContributingEquipmentSequence",
    "PurposeOfReferenceCodeSequence",
    "CodeValue",
    "CodingSchemeDesignator",
    "CodeMeaning",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "PatientOrientation",
    "ImageComments",
    "DerivationDescription",
    "BodyPartExamined",
    "ImageLaterality",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "NominalScannedPixelSpacing",
    "PixelSpacing",
    "AcquisitionContextSequence",
    "ValueType",
    "ConceptNameCodeSequence",
    "ConceptCodeSequence",
    "TextValue",
    "PixelData",
}
EMPTY = [
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "ReferringPhysicianName",
    "AccessionNumber",
    "PatientOrientation",
    "ImageLaterality",
]


def write(release, folder: Path, window: Window, seed: int = 1, **settings) -> list[Path]:
    write_release(
        release, folder, ExportSettings(**settings), name="trial", seed=seed, window=window
    )
    return sorted((folder / "dicom").rglob("*.dcm"))


@pytest.fixture(scope="module")
def paths(make_release, windows, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("dicom") / "release"
    release = make_release(classes=("cyst", "oddity"), per_class=6)
    return write(release, folder, windows[release.unit], body_part="LIVER", licence="CC-BY-4.0")


@pytest.fixture(scope="module")
def datasets(paths) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in paths]


class TestAllowList:
    """Outputs are built from an allow-list, never by cleaning a copy."""

    def test_nothing_else_is_written(self, datasets) -> None:
        for dataset in datasets:
            assert {element.keyword for element in dataset.iterall()} == ALLOWED - (
                {"TextValue"} if "CODE" in str(dataset) else {"ConceptCodeSequence"}
            )

    def test_what_nobody_knows_is_empty(self, datasets) -> None:
        for dataset in datasets:
            assert all(dataset[keyword].is_empty for keyword in EMPTY)

    def test_no_value_representation_of_a_date_or_time_is_filled(self, datasets) -> None:
        for dataset in datasets:
            assert not [
                element
                for element in dataset.iterall()
                if element.VR in {"DA", "TM", "DT"} and not element.is_empty
            ]

    def test_file_meta(self, datasets) -> None:
        for dataset in datasets:
            meta = dataset.file_meta
            assert meta.ImplementationClassUID == IMPLEMENTATION
            assert {element.keyword for element in meta} == {
                "FileMetaInformationGroupLength",
                "FileMetaInformationVersion",
                "MediaStorageSOPClassUID",
                "MediaStorageSOPInstanceUID",
                "TransferSyntaxUID",
                "ImplementationClassUID",
                "ImplementationVersionName",
            }
            assert dataset.preamble == bytes(128)


def test_a_mask_adds_one_overlay_plane_and_nothing_else(make_release, windows, tmp_path) -> None:
    """The allow-list of an image with a mask; every value is that of PS3.3 C.9.2 and C.9.2.1."""
    release = make_release(classes=("cyst",), masks=True)
    for path in write(release, tmp_path / "r", windows[release.unit], body_part="LIVER"):
        dataset = pydicom.dcmread(path)
        overlay = dataset.group_dataset(0x6000)
        rest = [element for element in dataset.iterall() if element.tag.group != 0x6000]
        assert {element.keyword for element in rest} <= ALLOWED
        assert [(element.name, element.value) for element in overlay][:-1] == [
            ("Overlay Rows", 20),
            ("Overlay Columns", 16),
            ("Overlay Description", "Lesion, drawn with the image"),
            ("Overlay Type", "R"),
            ("Overlay Origin", [1, 1]),
            ("Overlay Bits Allocated", 1),
            ("Overlay Bit Position", 0),
            ("ROI Area", int(dataset.overlay_array(0x6000).sum())),
        ]
        assert len(dataset[0x6000, 0x3000].value) == 20 * 16 / 8


@pytest.mark.parametrize("kind", [{"slices": 4}, {"channels": 3}])
def test_a_slice_of_a_sample_adds_its_place_and_nothing_else(
    kind, make_release, windows, tmp_path
) -> None:
    release = make_release(classes=("cyst",), **kind)
    for path in write(release, tmp_path / "r", windows[release.unit], body_part="LIVER"):
        added = {element.keyword for element in pydicom.dcmread(path).iterall()} - ALLOWED
        assert added == {
            "FrameOfReferenceUID",
            "PositionReferenceIndicator",
            "ImageOrientationPatient",
            "ImagePositionPatient",
            "SpacingBetweenSlices",
        }


class TestMarks:
    """Whoever opens a file learns that no patient was imaged."""

    def test_says_synthetic_in_every_way_it_can(self, datasets) -> None:
        for dataset in datasets:
            assert dataset[0x0008, 0x001C].value == "YES"
            assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
            assert dataset.ConversionType == "SYN"
            assert dataset.SeriesDescription == dataset.ImageComments == NOTICE
            assert NOTICE in dataset.DerivationDescription
            assert "CC-BY-4.0" in dataset.DerivationDescription
            assert dataset.PatientName == "SYNTHETIC^MEDAUG"
            assert dataset.PatientIdentityRemoved == "YES"
            assert dataset.BurnedInAnnotation == "NO"
            equipment = dataset.ContributingEquipmentSequence[0]
            purpose = equipment.PurposeOfReferenceCodeSequence[0]
            assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
            assert equipment.SoftwareVersions == dataset.SoftwareVersions

    def test_claims_no_profile(self, datasets) -> None:
        for dataset in datasets:
            assert "DeidentificationMethodCodeSequence" not in dataset
            assert "profile" not in str(dataset.DeidentificationMethod).lower()

    def test_the_class_is_a_finding(self, datasets) -> None:
        for dataset, label in zip(datasets, ["cyst"] * 6 + ["oddity"] * 6, strict=True):
            finding = dataset.AcquisitionContextSequence[0]
            name = finding.ConceptNameCodeSequence[0]
            assert (name.CodeValue, name.CodingSchemeDesignator) == ("121071", "DCM")
            if label == "cyst":
                code = finding.ConceptCodeSequence[0]
                assert (code.CodeValue, code.CodingSchemeDesignator) == ("367643001", "SCT")
            else:
                assert finding.TextValue == "oddity"

    def test_viewing_window_and_spacing(self, datasets) -> None:
        for dataset in datasets:
            assert (dataset.WindowCenter, dataset.WindowWidth) == (50, 300)
            assert dataset.PixelSpacing == dataset.NominalScannedPixelSpacing == [0.75, 0.75]
            assert dataset.RescaleType == "HU"


def test_built_in_codes_are_those_of_the_standard() -> None:
    from pydicom.sr.codedict import codes

    from medaug.export.settings import BUILT_IN_FINDINGS

    standard = {
        "cyst": codes.SCT.Cyst,
        "metastasis": codes.SCT.Metastasis,
        "haemangioma": codes.cid6030.Hemangioma,
    }
    for label, code in standard.items():
        found = BUILT_IN_FINDINGS[label]
        assert (found.value, found.scheme, found.meaning) == (code.value, "SCT", code.meaning)


class TestIdentifiers:
    """Fresh random UIDs from the release's own stream; a seeded build repeats them."""

    def test_one_study_a_series_per_class_and_every_instance_its_own(self, datasets) -> None:
        assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1
        assert len({dataset.PatientID for dataset in datasets}) == 1
        assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 2
        assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)
        assert len({dataset.InstanceNumber for dataset in datasets}) == len(datasets)
        for dataset in datasets:
            assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
            for uid in (dataset.SOPInstanceUID, dataset.StudyInstanceUID):
                assert uid.is_valid
                assert uid.startswith("2.25.")

    def test_other_seed_or_other_pixels_share_none(self, make_release, windows, tmp_path) -> None:
        builds = {}
        for name, seed, pixels in (("a", 1, 0), ("b", 2, 0), ("c", 1, 9)):
            release = make_release(seed=pixels)
            found = write(release, tmp_path / name, windows[release.unit], seed)
            read = [pydicom.dcmread(path) for path in found]
            builds[name] = {
                str(element.value)
                for dataset in read
                for element in dataset
                if element.keyword in {"PatientID", "StudyInstanceUID", "SeriesInstanceUID"}
                or element.keyword == "SOPInstanceUID"
            }
            builds[name + "pixels"] = {dataset.PixelData for dataset in read}
        assert not builds["a"] & builds["b"]
        assert not builds["a"] & builds["c"]
        assert builds["apixels"] == builds["bpixels"] != builds["cpixels"]


def test_a_finding_of_the_user_wins(make_release, windows, tmp_path) -> None:
    mine = Finding(value="4147007", scheme="SCT", meaning="Mass")
    release = make_release(per_class=1)
    path = write(release, tmp_path / "r", windows[release.unit], findings={"cyst": mine})[0]
    code = pydicom.dcmread(path).AcquisitionContextSequence[0].ConceptCodeSequence[0]
    assert code.CodeValue == "4147007"


def test_a_rescale_that_decimal_strings_cannot_carry_is_refused(
    make_release, windows, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(Rescale, "of", lambda *_: Rescale(1 / 3, 0.0))
    release = make_release(Unit.ARBITRARY)
    with pytest.raises(SettingsError, match="16"):
        write(release, tmp_path / "r", windows[release.unit])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("body_part", [None, "BREAST", "LIVER"])
@pytest.mark.parametrize("kind", [{}, {"masks": True}, {"masks": True, "slices": 2}])
def test_dciodvfy_finds_no_error(unit, body_part, kind, make_release, windows, tmp_path) -> None:
    spacing = 0.0 if body_part is None else 0.5
    release = make_release(unit, per_class=1, mm_per_pixel=spacing, **kind)
    for path in write(release, tmp_path / "r", windows[unit], body_part=body_part):
        # Its exit code is 0 even on errors: the text counts.
        answer = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        lines = (answer.stdout + answer.stderr).splitlines()
        assert "SCImage" in lines
        errors = [line for line in lines if line.startswith("Error")]
        # Its release is older than the attribute (Synthetic Data, DICOM 2023).
        assert [line for line in errors if "(0x0008,0x001c)" not in line] == []
        assert len(errors) == 1
