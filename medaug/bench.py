"""``medaug bench …``: the figures that the privacy gate is held to, on your own machine."""

from __future__ import annotations

import typer

from medaug.bench_copies import copies

app = typer.Typer(no_args_is_help=True, help="Measure the privacy gate; write CSV and a plot.")
app.command()(copies)
