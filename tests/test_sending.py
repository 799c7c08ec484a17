"""A release into an archive: what arrives is what was sent, and what does not is named."""

import gc
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from orthanc import Orthanc, free_port

from medaug.domain import (
    Candidates,
    CheckResult,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Unit,
    Window,
)
from medaug.errors import InputError, ReaderError, SettingsError
from medaug.export.settings import ExportSettings
from medaug.export.write import write_release

pytest.importorskip("pynetdicom", reason='needs pip install "medaug[pacs]"')
pytest.importorskip("dicomweb_client", reason='needs pip install "medaug[pacs]"')

import pynetdicom
from dicomweb_client.web import DICOMwebClient

from medaug import sending
from medaug.readers.pacs.dicomweb import DicomWeb
from medaug.readers.pacs.dimse import Dimse
from medaug.readers.pacs.fetch import fetch
from medaug.sending import differences, send_release

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
WAYS = ("web", "get")


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    yield
    gc.collect()


def written(folder: Path, seed: int, formats: tuple[str, ...] = ("npz", "dicom"), **settings):
    """A cyst and a metastasis of two slices, with masks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 2, 12, 10), bool)
    masks[:, :, 4:8, 3:7] = rng.random((2, 2, 4, 4)) < 0.8
    candidates = Candidates(
        pixels=rng.integers(-100, 200, (2, 1, 2, 12, 10)).astype(np.int16),
        labels=np.array([0, 1]),
        classes=("cyst", "metastasis"),
        rescale=Rescale(1.0, 0.0),
        unit=Unit.HOUNSFIELD,
        modality="CT",
        mm_per_pixel=0.75,
        masks=masks,
        seeds=np.arange(2),
    )
    passed = (CheckResult("format", True, 0.0, 0.0, 0, "Every sample has the right shape."),)
    counts = dict.fromkeys(candidates.classes, 1)
    policy = ReleasePolicy(per_class=1, checks=("format",))
    decision = ReleaseDecision(policy, candidates.digest, passed, counts, counts, ())
    release = Release.of(candidates, decision, generator_digest="f" * 64)
    write_release(
        release,
        folder,
        ExportSettings(formats=formats, **settings),
        name="blobs",
        seed=seed,
        window=Window(-100, 200),
        day=date(2026, 2, 3),
    )
    return SimpleNamespace(folder=folder, files=sorted(folder.rglob("*.dcm")))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return written(tmp_path_factory.mktemp("sent") / "release", seed=1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("archive") / "orthanc")
    try:
        yield server
    finally:
        server.stop()


def address(archive: Orthanc, way: str) -> str:
    return archive.address(way, "timeout=20").removesuffix("&timeout=20")


def stored(archive: Orthanc, folder: Path) -> dict[str, pydicom.Dataset]:
    """Everything that the archive holds, by instance."""
    try:
        fetch(archive.address("web", "all=yes"), folder)
    except ReaderError:
        return {}
    found = map(pydicom.dcmread, folder.rglob("*.dcm"))
    return {str(dataset.SOPInstanceUID): dataset for dataset in found}


class TestWhatIsSentArrives:
    """C-STORE and STOW-RS, and read back unchanged."""

    @pytest.mark.parametrize("way", WAYS)
    def test_every_pixel_and_attribute(self, archive, release, tmp_path, way) -> None:
        sent = release if way == "web" else written(tmp_path / "r", seed=2, sop="modality")
        assert send_release(sent.folder, address(archive, way)) == len(sent.files) == 4 + 2
        there = stored(archive, tmp_path / "there")
        for path in sent.files:
            mine = pydicom.dcmread(path)
            back = there[str(mine.SOPInstanceUID)]
            assert back == mine
            np.testing.assert_array_equal(back.pixel_array, mine.pixel_array)

    def test_again_and_from_the_command_line(self, archive, release) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "medaug", "send", release.folder, address(archive, "web")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "6 instances sent, and read back unchanged\n"


class TestWhatDoesNotArriveIsNamed:
    @pytest.mark.parametrize(("way", "kind"), [("web", DicomWeb), ("get", Dimse)])
    def test_lost_and_changed(self, archive, tmp_path, monkeypatch, way, kind) -> None:
        """An archive that drops one instance, and stores another with other content."""
        sent = written(tmp_path / "r", seed=20 + WAYS.index(way))
        dropped, changed = sent.files[0], sent.files[-1]
        dataset = pydicom.dcmread(changed)
        dataset.PatientName = "Doe^Jane"
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(tmp_path / "other.dcm")
        store = kind.store

        def careless(self, files):
            kept = [path for path in files if path not in (dropped, changed)]
            return store(self, [*kept, tmp_path / "other.dcm"])

        monkeypatch.setattr(kind, "store", careless)
        with pytest.raises(InputError) as caught:
            send_release(sent.folder, address(archive, way))
        told = {fault.where: fault.came for fault in caught.value.faults}
        *names, place = told
        assert names == [one.relative_to(sent.folder).as_posix() for one in (dropped, changed)]
        assert told[names[0]] == "the archive does not give it back"
        assert told[names[1]] == "it comes back with another PatientName, PixelData"
        assert told[place] == "2 of 6 instances did not arrive as they were sent"

    def test_refused_by_kind_and_by_status(self, release) -> None:
        """An archive that takes no masks, and has no room after the second image."""
        taken = []

        def take(event) -> int:
            taken.append(event.request.AffectedSOPInstanceUID)
            return 0x0000 if len(taken) < 3 else 0xA700

        entity = pynetdicom.AE("SMALL")
        entity.add_supported_context(pydicom.uid.SecondaryCaptureImageStorage)
        handlers = [(pynetdicom.evt.EVT_C_STORE, take)]
        port = free_port()
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        try:
            with pytest.raises(InputError) as caught:
                send_release(release.folder, f"dimse://SMALL@127.0.0.1:{port}", look=False)
        finally:
            server.shutdown()
        *named, last = caught.value.faults
        assert [fault.came for fault in named] == [
            *["the archive refused it (C-STORE status 0xA700)"] * 2,
            *["the archive does not take Segmentation Storage"] * 2,
        ]
        assert last.came.startswith("4 of 6 instances")

    @pytest.mark.parametrize("way", WAYS)
    def test_nobody_there(self, release, way) -> None:
        scheme = "dicomweb+http://" if way == "web" else "dimse://A@"
        with pytest.raises(ReaderError, match="no connection"):
            send_release(release.folder, f"{scheme}127.0.0.1:{free_port()}?timeout=5")

    def test_a_stow_answer_that_names_failures(self, release, monkeypatch) -> None:
        failed = pydicom.Dataset()
        failed.ReferencedSOPInstanceUID = pydicom.dcmread(release.files[1]).SOPInstanceUID
        failed.FailureReason = 0xA700
        answer = pydicom.Dataset()
        answer.FailedSOPSequence = [failed]
        monkeypatch.setattr(DICOMwebClient, "store_instances", lambda *_: answer)
        with pytest.raises(InputError) as caught:
            send_release(release.folder, "dicomweb+http://127.0.0.1:9/x", look=False)
        (named, _) = caught.value.faults
        assert named.where == release.files[1].relative_to(release.folder).as_posix()
        assert "0xA700" in named.came


class TestNothingIsSent:
    """Unless the release verifies, holds DICOM, and the address is one to send to."""

    @pytest.fixture(autouse=True)
    def nobody_is_called(self, monkeypatch) -> None:
        def called(*_: object) -> None:
            raise AssertionError

        monkeypatch.setattr(sending, "connected", called)

    def test_a_flipped_bit(self, release, tmp_path) -> None:
        folder = shutil.copytree(release.folder, tmp_path / "r")
        path = sorted(folder.rglob("*.dcm"))[2]
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{path.parent.name}/{path.name} was changed"):
            send_release(folder, "dimse://A@127.0.0.1")

    def test_no_dicom(self, tmp_path) -> None:
        sent = written(tmp_path / "r", seed=3, formats=("npz",))
        with pytest.raises(SettingsError, match="no DICOM files"):
            send_release(sent.folder, "dimse://A@127.0.0.1")

    @pytest.mark.parametrize(
        ("asked", "said"), [("?PatientID=1", "a filter"), ("?all=yes", "all=yes"), ("#", "'#'")]
    )
    def test_an_address_to_fetch_from(self, release, asked, said) -> None:
        with pytest.raises(SettingsError, match=said):
            send_release(release.folder, f"dimse://A@127.0.0.1{asked}")


def test_recoded_pixels_are_the_same_and_other_pixels_are_not(release) -> None:
    sent, back = (pydicom.dcmread(release.files[0]) for _ in range(2))
    back.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    assert differences(sent, back) == []
    other = sent.pixel_array.copy()
    other[0, 0] ^= 1
    back.compress(pydicom.uid.RLELossless, other, generate_instance_uid=False)
    assert differences(sent, back) == ["PixelData"]
    del back.ImageComments
    assert differences(sent, back) == ["ImageComments", "PixelData"]
