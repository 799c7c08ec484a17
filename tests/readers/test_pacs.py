"""Studies from an archive: the same inventory as from the folder that was put into it."""

import gc
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from orthanc import Orthanc, free_port
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

pytest.importorskip("pynetdicom", reason='needs pip install "medaug[pacs]"')
pytest.importorskip("dicomweb_client", reason='needs pip install "medaug[pacs]"')

from medaug.errors import ReaderError
from medaug.readers.pacs.fetch import fetch, fetched
from medaug.readers.source import guess_sources, scan

SITE_KEY = bytes(range(32))
PATIENT = "SECRET-PID-4711"
PASSWORD = "SECRET-päss phrase"
WAYS = ("web", "get", "move")
EVERYBODY = f"PatientID={PATIENT}&PatientID=O%27Neil%20%26%20Sons+%2B1"


# Where the peer hangs up first, pynetdicom leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    """Here, and not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, write) -> Path:
    """Two patients; the first has a CT with a SEG, and a second study."""
    folder = tmp_path_factory.mktemp("cohort")
    one = write.series(folder / "a", write.ct(), patient=PATIENT, StudyDate="20240131")
    write.seg(folder / "a" / "seg.dcm", one, {"Cyst": write.blob()})
    write.series(
        folder / "b", write.ct(seed=1), patient=PATIENT, StudyDate="20230131", Modality="MR"
    )
    other = write.series(folder / "c", write.ct(seed=2), patient="O'Neil & Sons +1", seed=9)
    write.seg(folder / "c" / "seg.dcm", other, {"Neoplasm": write.blob()})
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("archive") / "orthanc")
    try:
        server.put(cohort)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("guarded") / "orthanc", login=f"someone:{PASSWORD}")
    try:
        server.put(cohort)
        yield server
    finally:
        server.stop()


def inventory(folder: Path) -> dict[str, object]:
    """What `scan` finds, without the order and the names of the files."""
    document = scan(guess_sources(folder), folder, SITE_KEY).inventory.document()
    document["cases"] = sorted(document["cases"], key=lambda case: case["case"])
    return {key: document[key] for key in ("patients", "patients_known", "classes", "cases")}


def instances(folder: Path) -> dict[str, Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(pydicom.dcmread(path).SOPInstanceUID): path for path in found}


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medaug", *map(str, arguments)],
        env={**os.environ, "PYTHONWARNINGS": "error", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("way", WAYS)
class TestTheArchiveGivesWhatTheFolderHolds:
    def test_the_same_inventory(self, archive: Orthanc, cohort: Path, way: str) -> None:
        with fetched(archive.address(way, EVERYBODY)) as folder:
            assert folder.parent.stat().st_mode & 0o777 == 0o700
            assert inventory(folder) == inventory(cohort)
            assert len(inventory(folder)["cases"]) == 2  # type: ignore[arg-type]
        assert not folder.parent.exists()

    def test_real_files(self, archive: Orthanc, tmp_path: Path, real_data, way: str) -> None:
        here = real_data("dcmqi_seg") / "segmentations"
        (tmp_path / "there").mkdir()
        for path in (*(here / "ct-3slice").iterdir(), here / "liver.dcm"):
            shutil.copy(path, tmp_path / "there")
        archive.put(tmp_path / "there")
        study = pydicom.dcmread(here / "liver.dcm").StudyInstanceUID
        query = f"StudyInstanceUID={study}&Modality=CT&Modality=SEG"
        fetch(archive.address(way, query), tmp_path / "here")
        assert inventory(tmp_path / "here") == inventory(tmp_path / "there")
        assert inventory(tmp_path / "here")["classes"]

    @pytest.mark.slow
    def test_every_file_arrives_as_it_was(
        self, archive: Orthanc, cohort: Path, tmp_path: Path, way: str
    ) -> None:
        fetch(archive.address(way, EVERYBODY), tmp_path)
        there, here = instances(cohort), instances(tmp_path)
        assert there.keys() == here.keys()
        for uid, path in there.items():
            assert pydicom.dcmread(path) == pydicom.dcmread(here[uid])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("query", "folders"),
        [
            (f"PatientID={PATIENT}", "ab"),
            ("PatientID=O%27Neil%20%26%20Sons+%2B1", "c"),
            (f"PatientID={PATIENT}&PatientID=O*", "abc"),
            (f"PatientID={PATIENT}&Modality=MR", "b"),
            ("StudyDate=20240101-20240201", "a"),
        ],
    )
    def test_filters_select(
        self, archive: Orthanc, cohort: Path, tmp_path: Path, way: str, query: str, folders: str
    ) -> None:
        fetch(archive.address(way, query), tmp_path)
        wanted = set().union(*(instances(cohort / name) for name in folders))
        assert instances(tmp_path).keys() == wanted

    def test_a_series_alone(self, archive: Orthanc, cohort: Path, tmp_path: Path, way: str) -> None:
        seg = pydicom.dcmread(cohort / "c" / "seg.dcm")
        query = f"StudyInstanceUID={seg.StudyInstanceUID}&SeriesInstanceUID={seg.SeriesInstanceUID}"
        fetch(archive.address(way, query), tmp_path)
        assert instances(tmp_path).keys() == {seg.SOPInstanceUID}

    @pytest.mark.slow
    def test_what_is_there_is_not_fetched_again(
        self, archive: Orthanc, cohort: Path, tmp_path: Path, way: str
    ) -> None:
        address = archive.address(way, "PatientID=O*")
        fetch(address, tmp_path)
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        removed, *kept = files
        before = [path.stat().st_mtime_ns for path in kept]
        removed.unlink()
        (removed.parent / ".partial-1-x.dcm").write_bytes(b"half")
        fetch(address, tmp_path)
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files
        assert [path.stat().st_mtime_ns for path in kept] == before
        assert instances(tmp_path).keys() == instances(cohort / "c").keys()

    def test_nothing_found(self, archive: Orthanc, tmp_path: Path, way: str) -> None:
        with pytest.raises(ReaderError, match="nothing in the archive matches"):
            fetch(archive.address(way, "PatientID=NOBODY"), tmp_path)
        with pytest.raises(ReaderError, match=r"none of the .* pass the filters"):
            fetch(archive.address(way, f"PatientID={PATIENT}&Modality=PT"), tmp_path)


@pytest.fixture(scope="module")
def syntaxes(tmp_path_factory: pytest.TempPathFactory, real_data, write) -> Path:
    """One instance in each of several transfer syntaxes."""
    folder = tmp_path_factory.mktemp("syntaxes")
    files = [pydicom.dcmread(path) for path in write.series(folder, write.ct(), series="1.2.3.4")]
    shutil.rmtree(folder)
    folder.mkdir()
    for one in files[4:]:
        one.PatientID = "Syntaxes"
    files[4].file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    files[5].PixelData = files[5].pixel_array.astype(">i2").tobytes()
    files[5].file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    files[6].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    files[7].compress(RLELossless, generate_instance_uid=False)
    generic = real_data("dicom2nifti_cases") / "generic"
    names = ("j2k", "jpeg", "jpegls")
    real = [pydicom.dcmread(next((generic / f"compressed_{n}").rglob("*.dcm"))) for n in names]
    for one in real:  # the three are the same image under the same UID
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.SeriesInstanceUID = generate_uid()
        one.PatientID = "Syntaxes"
    for n, one in enumerate([*files[4:], *real]):
        syntax = one.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(
            folder / f"{n}.dcm",
            one,
            enforce_file_format=False,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
        )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_transfer_syntax_is_brought_as_it_is(
    archive: Orthanc, tmp_path: Path, syntaxes: Path, way: str
) -> None:
    archive.put(syntaxes)
    fetch(archive.address(way, "PatientID=Syntaxes"), tmp_path)
    there, here = instances(syntaxes), instances(tmp_path)
    assert there.keys() == here.keys()
    seen = set()
    for uid, path in there.items():
        one, other = pydicom.dcmread(path), pydicom.dcmread(here[uid])
        assert one.file_meta.TransferSyntaxUID == other.file_meta.TransferSyntaxUID
        assert one.PixelData == other.PixelData
        # Compressed pixels are OB (PS3.5 A.4); some originals say OW, and servers put it right.
        one["PixelData"].VR = other["PixelData"].VR
        assert one == other
        seen.add(one.file_meta.TransferSyntaxUID)
    assert len(seen) == 7


class TestRefusalsSayWhatToDo:
    @pytest.mark.parametrize("way", WAYS)
    def test_nobody_listens(self, tmp_path: Path, way: str) -> None:
        port, query = free_port(), "PatientID=1&timeout=5"
        scheme = "dicomweb+http://" if way == "web" else "dimse://ARCHIVE@"
        began = time.monotonic()
        with pytest.raises(ReaderError, match="no connection"):
            fetch(f"{scheme}127.0.0.1:{port}?{query}", tmp_path)
        assert time.monotonic() - began < 5

    def test_a_host_that_is_none(self, tmp_path: Path) -> None:
        for address in ("dicomweb+http://no.such.host.invalid", "dimse://A@no.such.host.invalid"):
            with pytest.raises(ReaderError, match="no connection"):
                fetch(f"{address}?all=yes&timeout=5", tmp_path)

    def test_another_title(self, archive: Orthanc, tmp_path: Path) -> None:
        with pytest.raises(ReaderError, match="another title than the called one"):
            fetch(archive.address("get", "all=yes", title="WRONG"), tmp_path)

    def test_a_calling_title_the_archive_does_not_know(
        self, archive: Orthanc, tmp_path: Path
    ) -> None:
        with pytest.raises(ReaderError, match="to do:"):
            fetch(archive.address("get", "all=yes") + "&calling=STRANGER", tmp_path)

    @pytest.mark.parametrize("way", ["get", "move"])
    def test_one_that_may_search_only(self, archive: Orthanc, tmp_path: Path, way: str) -> None:
        with pytest.raises(ReaderError, match="ask whether SEARCHES may"):
            fetch(archive.address(way, "all=yes") + "&calling=SEARCHES", tmp_path)

    def test_the_wrong_protocol(self, archive: Orthanc, tmp_path: Path) -> None:
        with pytest.raises(ReaderError, match=r"broke off|no connection|not answered in DICOM"):
            fetch(f"dimse://ARCHIVE@127.0.0.1:{archive.http}?all=yes&timeout=3", tmp_path)
        with pytest.raises(ReaderError, match=r"no connection|broke off"):
            fetch(f"dicomweb+http://127.0.0.1:{archive.dicom}?all=yes&timeout=3", tmp_path)

    def test_the_wrong_path(self, archive: Orthanc, tmp_path: Path) -> None:
        with pytest.raises(ReaderError, match="no DICOMweb service at this path"):
            fetch(f"dicomweb+http://127.0.0.1:{archive.http}/else?all=yes", tmp_path)

    def test_no_plugin(self, tmp_path: Path) -> None:
        server = Orthanc(tmp_path / "orthanc", plugins=False)
        try:
            with pytest.raises(ReaderError, match="DICOMweb part is installed"):
                fetch(server.address("web", "all=yes"), tmp_path / "here")
        finally:
            server.stop()

    def test_a_port_taken(self, archive: Orthanc, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("", archive.receive))
            taken.listen()
            with pytest.raises(ReaderError, match="cannot be opened here"):
                fetch(archive.address("move", "all=yes"), tmp_path)

    def test_the_extra_is_missing(self) -> None:
        code = (
            "import sys\n"
            "sys.modules['dicomweb_client.web'] = sys.modules['pynetdicom'] = None\n"
            "from medaug import cli\n"
            "sys.argv = ['medaug', 'inspect', sys.argv[1]]\n"
            "cli.main()\n"
        )
        for address in ("dicomweb+http://h?all=yes", "dimse://A@h?all=yes"):
            done = subprocess.run(
                [sys.executable, "-c", code, address], capture_output=True, text=True, check=False
            )
            assert done.returncode == 2
            assert 'pip install "medaug[pacs]"' in done.stderr


class TestNothingIsTold:
    """Credentials and Patient IDs appear in no output and in no file beside the DICOM."""

    def outputs(self, tmp_path: Path, server: Orthanc, **environment: str) -> Iterator[str]:
        query = f"PatientID={PATIENT}"
        for way in WAYS:
            for command in (["inspect", "--json"], ["fetch", tmp_path / way]):
                name, *rest = command
                done = run(
                    name,
                    server.address(way, query),
                    *rest,
                    XDG_DATA_HOME=str(tmp_path / "data"),
                    TMPDIR=str(tmp_path / "tmp"),
                    **environment,
                )
                yield f"{done.returncode} {done.stdout}{done.stderr}"

    @pytest.mark.slow
    def test_when_all_is_well(self, guarded: Orthanc, tmp_path: Path) -> None:
        (tmp_path / "tmp").mkdir()
        login = {"MEDAUG_PACS_USER": "someone", "MEDAUG_PACS_PASSWORD": PASSWORD}
        for output in self.outputs(tmp_path, guarded, **login):
            assert output.startswith("0 ")
            assert "SECRET" not in output
            assert b64encode(f"someone:{PASSWORD}".encode()).decode() not in output
        assert not list((tmp_path / "tmp").iterdir())
        for path in tmp_path.rglob("*"):
            assert "SECRET" not in str(path)
            if path.is_file() and path.suffix != ".dcm":
                assert "SECRET" not in path.read_text()

    @pytest.mark.slow
    def test_not_even_where_everything_is_logged(self, archive: Orthanc, tmp_path: Path) -> None:
        code = (
            "import logging, sys\n"
            "logging.basicConfig(level=0)\n"
            "from medaug import cli\n"
            "cli.main()\n"
        )
        for way in WAYS:
            for query in (f"PatientID={PATIENT}", "PatientID=SECRET-NOBODY"):
                address = archive.address(way, query)
                done = subprocess.run(
                    [sys.executable, "-c", code, "fetch", address, tmp_path / way],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == (2 if "NOBODY" in query else 0)
                assert "SECRET" not in done.stdout + done.stderr

    @pytest.mark.parametrize(
        "login",
        [
            {"MEDAUG_PACS_USER": "someone", "MEDAUG_PACS_PASSWORD": "SECRET-wrong"},
            {"MEDAUG_PACS_TOKEN": "SECRET-token"},
            {},
        ],
    )
    def test_a_login_that_is_not_accepted(
        self, guarded: Orthanc, tmp_path: Path, login: dict[str, str]
    ) -> None:
        address = guarded.address("web", f"PatientID={PATIENT}")
        done = run("fetch", address, tmp_path / "out", **login)
        assert done.returncode == 2
        assert "HTTP 401" in done.stderr
        assert "MEDAUG_PACS_USER" in done.stderr
        assert "SECRET" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        "login",
        [
            {"MEDAUG_PACS_USER": "someone"},
            {"MEDAUG_PACS_PASSWORD": "SECRET"},
            {"MEDAUG_PACS_TOKEN": "SECRET\r\nX-Other: 1"},
            {"MEDAUG_PACS_USER": "a", "MEDAUG_PACS_PASSWORD": "SECRET", "MEDAUG_PACS_TOKEN": "b"},
            {"MEDAUG_PACS_CA": "/SECRET/no/such/file"},
        ],
    )
    def test_a_login_that_is_none(self, tmp_path: Path, login: dict[str, str]) -> None:
        done = run("fetch", "dicomweb+http://127.0.0.1:1?all=yes", tmp_path, **login)
        assert done.returncode == 2
        assert "environment" in done.stderr
        assert "SECRET" not in done.stderr
        assert "Traceback" not in done.stderr


_ = threading
