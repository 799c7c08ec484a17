"""Label tables: text files with one picture and its label per line."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from medaug.errors import Fault, ReaderError
from medaug.readers.settings import LabelTable

FAULTS_SHOWN = 50

_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


def read_labels(table: LabelTable, folder: Path, pictures: Collection[str]) -> dict[str, str]:
    """Raw label of every picture that the tables name.

    A path in a table is taken from the source's folder or, failing that, from the table's.

    Args:
        table: the setting.
        folder: the source's folder.
        pictures: paths of the pictures that are there, relative to the source.

    Raises:
        ReaderError: with every fault of every table: a table or a column that is not there, a
            line without a label, a picture that is not there, two labels for one picture.
    """
    labels: dict[str, str] = {}
    faults: list[Fault] = []
    for name in table.files:
        beside = PurePosixPath(name).parent
        try:
            for line, raw_path, label in _rows(table, folder / name):
                where = f"{name}, line {line}"
                path = PurePosixPath(raw_path.replace("\\", "/"))
                picture = next(
                    (str(at) for at in (path, beside / path) if str(at) in pictures), None
                )
                if not label:
                    faults.append(Fault(where, "no label", "a path and a label"))
                elif picture is None:
                    faults.append(Fault(where, f"names {path}, which is not there"))
                elif labels.setdefault(picture, label) != label:
                    faults.append(Fault(where, f"gives {path} a second, different label"))
        except (OSError, UnicodeDecodeError, csv.Error, ReaderError) as error:
            faults.append(_unreadable(name, error))
    if faults:
        raise ReaderError(*_shortened(faults))
    return labels


def _rows(table: LabelTable, path: Path) -> Iterator[tuple[int, str, str]]:
    """(line number from 1, path, label) of each line that is not blank."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = table.separator if table.separator != "auto" else _guess_separator(first)
    columns = (table.path_column, table.label_column)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = _cells(line, separator)
        if isinstance(columns[0], str):
            missing = [name for name in columns if name not in cells]
            if missing:
                raise ReaderError(
                    Fault(path.name, f"has no column {' or '.join(map(str, missing))}", str(cells))
                )
            columns = (cells.index(str(columns[0])), cells.index(str(columns[1])))
            continue
        path_at, label_at = int(columns[0]), int(columns[1])
        cells += [""] * (max(path_at, label_at) + 1 - len(cells))
        yield number, cells[path_at], cells[label_at]


def _cells(line: str, separator: str) -> list[str]:
    if separator == "whitespace":
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=_SEPARATORS[separator]))]


def _guess_separator(line: str) -> str:
    for name, character in _SEPARATORS.items():
        if character in line:
            return name
    return "whitespace"


def _unreadable(name: str, error: Exception) -> Fault:
    if isinstance(error, ReaderError):
        return Fault(name, error.faults[0].came, f"columns {error.faults[0].allowed}")
    if isinstance(error, FileNotFoundError):
        return Fault(name, "no such label table", action="check `table.files`")
    if isinstance(error, OSError):
        return Fault(name, "the label table cannot be opened", action="check its permissions")
    return Fault(name, "not a text table in UTF-8", "a path and a label per line")


def _shortened(faults: list[Fault]) -> list[Fault]:
    more = len(faults) - FAULTS_SHOWN
    if more <= 0:
        return faults
    return [*faults[:FAULTS_SHOWN], Fault("", f"and {more} more faults in the label tables")]
