"""What a source says of its patients, its lesions and its tables; parts of `settings`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Per = Literal["segment", "component"]
Colour = Literal["ultrasound", "luminance", "refuse"]
Irregular = Literal["refuse", "resample", "longest-block"]
Tilt = Literal["refuse", "shear"]
OtherGrid = Literal["resample", "refuse"]


def _as_text(value: Any) -> Any:
    """YAML reads ``1:`` as a number and ``true:`` as a truth value; a path holds their letters."""
    if not isinstance(value, dict):
        return value
    return {str(k).lower() if isinstance(k, bool) else str(k): v for k, v in value.items()}


Separator = Literal["auto", "whitespace", "comma", "semicolon", "tab"]
Allowance = Literal["two-classes", "two-patients", "two-parts", "burned-in"]

ClassNames = Annotated[dict[str, str], BeforeValidator(_as_text)]


def need_group(pattern: re.Pattern[str] | None, group: str) -> None:
    """Refuse a pattern without a named group that is needed."""
    if pattern is not None and group not in pattern.groupindex:
        raise ValueError(f"the pattern {pattern.pattern!r} needs a group (?P<{group}>...)")


class Settings(BaseModel):
    """Frozen, and unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PatientTable(Settings):
    """A text table that says whose each file is."""

    file: str = Field(min_length=1, description="the table, relative to the source")
    key: Literal["path", "series"] = Field(
        default="path",
        description="what the key column holds: `path`, of a file or of a folder above it (the "
        "nearest counts), relative to the source; `series`, a Series Instance UID",
    )
    pattern: re.Pattern[str] | None = Field(
        default=None,
        description="the key is a part of the path: this pattern's group `key`",
    )
    key_column: int | str = Field(
        default=0, description="number from 0, or the column's name where the table has a head"
    )
    patient_column: int | str = Field(default=1, description="as key_column")
    separator: Separator = "auto"

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if isinstance(self.key_column, int) != isinstance(self.patient_column, int):
            raise ValueError("give key_column and patient_column both as numbers or both as names")
        if self.pattern is not None and self.key != "path":
            raise ValueError("a pattern takes the key from the path: leave out `key`")
        need_group(self.pattern, "key")
        return self


class PatientRule(Settings):
    """What tells patients apart; exactly one of attribute, path, folder and table."""

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
    table: PatientTable | None = Field(default=None, description="a table says whose a file is")
    name: str = Field(
        default="",
        description="what the patient is called who is the source's whole folder; without it, "
        "the folder's name, and renaming the folder makes another patient of them",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = (self.attribute, self.path, self.folder, self.table)
        if sum(part is not None for part in given) != 1:
            raise ValueError("give exactly one of attribute, path, folder and table")
        need_group(self.path, "patient")
        if self.name and self.path is None and self.folder is None:
            raise ValueError("`name` goes with `path` or `folder`")
        return self


OTHER_GRID: Any = Field(
    default="resample",
    description="a mask on another grid in the image's frame of reference: `resample` it by "
    "nearest neighbour, or `refuse` it",
)


class MaskSeriesRule(Settings):
    """Masks kept as DICOM series of two values, beside the images and on their grid."""

    kind: Literal["mask-series"]
    path: re.Pattern[str] = Field(description="pattern of the mask files")
    label: str | None = Field(
        default=None, description="class of the lesions; without it, the pattern's group `label`"
    )
    per: Per = Field(default="segment", description="one lesion per series, or per component")
    other_grid: OtherGrid = OTHER_GRID

    @model_validator(mode="after")
    def _a_label(self) -> Self:
        if self.label is None:
            need_group(self.path, "label")
        return self


class SegRule(Settings):
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
    threshold: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="of a fractional segmentation: the fraction from which on a voxel belongs to "
        "the lesion",
    )
    other_grid: OtherGrid = OTHER_GRID

    @model_validator(mode="after")
    def _no_free_text(self) -> Self:
        if self.label_from == "segment-label" and not self.labels:
            raise ValueError(
                "a Segment Label is free text and may name a person: list the wanted `labels`"
            )
        return self


class RtstructRule(Settings):
    """Contours of RT Structure Sets (PS3.3 A.19)."""

    kind: Literal["rtstruct"]
    labels: ClassNames = Field(
        min_length=1,
        description="ROI name, or a pattern for all of it, → class, in any case of letters; the "
        "first that fits counts. ROI names are free text: others are not read",
    )
    per: Per = Field(default="segment", description="one lesion per ROI, or per component")

    @field_validator("labels")
    @classmethod
    def _patterns(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in labels:
            try:
                re.compile(name)
            except re.error as error:
                raise ValueError(f"{name!r} is no pattern: {error}") from None
        return labels

    def label_of(self, name: str) -> str:
        """The class of an ROI of this name; "" if it is not wanted."""
        for wanted, label in self.labels.items():
            exact = wanted.casefold() == name.strip().casefold()
            if exact or re.fullmatch(wanted, name.strip(), re.IGNORECASE):
                return label
        return ""


class SrRule(Settings):
    """Measurement groups of structured reports (PS3.16 TID 1500, 1410, 1411 and 1501)."""

    kind: Literal["sr"]
    labels: ClassNames = Field(
        default={},
        description="meaning or value of the coded finding → class, in any case of letters; "
        "others are not read. Empty: every code meaning is a class",
    )
    unnamed: str | None = Field(
        default=None, description="class of the groups without a finding; None: not read"
    )
    per: Per = Field(default="segment", description="one lesion per group, or per component")
    threshold: float = Field(default=0.5, gt=0, le=1, description="as for `seg`")
    other_grid: OtherGrid = OTHER_GRID


class PointsRule(Settings):
    """Lesions in text tables: a point with a diameter, or a box, per line.

    Exactly one of these says where a lesion lies: ``centre`` with ``diameter`` or ``size``, or
    ``first`` with ``last`` or ``size``. Each is a list of columns, for (x, y, z) or (i, j, k); on
    pictures two suffice: column and row.
    """

    kind: Literal["points"] = "points"
    files: tuple[str, ...] = Field(min_length=1, description="tables, relative to the source")
    separator: Separator = "auto"
    decimal: Literal["point", "comma"] = "point"
    image_column: str = Field(default="seriesuid", description="column that names the image")
    match: str = Field(
        default="stem",
        description="what that column holds: `stem`, the name of the image file without its "
        "endings; `path`, relative to the source; `series`, a Series Instance UID (DICOM); or the "
        "name of a group of the pattern `image`",
    )
    space: Literal["lps", "ras", "voxel"] = Field(
        description="`lps` (DICOM, ITK, LUNA16) or `ras` (nibabel), in mm; or `voxel`, counted "
        "from `counted_from` in the order in which the file stores them"
    )
    centre: tuple[str, ...] = Field(default=(), description="columns of the middle")
    diameter: str | None = Field(default=None, description="column of the diameter in mm")
    first: tuple[str, ...] = Field(default=(), description="columns of the corner of low numbers")
    last: tuple[str, ...] = Field(default=(), description="columns of the corner opposite")
    last_belongs: bool | None = Field(
        default=None,
        description="in `voxel` space: whether `last` is the last voxel of the lesion (true) or "
        "the first behind it (false)",
    )
    size: tuple[str, ...] = Field(
        default=(), description="columns of the lengths along the axes, in mm or voxels"
    )
    counted_from: Literal[0, 1] = Field(default=0, description="number of the first voxel")
    label: str | None = Field(default=None, description="one class for every line")
    label_column: str | None = Field(default=None, description="column of the class")
    labels: ClassNames = Field(
        default={}, description="raw class → class; others are not read. Empty: as they are"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [
            (bool(self.centre), self.diameter is not None),
            (bool(self.centre), bool(self.size)),
            (bool(self.first), bool(self.last)),
            (bool(self.first), bool(self.size)),
        ]
        given = [self.centre, self.first, self.last, self.size]
        parts = sum(map(bool, given)) + (self.diameter is not None)
        if sum(all(way) for way in ways) != 1 or parts != 2:
            raise ValueError(
                "give exactly one of centre + diameter, centre + size, first + last, first + size"
            )
        if {len(columns) for columns in given if columns} - {2, 3} or (
            len({len(columns) for columns in given if columns}) != 1
        ):
            raise ValueError("a place has two or three columns, the same number in each setting")
        if (self.space == "voxel" and bool(self.last)) != (self.last_belongs is not None):
            raise ValueError("`last_belongs` goes with `last` in voxel space, and is needed there")
        if self.space != "voxel" and self.counted_from:
            raise ValueError("`counted_from` goes with the space `voxel`")
        if (self.label is None) == (self.label_column is None):
            raise ValueError("the class comes from exactly one of label and label_column")
        return self

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.centre or self.first)


LesionRule = Annotated[
    MaskSeriesRule | SegRule | RtstructRule | SrRule | PointsRule, Field(discriminator="kind")
]


class LabelTable(Settings):
    """Text files with one picture and its label per line."""

    files: tuple[str, ...] = Field(min_length=1, description="tables, relative to the source")
    path_column: int | str = Field(
        default=0, description="number from 0, or the column's name where the table has a head"
    )
    label_column: int | str = Field(default=1, description="as path_column")
    separator: Separator = "auto"

    @model_validator(mode="after")
    def _same_kind(self) -> Self:
        if isinstance(self.path_column, int) != isinstance(self.label_column, int):
            raise ValueError("give path_column and label_column both as numbers or both as names")
        return self
