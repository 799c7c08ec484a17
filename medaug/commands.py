"""Commands that hand something over: a generator, or patches to a blinded reader.

A part of the command line (`medaug.cli`); heavy imports stand inside the commands.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated, Any, cast

import typer

study_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A blinded reading: can radiologists tell synthetic patches from real ones?",
)


def share(
    run: Annotated[Path, typer.Argument(help="A run folder with a release.")],
    form: Annotated[str, typer.Option("--as", help="monai-bundle or medigan.")],
    out: Annotated[Path, typer.Option(help="New or empty folder that takes the generator.")],
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger; default: beside the site's key.")
    ] = None,
    site_key: Annotated[
        Path | None, typer.Option(help="The site's key; default: a folder of the user's account.")
    ] = None,
) -> None:
    """Share the generator itself, if its privacy cost is finite or the policy says why.

    Ends with 3 where it may not leave. The ledger records what leaves.
    """
    from medaug.road.sharing import Form, share_generator

    typer.echo(share_generator(run, cast("Form", form), out, site_key, ledger))


@study_app.command()
def make(
    source: Annotated[
        Path, typer.Argument(help="A run folder with a release; or a release, with --real.")
    ],
    out: Annotated[Path, typer.Option(help="New or empty folder: what the readers get.")],
    key: Annotated[
        Path | None,
        typer.Option(help="New file outside it, with the answers; default: OUT-key.json beside."),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(help="Run folder with the real patches; default: the run's own test part."),
    ] = None,
    per_class: Annotated[int, typer.Option(min=1, help="Patches of each class at most.")] = 40,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of the deal; secret, and drawn at random by default."),
    ] = None,
) -> None:
    """Write a page that a radiologist clicks through offline, and a key that is kept apart."""
    from medaug.road.reading import make_study

    key = out.resolve().with_name(f"{out.resolve().name}-key.json") if key is None else key
    drawn = secrets.randbits(64) if seed is None else seed
    deck = make_study(source, out, key, drawn, per_class, real)
    typer.echo(
        f"{len(deck.labels)} patches. For the readers, inside the hospital: {out / 'index.html'}"
    )
    typer.echo(f"The answers, for nobody who reads: {key}")
    typer.echo(f"Real patients: {deck.unseen}.")


@study_app.command()
def score(
    key: Annotated[Path, typer.Argument(help="The key that 'make' wrote.")],
    answers: Annotated[list[Path], typer.Argument(help="The file of each reader.")],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Take files in which answers are missing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say how often each reader was right, with an exact interval, and all together."""
    from medaug.reader_study.answers import read_answers, read_key
    from medaug.reader_study.scoring import score as scored

    truth = read_key(key)
    found = scored(truth, read_answers(answers, truth, unfinished))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"Study {found['study']}, {found['patches']} patches; 0.5 is guessing")
    for reader in found["readers"]:
        line = f"{reader['reader']:16} {reader['right']:4d} of {reader['answered']:4d} right"
        if reader["accuracy"]:
            line += f"  accuracy {_share(reader['accuracy'])}  p {reader['p']:.3f}"
        typer.echo(line)
        for kind, share in reader["recognised"].items():
            if share:
                typer.echo(f"{'':16} {kind:9} recognised {_share(share)}")
    if every := found["all"]:
        typer.echo(f"all {every['readers']} readers: mean accuracy {_share(every['accuracy'])}")
    typer.echo(
        "Intervals 95 %, exact; of all readers: these readers on other patches. That nobody can "
        "tell says nothing about privacy or use."
    )


def _share(share: dict[str, Any]) -> str:
    return "{value:.3f} ({low:.3f} to {high:.3f})".format(**share)
