"""Station one: files are read, and patches cut."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medaug.atomic import write_json
from medaug.config import require_data
from medaug.domain import Case, LesionPatch, PatchSet
from medaug.road.run import Run
from medaug.road.sheets import draw_sheets

if TYPE_CHECKING:
    from medaug.patching.extract import SkippedLesion
    from medaug.patching.settings import PatchingSettings
    from medaug.readers.source import Source
    from medaug.spread import Spread

_GONE = "since it was inspected, its mask has changed"


def extract(run: Run) -> None:
    """Leave the inventory, the patches, and sheets of each class."""
    from medaug.patching.store import summarise
    from medaug.readers.identity import load_site_key
    from medaug.readers.source import scan
    from medaug.workers import workers

    config = run.config
    root = require_data(config, config.name)
    store = run.folder / "patches" / "patches.h5"
    with workers(run.dask, root) as spread:
        key = load_site_key(config.site_key)
        source = scan(config.sources, root, key, run.progress, spread)
        write_json(run.folder / "inventory.json", source.inventory.document())
        _cut_patches(run, source, spread, store)
    summary = summarise(store)
    summary["window"] = list(config.generator.window)
    summary |= _shape_of(run.patches)
    write_json(run.folder / "patches" / "summary.json", summary)
    for label in run.patches.classes:
        few = run.patches.of_class(label).select(
            range(min(64, summary["classes"][label]["patches"]))
        )
        draw_sheets(run, "real", label, few.images, few.masks)


def _shape_of(patches: PatchSet) -> dict[str, Any]:
    """What the report says of the slices of a patch, and of the lesions' diameters."""
    channels, *size = patches.images.shape[1:]
    known = np.array([place.diameter_mm for place in patches.locations])
    diameters = {}
    for at, label in enumerate(patches.classes):
        mine = known[(patches.labels == at) & (known > 0)]
        if len(mine):
            diameters[label] = [float(mine.min()), float(np.median(mine)), float(mine.max())]
    return {
        "spatial_dims": len(size),
        "slices": size[0] if len(size) == 3 else channels,
        "diameters_mm": diameters,
    }


def _cut_patches(run: Run, source: Source, spread: Spread, store: Path) -> None:
    """Fill the store: every lesion of the inventory ends as patches, or skipped for a reason."""
    from medaug.patching.extract import SkippedLesion
    from medaug.patching.store import PatchStoreWriter
    from medaug.readers.files import Refusal

    run.progress.start("cutting patches", source.size, "B")
    results = source.each(partial(_patches_of, run.config.patching), spread, run.progress)
    with PatchStoreWriter(store, patients_known=source.patients_known) as writer:
        for entry, result in results:
            found, reason = ([], result.reason) if isinstance(result, Refusal) else (result, _GONE)
            met: set[str] = set()
            for patch in found:
                if isinstance(patch, SkippedLesion):
                    met.add(patch.lesion)
                    writer.skip(patch)
                else:
                    met.add(patch.location.lesion)
                    writer.append(patch)
            for lesion in entry.lesions:
                if lesion.tracking_uid not in met:
                    writer.skip(
                        SkippedLesion(lesion.tracking_uid, lesion.label, entry.case, reason)
                    )


def _patches_of(settings: PatchingSettings, case: Case) -> list[LesionPatch | SkippedLesion]:
    from medaug.patching.extract import extract_patches

    return list(extract_patches(case, settings))
