"""Patient tables: text files that say whose each path, or each series, is.

::

    path,patient
    study01,P1
    study02/extra,P2
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medaug.errors import Fault, ReaderError
from medaug.readers.rules import PatientTable
from medaug.readers.tables import columns_of, read_lines, shortened


def read_patients(table: PatientTable, folder: Path) -> dict[str, str]:
    """Text that names the patient, by key.

    Args:
        table: the setting.
        folder: the source's folder.

    Raises:
        ReaderError: with every fault of the table: that it is not there, a column it does not
            have, a line without a key or a patient, a path that is not there, a key that stands
            under two patients. No patient is quoted.
    """
    patients: dict[str, str] = {}
    faults: list[Fault] = []
    of_paths = table.key == "path" and table.pattern is None
    for number, raw, patient in _rows(table, folder):
        where = f"{table.file}, line {number}"
        key = raw
        if not key or not patient:
            faults.append(Fault(where, "no patient" if key else "no key", "both in every line"))
            continue
        if of_paths:
            inside = PurePosixPath(raw.replace("\\", "/"))
            key = str(inside)
            if inside.is_absolute() or ".." in inside.parts or not (folder / inside).exists():
                faults.append(
                    Fault(where, f"names {key}, which is not there", "a path below the source")
                )
        if patients.setdefault(key, patient) != patient:
            faults.append(Fault(where, "gives the key of its line a second, different patient"))
    if not patients and not faults:
        faults.append(Fault(table.file, "an empty table", "a key and a patient per line"))
    if faults:
        raise ReaderError(*shortened(faults))
    return patients


def _rows(table: PatientTable, folder: Path) -> Iterator[tuple[int, str, str]]:
    """(line number from 1, key, patient) of each line that is not blank."""
    key_at, patient_at = table.key_column, table.patient_column
    for line in read_lines(folder / table.file, table.file, table.separator):
        if isinstance(key_at, str) or isinstance(patient_at, str):
            at = columns_of(line, table.file, (str(key_at), str(patient_at)))
            key_at, patient_at = at[str(key_at)], at[str(patient_at)]
            continue
        yield line.number, line.cell(key_at), line.cell(patient_at)
