"""The whole road on a phantom cohort: from files to a verdict, nothing lost, nothing carried over.

One run serves most tests. It is made with sockets forbidden and with a marker planted in every
text field of its input files.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from medaug.config import PipelineConfig, load_pipeline
from medaug.domain import HeldOut
from medaug.errors import CohortError, DisclosureError, LeakageError, RunFolderError
from medaug.export.release import load_release
from medaug.export.verify import verify_release
from medaug.pipeline import run_pipeline
from medaug.privacy.ledger_chain import Anchor
from medaug.progress import Silent
from medaug.road.run import Run
from medaug.road.stations import STATIONS
from medaug.scan.folder import scan
from medaug.site import open_ledger

pytestmark = pytest.mark.slow

MARKER = "Zyxomma7Petiolat"  # planted in the shared phantoms
SHORT = (
    "generator.images=6000",
    "generator.width=16",
    "generator.checkpoint_every=20",
    "privacy.per_class=24",
    "evaluation.seeds=2",
    "evaluation.classifiers=[resnet-10-narrow]",
    "evaluation.fidelity.deals=20",
    "evaluation.steps=20",
    "evaluation.bootstrap=500",
)


@dataclass(frozen=True)
class Walked:
    config: PipelineConfig
    folder: Path


@pytest.fixture(scope="module")
def cohort(phantoms: Path) -> Path:
    return phantoms


def short_road(cohort: Path, key: Path) -> PipelineConfig:
    return load_pipeline("phantom", [*SHORT, f"site_key={key}"], data=cohort)


@pytest.fixture(scope="module")
def walked(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """A finished run; any attempt to open a socket on the way fails the test."""
    place = tmp_path_factory.mktemp("walk")
    config = short_road(cohort, place / "site.key")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the road opened a socket")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", forbidden)
        patch.setattr(socket, "create_connection", forbidden)
        patch.setattr(socket, "getaddrinfo", forbidden)
        run_pipeline(config, place / "run")
    return Walked(config, place / "run")


class TestTheRoad:
    def test_every_station_left_its_artefacts(self, walked: Walked) -> None:
        journal = json.loads((walked.folder / "run.json").read_text())
        for station in STATIONS:
            assert journal["stations"][station.name]["seconds"] >= 0
            assert all((walked.folder / left).exists() for left in station.leaves)
        assert (walked.folder / "report.html").stat().st_size > 10_000
        assert not list(walked.folder.rglob(".partial-*"))

    def test_both_formats_were_read_back_whole(self, walked: Walked) -> None:
        inventory = json.loads((walked.folder / "inventory.json").read_text())
        assert inventory["patients"] == 84
        assert {case["source"] for case in inventory["cases"]} == {"dicom", "volumes"}
        assert inventory["refused"] == []
        assert {case["unit"] for case in inventory["cases"]} == {"HU"}

    def test_the_release_is_full_and_verifies(self, walked: Walked) -> None:
        release = Run(walked.config, walked.folder, Silent()).release
        assert release.per_class() == dict.fromkeys(("cyst", "haemangioma", "metastasis"), 24)
        found = verify_release(walked.folder / "release")
        assert found.ok, found.problems

    def test_the_verdict_is_one_of_three_and_judged_by_unseen_patients(
        self, walked: Walked
    ) -> None:
        evaluation = json.loads((walked.folder / "evaluation.json").read_text())
        assert evaluation["verdict"]["word"] in {"helps", "no evidence", "hurts"}
        run = Run(walked.config, walked.folder, Silent())
        assert evaluation["test"]["patients"] == len(run.split.test)
        fidelity = evaluation["fidelity"]
        assert [group["label"] for group in fidelity["groups"]] == [None, *run.patches.classes]
        assert fidelity["real"]["patients"] == len(run.split.tuning | run.split.test)
        assert not run.split.test & run.generator.record.patients

    def test_the_release_says_the_verdict_and_which_patches_were_used(self, walked: Walked) -> None:
        paper = json.loads((walked.folder / "release" / "release.json").read_text())
        evaluation = json.loads((walked.folder / "evaluation.json").read_text())
        assert paper["evaluation"]["sentence"] == evaluation["verdict"]["sentence"]
        assert "evaluation" in [event["by"] for event in paper["events"]]
        run = Run(walked.config, walked.folder, Silent())
        assert paper["data_digest"] == run.split.part(run.patches, "training").digest

    def test_a_test_set_that_the_generator_saw_does_not_exist(self, walked: Walked) -> None:
        run = Run(walked.config, walked.folder, Silent())
        with pytest.raises(LeakageError, match="trained on"):
            HeldOut(run.split.part(run.patches, "training"), lineage=(run.generator.record,))

    def test_again_finds_everything_done(self, walked: Walked) -> None:
        def written() -> dict[str, int]:
            return {
                left: (walked.folder / left).stat().st_mtime_ns
                for station in STATIONS
                for left in station.leaves
            }

        before = written()
        run_pipeline(walked.config, walked.folder)
        assert written() == before


def test_a_refusal_leaves_a_report_and_nothing_that_could_be_taken_for_a_release(
    cohort: Path, walked: Walked, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(walked.folder, folder)
    strict = load_pipeline(
        "phantom",
        [*SHORT, "privacy.duplicate_limit=0.2", f"site_key={walked.config.site_key}"],
        data=cohort,
    )
    with pytest.raises(RunFolderError, match=r"duplicate_limit: 0\.98 → 0\.2"):
        run_pipeline(strict, folder)
    assert (folder / "release" / "release.json").is_file()
    with pytest.raises(DisclosureError, match="Mend the training"):
        run_pipeline(strict, folder, redo=True)
    for gone in ("release", "evaluation.json", "sheets/synthetic_cyst.png"):
        assert not (folder / gone).exists()
    assert "The gate refused the release" in (folder / "report.html").read_text()


def every_form(marker: str) -> dict[str, bytes]:
    plain = marker.encode()
    return {
        "plain": plain,
        "upper": marker.upper().encode(),
        "lower": marker.lower().encode(),
        "utf-16": marker.encode("utf-16-le"),
        "hex": plain.hex().encode(),
        # Base64 of the marker at each of the three offsets, without the ends that depend on it.
        **{f"base64+{at}": base64.b64encode(b"x" * at + plain)[4:-4] for at in range(3)},
    }


def every_byte(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every file, and of what is inside zips and gzips."""
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), str(path.relative_to(folder)).encode()
        if not path.is_file():
            continue
        yield path.name, path.read_bytes()
        if path.suffix == ".gz":
            yield path.name, gzip.decompress(path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    yield f"{path.name}/{member}", archive.read(member)


def hits(folder: Path) -> list[tuple[str, str]]:
    forms = every_form(MARKER)
    return [
        (name, form)
        for name, content in every_byte(folder)
        for form, needle in forms.items()
        if needle in content
    ]


class TestIdentity:
    """A marker in every text field of the input appears nowhere in run, release, report or log."""

    def test_the_search_finds_every_form_in_every_wrapping(self, tmp_path: Path) -> None:
        for form, needle in every_form(MARKER).items():
            (tmp_path / "plain.bin").write_bytes(b"--" + needle + b"--")
            (tmp_path / "packed.gz").write_bytes(gzip.compress(b"--" + needle + b"--"))
            with zipfile.ZipFile(tmp_path / "packed.npz", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("member", b"--" + needle + b"--")
            found = {name for name, found_form in hits(tmp_path) if found_form == form}
            assert found >= {"plain.bin", "packed.gz", "packed.npz/member"}, form
        for offset in range(3):
            (tmp_path / "text").write_bytes(base64.b64encode(b"y" * offset + MARKER.encode()))
            assert any(name == "text" for name, _ in hits(tmp_path)), offset

    def test_the_marker_is_in_the_input(self, cohort: Path) -> None:
        forms = every_form(MARKER)
        found = {
            path.suffix
            for path in cohort.rglob("*")
            if path.is_file()
            and forms["plain"]
            in (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        }
        assert found >= {".dcm", ".gz"}

    def test_and_nowhere_in_the_run_or_the_ledger(self, walked: Walked) -> None:
        """Nor in what is packed inside: searched as an officer would (`medaug scan`)."""
        assert (walked.folder.parent / "site.ledger.sqlite").is_file()
        found = scan(walked.folder.parent, [MARKER])
        assert (found.findings, found.unsearched) == ([], [])

    def test_the_ledger_knows_the_release(self, walked: Walked) -> None:
        ledger = open_ledger(None, walked.config.site_key)
        document = json.loads((walked.folder / "release" / "release.json").read_text())["ledger"]
        assert ledger.problems(Anchor(document["entry"], document["head"])) == ()
        kinds = [entry.kind for entry in ledger.entries()][: document["entry"]]
        paper = json.loads((walked.folder / "release" / "release.json").read_text())
        assert ledger.entries()[document["entry"] - 1].body["at"].startswith(paper["day"])
        assert kinds == ["dataset", "train", "dataset", "attempt", "reserve", "audit", "commit"]

    def test_nor_in_what_is_printed(self, cohort: Path, tmp_path: Path) -> None:
        key = f"site_key={tmp_path / 'site.key'}"
        command = ["inspect", "phantom", "--data", str(cohort), "--set", key]
        done = subprocess.run(
            [sys.executable, "-m", "medaug", *command], capture_output=True, check=True
        )
        assert b"cyst" in done.stdout
        printed = done.stdout + done.stderr
        assert not any(needle in printed for needle in every_form(MARKER).values())

    def test_patient_tokens_stay_inside(self, walked: Walked) -> None:
        run = Run(walked.config, walked.folder, Silent())
        tokens = [key.token.encode() for key in run.patches.patient_order]
        for name, content in every_byte(walked.folder / "release"):
            assert not any(token in content for token in tokens), name


def _without_its_place(content: bytes) -> bytes:
    """A DICOM file without the ledger's head and the identifiers made from it."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    for element in list(dataset.iterall()):
        if element.VR == "UI" or element.keyword in ("PatientID", "ContributionDescription"):
            element.value = ""
    return dataset.to_json().encode()


class TestKilledAtAnyMoment:
    """Same seed, same machine: the same release, byte for byte, however often it was killed."""

    def test_killed_run_ends_in_the_same_bytes(
        self, cohort: Path, walked: Walked, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        command = [sys.executable, "-m", "medaug", "run", "phantom", "--data", str(cohort)]
        command += ["--out", str(out)]
        for setting in (*SHORT, f"site_key={tmp_path / 'another.key'}"):
            command += ["--set", setting]

        def reached(name: str) -> Callable[[], bool]:
            return lambda: any(out.glob(name))

        # Once inside each long station, told by what it has begun to write.
        for begun in ("patches/.partial-*", "generator/checkpoint", "review", "evaluation"):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while not reached(begun)() and process.poll() is None:
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, f"it ended before {begun} was seen"
        subprocess.run(command, check=True, capture_output=True)

        def release(folder: Path) -> dict[str, str]:
            """Digests of all but what another site changes (key, ledger: its sums and UIDs)."""
            root = folder / "release"
            files = {
                str(path.relative_to(root)): path.read_bytes()
                for path in root.rglob("*")
                if path.is_file()
            }
            paper = json.loads(files["release.json"])
            place = paper.pop("ledger")
            assert place["entry"] == 7
            for name in (name for name in files if name.endswith(".dcm")):
                assert place["head"].encode() in files[name]
                files[name] = _without_its_place(files[name])
            assert paper.pop("data_digest")
            sums = files["SHA256SUMS"].splitlines()
            named = (b"release.json", b".dcm")
            files["SHA256SUMS"] = b"\n".join(sum_ for sum_ in sums if not sum_.endswith(named))
            files["release.json"] = json.dumps(paper).encode()
            # Digests: pytest would set whole files against each other, byte by byte, for minutes.
            return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

        assert release(out) == release(walked.folder)
        assert not list(out.rglob(".partial-*"))


def test_by_hand_gives_what_the_pipeline_gives(
    cohort: Path, walked: Walked, tmp_path: Path
) -> None:
    example = Path(__file__).parents[1] / "pipelines" / "by_hand.py"
    changes = (*SHORT, f"site_key={tmp_path / 'site.key'}")
    done = subprocess.run(
        [sys.executable, str(example), str(cohort), str(tmp_path / "out"), *changes],
        check=True,
        capture_output=True,
        text=True,
    )
    by_hand = load_release(tmp_path / "out" / "release")
    assert by_hand.digest == Run(walked.config, walked.folder, Silent()).release.digest
    verdict = json.loads((walked.folder / "evaluation.json").read_text())["verdict"]
    assert done.stdout.strip() == verdict["sentence"]


def test_too_few_patients_are_refused_before_training(cohort: Path, tmp_path: Path) -> None:
    for place in cohort.glob("*/phantom-000?"):
        few = tmp_path / "few" / place.relative_to(cohort)
        shutil.copytree(place, few, copy_function=os.link)
    config = short_road(tmp_path / "few", tmp_path / "site.key")
    with pytest.raises(CohortError, match="the gate refuses every release"):
        run_pipeline(config, tmp_path / "run")
    assert not (tmp_path / "run" / "generator").exists()
