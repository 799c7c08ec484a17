"""A marker planted in every text of a file, to show later that no text of it travels on.

Whatever can hold free text, a name, an address or a number of a person gets the marker: the value
representations below of DICOM PS3.5 table 6.2-1, at any depth and in private elements. Codes and
segment labels and the unit (Rescale Type) are left alone: they are meant to travel.
"""

from __future__ import annotations

import re

from pydicom import DataElement, Dataset

from medaug.errors import Fault, SettingsError

# Longest value in characters; UC and UT are open, 1024 is plenty.
TEXT_VRS = {"PN": 64, "LO": 64, "SH": 16, "ST": 1024, "LT": 1024, "UC": 1024, "UT": 1024}
# What names a class or a unit, in the standard's own terms.
KEPT = frozenset(
    {
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "RescaleType",
        "SegmentLabel",
    }
)


def check_marker(marker: str | None) -> None:
    """Raise `SettingsError` for a marker that would not fit into the shortest text (SH)."""
    if marker is not None and not re.fullmatch(r"[A-Za-z0-9]{4,16}", marker):
        raise SettingsError(
            Fault("phantom marker", repr(marker), "4 to 16 letters and digits, no spaces")
        )


def plant(dataset: Dataset, marker: str) -> None:
    """Put ``marker`` before every text in ``dataset``, in place, cut to the allowed length.

    A text that has it is left as it is: a segmentation shares elements with its source images.
    """

    def mark(_: Dataset, element: DataElement) -> None:
        if element.VR in TEXT_VRS and element.keyword not in KEPT:
            longest = TEXT_VRS[element.VR]
            texts = element.value if element.VM > 1 else [element.value]
            marked = [
                text if str(text).startswith(marker) else f"{marker} {text}"[:longest].rstrip()
                for text in texts
            ]
            element.value = marked if len(marked) > 1 else marked[0]

    dataset.walk(mark)
