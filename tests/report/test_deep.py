"""Volumes, adjacent slices, sizes asked for and classes left out, as the page says them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medaug.domain import Window
from medaug.report.page import write_report
from medaug.report.sheets import sheet_name, write_sheet


def changed(run: Path, name: str, change: Callable[[Any], None]) -> None:
    document = json.loads((run / name).read_text())
    change(document)
    (run / name).write_text(json.dumps(document))


@pytest.mark.parametrize(("dims", "words"), [(3, "32 slices"), (2, "32 adjacent slices")])
def test_which_slice_a_sheet_shows(build_run: Callable[..., Path], dims: int, words: str) -> None:
    run = build_run("complete")
    assert "the middle one" not in write_report(run).read_text()
    changed(run, "patches/summary.json", lambda it: it.update(spatial_dims=dims, slices=32))
    path = run / "sheets" / sheet_name("real-planes", "cyst")
    write_sheet(path, np.zeros((3, 1, 8, 8)), Window(-100, 200))
    page = write_report(run).read_text()
    said = page.partition("Each patch has ")[2].partition("; the sheets show the middle one")[0]
    assert (
        " ".join(part.split(">")[-1].strip() for part in said.split("<")).split() == words.split()
    )
    assert page.count("axial, coronal, sagittal") == 1


def test_a_size_that_the_generator_is_told(build_run: Callable[..., Path]) -> None:
    run = build_run("complete")
    assert "Size: the generator is told" not in write_report(run).read_text()
    changed(run, "run.json", lambda it: it["config"]["generator"].update(condition_on_size=True))
    changed(
        run, "patches/summary.json", lambda it: it.update(diameters_mm={"cyst": [4.5, 12.25, 40.0]})
    )
    page = write_report(run).read_text()
    assert "Size: the generator is told" in page
    assert '<data value="12.25">' in page


def test_a_class_that_was_not_to_be_released(build_run: Callable[..., Path]) -> None:
    run = build_run("complete")

    def leave_out(decision: Any) -> None:
        for counts in (decision["accepted"], decision["drawn"]):
            del counts["cyst"]
        decision["policy"]["per_class"] = {"haemangioma": 7, "metastasis": 12}

    changed(run, "review/decision.json", leave_out)
    (run / "sheets" / sheet_name("synthetic", "cyst")).unlink()
    page = write_report(run).read_text()
    assert page.count("the policy releases other classes alone") == 1
    assert '<data value="7">' in page


def test_both_curves_of_evidence_are_shown(build_run: Callable[..., Path]) -> None:
    page = write_report(build_run("complete")).read_text()
    assert "Distance to the tuning patients" in page
    assert "Learnt by heart?" in page
