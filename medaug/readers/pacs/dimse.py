"""An archive that speaks DICOM's own protocol: C-FIND to ask, C-GET or C-MOVE to bring.

Study Root information model (PS3.4 C.6.2). With C-GET the instances come back over the connection
that asked for them. With C-MOVE the archive opens a connection of its own, to the host and port
it knows under our application entity title; meanwhile a port here is open to the network, and
takes only instances that were just asked for.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset, uid
from pydicom.config import disable_value_validation
from pydicom.filereader import read_file_meta_info
from pynetdicom import (
    AE,
    AllStoragePresentationContexts,
    StoragePresentationContexts,
    _config,
    build_context,
    build_role,
    evt,
)
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from medaug.errors import Fault, ReaderError
from medaug.readers.oddities import UNREADABLE
from medaug.readers.pacs.address import Address
from medaug.readers.pacs.fetch import Instance, Keep, Level, Series

# What its threads say is withheld with the rest, and questions are not logged.
_config.PASS_CONTEXTVARS = True
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False

_CONNECT_S = 10.0
_UIDS_AT_ONCE = 100

FIND = uid.UID("1.2.840.10008.5.1.4.1.2.2.1")
GET = uid.UID("1.2.840.10008.5.1.4.1.2.2.3")
MOVE = uid.UID("1.2.840.10008.5.1.4.1.2.2.2")

_PLAIN: list[str | uid.UID] = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
_SYNTAXES: list[str | uid.UID] = [
    *_PLAIN,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
]
# An association has room for 128 presentation contexts (PS3.8 9.3.2.2), one of them for C-GET.
_MOST_KINDS = 127 // len(_SYNTAXES)

_SUCCESS, _STORED_BADLY, _NOT_WANTED, _NO_ROOM = 0x0000, 0xC000, 0xA900, 0xA700
_WARNING = 0xB  # first digit (PS3.4 B.2.3): stored, though with a change
_PENDING = (0xFF00, 0xFF01)
_UNKNOWN_DESTINATION = 0xA801
_NOT_RECOGNISED = {
    3: ("the archive does not know the calling title", "register it there, or set calling="),
    7: ("the archive has another title than the called one", "check what stands before the '@'"),
}


class Dimse:
    """One application entity; see `medaug.readers.pacs.Archive`."""

    def __init__(self, wanted: Address) -> None:
        self._wanted = wanted
        self._ae = AE(ae_title=wanted.calling)
        self._ae.require_called_aet = True
        self._ae.connection_timeout = min(_CONNECT_S, wanted.timeout)
        self._ae.acse_timeout = wanted.timeout
        # An archive may be silent for long while it moves, and says so by its connection only.
        self._ae.dimse_timeout = wanted.timeout * (10 if wanted.retrieve == "move" else 1)
        self._ae.network_timeout = self._ae.dimse_timeout + wanted.timeout
        self._lock = threading.Lock()
        self._keep: Keep | None = None
        self._broken: BaseException | None = None
        self._arrived = 0

    def reach(self) -> None:
        """See that somebody listens at all, for an association does not tell why it fails."""
        place = (self._wanted.host, self._wanted.port)
        try:
            socket.create_connection(place, self._ae.connection_timeout).close()
        except OSError:
            raise self._fault(
                "no connection", "check host and port, that the archive runs, and the firewall"
            ) from None

    def find(self, level: Level, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Ask; all the answers are taken before the first is handed on."""
        answers = []
        with self._associated(FIND, [build_context(FIND, _PLAIN)]) as association:
            for status, found in association.send_c_find(_identifier(level, keys), FIND):
                code = self._status(status)
                if code in _PENDING and found is not None:
                    answers.append({key: _text(found, key) for key in keys})
                elif code not in (_SUCCESS, *_PENDING):
                    raise self._fault(
                        f"the archive refused the question (C-FIND status 0x{code:04X})",
                        "ask its administrator whether it may be searched by these filters",
                    )
        yield from answers

    def retrieve(
        self, series: Series, instances: Sequence[Instance], whole: bool, keep: Keep
    ) -> str:
        """Bring instances, the series at once if all are wanted; why some may be missing, or ""."""
        place = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.series}
        if whole:
            questions = [_identifier("SERIES", place)]
        else:
            uids = [instance.uid for instance in instances]
            questions = [
                _identifier("IMAGE", place, uids[at : at + _UIDS_AT_ONCE])
                for at in range(0, len(uids), _UIDS_AT_ONCE)
            ]
        bring = self._get if self._wanted.retrieve == "get" else self._move
        why = ""
        self._keep, self._arrived = keep, 0
        try:
            for question in questions:
                code = bring(question, instances)
                if self._broken is not None:
                    raise self._broken
                why = "" if code == _SUCCESS else f"the archive ended with status 0x{code:04X}"
        finally:
            with self._lock:
                self._keep = None
        if not self._arrived and self._wanted.retrieve == "move":
            why += (
                f"; nothing came to port {self._wanted.receive_port}: does the archive know this "
                f"machine and port under the title {self._wanted.calling}?"
            )
        return why.removeprefix("; ")

    def store(self, files: Sequence[Path]) -> dict[Path, str]:
        """Send instances (C-STORE, PS3.4 B); why those that were not taken were not."""
        kinds = {path: read_file_meta_info(path).MediaStorageSOPClassUID for path in files}
        contexts = [build_context(kind, _PLAIN) for kind in sorted(set(kinds.values()))]
        refused: dict[Path, str] = {}
        with self._associated(None, contexts) as association:
            taken = {one.abstract_syntax for one in association.accepted_contexts}
            for path, kind in kinds.items():
                if kind not in taken:
                    refused[path] = f"the archive does not take {kind.name}"
                elif not association.is_established:
                    refused[path] = "the connection broke off before"
                else:
                    status = association.send_c_store(path)
                    code = int(status.Status) if "Status" in status else None
                    if code is None:
                        refused[path] = "the archive broke off, or gave no answer within timeout="
                    elif code != _SUCCESS and code >> 12 != _WARNING:
                        refused[path] = f"the archive refused it (C-STORE status 0x{code:04X})"
        return refused

    def _get(self, question: Dataset, instances: Sequence[Instance]) -> int:
        kinds = sorted({instance.kind for instance in instances})
        if "" in kinds or len(kinds) > _MOST_KINDS:
            kinds = [str(context.abstract_syntax) for context in StoragePresentationContexts]
            stores = [build_context(kind, _PLAIN) for kind in kinds]
        else:
            # One context for each syntax: of several in one context the archive picks one.
            stores = [build_context(kind, syntax) for kind in kinds for syntax in _SYNTAXES]
        contexts = [build_context(GET, _PLAIN), *stores]
        with self._associated(GET, contexts, kinds) as association:
            return self._last(association.send_c_get(question, GET))

    def _move(self, question: Dataset, _: Sequence[Instance]) -> int:
        with self._associated(MOVE, [build_context(MOVE, _PLAIN)]) as association:
            code = self._last(association.send_c_move(question, self._wanted.calling, MOVE))
        if code == _UNKNOWN_DESTINATION:
            raise self._fault(
                f"the archive does not know where {self._wanted.calling} is (C-MOVE status 0xA801)",
                f"register this title there with this machine and port "
                f"{self._wanted.receive_port}, or use retrieve=get",
            )
        return code

    def _last(self, responses: Iterator[tuple[Dataset, Dataset | None]]) -> int:
        code = _SUCCESS
        for status, _ in responses:
            code = self._status(status)
        return code

    def _status(self, status: Dataset) -> int:
        if self._broken is not None:
            raise self._broken
        if "Status" not in status:
            raise self._fault(
                "the archive broke off, or gave no answer within the timeout",
                f"run the same command again, with a longer timeout= if it is slow; if it breaks "
                f"off each time, ask whether {self._wanted.calling} may search and retrieve there",
            )
        return int(status.Status)

    def stored(self, event: evt.Event) -> int:
        """Take an instance; runs in a thread of pynetdicom, which swallows exceptions."""
        with self._lock:
            if self._keep is None:
                return _NOT_WANTED
            if self._broken is not None:
                return _NO_ROOM
            try:
                name = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
                reason = self._keep(name, event.encoded_dataset())
            except OSError as error:  # no room on the disk
                self._broken = error
                return _NO_ROOM
            except UNREADABLE:
                return _STORED_BADLY
            self._arrived += not reason
            return _NOT_WANTED if reason else _SUCCESS

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """The port for C-MOVE is open in here; with C-GET there is none."""
        if self._wanted.retrieve != "move":
            yield
            return
        stores = [
            build_context(str(kind.abstract_syntax), _SYNTAXES)
            for kind in AllStoragePresentationContexts
        ]
        try:
            server = self._ae.start_server(
                ("", self._wanted.receive_port),
                block=False,
                contexts=stores,
                evt_handlers=[(evt.EVT_C_STORE, self.stored)],
            )
        except OSError:
            raise self._fault(
                f"port {self._wanted.receive_port} cannot be opened here for C-MOVE",
                "choose a free one that the archive knows with receive_port=, or use retrieve=get",
            ) from None
        try:
            yield
        finally:
            if server is not None:  # it is, where block=False
                server.shutdown()

    @contextmanager
    def _associated(
        self, service: str | None, contexts: list[PresentationContext], stored: Sequence[str] = ()
    ) -> Iterator[Association]:
        """An association that offers ``service``, if any; ``stored``: kinds we take over it."""
        association = self._ae.associate(
            self._wanted.host,
            self._wanted.port,
            contexts,
            self._wanted.called,
            ext_neg=[build_role(kind, scp_role=True) for kind in stored],
            evt_handlers=[(evt.EVT_C_STORE, self.stored)],
        )
        if not association.is_established:
            raise self._unassociated(association)
        try:
            offered = {one.abstract_syntax for one in association.accepted_contexts}
            if service is not None and service not in offered:
                raise self._fault(
                    f"the archive does not offer {uid.UID(service).name}",
                    "use another retrieve=, or ask its administrator to permit it",
                )
            yield association
        except BaseException:
            association.abort()
            raise
        if association.is_established:
            association.release()

    def _unassociated(self, association: Association) -> ReaderError:
        answer = association.acceptor.primitive
        if not association.is_rejected or answer is None:
            return self._fault(
                "the connection broke off, or is not answered in DICOM",
                "check host and port, and that the archive runs",
            )
        came, action = "the archive rejected the association", "ask its administrator why"
        if answer.result_source == 1:  # PS3.8 table 9-21
            came, action = _NOT_RECOGNISED.get(int(answer.diagnostic or 0), (came, action))
        return self._fault(came, action)

    def _fault(self, came: str, action: str) -> ReaderError:
        return ReaderError(Fault(self._wanted.shown, came, action=action))


@contextmanager
def open_dimse(wanted: Address) -> Iterator[Dimse]:
    """The archive of an address, and for C-MOVE the port where it brings the instances."""
    archive = Dimse(wanted)
    archive.reach()
    with archive.receiving():
        yield archive


def _identifier(
    level: Level, keys: Mapping[str, str], instances: Sequence[str] | None = None
) -> Dataset:
    """The question (PS3.4 C.4.1.1.3); ``instances`` are those of it that are wanted."""
    question = Dataset()
    with disable_value_validation():
        question.QueryRetrieveLevel = level
        for key, value in keys.items():
            setattr(question, key, value)
        if instances is not None:
            question.SOPInstanceUID = list(instances)
    if not all(value.isascii() for value in keys.values()):
        question.SpecificCharacterSet = "ISO_IR 192"
    return question


def _text(found: Dataset, key: str) -> str:
    try:
        value = found.get(key)
    except UNREADABLE:
        return ""
    return "" if value is None else str(value).strip()
