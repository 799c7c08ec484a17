"""``DATASHEET.md``: the questions of "Datasheets for Datasets" [1]_, answered from the manifest.

It invents no figure: everything comes from `Manifest`, and what is claimed comes from the
decision's own statements.

.. [1] Gebru et al. 2021, doi:10.1145/3458723
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from medaug.export.manifest import Manifest
from medaug.export.words import MODES

DATASHEET = "DATASHEET.md"
_TEMPLATE = Path(__file__).with_name("datasheet.md.j2")


def datasheet(manifest: Manifest) -> str:
    """The data sheet in Markdown."""
    environment = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # Markdown, not HTML
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(m=manifest, mode=MODES[manifest.mode])
