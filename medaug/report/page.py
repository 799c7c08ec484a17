"""The page: one HTML file with its style, plots and pictures inside, and no script.

What a section needs and the run folder does not hold yet is named on the page with the command
that makes it. A refused release gives a page as well: the refusal is its headline.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from medaug.atomic import replacing, write_json
from medaug.errors import Fault, RunFolderError
from medaug.report import numbers
from medaug.report.charts import arm_axis, difference_axis, training_of
from medaug.report.document import document_of
from medaug.report.doses import dose_charts
from medaug.report.internal import write_internal
from medaug.report.likeness import TOLD_APART, WORDS, tables_of, words_for
from medaug.report.runfolder import picture, read_json, read_lines
from medaug.report.sheets import samples_in, sheet_name
from medaug.report.tallies import kinds_of, refusals_of, skips_of

_TEMPLATES = Path(__file__).parent / "templates"

ARMS = {
    "real": ("real", "real patches as they are"),
    "real+classical": (
        "real + classical",
        "real patches, flipped, turned, zoomed and so on at random (classical augmentation)",
    ),
    "real+randaugment": (
        "real + RandAugment",
        "real patches with a few operations at random, all equally strong",
    ),
    "real+trivialaugment": (
        "real + TrivialAugment",
        "real patches with one operation at random, as strong as chance has it",
    ),
    "real+classical+refined": (
        "real + classical + refined",
        "real patches and those of simulate-and-refine, both with classical augmentation",
    ),
    "real+searched": (
        "real + searched",
        "real and released synthetic patches, mixed as a search on tuning patients found",
    ),
    "real+gan": ("real + GAN", "real patches and released synthetic patches"),
    "real+classical+gan": (
        "real + classical + GAN",
        "real and released synthetic patches, both with classical augmentation",
    ),
    "gan": ("GAN only", "released synthetic patches and nothing real"),
}
"""Each arm's name on the page, and what its classifier is trained on."""


def write_report(run: Path) -> Path:
    """Write ``run/report.html`` from what the run folder holds, and others beside it.

    They are ``report.json``, the same as data, and ``INTERNAL.html``.

    Args:
        run: a run folder, finished, refused or stopped half-way.

    Returns:
        The path of the page. The same folder gives the same bytes.

    Raises:
        RunFolderError: if the folder holds no run, or a file in it is damaged.
    """
    path = run / "report.html"
    html, document = _render(run)
    write_internal(run)
    write_json(run / "report.json", document)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "arm_axis": arm_axis,
        "difference_axis": difference_axis,
        "dose_charts": dose_charts,
        "sheet_name": sheet_name,
        "fixed": numbers.fixed,
        "measure": numbers.measure,
        "count": numbers.count,
        "share": numbers.share,
        "probability": numbers.probability,
        "duration": numbers.duration,
    }
    return environment


def _render(run: Path) -> tuple[str, dict[str, Any]]:
    """The page, and the same as data."""
    try:
        content = _content(run)
        html = _environment().get_template("report.html.j2").render(content)
        return html, document_of(content, read_json(run / "release" / "release.json"))
    except (UndefinedError, KeyError) as error:
        raise RunFolderError(
            Fault(
                str(run),
                f"a file lacks what the report shows: {error}",
                "a run folder that this version of medaug wrote",
                "run the pipeline again in a new folder",
            )
        ) from error


def _content(run: Path) -> dict[str, Any]:
    """All that the templates speak of; None stands for what is not there yet."""
    journal = read_json(run / "run.json")
    if journal is None:
        raise RunFolderError(
            Fault(str(run), "there is no run.json", "a run folder", "run a pipeline into it")
        )
    inventory = read_json(run / "inventory.json")
    patches = read_json(run / "patches" / "summary.json")
    split = read_json(run / "split.json")
    generator = read_json(run / "generator" / "config.json")
    evaluation = read_json(run / "evaluation.json")
    tables = tables_of((evaluation or {}).get("fidelity", {}))
    return {
        "run": journal,
        "settings": yaml.safe_dump(journal["config"], sort_keys=False, allow_unicode=True),
        "inventory": inventory,
        "kinds": kinds_of(inventory["cases"]) if inventory else [],
        "refusals": refusals_of(inventory["refused"]) if inventory else [],
        "patches": patches,
        # Not in run folders of before there were volumes.
        "slices": (patches or {}).get("slices", 1),
        "volumes": (patches or {}).get("spatial_dims", 2) == 3,
        "diameters": (patches or {}).get("diameters_mm", {}),
        "conditioned_on_size": journal["config"]["generator"].get("condition_on_size", False),
        "skips": skips_of(patches["skipped"]) if patches else [],
        "split": split,
        "labels": _labels(inventory, patches),
        "patients_known": all(each["patients_known"] for each in (inventory, patches) if each),
        "generator": generator,
        "training": training_of(
            read_lines(run / "generator" / "training.jsonl"), _kept_steps(generator or {})
        ),
        "samples": {
            label: _spread(sheets)
            for label, sheets in samples_in(run / "generator" / "samples").items()
        },
        "decision": read_json(run / "review" / "decision.json"),
        "evaluation": evaluation,
        # Not in run folders of before there were any but the classification.
        "tasks": (evaluation or {}).get("tasks", {}),
        "likeness": tables,
        "likeness_words": words_for(tables),
        "figure_names": {key: name for key, (name, _) in WORDS.items()},
        "told_apart": TOLD_APART,
        "arm_names": ARMS,
        "picture": partial(_picture, run),
    }


def _kept_steps(generator: dict[str, Any]) -> list[int]:
    """Steps whose weights were kept: one, or one for each class with a network of its own."""
    if "kept_step" in generator:
        return [generator["kept_step"]]
    return list(generator.get("kept_steps", ()))


def _picture(run: Path, *parts: str) -> str | None:
    return picture(run.joinpath(*parts))


def _spread(sheets: list[tuple[int, str]], most: int = 4) -> list[tuple[int, str]]:
    """The first, the last and some between, evenly."""
    if len(sheets) <= most:
        return sheets
    return [sheets[round(at * (len(sheets) - 1) / (most - 1))] for at in range(most)]


def _labels(*documents: dict[str, Any] | None) -> list[str]:
    """Every class that a document counts, sorted."""
    return sorted({label for each in documents if each for label in each["classes"]})
