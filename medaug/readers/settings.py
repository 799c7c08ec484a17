"""How a pipeline file describes the files to read.

Patterns are regular expressions, searched in the path of a file relative to its source, with
``/`` between folders on every system. Named groups say what a part of the path means:
``(?P<patient>...)``, ``(?P<label>...)``.

>>> source = ImagesSource(
...     kind="images", pattern=r"(?P<label>benign|malignant)/P(?P<patient>[0-9]+)"
... )
>>> source.pattern.search("benign/P0017_left.png").groupdict()
{'label': 'benign', 'patient': '0017'}
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from medaug.domain import Unit

Per = Literal["segment", "component"]


def _as_text(value: Any) -> Any:
    """YAML reads ``1:`` as a number and ``true:`` as a truth value; a path holds their letters."""
    if not isinstance(value, dict):
        return value
    return {str(k).lower() if isinstance(k, bool) else str(k): v for k, v in value.items()}


ClassNames = Annotated[dict[str, str], BeforeValidator(_as_text)]


def _need_group(pattern: re.Pattern[str] | None, group: str) -> None:
    if pattern is not None and group not in pattern.groupindex:
        raise ValueError(f"the pattern {pattern.pattern!r} needs a group (?P<{group}>...)")


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Source(_Settings):
    path: str = Field(default=".", description="folder of the files, relative to the data root")

    @field_validator("path")
    @classmethod
    def _below_the_root(cls, path: str) -> str:
        parts = PurePosixPath(path.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError("a source lies below the data root: give a relative path without ..")
        return str(parts)


class PatientRule(_Settings):
    """What tells patients apart; exactly one of the three."""

    attribute: str | None = Field(
        default=None, description="keyword of a DICOM attribute, such as PatientID"
    )
    path: re.Pattern[str] | None = Field(
        default=None,
        description="pattern with the group `patient`; where the group takes no part in the "
        "match, the source's folder is one patient",
    )
    folder: Literal["source"] | None = Field(
        default=None, description="`source`: everything in the source's folder is one patient"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(part is not None for part in (self.attribute, self.path, self.folder)) != 1:
            raise ValueError("give exactly one of attribute, path and folder")
        _need_group(self.path, "patient")
        return self


class MaskSeriesRule(_Settings):
    """Masks kept as DICOM series of two values, beside the images and on their grid."""

    kind: Literal["mask-series"]
    path: re.Pattern[str] = Field(description="pattern of the mask files")
    label: str | None = Field(
        default=None, description="class of the lesions; without it, the pattern's group `label`"
    )
    per: Per = Field(default="segment", description="one lesion per series, or per component")

    @model_validator(mode="after")
    def _a_label(self) -> Self:
        if self.label is None:
            _need_group(self.path, "label")
        return self


class SegRule(_Settings):
    """DICOM Segmentation objects (PS3.3 A.51)."""

    kind: Literal["seg"]
    label_from: Literal["property-type", "segment-label"] = Field(
        default="property-type",
        description="the coded Segmented Property Type, or the free text Segment Label",
    )
    labels: ClassNames = Field(
        default={},
        description="meaning or label → class, in any case of letters; others are not read. "
        "Empty: every code meaning is a class",
    )
    per: Per = Field(default="segment", description="one lesion per segment, or per component")

    @model_validator(mode="after")
    def _no_free_text(self) -> Self:
        if self.label_from == "segment-label" and not self.labels:
            raise ValueError(
                "a Segment Label is free text and may name a person: list the wanted `labels`"
            )
        return self


LesionRule = Annotated[MaskSeriesRule | SegRule, Field(discriminator="kind")]


class DicomSource(_Source):
    """A folder of DICOM files, in any order and under any names."""

    kind: Literal["dicom"]
    patient: PatientRule = PatientRule(attribute="PatientID")
    modality: tuple[str, ...] = Field(
        default=(), description="keep series of these modalities; empty: every modality"
    )
    series: re.Pattern[str] | None = Field(
        default=None,
        description="pattern of the image files; without it, every image no mask rule claims",
    )
    lesions: tuple[LesionRule, ...] = Field(default=(), description="where the lesions are marked")


class NiftiSource(_Source):
    """Images and label maps in NIfTI; files with equal groups in both patterns belong together."""

    kind: Literal["nifti"]
    image: re.Pattern[str] = Field(description="pattern of the images, with the group `patient`")
    labels: re.Pattern[str] = Field(
        description="pattern of the label maps, with the group `patient`; goes before `image`"
    )
    values: dict[int, str] = Field(
        default={},
        description="value in the label map → class; others are not read. "
        "Empty: every value is a class",
    )
    per: Per = Field(default="segment", description="one lesion per value, or per component")
    modality: str = Field(default="OT", description="DICOM's word; NIfTI does not say")
    unit: Unit = Field(default=Unit.ARBITRARY, description="HU only where the files hold HU")

    @model_validator(mode="after")
    def _patients(self) -> Self:
        _need_group(self.image, "patient")
        _need_group(self.labels, "patient")
        return self


class LabelTable(_Settings):
    """Text files with one picture and its label per line."""

    files: tuple[str, ...] = Field(min_length=1, description="tables, relative to the source")
    path_column: int | str = Field(
        default=0, description="number from 0, or the column's name where the table has a head"
    )
    label_column: int | str = Field(default=1, description="as path_column")
    separator: Literal["auto", "whitespace", "comma", "semicolon", "tab"] = "auto"

    @model_validator(mode="after")
    def _same_kind(self) -> Self:
        if isinstance(self.path_column, int) != isinstance(self.label_column, int):
            raise ValueError("give path_column and label_column both as numbers or both as names")
        return self


class ImagesSource(_Source):
    """A folder of ready-made pictures, one lesion each."""

    kind: Literal["images"]
    pattern: re.Pattern[str] = Field(
        default=re.compile(""),
        description="pattern of the pictures, with the groups `label` and `patient` or neither",
    )
    label: str | None = Field(default=None, description="one class for every picture")
    labels: ClassNames = Field(
        default={}, description="raw label → class; others are not read. Empty: as they are"
    )
    table: LabelTable | None = Field(default=None, description="labels from text files")
    patient_identity: Literal["path", "none"] = Field(
        default="path",
        description="`path`: the pattern's group `patient`; `none`: nothing tells patients apart, "
        "and each picture counts as a patient of its own",
    )
    modality: str = Field(default="OT", description="DICOM's word; a picture does not say")

    @model_validator(mode="after")
    def _one_label_and_a_patient(self) -> Self:
        given = [self.label, self.table, self.pattern.groupindex.get("label")]
        if sum(part is not None for part in given) != 1:
            raise ValueError(
                "the class comes from exactly one of label, table and the pattern's group `label`"
            )
        if self.patient_identity == "path":
            _need_group(self.pattern, "patient")
        return self


SourceSettings = Annotated[DicomSource | NiftiSource | ImagesSource, Field(discriminator="kind")]
