"""Secondary Capture, CT, MR, MG and SEG: valid, closed lists of attributes, the same in readers."""

import re
import shutil
import subprocess
import warnings
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from medaug.domain import Release, Unit
from medaug.errors import SettingsError
from medaug.export import dicom
from medaug.export.settings import ExportSettings, Finding, Mammogram
from medaug.export.verify import verify_release
from medaug.export.words import NOTICE
from medaug.export.write import write_release

DAY = date(2026, 2, 3)
MAMMOGRAM = Mammogram(
    view=Finding(value="399162004", scheme="SCT", meaning="cranio-caudal"),
    laterality="L",
    orientation=("P", "L"),
)
# kind: (modality, sop, SOP class, slices of 3-D, channels, mm, what dciodvfy calls it)
KINDS = {
    "sc": ("CT", "secondary-capture", "SecondaryCaptureImageStorage", 0, 1, 0.75, "SCImage"),
    "sc-volume": ("CT", "secondary-capture", "SecondaryCaptureImageStorage", 4, 1, 0.75, "SCImage"),
    "sc-adjacent": ("MR", "secondary-capture", "SecondaryCaptureImageStorage", 0, 3, 2, "SCImage"),
    "sc-no-mm": ("MG", "secondary-capture", "SecondaryCaptureImageStorage", 0, 1, 0.0, "SCImage"),
    "ct": ("CT", "modality", "CTImageStorage", 0, 1, 0.75, "CTImage"),
    "ct-volume": ("CT", "modality", "CTImageStorage", 4, 1, 0.75, "CTImage"),
    "mr": ("MR", "modality", "MRImageStorage", 0, 1, 0.5, "MRImage"),
    "mg": (
        "MG",
        "modality",
        "DigitalMammographyXRayImageStorageForPresentation",
        0,
        1,
        0.1,
        "MammographyImageForPresentation",
    ),
}
UNITS = {"CT": Unit.HOUNSFIELD, "MR": Unit.ARBITRARY, "MG": Unit.ARBITRARY}

words = str.split
CODE = "CodeValue CodingSchemeDesignator CodeMeaning"
OF_ALL = words(f"""
SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID SyntheticData StudyDate StudyTime
AccessionNumber Modality Manufacturer ReferringPhysicianName StudyDescription SeriesDescription
ManufacturerModelName DerivationDescription PatientName PatientID PatientBirthDate PatientSex
PatientIdentityRemoved DeidentificationMethod BodyPartExamined SoftwareVersions
ContributingEquipmentSequence ContributionDescription PurposeOfReferenceCodeSequence {CODE}
StudyInstanceUID SeriesInstanceUID StudyID SeriesNumber InstanceNumber PatientOrientation
ImageComments BurnedInAnnotation RecognizableVisualFeatures SamplesPerPixel
PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
PixelData
""")
OF_IMAGES = words("""
ImageLaterality RescaleSlope RescaleIntercept RescaleType WindowCenter WindowWidth VOILUTFunction
AcquisitionContextSequence ValueType ConceptNameCodeSequence ConceptCodeSequence
""")
PLACE = words("""
FrameOfReferenceUID PositionReferenceIndicator ImageOrientationPatient ImagePositionPatient
PixelSpacing
""")
OF_KIND = {
    "SCImage": words("ConversionType"),
    "CTImage": words("KVP AcquisitionNumber SliceThickness PatientPosition"),
    "MRImage": words("""ScanningSequence SequenceVariant ScanOptions MRAcquisitionType
        RepetitionTime
        EchoTime EchoTrainLength SliceThickness PatientPosition"""),
    "MammographyImageForPresentation": words("""PresentationIntentType PositionerType OrganExposed
        ViewCodeSequence ViewModifierCodeSequence AnatomicRegionSequence PixelIntensityRelationship
        PixelIntensityRelationshipSign PresentationLUTShape LossyImageCompression DetectorType
        PatientPosition PixelSpacing ImagerPixelSpacing"""),
}
OF_MASKS = words("""
DeviceSerialNumber ContentDate ContentTime ContentLabel ContentDescription ContentCreatorName
LossyImageCompression SegmentationType NumberOfFrames SegmentSequence SegmentNumber SegmentLabel
SegmentDescription SegmentAlgorithmType SegmentAlgorithmName SegmentedPropertyCategoryCodeSequence
SegmentedPropertyTypeCodeSequence ReferencedSeriesSequence ReferencedInstanceSequence
ReferencedSOPClassUID ReferencedSOPInstanceUID DimensionOrganizationSequence
DimensionOrganizationUID DimensionIndexSequence DimensionIndexPointer FunctionalGroupPointer
DimensionDescriptionLabel SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
SegmentIdentificationSequence ReferencedSegmentNumber FrameContentSequence DimensionIndexValues
DerivationImageSequence SourceImageSequence DerivationCodeSequence SpatialLocationsPreserved
""")
# What may hold a day, and what the modules of an acquisition demand and nobody has.
OF_A_DAY = {"StudyDate", "ContentDate"}
EMPTY = words("""
PatientBirthDate PatientSex StudyTime StudyID ReferringPhysicianName AccessionNumber
PositionReferenceIndicator KVP AcquisitionNumber SliceThickness PatientPosition ScanOptions
MRAcquisitionType RepetitionTime EchoTime EchoTrainLength DetectorType ContentCreatorName
""")


@pytest.fixture(scope="module", params=KINDS)
def written(request, make_release, windows, tmp_path_factory) -> SimpleNamespace:
    modality, sop, name, slices, channels, mm, called = KINDS[request.param]
    release = make_release(
        UNITS[modality],
        classes=("cyst", "metastasis"),
        per_class=1,
        modality=modality,
        masks=True,
        slices=slices,
        channels=channels,
        mm_per_pixel=mm,
        # Whole bytes: SimpleITK (2.5) misreads the last bits of a mask of other sizes.
        size=(20, 14),
    )
    folder = tmp_path_factory.mktemp("kinds") / "release"
    settings = ExportSettings(
        formats=("npz", "dicom"), sop=sop, body_part="LIVER", mammogram=MAMMOGRAM
    )
    write = {"name": "a", "seed": 1, "window": windows[release.unit], "ledger": (3, "ab" * 32)}
    write_release(release, folder, settings, day=DAY, **write)
    return SimpleNamespace(
        release=release,
        folder=folder,
        sop=getattr(pydicom.uid, name),
        mm=mm,
        placed=bool(mm) and modality + sop != "MGmodality",
        deep=bool(slices or channels > 1),
        called=called,
        images=sorted((folder / "dicom").rglob("*.dcm")),
        masks=sorted((folder / "dicom-masks").rglob("*.dcm")),
        again=lambda to: write_release(release, to, settings, day=DAY, **write),
    )


def keywords(dataset: pydicom.Dataset) -> set[str]:
    """Of every element, at any depth."""
    return {element.keyword for element in dataset.iterall()}


class TestAllowList:
    """A file holds these attributes, wherever they stand, and no other."""

    def test_of_an_image(self, written) -> None:
        allowed = {*OF_ALL, *OF_IMAGES, *OF_KIND[written.called]}
        allowed |= {*PLACE} if written.placed else set()
        allowed |= {"SpacingBetweenSlices"} if written.deep and written.mm else set()
        if written.called == "SCImage" and written.mm:
            allowed |= {"NominalScannedPixelSpacing"}
        for path in written.images:
            assert keywords(pydicom.dcmread(path)) == allowed

    def test_of_a_mask(self, written) -> None:
        allowed = {*OF_ALL, *OF_MASKS}
        if written.placed:
            allowed |= {*PLACE, "PlanePositionSequence", "PlaneOrientationSequence"}
            allowed |= {"PixelMeasuresSequence", "SliceThickness", "SpacingBetweenSlices"}
        for path in written.masks:
            assert keywords(pydicom.dcmread(path)) == allowed

    def test_no_date_but_the_day_of_release_and_nothing_of_an_acquisition(self, written) -> None:
        for path in [*written.images, *written.masks]:
            for element in pydicom.dcmread(path).iterall():
                if element.keyword in OF_A_DAY:
                    assert element.value == DAY.strftime("%Y%m%d")
                elif element.keyword == "ContentTime":
                    assert element.value == "000000"  # demanded, and no time of day
                elif element.VR in {"DA", "TM", "DT"} or (
                    element.keyword in EMPTY and path not in written.masks
                ):
                    assert element.is_empty, element


def test_marks(written) -> None:
    for path in [*written.images, *written.masks]:
        dataset = pydicom.dcmread(path)
        assert dataset[0x0008, 0x001C].value == "YES"
        assert dataset.SeriesDescription == dataset.ImageComments == NOTICE
        assert "ab" * 32 in dataset.ContributingEquipmentSequence[0].ContributionDescription
        assert ("ConversionType" in dataset) == (
            written.called == "SCImage" and path in written.images
        )
    assert verify_release(written.folder).ok
    assert {pydicom.dcmread(path).SOPClassUID for path in written.images} == {written.sop}


def test_verify_misses_the_marks_of_each_kind(written, tmp_path) -> None:
    for path, word in ((written.images[0], "NO"), (written.masks[0], "NO")):
        there = tmp_path / path.relative_to(written.folder)
        there.parent.mkdir(parents=True)
        dataset = pydicom.dcmread(path)
        dataset[0x0008, 0x001C].value = word
        dataset.save_as(there)
        assert dicom.missing_marks(there, written.sop) == ["SyntheticData is 'NO', not 'YES'"]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(written) -> None:
    for path in [written.images[0], written.images[-1], *written.masks]:
        # Its exit code is 0 even on errors: the text counts.
        answer = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        lines = (answer.stdout + answer.stderr).splitlines()
        assert ("Segmentation" if path in written.masks else written.called) in lines
        errors = [line for line in lines if line.startswith("Error")]
        # Its release is older than the attribute (Synthetic Data, DICOM 2023).
        assert [line for line in errors if "(0x0008,0x001c)" not in line] == []
        assert len(errors) == 1


def by_sample(written: SimpleNamespace) -> Iterable[tuple[int, list[Path], Path]]:
    """(number, files of its slices, file of its mask)."""
    for mask in written.masks:
        images = [path for path in written.images if mask.stem in (path.stem, path.parent.name)]
        yield int(mask.stem), images, mask


def values(release: Release, number: int, modality: bool) -> np.ndarray:
    """What a reader sees of a sample: (slice, row, column)."""
    stored = release.pixels[number].reshape(-1, *release.pixels.shape[-2:])
    if modality:  # of mammograms the standard lets no rescale be written
        return stored.astype(np.float64) + 32768
    return stored * release.rescale.slope + release.rescale.intercept


class TestReadersAgree:
    """Pixels, spacing and masks by pydicom, highdicom, SimpleITK and MONAI."""

    def test_pydicom_and_simpleitk(self, written) -> None:
        for number, images, mask in by_sample(written):
            wanted = values(written.release, number, written.called.startswith("Mammo"))
            read = [pydicom.dcmread(path) for path in images]
            lut = [pydicom.pixels.apply_modality_lut(one.pixel_array, one) for one in read]
            np.testing.assert_allclose(np.stack(lut), wanted, rtol=1e-6)
            volume = SimpleITK.ReadImage([str(path) for path in images])
            array = SimpleITK.GetArrayFromImage(volume)
            np.testing.assert_allclose(array.reshape(wanted.shape), wanted, rtol=1e-6)
            assert volume.GetSpacing()[:2] == pytest.approx([written.mm or 1] * 2)
            if written.mm:
                assert read[0].PixelSpacing == [written.mm] * 2
            drawn = SimpleITK.ReadImage(str(mask))
            bits = SimpleITK.GetArrayFromImage(drawn) > 0
            outline = written.release.masks[number].reshape(bits.shape)
            np.testing.assert_array_equal(bits, outline)
            np.testing.assert_array_equal(
                pydicom.dcmread(mask).pixel_array.reshape(bits.shape), outline
            )
            if written.placed:
                assert drawn.GetSpacing() == pytest.approx([written.mm] * 3)
                middle = written.mm if len(images) == 3 else 0  # of adjacent slices
                assert drawn.GetOrigin() == pytest.approx((0, 0, middle))

    def test_highdicom(self, written) -> None:
        for number, images, mask in by_sample(written):
            segmentation = highdicom.seg.segread(mask)
            uids = [uid for _, _, uid in segmentation.get_source_image_uids()]
            drawn = [one for one in map(pydicom.dcmread, images) if one.SOPInstanceUID in uids]
            found = segmentation.get_pixels_by_source_instance(uids)[..., 0]
            wanted = written.release.masks[number].reshape(found.shape)
            np.testing.assert_array_equal(found, wanted)
            assert [one.SOPInstanceUID for one in drawn] == uids
            kind = segmentation.get_segment_description(1).segmented_property_type
            assert kind.value == ("367643001", "128462008")[number]
            if not written.placed:
                continue
            volume = segmentation.get_volume()
            np.testing.assert_allclose(volume.spacing, [written.mm] * 3)
            array = volume.array[..., 0]  # its slices may run to the feet
            np.testing.assert_array_equal(array if volume.affine[2, 0] > 0 else array[::-1], wanted)
            if len(drawn) > 1:
                there = highdicom.get_volume_from_series(drawn)
                np.testing.assert_allclose(volume.affine, there.affine)

    def test_monai(self, written) -> None:
        monai = pytest.importorskip("monai.data")
        reader = monai.PydicomReader()
        for number, images, mask in by_sample(written):
            wanted = values(written.release, number, written.called.startswith("Mammo"))
            with warnings.catch_warnings():
                if not written.placed:  # it says that it makes up a spacing
                    warnings.simplefilter("ignore", UserWarning)
                folder = images[0].parent if written.deep else images[0]
                array, meta = reader.get_data(reader.read(str(folder)))
            np.testing.assert_allclose(np.atleast_3d(array).T, wanted, rtol=1e-6)
            if written.placed:
                apart = written.mm if written.deep else 1
                size = np.abs(np.diag(meta["affine"]))[:3]
                np.testing.assert_allclose(size, [written.mm, written.mm, apart])
            # Of a Segmentation with a single frame its reader (1.6) takes rows for frames.
            if written.placed and pydicom.dcmread(mask).NumberOfFrames > 1:
                array, _ = reader.get_data(reader.read(str(mask)))
                np.testing.assert_array_equal(array[..., 0].T, written.release.masks[number, ...])


def test_built_twice_it_is_the_same(written, tmp_path) -> None:
    written.again(tmp_path / "r")
    for path in [*written.images, *written.masks]:
        assert (tmp_path / "r" / path.relative_to(written.folder)).read_bytes() == path.read_bytes()


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "settings", "said"),
        [
            ({"modality": "US"}, {}, "modality, of US images"),
            ({"mm_per_pixel": 0.0}, {}, "whose size in mm nobody knows"),
            ({"modality": "MG"}, {}, "export.mammogram: not set"),
        ],
    )
    def test_a_modality_that_cannot_be(
        self, changes, settings, said, make_release, windows, tmp_path
    ) -> None:
        release = make_release(**changes)
        with pytest.raises(SettingsError, match=re.escape(said)):
            write_release(
                release,
                tmp_path / "r",
                ExportSettings(sop="modality", **settings),
                name="a",
                seed=1,
                window=windows[release.unit],
            )
        assert not list(tmp_path.iterdir())

    def test_an_orientation_of_other_letters(self) -> None:
        with pytest.raises(ValueError, match="letters"):
            Mammogram(view=MAMMOGRAM.view, laterality="L", orientation=("P", "X"))


def test_a_class_without_a_code_is_drawn_as_a_lesion(make_release, windows, tmp_path) -> None:
    release = make_release(classes=("oddity",), per_class=1, masks=True)
    window = windows[release.unit]
    write_release(release, tmp_path / "r", ExportSettings(), name="a", seed=1, window=window)
    (path,) = (tmp_path / "r/dicom-masks").rglob("*.dcm")
    dataset = pydicom.dcmread(path)
    assert dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
    assert dataset.ContentDate == "19000101"  # demanded; no day was given
    assert dataset.StudyDate == ""
