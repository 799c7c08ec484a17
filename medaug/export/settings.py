"""What a release is written as, and what its papers say."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from medaug.forbidden import forbidden_words

Format = Literal["npz", "png", "nifti", "dicom"]
FORMATS: tuple[Format, ...] = ("npz", "png", "nifti", "dicom")


class Finding(BaseModel):
    """A coded concept in the lengths that DICOM allows (PS3.3 section 8: SH, SH, LO)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str = Field(min_length=1, max_length=16, description="code, such as 367643001")
    scheme: str = Field(min_length=1, max_length=16, description="SCT for SNOMED CT")
    meaning: str = Field(min_length=1, max_length=64, description="the code in words")


BUILT_IN_FINDINGS: dict[str, Finding] = {
    "cyst": Finding(value="367643001", scheme="SCT", meaning="Cyst"),
    "metastasis": Finding(value="128462008", scheme="SCT", meaning="Metastasis"),
    "haemangioma": Finding(value="400210000", scheme="SCT", meaning="Hemangioma"),
}
"""SNOMED CT codes as DICOM PS3.16 lists them (CID 7159 and 6335; 645; 6030 and 6031)."""


class ExportSettings(BaseModel):
    """Formats and papers of a release. None of it can weaken the gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formats: tuple[Format, ...] = Field(
        FORMATS, description="npz is always among them: verify and the evaluation read it"
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

    @field_validator("formats")
    @classmethod
    def _npz_once(cls, value: tuple[Format, ...]) -> tuple[Format, ...]:
        if "npz" not in value or len(set(value)) != len(value):
            raise ValueError(f"npz and any of {', '.join(FORMATS[1:])}, each once")
        return value

    @field_validator("title", "description", "intended_use", "licence")
    @classmethod
    def _claims_nothing(cls, value: str) -> str:
        if words := forbidden_words(value):
            raise ValueError(f"a release never says {', '.join(words)}: nothing here proves it")
        if not value.isprintable():
            raise ValueError("one line of printable characters")
        return value
