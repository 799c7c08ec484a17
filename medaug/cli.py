"""The command line. Thin: what it does is in `medaug.pipeline` and the stations.

Heavy imports stand inside the command that needs them, so that ``medaug --help`` answers at
once and ``medaug inspect`` runs without torch.

Exit codes: 0 done; 1 a fault of medaug; 2 the input or the settings; 3 refused by the gate;
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from medaug.bench import bench
from medaug.commands import share, study_app
from medaug.errors import DisclosureError, Fault, InputError, MedaugError, SettingsError
from medaug.faults import told
from medaug.officer import keygen, ledger_app, scan, send, sign

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Synthetic lesion patches from DICOM and NIfTI, released through a privacy gate and "
    "judged on patients that nobody trained on. Start with: medaug demo",
)
app.add_typer(ledger_app, name="ledger")

app.add_typer(bench, name="bench")
app.add_typer(study_app, name="reader-study")

Pipeline = Annotated[
    str, typer.Argument(help="A pipeline file (YAML), or the name of one that comes with medaug.")
]
Out = Annotated[Path, typer.Option(help="The run folder: results go here; run again to resume.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder that the source paths of the pipeline start from.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
]
Redo = Annotated[
    bool, typer.Option("--redo", help="Replace results made with other settings or files.")
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS",
        help="Read the studies and compare candidates on Dask workers: local, local:N, or a "
        "scheduler's address. The result is the same.",
    ),
]
Devices = Annotated[
    int,
    typer.Option(min=1, help="Train in this many processes on each machine, a device for each."),
]
Nodes = Annotated[
    int,
    typer.Option(
        min=1, help="Train on this many machines; see docs/generators for their variables."
    ),
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="A smaller evaluation, for a first look; the report says so."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.command()
def demo(
    out: Out = Path("demo"),
    patients: Annotated[int, typer.Option(min=1, help="Phantom patients to make.")] = 90,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 0,
    pipeline: Annotated[
        str, typer.Option(help="phantom, or another pipeline that reads such a cohort.")
    ] = "phantom",
    quick: Quick = False,
) -> None:
    """Walk the road on phantom patients; prints the report's path."""
    from medaug.config import load_pipeline
    from medaug.phantom import write_cohort
    from medaug.pipeline import run_pipeline

    with _progress() as progress:
        write_cohort(out / "phantom", patients=patients, seed=seed, progress=progress)
        settings = [f"seed={seed}", f"site_key={json.dumps(str(out / 'site.key'))}"]
        config = load_pipeline(pipeline, _hurried(settings, quick) or (), data=out / "phantom")
        report = run_pipeline(config, out / "run", progress=progress)
    _say_verdict(out / "run")
    typer.echo(report)


@app.command()
def run(
    pipeline: Pipeline,
    out: Out = Path("run"),
    data: Data = None,
    settings: Settings = None,
    redo: Redo = False,
    dask: Dask = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
    quick: Quick = False,
) -> None:
    """Walk the road on real files, from patches to the verdict."""
    settings = _hurried(settings, quick)
    _run_until("evaluate", pipeline, out, data, settings, redo, dask, devices, nodes)
    _say_verdict(out)
    typer.echo(out / "report.html")


@app.command()
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of images, a pipeline (file or name), or the address of an archive."
        ),
    ],
    data: Data = None,
    settings: Settings = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Decode every lesion, to show its mean value.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show series, lesions and patients, and what is refused."""
    from medaug.config import load_pipeline, require_data
    from medaug.readers.identity import load_site_key
    from medaug.readers.pacs.address import is_address
    from medaug.readers.source import guess_sources, survey

    site_key = None
    with ExitStack() as until_done:
        progress = until_done.enter_context(_progress())
        if is_address(source) or Path(source).is_dir():
            if data or settings:
                raise SettingsError(
                    Fault(
                        "inspect",
                        "a folder or an address together with --data or --set",
                        "these need a pipeline",
                    )
                )
            root = Path(source)
            if is_address(source):
                from medaug.readers.pacs.fetch import fetched

                root = until_done.enter_context(fetched(source, progress))
            sources = tuple(guess_sources(root))
        else:
            config = load_pipeline(source, settings or (), data)
            root, sources, site_key = require_data(config, source), config.sources, config.site_key
        key = load_site_key(site_key)
        inventory = survey(sources, root, key, progress, measure=measure).inventory
    document = inventory.document()
    if as_json:
        typer.echo(json.dumps(document, indent=1))
    else:
        _show_inventory(document)


@app.command()
def fetch(
    address: Annotated[
        str,
        typer.Argument(
            help="dicomweb+https://HOST/PATH?PatientID=... or dimse://CALLED_AET@HOST:PORT?..."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Where the files go; run again to resume.")],
) -> None:
    """Bring studies from an archive (PACS) into a folder."""
    from medaug.readers.pacs.fetch import fetch as bring

    with _progress() as progress:
        bring(address, folder, progress)
    typer.echo(folder)


@app.command()
def extract(
    pipeline: Pipeline,
    out: Out,
    data: Data = None,
    settings: Settings = None,
    redo: Redo = False,
    dask: Dask = None,
) -> None:
    """Read the files and cut the patches."""
    _run_until("extract", pipeline, out, data, settings, redo, dask)
    typer.echo(out)


@app.command()
def train(
    pipeline: Pipeline,
    out: Out,
    data: Data = None,
    settings: Settings = None,
    redo: Redo = False,
    devices: Devices = 1,
    nodes: Nodes = 1,
) -> None:
    """Train the generator."""
    _run_until("train", pipeline, out, data, settings, redo, None, devices, nodes)
    typer.echo(out)


@app.command()
def release(
    pipeline: Pipeline,
    out: Out,
    data: Data = None,
    settings: Settings = None,
    redo: Redo = False,
    dask: Dask = None,
) -> None:
    """Pass candidates through the gate; write what may leave."""
    _run_until("release", pipeline, out, data, settings, redo, dask)
    typer.echo(out)


@app.command()
def evaluate(
    pipeline: Pipeline,
    out: Out,
    data: Data = None,
    settings: Settings = None,
    redo: Redo = False,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Say whether the release helps, on unseen patients."""
    _run_until("evaluate", pipeline, out, data, _hurried(settings, quick), redo)
    if as_json:
        typer.echo((out / "evaluation.json").read_text(encoding="utf-8"), nl=False)
    else:
        _say_verdict(out)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="The run folder.")],
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Print it to report.pdf too, by an installed browser.")
    ] = False,
) -> None:
    """Write the report of a run folder again, as a page and as JSON."""
    from medaug.report.page import write_report
    from medaug.report.pdf import write_pdf

    if not (out / "run.json").is_file():
        raise SettingsError(
            Fault(str(out), "no run.json in it", "a run folder, as 'medaug run' makes it")
        )
    page = write_report(out)
    typer.echo(page)
    if pdf:
        typer.echo(write_pdf(page))


@app.command()
def verify(
    release: Annotated[Path, typer.Argument(help="A release folder, as it was received.")],
    signed_by: Annotated[
        Path | None,
        typer.Option(help="Public key of the institution: its signature must be there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a received release. Needs no torch."""
    from medaug.export.verify import verify_release

    found = verify_release(release, signed_by)
    if as_json:
        typer.echo(json.dumps(found.document(), indent=1))
    elif found.ok:
        typer.echo(f"{release}: every check holds\n{found.summary()}")
    if not found.ok:
        raise InputError(*(Fault(str(release), problem) for problem in found.problems))


for command in (scan, keygen, sign, send, share):
    app.command()(command)


def _run_until(
    station: str,
    pipeline: str,
    out: Path,
    data: Path | None,
    settings: list[str] | None,
    redo: bool,
    dask: str | None = None,
    devices: int = 1,
    nodes: int = 1,
) -> None:
    from medaug.config import load_pipeline
    from medaug.generators.processes import together
    from medaug.pipeline import follow, run_pipeline

    config = load_pipeline(pipeline, settings or (), data)
    with together(config.generator, devices, nodes) as processes:
        if not processes.first:
            # An error that is the input's is the same in every process; the first tells it.
            with suppress(MedaugError):
                follow(config, out, processes)
            raise typer.Exit
        with _progress() as progress:
            run_pipeline(config, out, station, progress, redo, dask, processes)


def _hurried(settings: list[str] | None, quick: bool) -> list[str] | None:
    return [*(settings or ()), "evaluation.quick=true"] if quick else settings


def _progress() -> Any:
    from medaug.terminal import TerminalProgress

    return TerminalProgress()


def _say_verdict(folder: Path) -> None:
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    typer.echo(f"Verdict: {evaluation['verdict']['sentence']}")
    if folds := evaluation.get("folds"):
        typer.echo(f"Verdict on the recipe: {folds['verdict']['sentence']}")
        if table := folds.get("table"):
            _show_table(table)


def _show_table(table: dict[str, Any]) -> None:
    """Their rows and ours, in per cent."""
    typer.echo(f"Frid-Adar et al. 2018, liver patients, beside ours, {table['label']}:")
    typer.echo(f"{'':24}{'sensitivity':>13}{'ours':>18}{'specificity':>13}{'ours':>18}")
    for row in table["rows"]:
        line = f"{row['row']:24}"
        for figure in ("sensitivity", "specificity"):
            ours = {name: 100 * at for name, at in row["ours"][figure].items()}
            interval = "{value:.1f} ({low:.0f}-{high:.0f})".format(**ours)
            line += f"{row['paper_percent'][figure]:13.1f}{interval:>18}"
        typer.echo(line)


def _show_inventory(document: dict[str, Any]) -> None:
    from medaug.terminal import show_inventory

    show_inventory(document)


def main() -> None:
    """Entry point: runs the command, turns every expected error into a message and a code."""
    # Threads that spin while they wait slow each other down many times over where cores are shared;
    # on a quiet machine sleeping costs a tenth. Read when torch is loaded, so set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(_guarded(lambda: app(standalone_mode=False)))


_STOPPED = 130
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
# Newer typer carries its own copy of click: this is the base class in either.
_UsageError: Any = typer.BadParameter.__base__


def _guarded(work: Callable[[], Any]) -> int:
    try:
        ended = work()
        if ended == _STOPPED:  # newer typer hands Ctrl-C on as a number
            raise KeyboardInterrupt
    except _UsageError as error:
        error.show()
        return 2
    except typer.Exit as done:
        return int(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo(
            "\nStopped. Finished work is kept: the same command goes on from here.", err=True
        )
        return _STOPPED
    except DisclosureError as refusal:
        typer.echo("Refused by the gate; nothing leaves:", err=True)
        for reason in refusal.reasons:
            typer.echo(f"  - {reason}", err=True)
        return refusal.exit_code
    except MedaugError as error:
        typer.echo(f"medaug: {error}", err=True)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - its own traceback would quote what it met
        return _unforeseen(error)
    return ended if isinstance(ended, int) else 0


def _unforeseen(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        fault = Fault(
            str(error.filename or "output folder"),
            error.strerror or "cannot be written",
            "",
            "make room or permit writing, then run the same command: finished work is kept",
        )
        typer.echo(f"medaug: {InputError(fault)}", err=True)
        return InputError.exit_code
    typer.echo(told(error), err=True)
    return MedaugError.exit_code
