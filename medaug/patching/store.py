"""The patches of a cohort in one HDF5 file, written as they come.

::

    patches.h5
      images    (patch, channel, [slice,] row, column) float32, in the unit of the volumes
      masks     (patch, [slice,] row, column) bool; absent where the source marks no outline
      patches   one row per patch: class, patient token, place
      skipped   one row per lesion that became no patch: why
      .about    JSON: format, classes, unit, modality, mm_per_pixel, patients_known

The same patches give the same bytes: no times are stored. The file begins with a SHA-256 of all
that follows (in HDF5's user block), which is checked before HDF5 sees a byte: HDF5 alone reads
some damaged files as other content without an error. The file holds patient data and stays in the
run folder; tokens stand for patients, volumes and lesions.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from medaug.atomic import replacing
from medaug.domain import LesionPatch, PatchLocation, PatchSet, PatientKey, Unit
from medaug.errors import CohortError, Fault, RunFolderError, SettingsError
from medaug.patching.extract import SkippedLesion

_FORMAT = "medaug patches 1"
_USER_BLOCK = 512
_BLOCK_BYTES = 256 * 1024
_BLOCK_ENTRIES = 256
_TEXT = h5py.string_dtype()
_PLACE = [
    ("case", _TEXT),
    ("lesion", _TEXT),
    ("slice_index", "<i8"),
    ("centre_mm", "<f8", (3,)),
    ("mm_per_pixel", "<f8"),
    ("scale", "<f8"),
    ("diameter_mm", "<f8"),
]
"""The fields of `PatchLocation`, in their order."""
_PATCH = np.dtype([("label", _TEXT), ("patient", _TEXT), *_PLACE])
_SKIPPED = np.dtype([(name, _TEXT) for name in ("lesion", "label", "case", "reason")])


class PatchStoreWriter:
    """Appends patches to a new store; the file appears when the ``with`` block ends well.

    Memory holds one block of patches (256 KiB), whatever the cohort.

    Args:
        path: of the store; one that stands there is replaced.
        classes: every class there may be, also those without a patch; default: those that occur.
        patients_known: False where the source says nothing about patients.
    """

    def __init__(
        self, path: Path, classes: Collection[str] | None = None, patients_known: bool = True
    ) -> None:
        self._path = path
        self._allowed = None if classes is None else frozenset(classes)
        self._seen: set[str] = set()
        self._patients_known = patients_known
        self._shared: dict[str, Any] = {}
        self._columns: dict[str, _Column] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            self._output = stack.enter_context(_Output(temporary, "w+"))
            stack.callback(self._output.seal)
            self._file = stack.enter_context(
                h5py.File(self._output, "w", userblock_size=_USER_BLOCK)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            with self._stack:
                self._finish()
        else:
            self._stack.__exit__(kind, error, traceback)

    def append(self, patch: LesionPatch) -> None:
        """Add one patch.

        Raises:
            SettingsError: if it differs from the patches before in size, unit, modality, pixel
                size or in having an outline, or if its class is not among those given.
            OSError: if the disk is full.
        """
        self._require_alike(patch)
        self._seen.add(patch.label)
        row = (patch.label, patch.patient.token, *astuple(patch.location))
        self._put("images", np.float32, patch.image.shape, patch.image)
        if patch.mask is not None:
            self._put("masks", np.bool_, patch.mask.shape, patch.mask)
        self._put("patches", _PATCH, (), row)

    def skip(self, skipped: SkippedLesion) -> None:
        """Note a lesion that became no patch."""
        self._put("skipped", _SKIPPED, (), astuple(skipped))

    def _require_alike(self, patch: LesionPatch) -> None:
        place = patch.location
        mine = {
            "shape": list(patch.image.shape),
            "unit": patch.unit.value,
            "modality": patch.modality,
            # Scaled patches have pixels of their own; what they were scaled from is shared.
            "mm_per_pixel": round(place.mm_per_pixel * place.scale, 6) or None,
            "outlined": patch.mask is not None,
        }
        self._shared = self._shared or mine
        faults = [
            Fault(
                f"patch of case {place.case}",
                f"{name} {mine[name]}, and {self._shared[name]} in the patches before",
                "one in all patches of a run",
                "give each kind a pipeline of its own",
            )
            for name in mine
            if mine[name] != self._shared[name]
        ]
        if self._allowed is not None and patch.label not in self._allowed:
            allowed = ", ".join(sorted(self._allowed))
            faults.append(Fault(f"lesion {place.lesion}", f"class '{patch.label}'", allowed))
        if faults:
            raise SettingsError(*faults)

    def _put(self, name: str, dtype: Any, shape: tuple[int, ...], entry: Any) -> None:
        if name not in self._columns:
            self._columns[name] = _Column(self._file, name, np.dtype(dtype), shape)
        self._columns[name].append(entry)
        self._output.require_intact()

    def _finish(self) -> None:
        for column in self._columns.values():
            column.flush()
        classes = sorted(self._seen if self._allowed is None else self._allowed)
        about = {"format": _FORMAT, "classes": classes, "patients_known": self._patients_known}
        self._file.attrs["about"] = json.dumps({**about, **self._shared}, sort_keys=True)


class _Output(io.FileIO):
    """The file under HDF5, which is never told that the disk is full.

    HDF5 (2.0) crashes the process when it cannot write what it holds. A failure is kept here
    and raised by us; after it, nothing more is written.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = error
            return size or 0

    def require_intact(self) -> None:
        if self.error is not None:
            raise self.error

    def seal(self) -> None:
        """Write the digest of all that HDF5 wrote into the user block."""
        self.seek(_USER_BLOCK)
        digest = hashlib.file_digest(self, "sha256").hexdigest()
        self.seek(0)
        self.write(digest.encode())
        self.require_intact()


class _Column:
    """A dataset that grows by whole blocks."""

    def __init__(
        self, file: h5py.File, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        entry_bytes = dtype.itemsize * int(np.prod(shape))
        self._block = min(max(1, _BLOCK_BYTES // entry_bytes), _BLOCK_ENTRIES)
        self._pending: list[Any] = []
        self._data = file.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(self._block, *shape),
            dtype=dtype,
            # Text lies outside of the chunks, where no filter reaches it.
            **({"compression": "gzip", "compression_opts": 1, "shuffle": True} if shape else {}),
            track_times=False,
        )

    def append(self, entry: Any) -> None:
        self._pending.append(entry)
        if len(self._pending) == self._block:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            start = len(self._data)
            self._data.resize(start + len(self._pending), axis=0)
            self._data[start:] = np.array(self._pending, dtype=self._data.dtype)
            self._pending.clear()


def read_patches(path: Path, patients: Collection[PatientKey] | None = None) -> PatchSet:
    """The patches of ``patients`` (default: everybody's), in the order they were written.

    Only the wanted patches come into memory.

    Raises:
        RunFolderError: if the store is missing or damaged.
        CohortError: if no lesion became a patch.
    """
    with _opened(path) as (file, about):
        if "images" not in file:
            skipped = len(file["skipped"]) if "skipped" in file else 0
            raise CohortError(
                Fault(
                    "patches",
                    f"there is none; {skipped} lesions were skipped",
                    "at least one patch",
                    "see the reasons in patches/summary.json and loosen the patching settings",
                )
            )
        rows = file["patches"][:]
        tokens = [token.decode() for token in rows["patient"]]
        wanted = None if patients is None else {patient.token for patient in patients}
        at = np.array(
            [row for row, token in enumerate(tokens) if wanted is None or token in wanted], np.int64
        )
        number = {label: index for index, label in enumerate(about["classes"])}
        return PatchSet(
            images=_read_rows(file["images"], at),
            masks=_read_rows(file["masks"], at) if about["outlined"] else None,
            labels=np.array([number[label.decode()] for label in rows["label"][at]], np.int64),
            classes=tuple(about["classes"]),
            patients=tuple(PatientKey(tokens[row]) for row in at),
            locations=tuple(_location(row) for row in rows[at]),
            unit=Unit(about["unit"]),
            modality=about["modality"],
            patients_known=about["patients_known"],
        )


def summarise(path: Path) -> dict[str, Any]:
    """What the store holds, as JSON: counts per class, and each skipped lesion with its reason.

    Raises:
        RunFolderError: if the store is missing or damaged.
    """
    with _opened(path) as (file, about):
        rows = file["patches"][:] if "patches" in file else np.zeros(0, _PATCH)
        skipped = file["skipped"][:] if "skipped" in file else np.zeros(0, _SKIPPED)
        counts = {}
        for label in about["classes"]:
            mine = rows[rows["label"] == label.encode()]
            counts[label] = {
                "patches": len(mine),
                "lesions": len(set(mine["lesion"])),
                "patients": len(set(mine["patient"])),
            }
        return {
            "patches": len(rows),
            "size": about["shape"][1:] if len(rows) else None,
            "mm_per_pixel": about.get("mm_per_pixel"),
            "unit": about.get("unit"),
            "modality": about.get("modality"),
            "patients_known": about["patients_known"],
            "classes": counts,
            "skipped": [
                {name: row[name].decode() for name in _SKIPPED.names or ()} for row in skipped
            ],
            "scaled": int((rows["scale"] < 1).sum()),
        }


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, dict[str, Any]]]:
    where = f"{path.parent.name}/{path.name}"
    again = "delete it and run the extraction again"
    try:
        with path.open("rb") as source:
            sealed = source.read(_USER_BLOCK).rstrip(b"\0").decode()
            if hashlib.file_digest(source, "sha256").hexdigest() != sealed:
                raise ValueError("the digest differs")
        with h5py.File(path, "r") as file:
            about = json.loads(file.attrs["about"])
            if about["format"] != _FORMAT:
                raise RunFolderError(Fault(where, str(about["format"]), _FORMAT, again))
            yield file, about
    except FileNotFoundError as error:
        fault = Fault(where, "there is no patch store", action="run the extraction first")
        raise RunFolderError(fault) from error
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RunFolderError(Fault(where, "the patch store is damaged", action=again)) from error


def _read_rows(data: h5py.Dataset, rows: NDArray[np.int64]) -> NDArray[Any]:
    """The entries at ``rows`` (rising), read block by block."""
    picked = np.empty((len(rows), *data.shape[1:]), data.dtype)
    block = data.chunks[0]
    for start in range(0, len(data), block):
        first, last = np.searchsorted(rows, (start, start + block))
        if first < last:
            picked[first:last] = data[start : start + block][rows[first:last] - start]
    if len(rows) and rows[-1] >= len(data):
        raise ValueError(f"{len(data)} entries, one is wanted at {rows[-1]}")
    return picked


def _location(row: np.void) -> PatchLocation:
    x, y, z = row["centre_mm"].tolist()
    return PatchLocation(
        case=row["case"].decode(),
        lesion=row["lesion"].decode(),
        slice_index=int(row["slice_index"]),
        centre_mm=(x, y, z),
        mm_per_pixel=float(row["mm_per_pixel"]),
        scale=float(row["scale"]),
        diameter_mm=float(row["diameter_mm"]),
    )
