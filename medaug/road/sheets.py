"""Sheets of patches to look at, in the run's folder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medaug.road.run import Run


def draw_sheets(
    run: Run, kind: str, label: str, images: NDArray[np.float32], masks: NDArray[np.bool_] | None
) -> None:
    """The sheet of a class; of volumes also one that shows a few from three sides."""
    from medaug.report.sheets import sheet_name, three_planes, write_sheet

    folder = run.folder / "sheets"
    write_sheet(folder / sheet_name(kind, label), images, run.window, masks=masks)
    if images.ndim == 5:
        planes = three_planes(images[:8])
        outlines = None if masks is None else three_planes(masks[:8, None])[:, 0]
        path = folder / sheet_name(f"{kind}-planes", label)
        write_sheet(path, planes, run.window, columns=6, masks=outlines)
