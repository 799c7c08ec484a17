"""An archive of our own: Orthanc on loopback, for tests that fetch and tests that send."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from base64 import b64encode
from pathlib import Path

import pytest

ORTHANC = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PLUGINS = Path("/usr/share/orthanc/plugins")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Orthanc:
    """A server of our own on loopback, with its storage below ``folder``."""

    def __init__(self, folder: Path, plugins: bool = True, login: str = "") -> None:
        if ORTHANC is None or not (PLUGINS / "libOrthancDicomWeb.so").exists():
            pytest.skip("no Orthanc here: apt-get install orthanc orthanc-dicomweb")
        self.http, self.dicom, self.receive = free_port(), free_port(), free_port()
        self._login = b64encode(login.encode()).decode()
        name, _, word = login.partition(":")
        us = {"Host": "127.0.0.1", "Port": self.receive}
        configuration = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")] if plugins else [],
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ARCHIVE",
            "DicomCheckCalledAet": True,
            "AuthenticationEnabled": bool(login),
            "RegisteredUsers": {name: word} if login else {},
            "DicomModalities": {
                "us": {"AET": "MEDAUG", **us},
                "searches": {"AET": "SEARCHES", "AllowGet": False, "AllowMove": False, **us},
            },
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        folder.mkdir()
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        self._log = folder / "orthanc.log"
        with self._log.open("wb") as log:
            command = [ORTHANC, str(folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for port in (self.http, self.dicom):
            self._wait_for(port)

    def _wait_for(self, port: int) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(self._log.read_text()) from None
                time.sleep(0.05)
            else:
                return

    def put(self, *folders: Path) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for path in sorted(path for folder in folders for path in folder.rglob("*")):
            if path.is_file():
                url = f"http://127.0.0.1:{self.http}/instances"
                header = {"Authorization": f"Basic {self._login}"} if self._login else {}
                opener.open(urllib.request.Request(url, path.read_bytes(), header), timeout=30)

    def address(self, way: str, query: str, title: str = "ARCHIVE") -> str:
        if way == "web":
            return f"dicomweb+http://127.0.0.1:{self.http}/dicom-web?{query}"
        move = f"&retrieve=move&receive_port={self.receive}" if way == "move" else ""
        return f"dimse://{title}@127.0.0.1:{self.dicom}?{query}&timeout=20{move}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
