"""A DICOM release into an archive (PACS), and a look at what arrived (extra ``[pacs]``).

::

    send_release(run / "release", "dimse://ARCHIVE@pacs:104")
    send_release(run / "release", "dicomweb+https://host/dicom-web")

Only a release that verifies is sent: C-STORE [1]_ or STOW-RS [2]_, one instance after the other.
Then the study is fetched back, in the way `medaug fetch` does it, and every attribute and pixel is
compared with the file; an archive that says "stored" may still have dropped or changed something.
What did not arrive as it was sent is named by its file. Sending again is harmless: instances keep
their UIDs.

.. [1] DICOM PS3.4 B
.. [2] DICOM PS3.18 10.5
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from medaug.errors import Fault, InputError, ReaderError, SettingsError
from medaug.export.layout import MASKS
from medaug.export.verify import verify_release
from medaug.progress import Progress, Silent
from medaug.readers.oddities import UNREADABLE, withheld
from medaug.readers.pacs.address import Address, parse
from medaug.readers.pacs.fetch import connected, fetch

_AT_ONCE = 50
_BYTES_AT_ONCE = 900_000  # a longer request would go in chunks, which not every server takes
_MOST_NAMED = 20


def send_release(
    folder: Path, address: str, progress: Progress | None = None, look: bool = True
) -> int:
    """Send the DICOM files of a release.

    Args:
        folder: of the release.
        address: of the archive, as `medaug.readers.pacs.address` has it, without filters.
        progress: told of every instance.
        look: whether to fetch them back and compare; an archive may permit storing alone.

    Returns:
        How many instances were sent, all of which arrived.

    Raises:
        SettingsError: if the address is wrong, or the release holds no DICOM. Nothing was sent.
        InputError: if the release does not verify; then nothing was sent. Or if instances were
            refused, or came back changed or not at all; it names them.
        ReaderError: if the archive cannot be reached.
    """
    progress = progress or Silent()
    _asked(address, "2.25.1")  # a wrong address is told before hours of work
    found = verify_release(folder)
    if not found.ok:
        raise InputError(*(Fault(str(folder), problem) for problem in found.problems))
    files = [
        path
        for name in ("dicom", MASKS["dicom"])
        for path in sorted((folder / name).rglob("*.dcm"))
    ]
    if not files:
        raise SettingsError(
            Fault(str(folder), "no DICOM files", "a release with dicom among its export.formats")
        )
    first = dcmread(files[0], stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
    wanted = _asked(address, str(first.StudyInstanceUID))
    lost = _send(files, wanted, progress)
    if look:
        lost |= _compare([path for path in files if path not in lost], wanted, address, progress)
    if lost:
        raise _named(lost, folder, len(files), wanted)
    return len(files)


def _asked(address: str, study: str) -> Address:
    """The archive, with the study as the one thing that is asked of it."""
    wanted = parse(_asking(address, study))
    if wanted.filters.keys() != {"StudyInstanceUID"}:
        raise SettingsError(
            Fault(
                "address of an archive",
                "a filter, in an address that is sent to",
                "dicomweb+https://host/path or dimse://CALLED_AET@host:104, with ?timeout= and the "
                "like",
                "leave the filter out",
            )
        )
    return wanted


def _asking(address: str, study: str) -> str:
    return f"{address}{'&' if '?' in address else '?'}StudyInstanceUID={study}"


def _send(files: Sequence[Path], wanted: Address, progress: Progress) -> dict[Path, str]:
    """What was refused, and why."""
    refused: dict[Path, str] = {}
    progress.start("Sending instances", len(files))
    with withheld(), connected(wanted) as archive:
        for some in _batches(files):
            refused |= archive.store(some)
            progress.advance(len(some))
    return refused


def _batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in files:
        here = path.stat().st_size
        if batch and (len(batch) == _AT_ONCE or size + here > _BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += here
    yield batch


def _compare(
    files: Sequence[Path], wanted: Address, address: str, progress: Progress
) -> dict[Path, str]:
    """What came back otherwise than it was sent, or not at all."""
    why = "the archive does not give it back"
    with tempfile.TemporaryDirectory(prefix="medaug-") as private:
        (study,) = wanted.filters["StudyInstanceUID"]
        try:
            fetch(_asking(address, study), Path(private), progress)
        except ReaderError as error:
            why = f"it does not come back: {error.faults[0].came}"
        back = {_instance(path): path for path in Path(private).rglob("*.dcm")}
        lost = {}
        for path in files:
            here = back.get(_instance(path))
            if here is None:
                lost[path] = why
            elif changed := differences(dcmread(path), dcmread(here)):
                lost[path] = f"it comes back with another {', '.join(changed)}"
    return lost


def differences(sent: Dataset, back: Dataset) -> list[str]:
    """Attributes that differ, by keyword or tag; pixels count decoded where they were recoded."""
    recoded = sent.file_meta.TransferSyntaxUID != back.file_meta.TransferSyntaxUID
    changed = []
    for tag in sorted({*sent.keys(), *back.keys()}):
        if tag in sent and tag in back:
            if sent[tag].keyword == "PixelData" and recoded:
                same = _same_pixels(sent, back)
            else:
                same = bool(sent[tag].value == back[tag].value)
            if same:
                continue
        changed.append((sent if tag in sent else back)[tag].keyword or str(tag))
    return changed


def _same_pixels(sent: Dataset, back: Dataset) -> bool:
    try:
        return bool((sent.pixel_array == back.pixel_array).all())
    except UNREADABLE:
        return False


def _instance(path: Path) -> str:
    header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    return str(header.SOPInstanceUID)


def _named(lost: Mapping[Path, str], folder: Path, sent: int, wanted: Address) -> InputError:
    faults = [
        Fault(path.relative_to(folder).as_posix(), why)
        for path, why in list(lost.items())[:_MOST_NAMED]
    ]
    more = f" (the first {_MOST_NAMED} stand above)" if len(lost) > _MOST_NAMED else ""
    place = wanted.shown.partition("?")[0]
    faults.append(
        Fault(
            place,
            f"{len(lost)} of {sent} instances did not arrive as they were sent{more}",
            action="ask the administrator of the archive, and send again: what has arrived is not "
            "stored twice; without the right to read there, add --no-look",
        )
    )
    return InputError(*faults)
