"""A name in every place that a picture source has: none of it travels on (P11).

The pictures are PNG and JPEG with every kind of text chunk, under folders, file names and table
columns that hold the same made-up person. `test_road` does the same for DICOM and NIfTI.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from medaug import cli
from medaug.config import PipelineConfig, load_pipeline
from medaug.export.verify import verify_release
from medaug.pipeline import run_pipeline
from medaug.privacy.ledger import Booking
from medaug.privacy.ledger_chain import Chain, Entry
from medaug.privacy.ledger_runs import line_of
from medaug.progress import Silent
from medaug.readers.identity import load_site_key
from medaug.road.run import Run
from medaug.scan.folder import Finding, scan
from medaug.site import ledger_path, open_ledger

pytestmark = pytest.mark.slow

PATIENTS = 58
NAME = "Zyxomma Petiolatum"
BORN = "1931-07-24"
MARKERS = [NAME, "ZYX-7700", BORN]
PIPELINE = r"""
name: pictures
sources:
  - kind: images
    path: .
    pattern: '\.(png|jpg)$'
    table: {files: [labels.csv], path_column: picture, label_column: finding}
    patient_table:
      {file: labels.csv, key_column: picture, patient_column: who}
    modality: OT
patching: {size: 32, mm_per_pixel: null}
cohort: {fractions: [0.42, 0.38, 0.2]}
generator: {preset: small-data, window: [0, 255], images: 1200, width: 8, batch: 8,
  least_diversity: 0, checkpoint_every: 40, sample_sheet_every: 40}
privacy: {per_class: 12, duplicate_limit: 0.999, tries: 20, cap_share: 1,
  look_alikes: different people}
export: {formats: [npz, png, nifti, dicom]}
"""


def person(number: int) -> str:
    return f"{NAME}^ZYX-7700-{number:03d}"


def picture(number: int, kind: int) -> Image.Image:
    """A blob or a ring on a noisy ground, 8 bits."""
    rng = np.random.default_rng([number, kind])
    at = np.mgrid[:32, :32] - rng.uniform(14, 18, 2)[:, None, None]
    far = np.hypot(at[0] * rng.uniform(0.8, 1.2), at[1] * rng.uniform(0.8, 1.2))
    shape = far < rng.uniform(6, 10) if kind else abs(far - rng.uniform(6, 10)) < 2
    waves = 12 * np.sin(rng.uniform(0.1, 0.6, 2) @ at.reshape(2, -1) + rng.uniform(0, 6))
    grey = 90 + 70 * shape + waves.reshape(32, 32) + rng.normal(0, 6, (32, 32))
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def written(image: Image.Image, path: Path, who: str) -> None:
    """With the person in every chunk, tag and comment that the format has."""
    exif = Image.Exif()
    exif[270], exif[315], exif[306] = who, who, BORN  # description, artist, time
    xmp = f"<x:xmpmeta><name>{who}</name></x:xmpmeta>".encode()
    if path.suffix == ".jpg":
        image.save(path, quality=95, comment=who.encode(), exif=exif, icc_profile=xmp, xmp=xmp)
        return
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", who)
    info.add_text("Comment", who, zip=True)
    info.add_itxt(who[:70], who, lang=NAME[:7], tkey=who)
    info.add(b"puRp", zlib.compress(who.encode()))
    image.save(path, pnginfo=info, exif=exif, icc_profile=xmp)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of each class in every patient's folder, and one that cannot be read."""
    root = tmp_path_factory.mktemp("pictures")
    folder = root / NAME
    rows = [f"{NAME},picture,who,finding,born"]
    for number in range(PATIENTS):
        place = folder / person(number)
        place.mkdir(parents=True)
        for kind, label in enumerate(("ring", "blob")):
            name = f"{NAME} {number:03d} {BORN} {label}.{('png', 'jpg')[number % 2]}"
            written(picture(number, kind), place / name, person(number))
            rows.append(f"{NAME},{NAME}/{person(number)}/{name},{person(number)},{label},{BORN}")
    (folder / person(0) / f"{NAME} damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + NAME.encode())
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def settings(cohort: Path, place: Path, *changes: str) -> PipelineConfig:
    (place / "pictures.yaml").write_text(PIPELINE)
    return load_pipeline(
        place / "pictures.yaml", [f"site_key={place / 'site.key'}", *changes], data=cohort
    )


@dataclass(frozen=True)
class Walked:
    config: PipelineConfig
    place: Path

    @property
    def run(self) -> Path:
        return self.place / "run"


@pytest.fixture(scope="module")
def walked(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    place = tmp_path_factory.mktemp("walk")
    config = settings(cohort, place)
    run_pipeline(config, place / "run", "release")
    (place / "pictures.yaml").unlink()  # ours; it names the folder
    return Walked(config, place)


def found_in(folder: Path, markers: list[str] | None = None) -> list[Finding]:
    found = scan(folder, markers or MARKERS)
    assert found.unsearched == []
    assert found.files
    return found.findings


def test_the_search_sees_them_in_the_source(cohort: Path) -> None:
    for number in (0, 1):
        one = next((cohort / NAME / person(number)).glob("*ring*"))
        inside = {hit.place for hit in scan(one, MARKERS).findings}
        assert inside > {"name", "content"} if number == 0 else "content" in inside


def test_in_every_format_of_the_release(walked: Walked) -> None:
    release = walked.run / "release"
    suffixes = {path.suffix for path in release.rglob("*") if path.is_file()}
    assert suffixes >= {".npz", ".png", ".gz", ".dcm", ".json", ".md", ".csv"}
    assert found_in(release) == []


def test_nor_tokens_nor_keys(walked: Walked) -> None:
    """What stands for a patient inside stays inside, as it is and under any further digest."""
    run = Run(walked.config, walked.run, Silent())
    tokens = [key.token for key in run.patches.patient_order]
    key = load_site_key(walked.config.site_key)
    lesions = [place.lesion for place in run.patches.locations]
    assert found_in(walked.run / "release", [*tokens, *lesions, key.hex()]) == []


def test_weights_store_logs_report_and_ledger(walked: Walked) -> None:
    """Paths of sources stand in one file of a run: the inventory, which says what became of each.

    Settings come as they were written: a name in a pipeline file stands in `run.json`.
    """
    expected = {"INTERNAL.html", "report.html", "run.json", "generator", "review", "patches"}
    assert expected <= {path.name for path in walked.run.iterdir()}
    assert ledger_path(None, walked.config.site_key).is_file()
    assert (walked.run / "generator" / "training.jsonl").is_file()
    assert {hit.file for hit in found_in(walked.place)} == {"run/inventory.json"}


@dataclass(frozen=True)
class Site:
    """A copy of the walked run, with its key and ledger, to be spoilt."""

    place: Path
    cohort: Path
    printed: pytest.CaptureFixture[str]

    @property
    def ledger(self) -> Path:
        return self.place / "site.ledger.sqlite"

    def release(self, *changes: str) -> tuple[int, str]:
        """``medaug release``, with other settings than those of the run."""
        settings(self.cohort, self.place)
        command = ["release", self.place / "pictures.yaml", "--data", self.cohort]
        command += ["--out", self.place / "run", "--redo"]
        for change in (f"site_key={self.place / 'site.key'}", *changes):
            command += ["--set", change]
        self.printed.readouterr()
        code = cli._guarded(lambda: cli.app([*map(str, command)], standalone_mode=False))
        (self.place / "pictures.yaml").unlink()
        said = self.printed.readouterr()
        return code, said.out + said.err

    def refused(self) -> bool:
        """Nothing that could be taken for a release is there."""
        return not (self.place / "run" / "release").exists()


@pytest.fixture
def site(walked: Walked, cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Site:
    shutil.copytree(walked.place, tmp_path / "site")
    return Site(tmp_path / "site", cohort, capfd)


def entries(site: Site) -> tuple[Entry, ...]:
    return Chain(site.ledger, load_site_key(site.place / "site.key")).entries()


class TestBadInput:
    """On the command line: 3 for the gate, 2 for settings; nothing spent twice, no name printed."""

    def check(self, site: Site, ended: tuple[int, str], code: int, says: str) -> None:
        assert ended[0] == code, ended[1]
        assert says in ended[1]
        assert "Traceback" not in ended[1]
        (site.place / "printed.txt").write_text(ended[1])
        assert {hit.file for hit in found_in(site.place)} <= {"run/inventory.json"}

    def test_a_broken_chain(self, site: Site) -> None:
        connection = sqlite3.connect(site.ledger, isolation_level=None)
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE entries SET body = replace(body, 'ring', 'none') WHERE seq = 4")
        connection.close()
        before = site.ledger.read_bytes()
        ended = site.release("privacy.per_class=10")
        self.check(site, ended, 3, "does not verify")
        assert site.refused()
        assert site.ledger.read_bytes() == before

    @pytest.mark.parametrize("name", ["site.key", "site.ledger.sqlite"])
    def test_open_to_others(self, site: Site, name: str) -> None:
        before = entries(site)
        (site.place / name).chmod(0o644)
        self.check(site, site.release("privacy.per_class=10"), 2, "mode 0600")
        assert site.refused()
        (site.place / name).chmod(0o600)
        assert entries(site) == before

    def test_a_refusal_of_the_gate(self, site: Site) -> None:
        ended = site.release("privacy.duplicate_limit=0.05")
        self.check(site, ended, 3, "Refused by the gate; nothing leaves")
        assert site.refused()
        assert (site.place / "run" / "INTERNAL.html").is_file()
        assert [entry.kind for entry in entries(site)][-2:] == ["reserve", "abort"]

    def test_audits_used_up_whatever_the_settings(self, site: Site) -> None:
        """Before a training as well: it would be for nothing."""
        config = settings(site.cohort, site.place, f"site_key={site.place / 'site.key'}")
        patches = Run(config, site.place / "run", Silent()).patches
        everybody = frozenset(key.token for key in patches.patient_order)
        ledger = open_ledger(None, config.site_key)
        for number in range(2):
            run = f"{number:064x}"
            ledger.reserve(
                Booking(run, "d", everybody, run, "empirical", {}, None, everybody, audited=True)
            )
            ledger.audit(run, {"p": 0.001})
            ledger.abort(run, ["found"])
        before = entries(site)
        ended = site.release("privacy.memory_mb=300", "privacy.per_class=11")
        self.check(site, ended, 3, "3 runs over these patients have been audited")
        ended = site.release("generator.images=1000")
        self.check(site, ended, 3, "3 runs over these patients have been audited")
        assert not (site.place / "run" / "generator").exists()
        ended = site.release("privacy.audit=false")
        self.check(site, ended, 3, "would mislead")
        assert site.refused()
        assert entries(site) == before

    def test_two_processes_at_once(self, site: Site) -> None:
        """They do the same, with more memory or less: it is spent once, and they leave the same."""
        settings(site.cohort, site.place)
        shutil.copytree(site.place / "run", site.place / "again")
        before, started = len(entries(site)), []
        for name, memory in (("run", 256), ("again", 300)):
            command = [sys.executable, "-m", "medaug", "release", site.place / "pictures.yaml"]
            command += ["--data", site.cohort, "--out", site.place / name, "--redo"]
            for change in (f"site_key={site.place / 'site.key'}", f"privacy.memory_mb={memory}"):
                command += ["--set", change, "--set", "privacy.per_class=10"]
            started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        said = [process.communicate(timeout=500)[1] for process in started]
        assert [process.returncode for process in started] == [0, 0], said
        assert [entry.kind for entry in entries(site)[before:]] == [
            "attempt",
            "reserve",
            "audit",
            "commit",
        ]
        digests = {
            json.loads((site.place / name / "release" / "release.json").read_text())[
                "pixels_digest"
            ]
            for name in ("run", "again")
        }
        assert len(digests) == 1

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            (("cohort.fractions=[0.6, 0.2, 0.2]",), "tuning part to calibrate its limit"),
            (
                ("sources.0.patient_identity=none", "sources.0.patient_table=null"),
                "privacy.patch_level_only: false, and a source names no patients",
            ),
        ],
    )
    def test_foreseen_before_training(
        self, site: Site, changes: tuple[str, ...], says: str
    ) -> None:
        before = entries(site)
        shutil.rmtree(site.place / "run")
        self.check(site, site.release(*changes), 2, says)
        assert not (site.place / "run" / "generator").exists()
        assert entries(site) == before


def test_without_an_audit_every_paper_says_so(site: Site) -> None:
    code, said = site.release("privacy.audit=false", "privacy.per_class=10")
    assert code == 0, said
    release = site.place / "run" / "release"
    document = json.loads((release / "release.json").read_text())
    assert "audit" not in [check["name"] for check in document["checks"]]
    assert any("No membership-inference attack was run" in one for one in document["statements"])
    sheet = " ".join((release / "DATASHEET.md").read_text().split())
    assert "No membership-inference attack was run" in sheet
    assert "Not audited." in sheet
    assert "not audited" in (site.place / "run" / "INTERNAL.html").read_text()
    assert verify_release(release).ok
    assert "without audit" in line_of(entries(site)[-3])["words"]
