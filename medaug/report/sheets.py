"""Contact sheets: many patches in one picture, to look at and for nothing else.

Of a patch of several slices (adjacent ones, or a volume) the middle slice is shown; `three_planes`
shows a volume from three sides.

The 8 bits per pixel serve the eye; no station ever reads intensities back from a sheet. What
lies between the patches is transparent, so that a sheet sits well on a light and a dark page.

>>> images = np.linspace(-100, 200, 3 * 4 * 4).reshape(3, 1, 4, 4)
>>> with Image.open(io.BytesIO(contact_sheet(images, Window(-100, 200), columns=2))) as sheet:
...     sheet.size, sheet.mode
((10, 10), 'LA')
"""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medaug.atomic import replacing
from medaug.domain import Window, central
from medaug.domain.patch import Scalar

_RIM = (255, 190, 0)  # amber: no grey level, and visible on black and white alike


def contact_sheet(
    images: NDArray[np.floating],
    window: Window,
    columns: int = 8,
    scale: int = 1,
    gap: int = 2,
    masks: NDArray[np.bool_] | None = None,
) -> bytes:
    """Patches in reading order as one PNG (grey and transparency, 8 bits each).

    With masks it is in colour, and the inner rim of each mask is drawn on its patch.

    Args:
        images: (patch, channel, row, column) or (patch, 1, slice, row, column) in the unit of
            ``window``; the middle slice is shown.
        window: its ends become black and white; what lies outside is clipped.
        columns: patches in a row.
        scale: each pixel is drawn as a square of ``scale`` x ``scale``.
        gap: transparent pixels between patches.
        masks: (patch, row, column) or (patch, slice, row, column) bool; or None.

    Returns:
        The PNG file; the same bytes for the same arguments.

    Raises:
        ValueError: if there is no patch, or one holds NaN or infinity.
    """
    if images.ndim not in (4, 5) or not len(images):
        raise ValueError(
            f"expected (patch, channel, [slice,] row, column), got shape {images.shape}"
        )
    if not np.isfinite(images).all():
        raise ValueError("NaN or infinity has no grey level")
    count = len(images)
    grey = np.rint((window.to_signed(central(images)[:, 0]) + 1) * 127.5).astype(np.uint8)
    tiles = grey[..., None].repeat(scale, axis=1).repeat(scale, axis=2)
    if masks is not None:
        shown = central(masks[:, None])[:, 0]
        rims = _rims(shown.repeat(scale, axis=1).repeat(scale, axis=2))
        tiles = np.where(rims[..., None], np.array(_RIM, np.uint8), tiles)

    across, down = min(columns, count), -(-count // columns)
    height, width, colours = tiles.shape[1:]
    size = (down * (height + gap) - gap, across * (width + gap) - gap, colours + 1)
    sheet = np.zeros(size, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width, :-1] = tile
        sheet[top : top + height, left : left + width, -1] = 255

    png = io.BytesIO()
    Image.fromarray(sheet).save(png, "PNG")
    return png.getvalue()


def write_sheet(
    path: Path,
    images: NDArray[np.floating],
    window: Window,
    columns: int = 8,
    scale: int = 1,
    gap: int = 2,
    masks: NDArray[np.bool_] | None = None,
) -> None:
    """Write `contact_sheet` to ``path``, whole or not at all."""
    png = contact_sheet(images, window, columns, scale, gap, masks)
    with replacing(path) as temporary:
        temporary.write_bytes(png)


def three_planes(volumes: NDArray[Scalar]) -> NDArray[Scalar]:
    """Axial, coronal and sagittal plane through the middle of each volume, one after another.

    Args:
        volumes: (patch, 1, slice, row, column), cubes.

    Returns:
        (3 * patch, 1, row, column) for `contact_sheet` with a multiple of 3 columns. The head is
        up in the coronal and the sagittal planes.
    """
    middle = volumes.shape[-1] // 2
    coronal, sagittal = volumes[:, :, ::-1, middle], volumes[:, :, ::-1, :, middle]
    planes = np.stack([central(volumes), coronal, sagittal], axis=1)
    return np.asarray(planes.reshape(-1, 1, *planes.shape[-2:]))


def _rims(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of each mask (patch, row, column) that touch, by a side, one outside it."""
    around = np.pad(masks, ((0, 0), (1, 1), (1, 1)), mode="edge")
    vertical = around[:, :-2, 1:-1] & around[:, 2:, 1:-1]
    horizontal = around[:, 1:-1, :-2] & around[:, 1:-1, 2:]
    return masks & ~(vertical & horizontal)


def sheet_name(kind: str, label: str) -> str:
    """File name of a class's sheet; ``kind`` is "real" or "synthetic".

    Two classes never share a name, and none leaves the folder it is meant for.

    >>> sheet_name("real", "cyst"), sheet_name("real", "solid/part solid")
    ('real_cyst.png', 'real_solid%2Fpart solid.png')
    """
    return f"{kind}_{quote(label, safe=' +,()')}.png"


def sample_name(step: int, label: str) -> str:
    """File name of a generator's samples of one class after ``step`` steps."""
    return sheet_name(f"{step:07d}", label)


def samples_in(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """The sample sheets in ``folder``: per class, in order of training, (step, file name).

    >>> samples_in(Path("nowhere"))
    {}
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for path in sorted(folder.glob("[0-9]*.png")):
        step, _, label = path.stem.partition("_")
        found.setdefault(unquote(label), []).append((int(step), path.name))
    return dict(sorted(found.items()))
