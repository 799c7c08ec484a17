"""What a patch is: how many pixels, how large a pixel, which slices, what does not fit."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_IN_3D = 64
"""Voxels along an edge of a cube."""


class EveryNth(BaseModel):
    """Every N-th slice of a lesion, counted so that its largest slice is among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(ge=1, description="N; 1 takes every slice")


class PatchingSettings(BaseModel):
    """How patches are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(
        64,
        ge=32,
        le=256,
        multiple_of=8,
        description="rows and columns of a patch, and in 3-D its slices; in 3-D 64 at most",
    )
    spatial_dims: Literal[2, 3] = Field(
        2, description="2: pictures of axial slices; 3: cubes, one around each lesion"
    )
    adjacent: int = Field(
        0,
        ge=0,
        le=8,
        description="slices on either side of the lesion's slice that are further channels "
        '("2.5-D"); in 2-D only',
    )
    slice_mm: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="distance of adjacent slices in mm, where `adjacent` asks for any; default: "
        "mm_per_pixel",
    )
    mm_per_pixel: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="size of a pixel, or edge of a voxel, in mm; unset only for pictures that "
        "carry no spacing",
    )
    slices: Literal["largest", "all"] | EveryNth = Field(
        "largest",
        description="axial slices of a lesion: the one of largest area, all, or {every: N}; no "
        "choice in 3-D",
    )
    margin_mm: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="what must fit around the lesion, or it counts as larger than the patch; "
        "not used for pictures that carry no spacing",
    )
    min_diameter_mm: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="lesions with a smaller diameter are skipped"
    )
    max_diameter_mm: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="lesions with a larger diameter are skipped"
    )
    larger_than_patch: Literal["scale", "tile", "skip"] = Field(
        "scale",
        description="a lesion larger than the patch: shrink it until it fits, cut overlapping "
        "tiles, or skip it",
    )

    @model_validator(mode="after")
    def _some_lesion_fits(self) -> Self:
        low, high = self.min_diameter_mm, self.max_diameter_mm
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_diameter_mm {low:g} is above max_diameter_mm {high:g}")
        if self.mm_per_pixel is not None and 2 * self.margin_mm >= self.size * self.mm_per_pixel:
            raise ValueError(
                f"a margin of {self.margin_mm:g} mm on both sides leaves no room for a lesion in "
                f"a patch of {self.size * self.mm_per_pixel:g} mm"
            )
        return self

    @model_validator(mode="after")
    def _fit_the_dimensions(self) -> Self:
        faults = []
        if self.spatial_dims == 3:
            if self.size > MOST_IN_3D:
                faults.append(f"size {self.size}: expected at most {MOST_IN_3D} in 3-D")
            if self.slices != "largest":
                faults.append("slices: a cube shows all of a lesion's slices; leave it out in 3-D")
            if self.adjacent:
                faults.append(
                    "adjacent: slices as channels are of 2-D patches; leave it out in 3-D"
                )
        if self.slice_mm is not None and not self.adjacent:
            faults.append("slice_mm: has a meaning only where `adjacent` is 1 or more")
        if self.mm_per_pixel is None and (self.spatial_dims == 3 or self.adjacent):
            faults.append("mm_per_pixel: not set, as for pictures, which have no slices")
        if faults:
            raise ValueError("; ".join(faults))
        return self
