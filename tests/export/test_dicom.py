"""DICOM: built from an allow-list, marked as synthetic, and valid for a validator."""

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
    "ContributionDescription",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImageOrientationPatient",
    "ImagePositionPatient",
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


LEDGER = (3, "cd" * 32)


def write(release, folder: Path, window: Window, seed: int = 1, **settings) -> list[Path]:
    write_release(
        release,
        folder,
        ExportSettings(**settings),
        name="trial",
        seed=seed,
        window=window,
        ledger=LEDGER,
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
            assert LEDGER[1] in equipment.ContributionDescription

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
        "hemangioma": codes.cid6030.Hemangioma,
        "mass": codes.cid7159.Mass,
        "nodule": codes.cid7159.Nodule,
        "lesion": codes.cid7159.Lesion,
        "tumour": codes.cid7159.Neoplasm,
        "tumor": codes.cid7159.Neoplasm,
        "abscess": codes.cid7159.Abscess,
        "adenoma": codes.cid6030.Adenoma,
        "fibroadenoma": codes.cid6030.Fibroadenoma,
        "haematoma": codes.cid6030.Hematoma,
        "hematoma": codes.cid6030.Hematoma,
    }
    assert standard.keys() == BUILT_IN_FINDINGS.keys()
    for label, code in standard.items():
        found = BUILT_IN_FINDINGS[label]
        assert (found.value, found.scheme, found.meaning) == (code.value, "SCT", code.meaning)


class TestIdentifiers:
    """Fresh random UIDs from the release's own stream; a seeded build repeats them."""

    def test_one_study_and_every_sample_a_series_of_its_own(self, datasets) -> None:
        assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1
        assert len({dataset.PatientID for dataset in datasets}) == 1
        for keyword in ("SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID"):
            assert len({dataset[keyword].value for dataset in datasets}) == len(datasets)
        assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)
        for dataset in datasets:
            assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
            for uid in (dataset.SOPInstanceUID, dataset.StudyInstanceUID):
                assert uid.is_valid
                assert uid.startswith("2.25.")

    def test_other_seed_pixels_or_kind_share_none(self, make_release, windows, tmp_path) -> None:
        builds = {}
        plain, other = "secondary-capture", "modality"
        for name, seed, pixels, sop in (
            ("a", 1, 0, plain),
            ("b", 2, 0, plain),
            ("c", 1, 9, plain),
            ("d", 1, 0, other),
        ):
            release = make_release(seed=pixels)
            found = write(release, tmp_path / name, windows[release.unit], seed, sop=sop)
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
        assert not builds["a"] & builds["d"], "one identifier for two kinds of image"
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
