"""What a DICOM image of a release is called: a Secondary Capture, or an acquisition.

Secondary Capture [1]_ with Conversion Type ``SYN`` is the default: a PACS then does not take a
sample for an acquisition, nor does a pipeline that selects CT Image Storage. Where such a pipeline
shall take it, ``export.sop: modality`` writes CT [2]_, MR or Digital Mammography Image Storage with
geometry in mm. **A PACS takes that for an acquisition**: it lists, hangs and routes it beside
patients' images, and nothing but the words in it says otherwise. Do not store it where anybody
reports.

The modules of an acquisition ask for attributes of an acquisition, and there was none. What may be
empty is empty; what may not says least: Scanning Sequence ``RM`` (research mode) for MR [3]_. A
mammogram must state view, side and orientation [4]_, which a lesion patch has not: the user states
them in ``export.mammogram``. Its pixels are unsigned and its rescale is identity by the standard
[5]_, so that they are the release's stored values plus 32,768.

.. [1] DICOM PS3.3 A.8.1 and C.8.6
.. [2] DICOM PS3.3 A.3 and C.8.2.1
.. [3] DICOM PS3.3 A.4 and C.8.3.1
.. [4] DICOM PS3.3 A.27 and C.8.11.7
.. [5] DICOM PS3.3 C.8.11.3.1
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from medaug.errors import Fault, SettingsError
from medaug.export.manifest import ImageEntry, Manifest
from medaug.export.settings import ExportSettings, Finding, Mammogram

_MODALITIES: Final[dict[str, UID]] = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "MG": DigitalMammographyXRayImageStorageForPresentation,
}
# "US" is DICOM's word for unspecified (PS3.3 C.11.1.1.2).
_RESCALE_TYPE = {"HU": "HU", "SUV": "SUV", "arbitrary": "US"}
_BREAST = Finding(value="76752008", scheme="SCT", meaning="Breast")
_OFFSET = 32768


def sop_class(sop: str, modality: str) -> UID | None:
    """The SOP class of the images; None where the modality has none here.

    >>> sop_class("secondary-capture", "PT").name
    'Secondary Capture Image Storage'
    >>> sop_class("modality", "MR").name
    'MR Image Storage'
    """
    return SecondaryCaptureImageStorage if sop != "modality" else _MODALITIES.get(modality)


def placed(manifest: Manifest) -> bool:
    """Whether images have a place: where millimetres are known, and not in a mammogram."""
    image = manifest.image
    projection = manifest.sop == "modality" and image.modality == "MG"
    known = image.mm_per_pixel and (image.slice_mm or image.shape[-3] == 1)
    return bool(known) and not projection


def add_kind(common: Dataset, manifest: Manifest, settings: ExportSettings) -> None:
    """Add what the kind of image asks for, with the meaning of its pixels.

    Raises:
        SettingsError: if ``sop: modality`` cannot be: another modality, no millimetres, or a
            mammogram of which nothing is stated.
    """
    image = manifest.image
    sop = sop_class(manifest.sop, image.modality)
    sized = bool(image.mm_per_pixel) and bool(image.slice_mm or image.shape[-3] == 1)
    if faults := kind_faults(settings, image.modality, sized):
        raise SettingsError(*faults)
    common.SOPClassUID = sop
    common.ImageType = ["DERIVED", "SECONDARY"]
    if sop == SecondaryCaptureImageStorage:
        common.ConversionType = "SYN"
    elif sop == CTImageStorage:
        common.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        _leave_empty(common, "KVP", "AcquisitionNumber", "SliceThickness", "PatientPosition")
    elif sop == MRImageStorage:
        common.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        common.ScanningSequence, common.SequenceVariant = "RM", "NONE"
        _leave_empty(common, "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime")
        _leave_empty(common, "EchoTrainLength", "SliceThickness", "PatientPosition")
    elif settings.mammogram is not None:
        _add_mammography(common, settings.mammogram)
    if sop == DigitalMammographyXRayImageStorageForPresentation:
        _add_unsigned(common, image)
    else:
        _add_signed(common, image)
    _add_spacing(common, image)


def to_store(pixels: NDArray[np.int16], common: Dataset) -> bytes:
    """Pixels (row, column) as the kind stores them, little endian."""
    if common.PixelRepresentation:
        return pixels.astype("<i2").tobytes()
    return (pixels.astype(np.int32) + _OFFSET).astype("<u2").tobytes()


def coded(code: Finding) -> Dataset:
    """A coded concept as the item of a sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme
    item.CodeMeaning = code.meaning
    return item


def kind_faults(settings: ExportSettings, modality: str, sized: bool) -> list[Fault]:
    """Why images cannot be of the kind that is asked for.

    Args:
        settings: of the export.
        modality: DICOM Modality of the images.
        sized: whether their size in mm is known.
    """
    if settings.sop != "modality" or "dicom" not in settings.formats:
        return []
    faults = []
    if modality not in _MODALITIES:
        faults.append(
            Fault("export.sop", f"modality, of {modality} images", ", ".join(_MODALITIES))
        )
    if not sized:
        faults.append(
            Fault(
                "export.sop",
                "modality, of images whose size in mm nobody knows",
                "images with a size in mm",
                "set patching.mm_per_pixel, or leave sop as it is",
            )
        )
    if modality == "MG" and settings.mammogram is None:
        faults.append(
            Fault(
                "export.mammogram",
                "not set, with sop: modality",
                "view, laterality and orientation, which a mammogram must state",
                "set them, or leave sop as it is",
            )
        )
    return faults


def _leave_empty(common: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        setattr(common, keyword, None)


def _add_mammography(common: Dataset, stated: Mammogram) -> None:
    common.ImageType = ["DERIVED", "SECONDARY", ""]
    common.PresentationIntentType = "FOR PRESENTATION"
    common.PositionerType = "MAMMOGRAPHIC"
    common.OrganExposed = "BREAST"
    common.ImageLaterality = stated.laterality
    common.PatientOrientation = list(stated.orientation)
    view = coded(stated.view)
    view.ViewModifierCodeSequence = []
    common.ViewCodeSequence = [view]
    common.AnatomicRegionSequence = [coded(_BREAST)]
    common.PixelIntensityRelationship = "LIN"
    common.PixelIntensityRelationshipSign = 1
    common.PresentationLUTShape = "IDENTITY"
    common.LossyImageCompression = "00"
    _leave_empty(common, "DetectorType", "PatientPosition")


def _add_signed(common: Dataset, image: ImageEntry) -> None:
    common.PixelRepresentation = 1
    common.RescaleSlope = _decimal(image.slope)
    common.RescaleIntercept = _decimal(image.intercept)
    common.RescaleType = _RESCALE_TYPE[image.unit]
    _add_window(common, *image.window)


def _add_unsigned(common: Dataset, image: ImageEntry) -> None:
    common.PixelRepresentation = 0
    common.RescaleSlope, common.RescaleIntercept, common.RescaleType = "1", "0", "US"
    low, high = ((end - image.intercept) / image.slope + _OFFSET for end in image.window)
    _add_window(common, low, high)


def _add_window(common: Dataset, low: float, high: float) -> None:
    common.WindowCenter = f"{(low + high) / 2:.9g}"
    common.WindowWidth = f"{high - low:.9g}"
    # The default function asks for a width of 1 or more (PS3.3 C.11.2.1.2.1); ours may be 0..1.
    common.VOILUTFunction = "LINEAR_EXACT"


def _add_spacing(common: Dataset, image: ImageEntry) -> None:
    if not image.mm_per_pixel:
        return
    spacing = f"{image.mm_per_pixel:.9g}"
    common.PixelSpacing = [spacing, spacing]
    if common.SOPClassUID == SecondaryCaptureImageStorage:
        common.NominalScannedPixelSpacing = [spacing, spacing]
    elif common.SOPClassUID == DigitalMammographyXRayImageStorageForPresentation:
        common.ImagerPixelSpacing = [spacing, spacing]


def _decimal(number: float) -> str:
    """A decimal string (DS, at most 16 characters) that gives back exactly ``number``."""
    text = repr(number)
    if len(text) > 16:
        raise SettingsError(
            Fault(
                "export.formats: dicom",
                f"the rescale needs {len(text)} characters: {text}",
                "16, DICOM's decimal string",
                "make the rescale with Rescale.of, which rounds to what fits",
            )
        )
    return text
