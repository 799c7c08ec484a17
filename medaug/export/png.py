"""Sixteen-bit grey PNG, one file per slice, and a table that gives the pixels their meaning.

A picture format holds no volume. A sample of several slices becomes a file for each, whose place
in the sample stands in the table; nothing is laid side by side, since no reader could cut it apart.

A PNG holds no negative number, and few viewers stretch its contrast. The release's own range is
therefore spread over 0..65535 by a whole factor, which loses nothing:
grey = (stored - offset) * gain, so that value = (grey / gain + offset) * slope + intercept.
The table names the four numbers for every file. Only the chunks IHDR, tEXt, IDAT and IEND are
written (PNG specification, third edition, section 11): there is no place for a date or a profile.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medaug.domain import Release
from medaug.export.layout import planes
from medaug.export.manifest import Manifest
from medaug.export.words import NOTICE
from medaug.progress import Progress

COLUMNS = ("file", "number", "slice", "class", "gain", "offset", "slope", "intercept", "unit")


def write_png(release: Release, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """Write ``<class>/<number>.png`` and ``table.csv`` into ``folder``."""
    _make_folders(folder, manifest)
    offset, gain = _spread(release)
    text = _text(manifest, offset, gain)
    slope, intercept = manifest.image.slope, manifest.image.intercept
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        for plane in planes(release):
            entry = manifest.classes[plane.label]
            file = f"{entry.folder}/{plane.name}.png"
            grey = ((plane.pixels.astype(np.int64) - offset) * gain).astype(np.uint16)
            Image.fromarray(grey).save(folder / file, format="PNG", pnginfo=text)
            meaning = (gain, offset, slope, intercept, manifest.image.unit)
            table.writerow((file, plane.number, plane.slice, entry.name, *meaning))
            progress.advance()


def write_png_masks(release: Release, manifest: Manifest, folder: Path) -> None:
    """Write the masks into ``folder``, under their slices' names: 8 bits, 255 in the lesion."""
    _make_folders(folder, manifest)
    text = _origin(manifest)
    text.add_text(
        "Description", "Lesion mask, drawn with the image: 255 in the lesion, 0 elsewhere"
    )
    for plane in planes(release):
        if plane.mask is not None:
            path = folder / manifest.classes[plane.label].folder / f"{plane.name}.png"
            Image.fromarray(plane.mask.astype(np.uint8) * 255).save(path, "PNG", pnginfo=text)


def _make_folders(folder: Path, manifest: Manifest) -> None:
    for entry in manifest.classes:
        (folder / entry.folder).mkdir(parents=True)


def _spread(release: Release) -> tuple[int, int]:
    """Offset and gain that take the release's pixels to 0..65535; gain is a whole number."""
    low, high = int(release.pixels.min()), int(release.pixels.max())
    return low, 65535 // max(high - low, 1)


def _text(manifest: Manifest, offset: int, gain: int) -> PngInfo:
    image = manifest.image
    chunks = _origin(manifest)
    chunks.add_text(
        "Description",
        f"value = (grey / {gain} + {offset}) * {image.slope!r} + {image.intercept!r}, "
        f"in {image.unit}",
    )
    return chunks


def _origin(manifest: Manifest) -> PngInfo:
    """The mark in the picture itself, under the standard's own keywords."""
    chunks = PngInfo()
    chunks.add_text("Disclaimer", NOTICE)
    chunks.add_text("Title", f"{manifest.name}, release {manifest.pixels_digest[:16]}")
    chunks.add_text("Software", f"medaug {manifest.medaug}")
    if manifest.licence:
        # tEXt is Latin-1 only; what lies outside becomes a character reference.
        licence = manifest.licence.encode("latin-1", "xmlcharrefreplace").decode("latin-1")
        chunks.add_text("Copyright", licence)
    return chunks
