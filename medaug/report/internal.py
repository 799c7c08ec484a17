"""``INTERNAL.html``: what the gate knows and a release may not say.

Thresholds, scores, attempts and every figure of an audit, beside the release's ``DATASHEET.md``,
which holds rounded aggregates alone. The page is made of ``review/decision.json`` and
``review/ledger.json`` and invents no figure: what is not there was not assessed, and is said so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medaug.atomic import replacing
from medaug.report.runfolder import read_json

INTERNAL = "INTERNAL.html"
_TEMPLATES = Path(__file__).parent / "templates"

# Part of the decision → what the page calls it.
_PARTS = {
    "calibration": "Copy limit",
    "closest": "Scores of the closest candidates",
    "patients": "Scores per patient",
    "audit": "Attacks",
    "canaries": "Canaries",
    "twins": "Twins",
    "cost": "Differential privacy",
}


def write_internal(run: Path) -> Path | None:
    """Write ``run/INTERNAL.html``; nothing if the gate has not decided yet.

    Raises:
        RunFolderError: if a file in the run folder is damaged.
    """
    decision: dict[str, Any] | None = read_json(run / "review" / "decision.json")
    if decision is None:
        return None
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    checks = {check["name"] for check in decision["checks"]}
    html = environment.get_template("internal.html.j2").render(
        decision=decision,
        parts={title: decision.get(key) for key, title in _PARTS.items()},
        ledger=read_json(run / "review" / "ledger.json") or [],
        copy_checked="copy" in checks,
        audited=bool(decision.get("audit")),
    )
    path = run / INTERNAL
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")
    return path
