"""What a release is written as, and what its papers say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from medaug.forbidden import forbidden_words

Format = Literal["npz", "png", "nifti", "dicom", "hdf5", "shards", "msd", "nnunet"]
FORMATS: tuple[Format, ...] = ("npz", "png", "nifti", "dicom")
"""What is written where nothing is said."""
SEGMENTATION: tuple[Format, ...] = ("msd", "nnunet")
"""What needs a mask with every sample."""


class Finding(BaseModel):
    """A coded concept in the lengths that DICOM allows (PS3.3 section 8: SH, SH, LO)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str = Field(min_length=1, max_length=16, description="code, such as 367643001")
    scheme: str = Field(min_length=1, max_length=16, description="SCT for SNOMED CT")
    meaning: str = Field(min_length=1, max_length=64, description="the code in words")


class Mammogram(BaseModel):
    """What DICOM wants to know of every mammogram (PS3.3 C.8.11.7 and C.7.6.1.1.1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: Finding = Field(description="a code of DICOM PS3.16 CID 4014")
    laterality: Literal["R", "L", "B"]
    orientation: tuple[str, str] = Field(
        description="where rows and columns run to, such as P and L: A, P, H, F, L and R"
    )

    @field_validator("orientation")
    @classmethod
    def _directions(cls, value: tuple[str, str]) -> tuple[str, str]:
        if not all(re.fullmatch("[APHFLR]{1,3}", way) for way in value):
            raise ValueError("one to three letters of A, P, H, F, L and R for each of the two")
        return value


BUILT_IN_FINDINGS: dict[str, Finding] = {
    "cyst": Finding(value="367643001", scheme="SCT", meaning="Cyst"),
    "metastasis": Finding(value="128462008", scheme="SCT", meaning="Metastasis"),
    "haemangioma": Finding(value="400210000", scheme="SCT", meaning="Hemangioma"),
    "hemangioma": Finding(value="400210000", scheme="SCT", meaning="Hemangioma"),
    "mass": Finding(value="4147007", scheme="SCT", meaning="Mass"),
    "nodule": Finding(value="27925004", scheme="SCT", meaning="Nodule"),
    "lesion": Finding(value="52988006", scheme="SCT", meaning="Lesion"),
    "tumour": Finding(value="108369006", scheme="SCT", meaning="Neoplasm"),
    "tumor": Finding(value="108369006", scheme="SCT", meaning="Neoplasm"),
    "abscess": Finding(value="44132006", scheme="SCT", meaning="Abscess"),
    "adenoma": Finding(value="1187375007", scheme="SCT", meaning="Adenoma"),
    "fibroadenoma": Finding(value="254845004", scheme="SCT", meaning="Fibroadenoma"),
    "haematoma": Finding(value="35566002", scheme="SCT", meaning="Hematoma"),
    "hematoma": Finding(value="35566002", scheme="SCT", meaning="Hematoma"),
}
"""SNOMED CT codes as DICOM PS3.16 lists them (CID 7159 and 6335; metastasis 645; the haemangioma,
adenoma, fibroadenoma and haematoma 6030 and 6031)."""


class ExportSettings(BaseModel):
    """Formats and papers of a release. None of it can weaken the gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formats: tuple[Format, ...] = Field(
        FORMATS,
        description="npz or hdf5 is always among them: verify and the evaluation read it. hdf5 is "
        "for what memory does not hold, shards (tar, as WebDataset reads them) for training, msd "
        "and nnunet for segmentation, where the generator draws masks",
    )
    sop: Literal["secondary-capture", "modality"] = Field(
        "secondary-capture",
        description="what DICOM images are: Secondary Capture, or the CT, MR or MG image of their "
        "modality, which an archive (PACS) takes for an acquisition",
    )
    mammogram: Mammogram | None = Field(
        None, description="what a mammogram must state; with sop: modality and no other"
    )
    body_part: str | None = Field(
        None,
        pattern=r"^[A-Z0-9_ ]{1,16}$",
        description="DICOM Body Part Examined (PS3.16 annex L), such as LIVER or BREAST",
    )
    findings: dict[str, Finding] = Field(
        default_factory=dict, description="coded finding per class; adds to the built-in ones"
    )
    title: str = Field("", max_length=120, description="title of the data sheet")
    description: str = Field("", max_length=2000, description="one paragraph on the data")
    intended_use: str = Field(
        "Research on image classifiers and their training; never diagnosis or treatment.",
        min_length=1,
        max_length=500,
    )
    licence: str = Field("", max_length=200, description="such as CC-BY-4.0")
    made_by: str = Field("", max_length=200, description="who made it, and who paid for it")
    contact: str = Field("", max_length=200, description="who answers for the release, and where")
    sign_with: Path | None = Field(
        None,
        description="file of a secret key (medaug keygen, or minisign -GW) that signs SHA256SUMS; "
        "mode 0600",
    )

    @field_validator("formats")
    @classmethod
    def _whole_and_once(cls, value: tuple[Format, ...]) -> tuple[Format, ...]:
        if not {"npz", "hdf5"} & set(value) or len(set(value)) != len(value):
            raise ValueError(f"npz or hdf5, and any of {', '.join(get_args(Format))}, each once")
        return value

    @field_validator("title", "description", "intended_use", "licence", "made_by", "contact")
    @classmethod
    def _claims_nothing(cls, value: str) -> str:
        if words := forbidden_words(value):
            raise ValueError(f"a release never says {', '.join(words)}: nothing here proves it")
        if not value.isprintable():
            raise ValueError("one line of printable characters")
        return value
