"""What goes to the readers, and the key that does not."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medaug.atomic import replacing
from medaug.errors import Fault, RunFolderError
from medaug.reader_study.deck import Deck
from medaug.reader_study.picture import MARK, png_of

PAGE, README = "index.html", "README.txt"
KEY_FORMAT, ANSWERS_FORMAT = "medaug reader study key 1", "medaug reader study answers 1"

_README = f"""{MARK}

Open {PAGE} in a browser; it needs no network. Some patches are of patients, some were drawn by a
generator, and none is marked, for a mark would give the answer away. This folder therefore stays
inside the hospital: do not mail it, publish it, or put its pictures into an archive or a training
set. Delete it when the reading is over.

Study {{study}}, {{count}} patches. At the end the page saves a file of answers; hand that back.
"""


def write_kit(deck: Deck, folder: Path, key: Path) -> None:
    """Write ``folder`` for the readers and, first, ``key`` for whoever scores.

    Args:
        deck: as dealt.
        folder: new or empty; takes the page and a note.
        key: a new file outside ``folder``, readable by its owner alone.

    Raises:
        RunFolderError: something is there already, or the key would lie with the pictures.
    """
    faults = []
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        faults.append(
            Fault(f"--out {folder}", "there is something already", "a new or empty folder")
        )
    if key.exists():
        faults.append(Fault(f"--key {key}", "there is something already", "a new file"))
    if key.resolve().is_relative_to(folder.resolve()):
        faults.append(
            Fault(
                f"--key {key}",
                "inside the folder that goes to the readers: it holds the answers",
                "a file outside that folder",
            )
        )
    if faults:
        raise RunFolderError(*faults)
    _write_key(deck, key)
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        (temporary / PAGE).write_text(page_of(deck), encoding="utf-8", newline="\n")
        note = _README.format(study=deck.study, count=len(deck.labels))
        (temporary / README).write_text(note, encoding="utf-8", newline="\n")


def page_of(deck: Deck) -> str:
    """The page; every picture is inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = [base64.b64encode(png_of(each)).decode() for each in deck.shown]
    items = [
        {"id": number, "label": label, "png": png}
        for number, label, png in zip(deck.numbers, deck.labels, pictures, strict=True)
    ]
    study = {
        "id": deck.study,
        "format": ANSWERS_FORMAT,
        "slices": deck.shown.shape[1],
        "items": items,
    }
    rows, columns = deck.shown.shape[2:]
    return environment.get_template("page.html.j2").render(
        study=study, mark=MARK, height=round(512 * rows / columns)
    )


def _write_key(deck: Deck, path: Path) -> None:
    """The answers, with mode 0600 from the first byte."""
    items = {
        number: {"kind": "synthetic" if synthetic else "real", "class": label}
        for number, label, synthetic in zip(
            deck.numbers, deck.labels, deck.synthetic.tolist(), strict=True
        )
    }
    document = {
        "format": KEY_FORMAT,
        "study": deck.study,
        "seed": deck.seed,
        "release": deck.release,
        "real patients": deck.unseen,
        "items": items,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
