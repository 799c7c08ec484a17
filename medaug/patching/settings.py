"""What a patch is: how many pixels, how large a pixel, which slices, what does not fit."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EveryNth(BaseModel):
    """Every N-th slice of a lesion, counted so that its largest slice is among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(ge=1, description="N; 1 takes every slice")


class PatchingSettings(BaseModel):
    """How patches are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(64, ge=32, le=256, multiple_of=8, description="rows and columns of a patch")
    mm_per_pixel: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="size of a pixel in mm; unset only for pictures that carry no spacing",
    )
    slices: Literal["largest", "all"] | EveryNth = Field(
        "largest",
        description="axial slices of a lesion: the one of largest area, all, or {every: N}",
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
