"""Nothing planted stays hidden, nothing honest is accused, nothing is passed over in silence."""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import sqlite3
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from medaug import cli
from medaug.errors import SettingsError
from medaug.scan.folder import Limits, scan
from medaug.scan.matching import Matcher
from medaug.scan.needles import needles_of, read_markers

NAME = "Zyxomma^Petiolatum"
PLAIN = NAME.encode()
UTF16 = {"utf-16-le", "utf-16-be", "utf-32-le"}


def forms() -> dict[str, bytes]:
    return {
        "as it is": PLAIN,
        "capitals": PLAIN.upper(),
        "mixed": b"zYXOMMA^pETIOLATUM",
        **{encoding: NAME.encode(encoding) for encoding in UTF16},
        "utf-16 capitals": NAME.upper().encode("utf-16-le"),
        "hex": PLAIN.hex().encode(),
        "HEX of small": PLAIN.lower().hex().upper().encode(),
        **{f"base64 +{at}": base64.b64encode(b"\xff" * at + PLAIN + b"\xfe") for at in range(3)},
        "base64 utf-16": base64.b64encode(b"x" + NAME.encode("utf-16-le") + b"yz"),
        "base64 wrapped": base64.encodebytes(bytes(range(70)) + PLAIN + bytes(70)),
        "base64 url": base64.urlsafe_b64encode(b"\xff\xff" + PLAIN),
        **{
            f"{name} {kind}": made
            for name in ("md5", "sha1", "sha256")
            for kind, made in {
                "hex": hashlib.new(name, PLAIN).hexdigest().upper().encode(),
                "cut": hashlib.new(name, PLAIN).hexdigest()[:20].encode(),
                "raw": hashlib.new(name, PLAIN.lower()).digest(),
                "base64": base64.b64encode(hashlib.new(name, PLAIN).digest()),
            }.items()
        },
        "percent": b"Zyxomma%5EPetiolatum",
    }


def zipped(content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", content)
    return made.getvalue()


def tarred(content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        info = tarfile.TarInfo("member")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(kind: str, content: bytes) -> bytes:
    made = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(made, "png")
    if kind == "IDAT":
        squeezed = zlib.compress(content)
        body = chunk(b"IDAT", squeezed[:9]) + chunk(b"IDAT", squeezed[9:])
    elif kind == "iTXt":
        body = chunk(b"iTXt", b"Comment\0\1\0en\0x\0" + zlib.compress(content))
    else:
        body = chunk(kind.encode(), b"Comment\0\0" + zlib.compress(content))
    whole = made.getvalue()
    head = whole[:33]
    return head + body + (b"" if kind == "IDAT" else whole[33:-12]) + chunk(b"IEND", b"")


def hdf5(content: bytes) -> bytes:
    made = io.BytesIO()
    with h5py.File(made, "w") as store:
        values = np.frombuffer(content, np.uint8)
        store.create_dataset("values", data=values, compression="gzip", shuffle=True)
    return made.getvalue()


def sqlite(content: bytes, folder: Path) -> bytes:
    """In a value so long that the file keeps it in pieces, cut inside some of the contents."""
    path = folder / "made"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (v BLOB)")
    cut = b"".join(b"." * 5 + content for _ in range(600))
    connection.execute("INSERT INTO t VALUES (?)", (cut,))
    connection.commit()
    connection.close()
    made = path.read_bytes()
    path.unlink()
    return made


def page(content: bytes) -> bytes:
    return b"<!DOCTYPE html><img src='data:image/png;base64," + base64.b64encode(content) + b"'>"


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "two gzips": lambda content: gzip.compress(b"one") + gzip.compress(content),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
    "zip behind a program": lambda content: b"#!run\n" + zipped(content),
    "tar.gz": tarred,
    "PNG IDAT": lambda content: png("IDAT", content),
    "PNG zTXt": lambda content: png("zTXt", content),
    "PNG iTXt": lambda content: png("iTXt", content),
    "HDF5": hdf5,
    "page": lambda content: page(gzip.compress(content)),
    "gzip in zip in tar": lambda content: tarred(zipped(gzip.compress(content))),
}


class TestNothingStaysHidden:
    """Every form in every wrapping (P11's search must itself be able to find)."""

    @pytest.mark.parametrize("wrapping", WRAPPINGS)
    def test_every_form(self, tmp_path: Path, wrapping: str) -> None:
        for number, content in enumerate(forms().values()):
            around = b"\x00\x01--" + content + b"--\xfe"
            (tmp_path / f"{number:02d}").write_bytes(WRAPPINGS[wrapping](around))
        found = scan(tmp_path, ["Nobody else", NAME])
        missed = [
            form
            for number, form in enumerate(forms())
            if f"{number:02d}" not in {hit.file for hit in found.findings}
        ]
        assert missed == []
        assert {hit.marker for hit in found.findings} == {2}
        assert found.unsearched == []

    def test_long_values_of_sqlite(self, tmp_path: Path) -> None:
        made = sqlite(PLAIN, tmp_path)
        assert made.count(PLAIN) < 600
        (tmp_path / "ledger").write_bytes(made.replace(PLAIN, b"." * len(PLAIN)))
        assert [hit.place for hit in scan(tmp_path, [NAME]).findings] == ["t"]

    def test_names_of_files_folders_and_members(self, tmp_path: Path) -> None:
        (tmp_path / f"x{NAME.upper()}").mkdir()
        (tmp_path / base64.urlsafe_b64encode(PLAIN).decode()).touch()
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr(gzip.compress(b"").hex() + NAME, b"")
        (tmp_path / "b.gz").write_bytes(gzip.compress(zipped_name()))
        places = {
            (hit.file[:2], hit.place.split(" > ")[0]) for hit in scan(tmp_path, [NAME]).findings
        }
        assert {("xZ", "name"), ("Wn", "name"), ("a.", "content"), ("b.", "gzip")} <= places

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
    def test_dicom_attributes_are_named(self, tmp_path: Path, syntax: str) -> None:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = syntax
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = "2.25.1"
        dataset = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
        dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.CTImageStorage, "2.25.1"
        item = pydicom.Dataset()
        item.PersonName = NAME
        dataset.ReferencedPatientSequence = [item]
        dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        places = {hit.place for hit in scan(tmp_path, [NAME]).findings}
        deflated = syntax == DeflatedExplicitVRLittleEndian
        assert places == ({"deflated data set"} if deflated else {"content", "PersonName"})

    def test_nifti_headers_and_extensions(self, tmp_path: Path) -> None:
        for field in ("descrip", "extension"):
            image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
            if field == "descrip":
                image.header["descrip"] = PLAIN
            else:
                image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, PLAIN))
            nibabel.save(image, tmp_path / f"{field}.nii.gz")
        files = {hit.file for hit in scan(tmp_path, [NAME]).findings}
        assert files == {"descrip.nii.gz", "extension.nii.gz"}

    def test_hdf5_attributes_and_texts(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as store:
            store.attrs["who"] = np.array(["x"] * 2000 + [NAME], dtype=object)
            store.create_dataset("texts", data=[NAME], dtype=h5py.string_dtype(), chunks=(1,))
        places = {hit.place for hit in scan(tmp_path, [NAME]).findings}
        assert places >= {"/ who", "texts"}

    def test_png_text_by_pillow(self, tmp_path: Path) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("Comment", "xx" + NAME, zip=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png", pnginfo=info)
        assert {hit.place for hit in scan(tmp_path, [NAME]).findings} == {"iTXt"}

    @pytest.mark.parametrize("name", ["Müller^Änne", "Ωμέγα Ψ", "山田太郎"])
    @pytest.mark.parametrize("made", [str.encode, lambda name: json.dumps(name).encode()])
    def test_other_scripts(self, tmp_path: Path, name: str, made: Callable[[str], bytes]) -> None:
        (tmp_path / "a").write_bytes(made(name.upper()))
        assert scan(tmp_path, [name]).findings

    @pytest.mark.parametrize(
        "written", ["Jane Doe", "DOE^JANE", "doe, jane", "jane_doe", "JaneDoe"]
    )
    @pytest.mark.parametrize("listed", ["Doe^Jane", "Jane Doe", "DOE, Jane"])
    def test_names_in_either_order(self, tmp_path: Path, listed: str, written: str) -> None:
        (tmp_path / "a").write_bytes(written.encode("utf-16-le"))
        assert scan(tmp_path, [listed]).findings

    @pytest.mark.parametrize("digest", [False, True])
    @pytest.mark.parametrize("written", ["Jane Doe", "doe^jane", "JANE DOE", "Doe, Jane"])
    def test_and_under_a_digest(self, tmp_path: Path, written: str, digest: bool) -> None:
        content = written.encode()
        (tmp_path / "a").write_bytes(
            hashlib.sha256(content).digest() if digest else base64.b64encode(b"--" + content)
        )
        assert scan(tmp_path, ["Doe^Jane"]).findings

    def test_a_middle_name_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"Petiolatum, Zyx")
        (tmp_path / "b").write_bytes(b"Petiolatum, Zyx Maria")
        assert len(scan(tmp_path, ["Zyx Maria Petiolatum"]).findings) == 2

    @pytest.mark.parametrize("listed", ["1931-07-24", "19310724", "24.07.1931", "24.7.1931"])
    @pytest.mark.parametrize(
        "written",
        ["1931-07-24", "19310724", "24.07.1931", "7/24/1931", "24 Jul 1931", "July 24, 1931"],
    )
    def test_days_as_they_are_written(self, tmp_path: Path, listed: str, written: str) -> None:
        (tmp_path / "a").write_text(f"born {written}.")
        assert scan(tmp_path, [listed]).findings

    @pytest.mark.parametrize("written", ["Müller", "MULLER", "mueller", "Mu\u0308ller"])
    def test_accents(self, tmp_path: Path, written: str) -> None:
        (tmp_path / "a").write_text(written, encoding="utf-8")
        assert scan(tmp_path, ["Müller"]).findings

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-be"])
    @pytest.mark.parametrize(
        ("written", "found"),
        [("4711", 1), ("no 4711.", 1), ("00004711", 1), ("14711", 0), ("47110", 0), ("9004711", 0)],
    )
    def test_a_short_number_stands_alone(
        self, tmp_path: Path, encoding: str, written: str, found: int
    ) -> None:
        (tmp_path / "a").write_bytes(written.encode(encoding))
        assert len(scan(tmp_path, ["4711"]).findings) == found

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
    def test_a_short_number_in_pieces(self, size: int) -> None:
        matcher = Matcher(needles_of(["4711"]))
        for content, found in ((b"4711", 1), (b"ab4711cd", 1), (b"ab14711cd", 0), (b"47119", 0)):
            pieces = (content[at : at + size] for at in range(0, len(content), size))
            assert len(matcher.found(pieces)) == found, content

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
    def test_pieces_of_any_size(self, size: int) -> None:
        matcher = Matcher(needles_of([NAME]))
        for form, content in forms().items():
            whole = b"ab" + content + b"cd"
            pieces = (whole[at : at + size] for at in range(0, len(whole), size))
            assert matcher.found(pieces), form


def zipped_name() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(NAME, b"")
    return made.getvalue()


class TestNothingHonestIsAccused:
    def test_noise(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        (tmp_path / "noise").write_bytes(rng.bytes(2_000_000))
        (tmp_path / "digits").write_bytes(base64.b64encode(rng.bytes(1_500_000)))
        (tmp_path / "hex").write_bytes(rng.bytes(1_000_000).hex().encode())
        markers = [f"PATIENT-{number:06d}" for number in range(50)]
        found = scan(tmp_path, markers)
        assert (found.findings, found.unsearched, found.files) == ([], [], 3)

    def test_short_numbers_among_figures(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        (tmp_path / "uids").write_text(
            "\n".join(
                f"2.25.{rng.integers(10**17, 10**18)}{rng.integers(10**17)}" for _ in range(5000)
            )
        )
        (tmp_path / "noise").write_bytes(rng.bytes(500_000))
        assert scan(tmp_path, ["47110", "815081"]).findings == []

    def test_one_letter_off(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"Zyxomma^Petiolata " + hashlib.md5(b"x").digest())
        assert scan(tmp_path, [NAME]).findings == []


class TestNothingIsPassedOver:
    """What cannot be searched is said; memory and disk are bounded."""

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (gzip.compress(PLAIN * 100)[:-30], "damaged"),
            (zipped(PLAIN)[:-20] + bytes(20), "damaged"),
            (b"PK\x03\x04" + bytes(100), "damaged"),
            (b"\x89HDF\r\n\x1a\n" + bytes(100), "damaged"),
            (b"SQLite format 3\x00" + bytes(200), "damaged"),
            (b"7z\xbc\xaf\x27\x1c" + bytes(20), "7z"),
            (b"Rar!\x1a\x07\x00", "RAR"),
            (b"\x28\xb5\x2f\xfd" + bytes(20), "Zstandard"),
            (b"%PDF-1.7", "PDF"),
            (b"PAR1" + bytes(20), "Parquet"),
        ],
        # Not of the bytes: gzip writes the time, and two processes would see different tests.
        ids=[
            "gzip",
            "zip",
            "zip head",
            "HDF5",
            "SQLite",
            "7z",
            "RAR",
            "Zstandard",
            "PDF",
            "Parquet",
        ],
    )
    def test_damaged_or_unknown(self, tmp_path: Path, content: bytes, says: str) -> None:
        (tmp_path / "a").write_bytes(content)
        assert [says in one.reason for one in scan(tmp_path, [NAME]).unsearched] == [True]

    def test_what_comes_before_the_damage_is_searched(self, tmp_path: Path) -> None:
        rest = np.random.default_rng(0).bytes(100_000)
        (tmp_path / "a").write_bytes(gzip.compress(PLAIN + rest)[:-5000])
        found = scan(tmp_path, [NAME])
        assert found.findings
        assert found.unsearched

    def test_an_encrypted_member_and_its_neighbour(self, tmp_path: Path) -> None:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("locked", b"x")
            archive.writestr("open", PLAIN)
        content = bytearray(made.getvalue())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "a").write_bytes(content)
        found = scan(tmp_path, [NAME])
        assert [hit.place for hit in found.findings] == ["open"]
        assert ["locked" in one.reason for one in found.unsearched] == [True]

    def test_a_bomb(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(zipped(gzip.compress(bytes(60_000_000))))
        tracemalloc.start()
        found = scan(tmp_path, [NAME], Limits(unpacked_mb=30))
        assert tracemalloc.get_traced_memory()[1] < 150e6
        tracemalloc.stop()
        assert ["more than 30 MB" in one.reason for one in found.unsearched] == [True]

    def test_packed_too_often_and_too_many_parts(self, tmp_path: Path) -> None:
        content = PLAIN
        for _ in range(8):
            content = gzip.compress(content)
        (tmp_path / "a").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "b", "w") as archive:
            for number in range(30):
                archive.writestr(str(number), b"")
        reasons = [one.reason for one in scan(tmp_path, [NAME], Limits(parts=20)).unsearched]
        assert ["packed more than 6" in reasons[0], "more than 20 parts" in reasons[1]] == [
            True
        ] * 2

    @pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
    def test_links_and_pipes(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to(f"/nowhere/{NAME}")
        os.mkfifo(tmp_path / "pipe")
        found = scan(tmp_path, [NAME])
        assert [hit.place for hit in found.findings] == ["link"]
        assert {one.file for one in found.unsearched} == {"out", "pipe"}


class TestCommand:
    """0: clean; 3: found; 2: something was not searched, or the settings are wrong."""

    @pytest.mark.parametrize(
        ("content", "code", "says"),
        [
            (b"nothing", 0, "0 found, 0 not searched"),
            (PLAIN, 3, "found marker 2 as text: file (content)"),
            (b"Rar!\x1a\x07\x00", 2, "not searched: file"),
            (b"Rar!\x1a\x07\x00" + PLAIN, 3, "1 found, 1 not searched"),
        ],
    )
    def test_codes(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        content: bytes,
        code: int,
        says: str,
    ) -> None:
        (tmp_path / "release").mkdir()
        (tmp_path / "release" / "file").write_bytes(content)
        markers = tmp_path / "markers.txt"
        markers.write_text(f"# patients\n\nSomebody\n  {NAME}\n", encoding="utf-8")
        command = ["scan", str(tmp_path / "release"), "--for", str(markers)]
        assert cli._guarded(lambda: cli.app(command, standalone_mode=False)) == code
        said = capsys.readouterr()
        assert says in said.out
        assert "Zyxomma" not in said.out + said.err
        assert cli._guarded(lambda: cli.app([*command, "--json"], standalone_mode=False)) == code
        document = json.loads(capsys.readouterr().out)
        assert document["clean"] == (code == 0)
        assert document["files"] == 1

    def test_no_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "markers.txt").write_text(NAME)
        command = ["scan", str(tmp_path / "no"), "--for", str(tmp_path / "markers.txt")]
        assert cli._guarded(lambda: cli.app(command, standalone_mode=False)) == 2
        assert "no such folder" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("text", "says"), [("# none\n", "no marker"), ("abc\nlong", "marker 1")]
    )
    def test_markers_that_mean_nothing(self, text: str, says: str) -> None:
        with pytest.raises(SettingsError, match=says):
            read_markers(text)
