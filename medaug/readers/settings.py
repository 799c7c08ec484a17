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
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    field_validator,
    model_validator,
)

from medaug.domain import Unit
from medaug.readers.rules import (
    Allowance,
    ClassNames,
    Colour,
    Irregular,
    LabelTable,
    LesionRule,
    OtherGrid,
    PatientRule,
    PatientTable,
    Per,
    PointsRule,
    Settings,
    Tilt,
    need_group,
)


class _Source(Settings):
    path: str = Field(default=".", description="folder of the files, relative to the data root")
    allow: tuple[Allowance, ...] = Field(
        default=(),
        description="what is refused otherwise: the same image under `two-classes` or "
        "`two-patients`, a patient in the folders of `two-parts` (training, tuning, test), "
        "DICOM images with text `burned-in` by what they declare",
    )

    @field_validator("path")
    @classmethod
    def _below_the_root(cls, path: str) -> str:
        parts = PurePosixPath(path.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError("a source lies below the data root: give a relative path without ..")
        return str(parts)


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
    check_side: bool = Field(
        default=True,
        description="refuse a mask that its file codes as left or right, if it lies on the other "
        "side of the body in a CT",
    )
    irregular: Irregular = Field(
        default="refuse",
        description="slices at uneven distances, or with some missing: refuse the series, "
        "resample it to regular distances, or keep its longest regular block",
    )
    tilt: Tilt = Field(
        default="refuse",
        description="slices of a tilted gantry: refuse the series, or shear it onto an upright "
        "grid",
    )
    lossy: bool = Field(
        default=False,
        description="read images whose compression lost something; the inventory counts them",
    )
    colour: Colour = Field(
        default="ultrasound",
        description="colour images, as their luminance: those of ultrasound only (`ultrasound`), "
        "all (`luminance`) or none (`refuse`)",
    )

    @model_validator(mode="after")
    def _points_by_series(self) -> Self:
        for rule in self.lesions:
            if isinstance(rule, PointsRule) and (
                rule.match not in ("series", "path") or rule.space == "voxel"
            ):
                raise ValueError(
                    "points on DICOM series are matched by `series` or `path`, and lie in `lps` or "
                    "`ras` mm: the order of slices in files means nothing"
                )
        return self


class VolumesSource(_Source):
    """Images and what marks them, in NIfTI, NRRD, MetaImage, NumPy or TIFF files.

    Files with equal named groups in both patterns belong together.
    """

    kind: Literal["volumes"]
    image: re.Pattern[str] = Field(description="pattern of the images, with the group `patient`")
    labels: re.Pattern[str] | None = Field(
        default=None,
        description="pattern of the label maps or masks, with the group `patient`; goes before "
        "`image`. Its group `label`, if there is one, is the class of everything in the file",
    )
    values: dict[int, str] = Field(
        default={},
        description="value in the label map → class; others are not read. "
        "Empty: every value is a class",
    )
    values_table: str | None = Field(
        default=None, description="text table of values and classes, relative to the source"
    )
    segments: ClassNames = Field(
        default={},
        description="name of a segment of a 3D Slicer segmentation → class; others are not read",
    )
    label: str | None = Field(default=None, description="one class for everything that is marked")
    points: PointsRule | None = Field(default=None, description="lesions from text tables")
    per: Per = Field(default="segment", description="one lesion per value, or per component")
    other_grid: OtherGrid = Field(
        default="refuse",
        description="a mask on another grid than its image: `resample` takes both to be in one "
        "space, which these files cannot say",
    )
    volume: int | None = Field(
        default=None, ge=0, description="which volume is read where an image file holds several"
    )
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        default=None, description="of (i, j, k), for arrays without a sidecar and for TIFF"
    )
    modality: str = Field(default="OT", description="DICOM's word; the files do not say")
    unit: Unit = Field(default=Unit.ARBITRARY, description="HU only where the files hold HU")

    @model_validator(mode="after")
    def _patients_and_lesions(self) -> Self:
        need_group(self.image, "patient")
        need_group(self.labels, "patient")
        if self.labels is None and self.points is None:
            raise ValueError("give `labels`, `points` or both: something must mark the lesions")
        classes = (self.values, self.values_table, self.segments, self.label)
        named = self.labels is not None and "label" in self.labels.groupindex
        if sum(map(bool, classes)) + named > 1:
            raise ValueError(
                "the class comes from one of values, values_table, segments, label and the "
                "pattern's group `label`"
            )
        if self.points is not None:
            groups = self.image.groupindex
            if self.points.match not in ("stem", "path", *groups):
                raise ValueError("points.match is stem, path or a group of the pattern `image`")
            if self.points.dimensions != 3:
                raise ValueError("a place in a volume has three columns")
        return self


class MsdSource(_Source):
    """A task of the Medical Segmentation Decathlon, or of nnU-Net: ``dataset.json`` lists it."""

    kind: Literal["msd"]
    labels: ClassNames = Field(
        default={},
        description="name of a label in dataset.json → class; others are not read. "
        "Empty: every label but the background is a class",
    )
    patient: re.Pattern[str] | None = Field(
        default=None,
        description="pattern of the label maps, with the group `patient`; by default the name of "
        "the file without its ending is a patient",
    )
    channel: int | None = Field(
        default=None, ge=0, description="which channel is read where a case has several"
    )
    per: Per = Field(default="component", description="one lesion per label, or per component")
    modality: str | None = Field(
        default=None, description="DICOM's word; by default what dataset.json says of the channel"
    )
    unit: Unit = Field(default=Unit.ARBITRARY, description="HU only where the files hold HU")

    @model_validator(mode="after")
    def _patients(self) -> Self:
        need_group(self.patient, "patient")
        return self


class ImagesSource(_Source):
    """A folder of ready-made pictures: one lesion each, or those that masks or boxes mark."""

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
    masks: re.Pattern[str] | None = Field(
        default=None,
        description="pattern of masks beside the pictures; goes before `pattern`. Files with equal "
        "named groups in both belong together",
    )
    boxes: PointsRule | None = Field(
        default=None, description="lesions and their classes from tables of boxes or points"
    )
    per: Per = Field(default="segment", description="one lesion per mask, or per component")
    patient_identity: Literal["path", "none"] = Field(
        default="path",
        description="`path`: the pattern's group `patient`; `none`: nothing tells patients apart, "
        "and each picture counts as a patient of its own",
    )
    patient_table: PatientTable | None = Field(
        default=None, description="patients from a text table, instead of the pattern's group"
    )
    modality: str = Field(default="OT", description="DICOM's word; a picture does not say")

    @model_validator(mode="after")
    def _one_label_and_a_patient(self) -> Self:
        given = [self.label, self.table, self.pattern.groupindex.get("label"), self.boxes]
        if sum(part is not None for part in given) != 1:
            raise ValueError(
                "the class comes from exactly one of label, table, boxes and the pattern's group "
                "`label`"
            )
        if self.boxes is not None and (self.boxes.space != "voxel" or self.masks is not None):
            raise ValueError("boxes on pictures are in the space `voxel`, and need no masks")
        if self.masks is not None and not set(self.masks.groupindex) & set(self.pattern.groupindex):
            raise ValueError("the patterns of pictures and masks share a group that pairs them")
        if self.patient_table is not None:
            if self.patient_table.key == "series" or self.patient_identity == "none":
                raise ValueError("a patient table of pictures goes by their paths")
        elif self.patient_identity == "path":
            need_group(self.pattern, "patient")
        return self


SourceSettings = Annotated[
    DicomSource | VolumesSource | MsdSource | ImagesSource, Field(discriminator="kind")
]
