"""Station four: the gate reviews candidates, and what it lets through is written."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from medaug.atomic import write_json
from medaug.domain import digest_of
from medaug.road import private, twins
from medaug.road.reviewing import review_and_record
from medaug.road.run import Run
from medaug.road.sheets import draw_sheets

if TYPE_CHECKING:
    from medaug.config import PipelineConfig
    from medaug.domain import PatchSet, Release
    from medaug.errors import Fault
    from medaug.privacy.verdict import Review
    from medaug.road.reviewing import Recorded


def release(run: Run) -> None:
    """Leave the review and, if it found nothing against it, the release."""
    from medaug.privacy.comparing import elsewhere
    from medaug.workers import workers

    for sheet in (run.folder / "sheets").glob("synthetic*"):
        sheet.unlink()
    config, counted = run.config, run.config.privacy.mode != "empirical"
    folder = run.folder / "generator"
    split = None if counted else run.split
    beside = twins.findings(config, run.patches, split, folder, run.progress)
    with ExitStack() as stack:
        helpers = None
        if run.dask is not None and not counted:
            spread = stack.enter_context(workers(run.dask, run.folder))
            helpers = stack.enter_context(elsewhere(spread, run.folder))
        found = review_and_record(
            config, run.generator, run.patches, split, folder, run.progress, beside, helpers
        )
    write_json(run.folder / "review" / "ledger.json", found.history)
    document = found.outcome.document()
    # As it stood when the release was made; a reason given afterwards is none.
    document["share_generator"] = config.privacy.share_generator
    if counted:
        document["cost"] = private.cost_in(folder)
    else:
        _draw_closest(run, document["closest"], found.outcome)
    write_json(run.folder / "review" / "decision.json", document)
    _leave(run, found.outcome.release_or_raise(), found)


def export_faults(config: PipelineConfig, patches: PatchSet) -> list[Fault]:
    """What `write_release` is sure to refuse of patches like these, after hours."""
    from medaug.export.dicom_kinds import kind_faults
    from medaug.export.segmentation import layout_faults

    export, sizes = config.export, Counter(place.mm_per_pixel for place in patches.locations)
    sized = all(size > 0 for size, _ in sizes.most_common(1))
    # That masks are drawn where they are needed, the pipeline file itself is asked.
    return [
        *kind_faults(export, patches.modality, sized),
        *layout_faults(export.formats, patches.classes, with_masks=True),
    ]


def _draw_closest(run: Run, rows: list[dict[str, Any]], outcome: Review) -> None:
    """Beside each of the closest candidates the training patch that it is close to."""
    from medaug.report.sheets import write_sheet

    training = run.split.part(run.patches, "training")
    for number, (row, close) in enumerate(zip(rows, outcome.closest, strict=True)):
        for name, image in (
            ("candidate", close.image),
            ("nearest", training.images[close.row]),
        ):
            row[name] = f"closest/{number:02d}_{name}.png"
            path = run.folder / "review" / row[name]
            write_sheet(path, image[None], run.window, scale=3)


def _data_digest(run: Run) -> str | None:
    """Of the training part, as the ledger knows it; nothing with differential privacy."""
    if run.config.privacy.mode != "empirical":
        return None
    return run.split.part(run.patches, "training").digest


def _leave(run: Run, release: Release, found: Recorded) -> None:
    """Write what the review let through."""
    from medaug.export.write import write_release

    config = run.config
    write_release(
        release,
        run.folder / "release",
        config.export,
        name=config.name,
        # Identifiers follow from the seed, yet nobody can read the seed from them.
        seed=int(digest_of("identifiers", config.seed, release.digest), 16),
        window=run.window,
        slice_mm=config.patching.slice_mm,
        progress=run.progress,
        ledger=found.anchor,
        data_digest=_data_digest(run),
        day=found.day,
    )
    for at, label in enumerate(release.classes):
        rows = np.flatnonzero(release.labels == at)[:64]
        masks = None if release.masks is None else release.masks[rows]
        draw_sheets(run, "synthetic", label, release.images[rows], masks)
