"""Figures that must hold, reproduced: ``medaug bench …`` writes each as CSV with a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(no_args_is_help=True, help="Reproduce the figures of the privacy station.")


@bench.callback()
def _of_what() -> None:
    """Keeps the name of the figure on the command line, even where there is but one."""


@bench.command()
def audit(
    out: Annotated[Path, typer.Option(help="The folder that takes CSV and plot.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the rounds, and no generator is trained.")
    ] = False,
) -> None:
    """Null and power of the audits, on phantom lesions."""
    from medaug.bench.audit import bench_audit
    from medaug.terminal import TerminalProgress

    with TerminalProgress() as progress:
        figures = bench_audit(out, progress, quick=quick)
    for one in figures:
        word = {None: "", True: "holds", False: "DOES NOT HOLD"}[one.holds]
        typer.echo(f"{one.name:9s} {one.what}: {one.came} (wanted: {one.wanted}) {word}")
