"""Single lesion patches, drawn without a patient around them.

A patch is the phantom's liver and lesion evaluated on one slice that is little larger than the
patch, scanned and resampled as a patch of the cohort would be: the same anatomy, kinds, sizes,
blur and noise. Only the veins differ; a few twigs stand for the trees of a whole liver.

>>> render = lesion_renderer({"mass": "metastasis"}, "CT", Unit.HOUNSFIELD, (1, 64, 64), 1.0)
>>> images, masks = render("mass", [7, 8])
>>> images.shape, masks.shape, bool(masks[0, 32, 32])
((2, 1, 64, 64), (2, 64, 64), True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medaug.domain import Geometry, Unit
from medaug.errors import Fault, SettingsError
from medaug.phantom.anatomy import Habitus, draw_abdomen, reference_depth
from medaug.phantom.dealing import KINDS, Kind
from medaug.phantom.grid import Field, axial_geometry, millimetres
from medaug.phantom.lesions import PhantomLesion, draw_lesion
from medaug.phantom.lobed import FURTHEST
from medaug.phantom.patient import Scan, scanned
from medaug.phantom.placing import LARGEST_MM, SHRINK, SMALLEST_MM
from medaug.phantom.vessels import draw_twigs

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]
Renderer = Callable[[str, Sequence[int]], tuple[Images, Masks]]

MARGIN_MM = 5.0  # around a lesion; one that does not fit is shrunk, as in a cohort's patches
_TRIES = 60  # places that are looked at before a lesion shrinks
_STREAM = 0x5E11  # sets these draws apart from those of whole patients


def lesion_renderer(
    kinds: Mapping[str, str],
    modality: str,
    unit: Unit,
    shape: tuple[int, ...],
    mm_per_pixel: float,
) -> Renderer:
    """A function (class, seeds) → images (patch, 1, row, column) float32 HU and masks.

    Masks are (patch, row, column) bool. A seed gives the same patch whatever the other seeds.

    Args:
        kinds: which kind of phantom lesion stands for each class.
        modality: of the patches that the rendered ones are to stand beside.
        unit: of those.
        shape: (channel, row, column) of those.
        mm_per_pixel: of those; 0 where it is not known.

    Raises:
        SettingsError: if such lesions cannot be rendered; it names those that can.
    """
    faults = [
        Fault(
            f"class {label}",
            f"there is no model of a lesion '{kind}' to render it from",
            ", ".join(KINDS),
            f"name the kind that comes nearest: generator.render: {{{label}: {KINDS[1]}}}; "
            "or choose a preset that learns from real patches alone",
        )
        for label, kind in kinds.items()
        if kind not in KINDS
    ]
    if (modality, unit) != ("CT", Unit.HOUNSFIELD):
        faults.append(
            Fault(
                "patches",
                f"modality {modality} in {unit.value}; the lesions that can be rendered "
                f"({', '.join(KINDS)}) are CT",
                "CT in HU",
                "choose a preset that learns from real patches alone",
            )
        )
    if len(shape) != 3 or shape[0] != 1:
        kind = "3-D" if len(shape) == 4 else f"{shape[0]} adjacent slices as channels"
        faults.append(
            Fault(
                "patches",
                f"{kind}; lesions are rendered on single slices",
                "2-D patches of one slice (patching.spatial_dims: 2, patching.adjacent: 0)",
                "set these, or choose a preset that learns from real patches alone",
            )
        )
    elif shape[1] != shape[2]:
        faults.append(Fault("patches", f"shape {shape}", "one channel, square", ""))
    if mm_per_pixel <= 0:
        faults.append(
            Fault("patches", "their pixel size is not known", "a size in mm", "set mm_per_pixel")
        )
    if faults:
        raise SettingsError(*faults)

    def render(label: str, seeds: Sequence[int]) -> tuple[Images, Masks]:
        size = shape[1]
        images = np.empty((len(seeds), 1, size, size), np.float32)
        masks = np.empty((len(seeds), size, size), bool)
        for row, seed in enumerate(seeds):
            images[row, 0], masks[row] = render_lesion(
                cast(Kind, kinds[label]), int(seed), size, mm_per_pixel
            )
        return images, masks

    return render


def render_lesion(
    kind: Kind, seed: int, size: int = 64, mm_per_pixel: float = 1.0
) -> tuple[Images, Masks]:
    """One patch around a lesion: HU (row, column) float32, and the lesion's mask.

    A lesion that does not fit with `MARGIN_MM` around it is shrunk until it does.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind), _STREAM])
    scan, habitus = Scan.draw(rng), Habitus.draw(rng)
    diameter = float(np.exp(rng.uniform(np.log(SMALLEST_MM), np.log(LARGEST_MM))))
    return picture_of(rng, kind, scan, habitus, diameter, size, mm_per_pixel)


def picture_of(
    rng: np.random.Generator,
    kind: Kind,
    scan: Scan,
    habitus: Habitus,
    diameter: float,
    size: int,
    mm_per_pixel: float,
    shift_hu: float = 0.0,
) -> tuple[Images, Masks]:
    """`render_lesion` with what stands first given; ``shift_hu`` as in `draw_lesion`."""
    while (found := _abdomen(rng, scan, habitus, diameter, size * mm_per_pixel)) is None:
        diameter *= SHRINK
    geometry, voxels, liver, centre = found
    draw_twigs(rng, voxels, geometry, liver, habitus)
    x, y, z = centre.tolist()
    place = (x, y, z + rng.uniform(-0.5, 0.5) * scan.slice)  # the slice need not cut the middle
    lesion = PhantomLesion(kind, place, diameter)
    region, part = draw_lesion(rng, voxels, geometry, lesion, habitus, shift_hu)
    outline = np.zeros(geometry.shape[:2], bool)
    outline[region[:2]] = part[:, :, 0]
    picture = scanned(rng, voxels, scan)[:, :, 0].T.astype(np.float32)
    return _cut(picture, outline.T, scan.pixel, size, mm_per_pixel)


def _abdomen(
    rng: np.random.Generator, scan: Scan, habitus: Habitus, diameter: float, patch_mm: float
) -> tuple[Geometry, Field, Field, NDArray[np.float64]] | None:
    """A slice with room for the lesion: its grid, HU, depth in the liver, centre; None if none."""
    needed = FURTHEST * diameter / 2
    places = rng.uniform((-40, -70, -60), (125, 65, 60), (_TRIES, 3))
    x, y, z = (column[:, None, None].astype(np.float32) for column in places.T)
    fits = np.flatnonzero(reference_depth((x, y, z), habitus) > needed)
    if not fits.size:
        return None
    centre = places[fits[0]]
    extent = max(patch_mm, 2 * (needed + MARGIN_MM)) + 2 * FURTHEST + 10 * scan.pixel
    # The centroid of a lobed lesion is not the middle of its box: a fifth more on either side.
    side = int(np.ceil((extent + 0.2 * diameter) / scan.pixel))
    geometry = axial_geometry(side, 1, scan.pixel, scan.slice, centre)
    voxels, liver = draw_abdomen(rng, geometry, habitus)
    x, y, _ = millimetres(geometry)
    near = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1]))[:, :, 0] < needed
    if (liver[:, :, 0][near] <= 0).any():
        return None
    return geometry, voxels, liver, centre


def _cut(
    picture: Images, outline: Masks, pixel_mm: float, size: int, mm_per_pixel: float
) -> tuple[Images, Masks]:
    """(size, size) around the lesion: smoothed where pixels grow, then cubic splines."""
    at = np.argwhere(outline)
    low, high = at.min(axis=0), at.max(axis=0)
    span = (high - low + 1).max() * pixel_mm
    factor = max(mm_per_pixel, (span + 2 * MARGIN_MM) / size) / pixel_mm
    origin = (low + high) / 2 - factor * (size - 1) / 2
    sigma = np.sqrt(max(factor**2 - 1, 0) / (8 * np.log(2)))
    step = np.full(2, factor)

    def sample(pixels: Images, order: int) -> Images:
        smooth = ndimage.gaussian_filter(pixels, sigma, mode="nearest")
        return np.asarray(
            ndimage.affine_transform(
                smooth, step, origin, (size, size), order=order, mode="nearest"
            ),
            dtype=np.float32,
        )

    image = np.clip(sample(picture, 3), picture.min(), picture.max())
    share = sample(outline.astype(np.float32), 1)
    return image, share > min(0.5, float(share.max()) * 0.999)
