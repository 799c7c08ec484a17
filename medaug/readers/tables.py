"""Text tables: their lines as cells, and the tables that give one label per picture or value."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medaug.errors import Fault, ReaderError
from medaug.readers.rules import LabelTable, Separator

FAULTS_SHOWN = 50

_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


@dataclass(frozen=True)
class Line:
    """One line that is not blank.

    Attributes:
        number: from 1.
        cells: without the spaces around them.
    """

    number: int
    cells: tuple[str, ...]

    def cell(self, at: int) -> str:
        """The cell of a column; "" where the line is too short."""
        return self.cells[at] if at < len(self.cells) else ""


def read_lines(path: Path, name: str, separator: Separator) -> Iterator[Line]:
    """The lines of a table in UTF-8, with or without a byte order mark.

    Args:
        path: the table.
        name: what messages call it.
        separator: ``auto`` takes the first of semicolon, tab and comma in the first line that is
            not blank; a table of numbers may have commas in the cells of the other two.

    Raises:
        ReaderError: if it is not there, cannot be opened or is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ReaderError(
            Fault(name, "no such table", action="check the settings: its path is relative to the "
                  "source")
        ) from None  # fmt: skip
    except OSError:
        raise ReaderError(
            Fault(name, "the table cannot be opened", action="check its permissions")
        ) from None
    except UnicodeDecodeError:
        raise ReaderError(Fault(name, "not a text table in UTF-8")) from None
    first = next((line for line in lines if line.strip()), "")
    used = separator if separator != "auto" else _guess_separator(first)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield Line(number, _cells(line, used))
        except csv.Error:
            raise ReaderError(
                Fault(f"{name}, line {number}", "not a line of a text table")
            ) from None


def columns_of(head: Line, name: str, wanted: Collection[str]) -> dict[str, int]:
    """Where the columns stand.

    Raises:
        ReaderError: if the first line of the table does not name them all, or one twice.
    """
    missing = sorted({one for one in wanted if head.cells.count(one) != 1})
    if missing:
        raise ReaderError(
            Fault(
                name,
                f"has no column {' or '.join(missing)}",
                "a first line that names each of them once",
                "check the columns in the settings",
            )
        )
    return {one: head.cells.index(one) for one in wanted}


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
            for line, raw_path, label in _rows(table, folder / name, name):
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
        except ReaderError as error:
            faults += error.faults
    if faults:
        raise ReaderError(*shortened(faults))
    return labels


def read_values(path: Path, name: str) -> dict[int, str]:
    """Classes by the value of a label map: two columns, with or without a head.

    Raises:
        ReaderError: with every fault of the table.
    """
    values: dict[int, str] = {}
    faults: list[Fault] = []
    for line in read_lines(path, name, "auto"):
        where = f"{name}, line {line.number}"
        number, label = line.cell(0), line.cell(1)
        if not number.isdecimal():
            if values or faults or line.number > 1:
                faults.append(Fault(where, "no whole number in its first column", "value, class"))
        elif not label:
            faults.append(Fault(where, "no class", "value, class"))
        elif values.setdefault(int(number), label) != label:
            faults.append(Fault(where, f"gives the value {int(number)} a second class"))
    if not values and not faults:
        faults.append(Fault(name, "an empty table", "a value and a class per line"))
    if faults:
        raise ReaderError(*shortened(faults))
    return values


def shortened(faults: list[Fault]) -> list[Fault]:
    """At most `FAULTS_SHOWN`, and how many more."""
    more = len(faults) - FAULTS_SHOWN
    if more <= 0:
        return faults
    return [*faults[:FAULTS_SHOWN], Fault("", f"and {more} more faults in the tables")]


def _rows(table: LabelTable, path: Path, name: str) -> Iterator[tuple[int, str, str]]:
    """(line number from 1, path, label) of each line that is not blank."""
    path_at, label_at = table.path_column, table.label_column
    for line in read_lines(path, name, table.separator):
        if isinstance(path_at, str) or isinstance(label_at, str):
            at = columns_of(line, name, (str(path_at), str(label_at)))
            path_at, label_at = at[str(path_at)], at[str(label_at)]
            continue
        yield line.number, line.cell(path_at), line.cell(label_at)


def _cells(line: str, separator: Separator) -> tuple[str, ...]:
    if separator == "whitespace":
        return tuple(line.split())
    reader = csv.reader([line], delimiter=_SEPARATORS[separator])
    return tuple(cell.strip() for cell in next(reader))


def _guess_separator(line: str) -> Separator:
    if ";" in line:
        return "semicolon"
    if "\t" in line:
        return "tab"
    return "comma" if "," in line else "whitespace"
