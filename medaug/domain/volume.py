"""Voxels with a place and a unit, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from medaug.domain.geometry import Geometry

Region = tuple[slice, slice, slice]
VoxelDecoder = Callable[[Region], NDArray[np.float32]]


class Unit(StrEnum):
    """What a voxel value measures."""

    HOUNSFIELD = "HU"
    SUV = "SUV"
    ARBITRARY = "arbitrary"


@dataclass(frozen=True)
class Window:
    """An interval of intensities, in the unit of the image.

    >>> Window(-100, 200).to_signed(np.array([-100.0, 50.0, 900.0])).tolist()
    [-1.0, 0.0, 1.0]
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a window needs low < high, got {self.low} and {self.high}")

    def to_signed(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Intensities → [-1, 1]; what lies outside the window is clipped."""
        scaled = (values - self.low) * (2.0 / (self.high - self.low)) - 1.0
        return np.asarray(np.clip(scaled, -1.0, 1.0), dtype=np.float32)

    def from_signed(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """[-1, 1] → intensities; inverts `to_signed` inside the window."""
        return ((values + 1.0) * ((self.high - self.low) / 2.0) + self.low).astype(np.float32)


@dataclass(frozen=True)
class Rescale:
    """How 16-bit stored values become intensities: ``stored * slope + intercept``.

    The words and the rule are DICOM's (PS3.3 C.11.1, Modality LUT). HU is stored as it is;
    any other unit spreads its window over 0..32767.

    >>> Rescale.of(Unit.HOUNSFIELD, Window(-100, 200))
    Rescale(slope=1.0, intercept=0.0)
    """

    slope: float
    intercept: float

    @classmethod
    def of(cls, unit: Unit, window: Window) -> Rescale:
        """The rescale for patches of this unit and window.

        Both numbers are rounded to 10 digits, so that DICOM's decimal strings (16 characters)
        carry them without loss.
        """
        if unit is Unit.HOUNSFIELD:
            return cls(1.0, 0.0)
        slope = float(f"{(window.high - window.low) / 32767:.10g}")
        return cls(slope, float(f"{window.low:.10g}"))

    def store(self, values: NDArray[np.floating]) -> NDArray[np.int16]:
        """Intensities → int16, rounded to nearest and clipped to the int16 range.

        Raises:
            ValueError: for NaN or infinity, which no integer can carry.
        """
        if not np.isfinite(values).all():
            raise ValueError("NaN or infinity cannot be stored as 16-bit integers")
        stored = np.rint((np.asarray(values, np.float64) - self.intercept) / self.slope)
        return np.clip(stored, -32768, 32767).astype(np.int16)

    def restore(self, stored: NDArray[np.integer]) -> NDArray[np.float32]:
        """int16 → intensities in float32."""
        return (stored.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Volume:
    """An image volume (or one picture, with shape (columns, rows, 1)).

    Attributes:
        geometry: the grid.
        modality: DICOM's word (CT, MR, MG, US…); "OT" where the file does not say.
        unit: what the values measure.
        decode: reads the voxels of a region given by three slices with known bounds; called by
            `read` only.
    """

    geometry: Geometry
    modality: str
    unit: Unit
    decode: VoxelDecoder

    @classmethod
    def from_array(
        cls, voxels: NDArray[np.floating], geometry: Geometry, modality: str, unit: Unit
    ) -> Volume:
        """A volume that lies in memory; ``voxels`` is (i, j, k)."""
        if voxels.shape != geometry.shape:
            raise ValueError(f"voxels {voxels.shape} do not fit the grid {geometry.shape}")
        return cls(geometry, modality, unit, lambda region: voxels[region].astype(np.float32))

    def read(self, region: Region | None = None) -> NDArray[np.float32]:
        """Voxels (i, j, k) of ``region`` in float32, in `unit`; the whole volume by default.

        Raises:
            ReaderError: if the file behind it turns out to be damaged.
            IndexError: if the region reaches outside the grid or is empty.
        """
        bounded = region or (slice(None), slice(None), slice(None))
        exact: list[slice] = []
        for part, size in zip(bounded, self.geometry.shape, strict=True):
            start = 0 if part.start is None else part.start
            stop = size if part.stop is None else part.stop
            if part.step not in (None, 1) or not 0 <= start < stop <= size:
                raise IndexError(f"region {part} does not lie inside 0..{size}")
            exact.append(slice(start, stop))
        return self.decode((exact[0], exact[1], exact[2]))
