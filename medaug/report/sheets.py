"""Contact sheets: many patches in one picture, to look at and for nothing else.

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
from medaug.domain import Window

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
        images: (patch, channel, row, column) in the unit of ``window``; the channels of a patch
            stand side by side without a gap.
        window: its ends become black and white; what lies outside is clipped.
        columns: patches in a row.
        scale: each pixel is drawn as a square of ``scale`` x ``scale``.
        gap: transparent pixels between patches.
        masks: (patch, row, column) bool, outlined on every channel; or None.

    Returns:
        The PNG file; the same bytes for the same arguments.

    Raises:
        ValueError: if there is no patch, or one holds NaN or infinity.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"expected (patch, channel, row, column), got shape {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("NaN or infinity has no grey level")
    count, channels, rows, width = images.shape
    grey = np.rint((window.to_signed(images) + 1) * 127.5).astype(np.uint8)
    flat = grey.transpose(0, 2, 1, 3).reshape(count, rows, channels * width, 1)
    tiles = flat.repeat(scale, axis=1).repeat(scale, axis=2)
    if masks is not None:
        rims = _rims(masks.repeat(scale, axis=1).repeat(scale, axis=2))
        rims = np.tile(rims, (1, 1, channels))
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
