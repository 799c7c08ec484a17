"""Where a DICOM image lies, and how far apart its pixels are.

A slice states its place in the patient. A picture (a mammogram, a radiograph, an ultrasound
frame) does not: it keeps its millimetres, and lies at the origin.

Distances in a picture come from the first of these that it has [1]_:

1. Pixel Spacing. Where it equals Imager Pixel Spacing it is the one at the detector still, and is
   treated as such.
2. Imager Pixel Spacing, at the detector, divided by the Estimated Radiographic Magnification
   Factor: then at the patient, as far as the file can know. Without the factor the distances are
   those at the detector, larger than in the body by a factor that the file does not say (1.05
   to 1.1 in contact mammography; up to 1.5 or 2 with magnification).
3. Nominal Scanned Pixel Spacing, of a film.
4. Sequence of Ultrasound Regions [2]_: if every region is a 2-D picture in cm at one scale.

Otherwise the picture is not measured: pixels are 1 apart, and Pixel Aspect Ratio is kept.

.. [1] DICOM PS3.3 10.7.1 (Basic Pixel Spacing Calibration), C.8.11.4 (magnification)
.. [2] DICOM PS3.3 C.8.5.5
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medaug.readers.dicom.attributes import Said, integer, items, number, numbers

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

_TWO_DIMENSIONAL, _CENTIMETRES = 1, 3  # PS3.3 C.8.5.5.1.1, C.8.5.5.1.15


@dataclass(frozen=True)
class Plane:
    """The grid of one slice, in LPS mm.

    Attributes:
        rows, columns: size of the picture.
        spacing: mm between rows, mm between columns (PS3.3 10.7.1.3: in this order).
        orientation: unit vectors along increasing column index, then along increasing row index.
        position: centre of the first pixel.
        placed: False for a picture that states no place in the patient (a mammogram, an
            ultrasound frame); it lies at the origin then, and no plane is parallel to it.
        measured: False where the file gives no distance between pixels either.
    """

    rows: int
    columns: int
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    placed: bool = True
    measured: bool = True

    def parallel_to(self, other: Plane) -> bool:
        """Whether both have the same size, spacing and orientation, up to rounding in the file."""
        return (
            self.placed
            and other.placed
            and (self.rows, self.columns) == (other.rows, other.columns)
            and np.allclose(self.spacing, other.spacing, rtol=1e-4)
            and np.allclose(self.orientation, other.orientation, atol=1e-4)
        )


def plane_of(size: Said, measures: Said, orientation: Said, position: Said) -> Plane | str:
    """The grid of a slice or a frame, or the reason why it has none.

    The four parts stand in one data set for a slice, and in four functional groups for a frame.
    """
    spacing = numbers(measures, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        return "it has no usable Pixel Spacing"
    directions = numbers(orientation, "ImageOrientationPatient", 6)
    origin = numbers(position, "ImagePositionPatient", 3)
    if directions is None or origin is None:
        return "it has no place in the patient (Image Position and Orientation)"
    return _placed(size, spacing, directions, origin)


def probe_plane(said: Said) -> Plane | str:
    """The grid of a frame of an Enhanced US Volume, in the frame of the volume.

    PS3.3 C.8.24.3: the volume has an origin and axes of its own, in mm, which are not the
    patient's.
    """
    spacing = numbers(said, "PixelSpacing", 2)
    directions = numbers(said, "ImageOrientationVolume", 6)
    origin = numbers(said, "ImagePositionVolume", 3)
    if spacing is None or min(spacing) <= 0 or directions is None or origin is None:
        return "a frame of an ultrasound volume without its place or Pixel Spacing"
    return _placed(said, spacing, directions, origin)


def _placed(
    size: Said,
    spacing: tuple[float, ...],
    directions: tuple[float, ...],
    origin: tuple[float, ...],
) -> Plane | str:
    a, b = directions[:3], directions[3:]
    products = (
        sum(x * x for x in a) - 1,
        sum(x * x for x in b) - 1,
        sum(x * y for x, y in zip(a, b, strict=True)),
    )
    if max(map(abs, products)) > 1e-3:
        return "its row and column directions are not perpendicular unit vectors"
    rows, columns = integer(size, "Rows") or 0, integer(size, "Columns") or 0
    return Plane(rows, columns, spacing, directions, origin)


def picture_plane(said: Said) -> Plane:
    """The grid of an image that states no place in the patient."""
    spacing = _pixel_spacing(said) or _regions(said)
    return Plane(
        rows=integer(said, "Rows") or 0,
        columns=integer(said, "Columns") or 0,
        spacing=spacing or _aspect(said),
        orientation=AXIAL,
        position=(0.0, 0.0, 0.0),
        placed=False,
        measured=spacing is not None,
    )


def _pixel_spacing(said: Said) -> tuple[float, ...] | None:
    calibrated = _positive(said, "PixelSpacing")
    detector = _positive(said, "ImagerPixelSpacing")
    if calibrated and calibrated != detector:
        return calibrated
    if not detector:
        return _positive(said, "NominalScannedPixelSpacing")
    factor = number(said, "EstimatedRadiographicMagnificationFactor")
    shrink = factor if factor and factor >= 1 else 1.0
    return tuple(distance / shrink for distance in detector)


def _positive(said: Said, keyword: str) -> tuple[float, ...] | None:
    found = numbers(said, keyword, 2)
    return found if found and min(found) > 0 else None


def _regions(said: Said) -> tuple[float, ...] | None:
    scales = set()
    for region in items(said, "SequenceOfUltrasoundRegions"):
        units = {number(region, f"PhysicalUnits{axis}Direction") for axis in "XY"}
        down, along = (number(region, f"PhysicalDelta{axis}") for axis in "YX")
        flat = number(region, "RegionSpatialFormat") == _TWO_DIMENSIONAL
        if not flat or units != {_CENTIMETRES} or not down or not along:
            return None
        scales.add((abs(down) * 10, abs(along) * 10))
    return scales.pop() if len(scales) == 1 else None


def _aspect(said: Said) -> tuple[float, ...]:
    ratio = _positive(said, "PixelAspectRatio")
    return (ratio[0] / ratio[1], 1.0) if ratio else (1.0, 1.0)
