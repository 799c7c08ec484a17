"""``medaug bench …``: the figures that the privacy gate is held to, on your own machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medaug.bench.copies import copies

bench = typer.Typer(no_args_is_help=True, help="Measure the privacy gate; write CSV and a plot.")
bench.command()(copies)


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
