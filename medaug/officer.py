"""Commands for whoever answers for what leaves: the ledger of a site, and a search in a release.

A part of the command line (`medaug.cli`); heavy imports stand inside the commands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medaug.errors import Fault, InputError, SettingsError

if TYPE_CHECKING:
    from medaug.privacy.ledger import Ledger
    from medaug.privacy.ledger_chain import Anchor

ledger_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What this site released from whom (tokens), and what it cost.",
)

LedgerFile = Annotated[
    Path | None,
    typer.Option("--ledger", help="The ledger; default: beside the site's key."),
]
SiteKey = Annotated[
    Path | None, typer.Option(help="The site's key; default: a folder of the user's account.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def scan(
    folder: Annotated[Path, typer.Argument(help="What is searched: a release, or any folder.")],
    markers: Annotated[
        Path, typer.Option("--for", help="Names and numbers to search for, one a line.")
    ],
    unpack_mb: Annotated[
        int, typer.Option(min=1, help="A file that unpacks to more is not searched to the end.")
    ] = 4096,
    as_json: Json = False,
) -> None:
    """Search a folder for names and numbers, in every encoding, inside archives.

    Ends with 0 if nothing was found and everything was searched, 3 if something was found, 2 if
    something could not be searched. Markers are named by their number in the list.
    """
    from medaug.scan.folder import Limits
    from medaug.scan.folder import scan as search
    from medaug.scan.needles import read_markers
    from medaug.terminal import TerminalProgress

    try:
        wanted = read_markers(markers.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            Fault("--for", f"{markers} cannot be read: {error}", "a text file in UTF-8")
        ) from None
    with TerminalProgress() as progress:
        found = search(folder, wanted, Limits(unpacked_mb=unpack_mb), progress)
    if as_json:
        typer.echo(json.dumps(found.document(), indent=1))
    else:
        for hit in found.findings:
            typer.echo(f"found marker {hit.marker} as {hit.form}: {hit.file} ({hit.place})")
        for one in found.unsearched:
            typer.echo(f"not searched: {one.file} ({one.place}): {one.reason}")
        typer.echo(
            f"{found.files} files, {found.bytes} bytes, {found.markers} markers: "
            f"{len(found.findings)} found, {len(found.unsearched)} not searched"
        )
    if found.findings or found.unsearched:
        raise typer.Exit(3 if found.findings else 2)


def keygen(
    key: Annotated[Path, typer.Argument(help="Where the secret key goes; the other ends in .pub.")],
) -> None:
    """Draw a key pair that signs releases; minisign knows both files."""
    from medaug.export.signing import make_keys

    public = make_keys(key)
    typer.echo(f"{key}: secret, without a password; keep it where you keep the site's key")
    typer.echo(f"{key.with_suffix('.pub')}: public key {public.name}, for those who receive")


def sign(
    release: Annotated[Path, typer.Argument(help="A release folder that verifies.")],
    key: Annotated[Path, typer.Option("--with", help="The secret key, mode 0600.")],
) -> None:
    """Sign a release that stands already."""
    from medaug.export.seal import sign_release

    typer.echo(f"{release}: signed with the key {sign_release(release, key).name}")


def send(
    release: Annotated[Path, typer.Argument(help="A release folder with DICOM files.")],
    address: Annotated[
        str,
        typer.Argument(help="dicomweb+https://HOST/PATH or dimse://CALLED_AET@HOST:PORT"),
    ],
    look: Annotated[
        bool, typer.Option(help="Fetch what was sent, and compare it with the files.")
    ] = True,
) -> None:
    """Send a release to an archive (PACS), if it verifies, and see that it arrived unchanged."""
    from medaug.sending import send_release
    from medaug.terminal import TerminalProgress

    with TerminalProgress() as progress:
        sent = send_release(release, address, progress, look)
    typer.echo(f"{sent} instances sent" + (", and read back unchanged" if look else ""))


@ledger_app.command()
def show(ledger: LedgerFile = None, site_key: SiteKey = None, as_json: Json = False) -> None:
    """Print every entry, in order."""
    from medaug.privacy.ledger_runs import line_of

    entries = _existing(ledger, site_key).entries()
    if as_json:
        document = [{"entry": at.seq, "hash": at.hash, **at.body} for at in entries]
        typer.echo(json.dumps(document, indent=1))
        return
    for line in map(line_of, entries):
        typer.echo("{entry:5d}  {at}  {kind:8s}{run:14s}{words}".format(**line))


@ledger_app.command()
def verify(
    anchor: Annotated[
        Path | None,
        typer.Option(help="release.json of a release of this site: nothing after it may be gone."),
    ] = None,
    ledger: LedgerFile = None,
    site_key: SiteKey = None,
) -> None:
    """Check that no entry was changed, taken out, or put in."""
    book = _existing(ledger, site_key)
    place = None if anchor is None else _anchor_in(anchor)
    if problems := book.problems(place):
        raise InputError(*(Fault("ledger", problem) for problem in problems))
    typer.echo(f"{len(book.entries())} entries, each as it was written")
    if place is None:
        typer.echo(
            "Whether the last entries are still there, only a release can tell: "
            "--anchor release.json"
        )


@ledger_app.command()
def withdraw(
    token: Annotated[
        str | None,
        typer.Argument(help="The patient's token. Without it, the Patient ID is asked for."),
    ] = None,
    ledger: LedgerFile = None,
    site_key: SiteKey = None,
) -> None:
    """Record that a patient withdraws, and list the releases the patient took part in."""
    from medaug.domain import PatientKey
    from medaug.readers.identity import load_site_key, patient_key

    book = _existing(ledger, site_key)
    if token is None:
        # Asked for, not given: arguments stand in the shell's history.
        identifier = typer.prompt("Patient ID, as the files have it (not shown)", hide_input=True)
        token = patient_key(load_site_key(site_key), identifier).token
    try:
        token = PatientKey(token).token
    except ValueError:
        raise SettingsError(
            Fault("token", repr(token), "32 hexadecimal digits, as 'medaug ledger show' has them")
        ) from None
    taken = book.withdraw(token)
    typer.echo(f"Patient {token} has withdrawn: no later run here may use the patient's files.")
    if not taken:
        typer.echo("No release of this ledger was made from the patient's data.")
        return
    typer.echo("These releases were; whoever received them must be told:")
    for one in taken:
        counts = ", ".join(f"{count} {label}" for label, count in one.counts.items())
        typer.echo(f"  {one.at}  {one.name}  release {one.release[:16]}: {counts}")


def _existing(ledger: Path | None, site_key: Path | None) -> Ledger:
    """Opened, never made: an empty ledger would verify."""
    from medaug.site import ledger_path, open_ledger

    path = ledger_path(ledger, site_key)
    if not path.is_file():
        raise SettingsError(
            Fault(
                str(path),
                "no ledger here",
                "the file that runs of this site write",
                "add --ledger PATH or --site-key PATH",
            )
        )
    return open_ledger(ledger, site_key)


def _anchor_in(path: Path) -> Anchor:
    from medaug.export.manifest import read_manifest
    from medaug.privacy.ledger_chain import Anchor

    folder = path if path.is_dir() else path.parent
    place = read_manifest(folder).ledger
    if place is None:
        raise SettingsError(
            Fault(str(path), "this release was recorded in no ledger", "a release of this site")
        )
    return Anchor(place.entry, place.head)
