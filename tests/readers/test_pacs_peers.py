"""Archives that misbehave: servers of a few lines, over real sockets on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest

pynetdicom = pytest.importorskip("pynetdicom", reason='needs pip install "medaug[pacs]"')
pytest.importorskip("dicomweb_client", reason='needs pip install "medaug[pacs]"')

from medaug.errors import ReaderError  # noqa: E402
from medaug.readers.pacs.fetch import fetch  # noqa: E402

# Where the peer hangs up first, pynetdicom leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Answer = tuple[int, dict[str, str], bytes]


def instances(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.suffix == ".dcm" for path in files)
    return {str(pydicom.dcmread(path).SOPInstanceUID) for path in files}


class Web:
    """A DICOMweb server that holds one series; ``spoil`` may replace an answer."""

    def __init__(self, files: list[Path]) -> None:
        self.files = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in files}
        first = pydicom.dcmread(files[0])
        self.study, self.series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
        self.spoil: Callable[[str, dict[str, list[str]]], Answer | None] = lambda *_: None
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                owner.asked.append(self.path)
                owner.headers.append(dict(self.headers))
                query = parse_qs(parts.query)
                status, headers, body = owner.spoil(parts.path, query) or owner.answer(
                    parts.path, query
                )
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def address(self) -> str:
        return f"dicomweb+http://127.0.0.1:{self.server.server_address[1]}/web?PatientID=4711&timeout=2"

    def answer(self, path: str, query: dict[str, list[str]]) -> Answer:
        inside = path.removeprefix("/web").strip("/").split("/")
        if inside[-1] == "studies":
            rows = [{"0020000D": self.study, "00100020": "4711"}]
        elif inside[-1] == "series":
            rows = [{"0020000D": self.study, "0020000E": self.series, "00080060": "CT"}]
        elif inside[-1] == "instances":
            rows = [{"00080018": uid} for uid in self.files]
        else:
            return self.multipart(self.files[inside[-1]].read_bytes())
        first = int(query.get("offset", ["0"])[0])
        return self.rows(rows[first : first + int(query.get("limit", ["1000"])[0])])

    @staticmethod
    def rows(rows: list[dict[str, str]]) -> Answer:
        document = [{tag: {"vr": "UI", "Value": [v]} for tag, v in row.items()} for row in rows]
        return 200, {"Content-Type": "application/dicom+json"}, json.dumps(document).encode()

    @staticmethod
    def multipart(content: bytes, end: bytes = b"\r\n--XX--\r\n") -> Answer:
        kind = 'multipart/related; type="application/dicom"; boundary=XX'
        body = b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + content + end
        return 200, {"Content-Type": kind}, body

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def files(tmp_path: Path, write) -> list[Path]:
    return list(write.series(tmp_path / "there", write.ct()))


@pytest.fixture
def web(files: list[Path]) -> Iterator[Web]:
    server = Web(files)
    try:
        yield server
    finally:
        server.stop()


def is_instance(path: str) -> bool:
    return path.rsplit("/", 2)[-2] == "instances"


class TestDicomWeb:
    def test_all_is_well(self, web: Web, tmp_path: Path) -> None:
        fetch(web.address, tmp_path / "here")
        assert instances(tmp_path / "here") == set(web.files)

    def test_pages(self, web: Web, tmp_path: Path) -> None:
        """A server may give fewer than asked for."""
        web.spoil = lambda path, query: (
            web.answer(path, {**query, "limit": ["3"]}) if not is_instance(path) else None
        )
        fetch(web.address, tmp_path / "here")
        assert instances(tmp_path / "here") == set(web.files)

    def test_a_server_that_knows_no_pages(self, web: Web, tmp_path: Path) -> None:
        web.spoil = lambda path, _: web.answer(path, {})
        fetch(web.address, tmp_path / "here")
        assert instances(tmp_path / "here") == set(web.files)
        assert len(web.asked) == 6 + len(web.files)

    def test_a_server_that_ignores_filters(self, web: Web, tmp_path: Path) -> None:
        def others(path: str, query: dict[str, list[str]]) -> Answer | None:
            if not path.endswith("studies") or "0" not in query["offset"]:
                return None
            other = {"0020000D": "1.2.3", "00100020": "4712"}
            return web.rows([other, {"0020000D": web.study, "00100020": "4711"}])

        web.spoil = others
        fetch(web.address, tmp_path / "here")
        assert instances(tmp_path / "here") == set(web.files)
        assert not any("1.2.3/" in path for path in web.asked)
        with pytest.raises(ReaderError, match="none of the"):
            fetch(web.address.replace("4711", "4713"), tmp_path / "none")

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            ((200, {"Content-Type": "text/html"}, b"<p>SECRET</p>"), "not DICOMweb"),
            ((200, {}, b'["SECRET", 1, {"0020000D": {"Value": [null]}}]'), "pass the filters"),
            ((200, {}, b"[" * 100_000), "not DICOMweb"),
            ((302, {"Location": "http://127.0.0.1:1/SECRET"}, b""), "redirects"),
            ((403, {}, b"SECRET"), "HTTP 403.*may not do that"),
            ((404, {}, b"SECRET"), "HTTP 404"),
            ((500, {}, b"SECRET"), "HTTP 500"),
            ((200, {"Content-Length": "999"}, b"[{"), "broke off|no connection|not DICOMweb"),
            ((200, {"Content-Encoding": "gzip"}, b"SECRET"), "connection|not DICOMweb"),
        ],
    )
    def test_no_answer_of_its_kind(
        self, web: Web, tmp_path: Path, answer: Answer, message: str
    ) -> None:
        web.spoil = lambda *_: answer
        with pytest.raises(ReaderError, match=message) as refused:
            fetch(web.address, tmp_path / "here")
        assert "SECRET" not in str(refused.value)
        assert "4711" not in str(refused.value)
        assert not instances(tmp_path / "here")

    def test_a_uid_that_leads_elsewhere(self, web: Web, tmp_path: Path) -> None:
        web.spoil = lambda path, _: (
            web.rows([{"0020000D": "../../SECRET", "00100020": "4711"}])
            if path.endswith("studies")
            else None
        )
        with pytest.raises(ReaderError, match="no usable StudyInstanceUID"):
            fetch(web.address, tmp_path / "here")

    def test_no_answer_in_time(self, web: Web, tmp_path: Path) -> None:
        web.spoil = lambda *_: time.sleep(2)  # type: ignore[func-returns-value]
        with pytest.raises(ReaderError, match="no answer within 1 s"):
            fetch(web.address.replace("timeout=2", "timeout=1"), tmp_path / "here")

    def test_a_busy_server_is_asked_again(self, web: Web, tmp_path: Path) -> None:
        busy = iter([True, False])
        web.spoil = lambda *_: (503, {}, b"") if next(busy, False) else None
        fetch(web.address, tmp_path / "here")
        assert instances(tmp_path / "here") == set(web.files)

    @pytest.mark.parametrize(
        ("spoilt", "message"),
        [
            (lambda good, _: Web.multipart(good[: len(good) // 2], b""), "broke off"),
            (lambda good, _: Web.multipart(good, b"\r\n--XX\r\n"), "broke off"),
            (
                lambda *_: (
                    200,
                    {"Content-Type": "application/dicom", "Content-Length": "9999"},
                    b"D",
                ),
                "broke off|no connection",
            ),
            (lambda *_: (500, {}, b""), r"^.*1 instance\(s\) did not arrive.*HTTP 500"),
            (lambda *_: Web.multipart(b"no DICOM at all" * 20), "1 instance.*is not DICOM"),
            (lambda _, other: Web.multipart(other), "1 instance.*is not the instance"),
        ],
    )
    def test_an_instance_that_does_not_come(
        self,
        web: Web,
        tmp_path: Path,
        spoilt: Callable[[bytes, bytes], Answer],
        message: str,
    ) -> None:
        wrong, other, *_ = web.files
        web.spoil = lambda path, _: (
            spoilt(web.files[wrong].read_bytes(), web.files[other].read_bytes())
            if path.endswith(wrong)
            else None
        )
        with pytest.raises(ReaderError, match=message):
            fetch(web.address, tmp_path / "here")
        assert wrong not in instances(tmp_path / "here")
        web.spoil = lambda *_: None
        fetch(web.address, tmp_path / "here")
        assert instances(tmp_path / "here") == set(web.files)

    def test_a_token(self, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEDAUG_PACS_TOKEN", "abc.def")
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        fetch(web.address, tmp_path / "here")
        assert {sent["Authorization"] for sent in web.headers} == {"Bearer abc.def"}
        monkeypatch.delenv("MEDAUG_PACS_TOKEN")
        web.headers.clear()
        fetch(web.address, tmp_path / "here")
        assert not any("Authorization" in sent for sent in web.headers)

    def test_ctrl_c_leaves_whole_files(self, web: Web, tmp_path: Path) -> None:
        reached = threading.Event()

        def slow(path: str, _: dict[str, list[str]]) -> None:
            if is_instance(path) and sum(map(is_instance, web.asked)) > 3:
                reached.set()
                time.sleep(5)

        web.spoil = slow
        process = subprocess.Popen(
            [sys.executable, "-m", "medaug", "fetch", web.address, str(tmp_path / "here")],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert reached.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Stopped" in said
        assert "4711" not in said
        assert len(instances(tmp_path / "here")) == 3
        web.spoil = lambda *_: None
        web.asked.clear()
        fetch(web.address, tmp_path / "here")
        assert sum(map(is_instance, web.asked)) == len(web.files) - 3

    def test_certificates_are_verified(
        self, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ssl

        if (openssl := shutil.which("openssl")) is None:
            pytest.skip("no openssl here to make a certificate with")
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        subprocess.run(
            f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1".split()
            + f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}".split(),
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
        address = web.address.replace("+http:", "+https:")
        with pytest.raises(ReaderError, match="certificate was not accepted"):
            fetch(address, tmp_path / "here")
        assert not web.asked
        monkeypatch.setenv("MEDAUG_PACS_CA", str(certificate))
        fetch(address, tmp_path / "here")
        assert instances(tmp_path / "here") == set(web.files)


class Peer:
    """An application entity that holds one series and moves it to ``receive``."""

    def __init__(self, files: list[Path]) -> None:
        from pynetdicom import AE, AllStoragePresentationContexts, evt

        self.held = [pydicom.dcmread(path) for path in files]
        self.kind = True
        self.find_status = 0x0000
        self.statuses: list[int] = []
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.receive = int(one.getsockname()[1])
        self.get: Callable[[object], Iterator[object]] = self.everything
        self.move: Callable[[object], Iterator[object]] = self.everything_there
        self.ae = AE("ARCHIVE")
        for model in "132":
            self.ae.add_supported_context(f"1.2.840.10008.5.1.4.1.2.2.{model}")
        for context in AllStoragePresentationContexts:
            self.ae.add_supported_context(context.abstract_syntax, scu_role=True, scp_role=True)
        self.server = self.ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[
                (evt.EVT_C_FIND, self.found),
                (evt.EVT_C_GET, lambda event: self.get(event)),  # noqa: PLW0108  # it changes
                (evt.EVT_C_MOVE, lambda event: self.move(event)),  # noqa: PLW0108
            ],
        )

    def address(self, way: str) -> str:
        port = self.server.socket.getsockname()[1]
        more = f"&retrieve=move&receive_port={self.receive}" if way == "move" else ""
        return f"dimse://ARCHIVE@127.0.0.1:{port}?PatientID=4711&timeout=5{more}"

    def found(self, event) -> Iterator[object]:
        if self.find_status:
            yield self.find_status, None
            return
        level = event.identifier.QueryRetrieveLevel
        for one in self.held if level == "IMAGE" else self.held[:1]:
            answer = pydicom.Dataset()
            for element in event.identifier:
                if element.keyword in one and (self.kind or element.keyword != "SOPClassUID"):
                    answer[element.tag] = one[element.tag]
            yield 0xFF00, answer

    def everything(self, _event) -> Iterator[object]:
        yield len(self.held)
        for one in self.held:
            yield 0xFF00, one

    def everything_there(self, event) -> Iterator[object]:
        yield self.destination(self.receive)
        yield from self.everything(event)

    def destination(self, port: int) -> tuple[str, int, dict[str, object]]:
        kinds = {str(one.SOPClassUID) for one in self.held}
        return "127.0.0.1", port, {"contexts": [*map(pynetdicom.build_context, kinds)]}

    def stop(self) -> None:
        self.server.shutdown()


@pytest.fixture
def peer(files: list[Path]) -> Iterator[Peer]:
    one = Peer(files[:3])
    try:
        yield one
    finally:
        one.stop()


class TestDimse:
    @pytest.mark.parametrize("way", ["get", "move"])
    @pytest.mark.parametrize("kind", [True, False])
    def test_all_is_well(self, peer: Peer, tmp_path: Path, way: str, kind: bool) -> None:
        """Also where the archive does not say of what kind an instance is."""
        peer.kind = kind
        fetch(peer.address(way), tmp_path / "here")
        assert instances(tmp_path / "here") == {str(one.SOPInstanceUID) for one in peer.held}

    def test_an_unknown_destination(self, peer: Peer, tmp_path: Path) -> None:
        peer.move = lambda _: iter([(None, None)])
        with pytest.raises(ReaderError, match=f"register this title.*port {peer.receive}"):
            fetch(peer.address("move"), tmp_path / "here")

    def test_all_went_well_elsewhere(self, peer: Peer, tmp_path: Path) -> None:
        peer.move = lambda _: iter([peer.destination(peer.receive), 0])
        with pytest.raises(ReaderError) as refused:
            fetch(peer.address("move"), tmp_path / "here")
        assert f"nothing came to port {peer.receive}" in str(refused.value)

    def test_a_question_refused(self, peer: Peer, tmp_path: Path) -> None:
        peer.find_status = 0xA900
        with pytest.raises(ReaderError, match=r"refused the question.*A900"):
            fetch(peer.address("get"), tmp_path / "here")

    def test_it_dies_in_the_middle(self, peer: Peer, tmp_path: Path) -> None:
        def dying(event) -> Iterator[object]:
            yield len(peer.held)
            yield 0xFF00, peer.held[0]
            event.assoc.abort()

        peer.get = dying
        with pytest.raises(ReaderError, match="broke off"):
            fetch(peer.address("get"), tmp_path / "here")
        assert instances(tmp_path / "here") == {str(peer.held[0].SOPInstanceUID)}
        peer.get = peer.everything
        fetch(peer.address("get"), tmp_path / "here")
        assert len(instances(tmp_path / "here")) == 3

    @pytest.mark.parametrize("way", ["get", "move"])
    def test_instances_that_were_not_asked_for(
        self, peer: Peer, tmp_path: Path, way: str, write
    ) -> None:
        stray = [pydicom.dcmread(path) for path in write.series(tmp_path / "stray", write.ct())]
        stray[1].SOPInstanceUID = peer.held[0].SOPInstanceUID  # and of another series

        def more(_event) -> Iterator[object]:
            yield 4
            yield from ((0xFF00, one) for one in (*stray[:2], *peer.held[1:]))

        def more_there(event) -> Iterator[object]:
            yield peer.destination(peer.receive)
            yield from more(event)

        peer.get, peer.move = more, more_there
        with pytest.raises(ReaderError, match=r"1 instance\(s\) did not arrive.*not the instance"):
            fetch(peer.address(way), tmp_path / "here")
        assert instances(tmp_path / "here") == {str(one.SOPInstanceUID) for one in peer.held[1:]}

    def test_a_full_disk_is_told(
        self, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_self: Path, _content: bytes) -> int:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=os.strerror(28)):
            fetch(peer.address("get"), tmp_path / "here")
        assert not instances(tmp_path / "here")
